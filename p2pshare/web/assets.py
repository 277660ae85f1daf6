"""Static files of a page, addressed by one hash over all of them, so that browsers may keep them for good.

The files lie below `assets/HASH/`. The hash changes with any of them, so relative imports between scripts always lead
to files of one version. Only the page itself (`index.html`) is revalidated at each visit. It has the hash inserted, and
the codes of the languages, so that another language is one more file.

Everything is read and compressed once, when an `Assets` is made. That blocks for some ms: call it in a thread.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from importlib.resources.abc import Traversable
from pathlib import PurePosixPath

from p2pshare.web.exchange import Query, Reply, Route
from p2pshare.web.problems import NOT_FOUND
from p2pshare.web.reply_bodies import BytesSource

INDEX = "index.html"
HASH_PLACE = b"{{assets}}"
"""The text in `index.html` for which the folder with the hash is inserted."""
LANGUAGES_PLACE = b"{{languages}}"
"""The text in `index.html` for which the codes of the languages are inserted: the stems of `texts/*.json`."""
VISIT_PLACE = b"{{visit}}"
"""The text in `index.html` for which it is inserted how a browser came to it: `own`, or `elsewhere` from another web
page."""
GZIP_MIN = 512  # bytes of a file below which compression does not pay
BYTES_MAX = 16 * 1024 * 1024  # bytes of all files; they stay in memory
IMMUTABLE = (b"Cache-Control", b"public, max-age=31536000, immutable")
REVALIDATED = (b"Cache-Control", b"no-cache")
PAGE_HEADERS = (
    (b"X-Content-Type-Options", b"nosniff"),
    (b"Referrer-Policy", b"no-referrer"),
    (b"Cross-Origin-Resource-Policy", b"same-origin"),
    (b"Permissions-Policy", b"camera=(), geolocation=(), microphone=()"),
    (b"X-Frame-Options", b"DENY"),
)
"""Headers of every reply of a page, besides its policy."""
VARIES = (b"Vary", b"Accept-Encoding")

TYPES = {
    ".html": b"text/html; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".json": b"application/json",
    ".svg": b"image/svg+xml",
    ".png": b"image/png",
    ".webp": b"image/webp",
    ".woff2": b"font/woff2",
    ".webmanifest": b"application/manifest+json",
    ".txt": b"text/plain; charset=utf-8",
}
"""The content type of each kind of file that is served."""
LICENCES = ("LICENSE", "LICENCE", "COPYING")
"""Files that are served as text, with any suffix or none."""


@dataclass(frozen=True, slots=True)
class Asset:
    """One file."""

    content_type: bytes
    plain: BytesSource
    packed: BytesSource | None
    """Its gzip variant, if that is shorter."""
    tag: bytes
    """The entity tag."""

    @classmethod
    def of(cls, name: str, content: bytes) -> Asset:
        """Make one of a file whose type is known; compresses it."""
        packed = None
        if len(content) >= GZIP_MIN:
            shorter = gzip.compress(content, 9, mtime=0)
            packed = BytesSource(shorter) if len(shorter) < len(content) else None
        tag = f'"{hashlib.sha256(content).hexdigest()[:24]}"'.encode()
        return cls(_type_of(name) or b"", BytesSource(content), packed, tag)

    def answer(self, query: Query, headers: tuple[tuple[bytes, bytes], ...]) -> Reply:
        """Return the reply with the file: compressed if the client takes that, or 304 if the client has it."""
        headers = (*headers, (b"ETag", self.tag), VARIES)
        if query.has(self.tag):
            return Reply(HTTPStatus.NOT_MODIFIED, headers=headers)
        source = self.plain
        if self.packed is not None and _takes_gzip(query):
            source, headers = self.packed, (*headers, (b"Content-Encoding", b"gzip"))
        return Reply(HTTPStatus.OK, (), self.content_type, headers, source=source)


class Assets:
    """The files of a page."""

    def __init__(
        self, folders: Iterable[Traversable], headers: tuple[tuple[bytes, bytes], ...] = ()
    ) -> None:
        """Read all files of known types.

        Args:
            folders: their files make one tree; of two with the same path, the later one counts.
            headers: of every reply.

        Raises:
            ValueError: they have more than `BYTES_MAX` in all, or there is no `INDEX`.
        """
        contents: dict[str, bytes] = {}
        for folder in folders:
            contents.update(_files(folder, ""))
        if sum(map(len, contents.values())) > BYTES_MAX or INDEX not in contents:
            raise ValueError(f"the assets have no {INDEX}, or more than {BYTES_MAX} bytes")
        digest = hashlib.sha256()
        for path in sorted(contents):
            digest.update(b"%b\0%d\0%b" % (path.encode(), len(contents[path]), contents[path]))
        self.hash = digest.hexdigest()[:16]
        """That of all files."""
        self.folder = f"assets/{self.hash}"
        """Where they lie, without a leading slash."""
        languages = sorted(
            PurePosixPath(path).stem for path in contents if path.startswith("texts/")
        )
        index = contents.pop(INDEX).replace(HASH_PLACE, self.folder.encode())
        index = index.replace(LANGUAGES_PLACE, " ".join(languages).encode())
        self._headers = headers
        own, elsewhere = (index.replace(VISIT_PLACE, way) for way in (b"own", b"elsewhere"))
        self._index, self._index_from_elsewhere = Asset.of(INDEX, own), Asset.of(INDEX, elsewhere)
        self._files = {path: Asset.of(path, content) for path, content in contents.items()}

    def table(self) -> dict[bytes, Route]:
        """Return the routes: the page, and the prefix of all other files."""
        return {
            b"": Route("page", {b"GET": self.index}),
            b"assets/": Route("assets", {b"GET": self.file}),
        }

    def index(self, query: Query) -> Reply:
        """Return the page."""
        is_own = query.header(b"Sec-Fetch-Site") in ("", "none", "same-origin")
        index = self._index if is_own else self._index_from_elsewhere
        return index.answer(query, (*self._headers, REVALIDATED))

    def file(self, query: Query) -> Reply:
        """Return another file; one of another version does not exist."""
        path = query.path.decode("latin-1")
        prefix = f"{self.folder}/"
        file = self._files.get(path.removeprefix(prefix)) if path.startswith(prefix) else None
        return NOT_FOUND if file is None else file.answer(query, (*self._headers, IMMUTABLE))


def _files(folder: Traversable, above: str) -> Iterator[tuple[str, bytes]]:
    """Iterate over the paths and contents of the files of known types; hidden ones are left out."""
    for each in folder.iterdir():
        path = f"{above}{each.name}"
        if each.name.startswith("."):
            continue
        if each.is_dir():
            yield from _files(each, f"{path}/")
        elif _type_of(path) is not None:
            yield path, each.read_bytes()


def _type_of(path: str) -> bytes | None:
    name = PurePosixPath(path)
    return TYPES[".txt"] if name.stem in LICENCES else TYPES.get(name.suffix)


def _takes_gzip(query: Query) -> bool:
    """Whether `Accept-Encoding` has gzip, and not with a weight of 0."""
    for each in query.header(b"Accept-Encoding").lower().split(","):
        coding, _, weight = each.partition(";")
        if coding.strip() in ("gzip", "*"):
            return weight.strip().replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
