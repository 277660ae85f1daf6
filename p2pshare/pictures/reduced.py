"""Picture files, from users and from strangers, to small pictures: with Pillow, and without making all their pixels.

Calls may take seconds, so make them in a thread. Nothing here needs numpy, whose import alone would hold a peer up for
a tenth of a second at the first preview.

Only the decoders of `FORMATS` run, as Pillow has 40 more that strangers could reach. The size in the header is compared
with the limit before anything is decoded (see `pictures.pixels`). Whatever a decoder raises becomes one error.
"""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import BinaryIO, cast

from PIL import ExifTags, Image, UnidentifiedImageError

from p2pshare.errors import PictureUnreadable
from p2pshare.pictures.jpeg_header import jpeg_scans
from p2pshare.pictures.pixels import PIXELS_MAX

FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
SHRINK_GAP = (
    3.0  # times the wanted size: down to there, pixels are averaged in boxes, which is faster
)
JPEG_BYTES_MAX = 32 * 1024 * 1024  # bytes of a JPEG of which a small picture is made
SCANS_MAX = 64  # of such a JPEG; usual are 1 to 10
READS_MAX = (
    200_000  # of another picture's file: Pillow goes over its parts in Python, at some 0.5 M/s
)

# Warnings cannot be filtered for one thread, so this is done once. Pillow's warnings about damaged metadata are noise;
# its warning about more than 89 megapixels becomes an error.
warnings.filterwarnings("ignore", module=r"(.*/)?PIL\b")
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The inverse of each EXIF orientation."""


class _BoundedFile:
    """A file that ends after `READS_MAX` reads, so that a file of millions of empty parts does not hold a thread."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._left = READS_MAX
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise PictureUnreadable(path="The picture", reason="it has too many parts.")
        return self._file.read(size)


class PixelRoom:
    """Bounds the pixels in memory of pictures that several threads decode; a large picture is decoded alone."""

    def __init__(self, pixels_max: int = PIXELS_MAX) -> None:
        self._pixels_max = pixels_max
        self._held = 0
        self._turn = threading.Lock()  # so that small pictures do not pass a large one for ever
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, pixels: int) -> Iterator[None]:
        """Wait until there is room for this many pixels, and hold it."""
        with self._turn, self._changed:
            self._changed.wait_for(
                lambda: not self._held or self._held + pixels <= self._pixels_max
            )
            self._held += pixels
        try:
            yield
        finally:
            with self._changed:
                self._held -= pixels
                self._changed.notify_all()


def read_small(
    file: BinaryIO,
    edge: int,
    *,
    pixel_limit: int = PIXELS_MAX,
    room: Callable[[int], AbstractContextManager[None]] = lambda _: nullcontext(),
) -> Image.Image:
    """Decode a picture for a small one: upright, RGB, its longest edge at most `edge` pixels.

    A JPEG is decoded at a half, a quarter or an eighth of its size: its bytes have to be gone over, but most of its
    pixels are never made.

    Args:
        file: as for `read_picture`.
        edge: pixels.
        pixel_limit: a larger picture is rejected before it is decoded.
        room: returns a context in which so many pixels may be in memory.

    Raises:
        PictureUnreadable: it has another format, is too large, takes too long, or is damaged.
    """
    with picture_faults("The picture", pixel_limit):
        start = file.read(3)
        file.seek(0)
        if start == b"\xff\xd8\xff":
            data = file.read(JPEG_BYTES_MAX + 1)
            if len(data) > JPEG_BYTES_MAX:
                reason = f"it has more than {JPEG_BYTES_MAX} bytes."
                raise PictureUnreadable(path="The picture", reason=reason)
            scans = jpeg_scans(data, SCANS_MAX)
            if scans > SCANS_MAX:
                reason = f"its pixels come in more than {SCANS_MAX} parts."
                raise PictureUnreadable(path="The picture", reason=reason)
            file = io.BytesIO(data)
        else:
            file = cast(BinaryIO, _BoundedFile(file))
        with Image.open(file, formats=FORMATS) as image:
            whole = image.width * image.height
            if whole > pixel_limit:
                raise Image.DecompressionBombError
            image.draft("RGB", fit_size(image.size, edge))
            if isinstance(
                file, io.BytesIO
            ):  # in one go: each piece would wait for the interpreter's lock
                image.decodermaxblock = JPEG_BYTES_MAX
            is_in_one = start == b"\xff\xd8\xff" and scans == 1
            with room(image.width * image.height if is_in_one else whole):
                image.load()
                small = _upright(_fitting(_plain(image), edge), orientation_of(image))
            return Image.frombytes("RGB", small.size, small.tobytes())  # pixels alone: no metadata


def _plain(image: Image.Image) -> Image.Image:
    """Return a decoded picture in RGB, or in RGBA if it has transparent parts."""
    if image.mode.startswith("I"):
        upper_bits = image.point(lambda value: value * (1 / 256))  # a conversion would clip them
        return upper_bits.convert("L").convert("RGB")
    if image.has_transparency_data:
        return image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")


def _fitting(image: Image.Image, edge: int) -> Image.Image:
    """Return a picture that is scaled down to `edge` pixels, with white behind its transparent parts."""
    size = fit_size(image.size, edge)
    if size != image.size:
        image = image.resize(size, Image.Resampling.BICUBIC, reducing_gap=SHRINK_GAP)
    if image.mode == "RGBA":
        canvas = Image.new("RGB", image.size, "white")
        canvas.paste(image, mask=image.getchannel("A"))
        image = canvas
    return image


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def fit_size(size: tuple[int, int], edge: int) -> tuple[int, int]:
    """Return the size of a picture whose longest edge has at most `edge` pixels; each edge keeps at least one."""
    longest = max(size)
    if longest <= edge:
        return size
    width, height = (max(1, round(each * edge / longest)) for each in size)
    return width, height


@contextmanager
def picture_faults(name: str, pixel_limit: int) -> Iterator[None]:
    """Turn what Pillow raises into `PictureUnreadable`."""
    try:
        yield
    except PictureUnreadable:
        raise
    except UnidentifiedImageError as error:
        raise PictureUnreadable(
            path=name, reason="it is no JPEG, PNG, WebP or GIF picture."
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        reason = f"it has more than {pixel_limit} pixels."
        raise PictureUnreadable(path=name, reason=reason) from error
    except Exception as error:  # Pillow's decoders raise whatever their parsing runs into
        reason = getattr(error, "strerror", None) or "it is damaged or cut short"
        raise PictureUnreadable(path=name, reason=f"{reason}.") from error


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation; 1, upright, if it is missing or damaged."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:
        return 1
