"""Facts from the header of a JPEG, read without decoding anything.

`jpeg_size` is for previews. They come from a stranger and go to a browser, which decodes them. It tells whether the
bytes are a JPEG, and of how many pixels, before the browser sees them: some KiB may announce 65 535 by 65 535 pixels.

`jpeg_scans` is for files that are decoded here. The pixels of a progressive JPEG come in several scans, and a decoder
goes over the whole picture for each. Usual files have 10 scans; one of 1 MB may have 100 000, and take hours.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})  # markers without a segment: TEM and RST
_FRAMES = frozenset(
    {0xC0, 0xC1, 0xC2}
)  # SOF: baseline, extended and progressive, which browsers decode
_OTHER_FRAMES = frozenset(range(0xC3, 0xD0)) - {
    0xC4,
    0xC8,
    0xCC,
}  # lossless, hierarchical, arithmetic
_START, _SCAN, _END = 0xD8, 0xDA, 0xD9
_SEQUENTIAL = frozenset({0xC0, 0xC1})
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # what ends the bytes of a scan
_COMPONENTS = (1, 3)  # grey, and colours; four are for print


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Return width and height of a JPEG in pixels (ITU T.81, annex B); None if it is not one that browsers decode."""
    if data[:2] != b"\xff\xd8" or data[-2:] != b"\xff\xd9":
        return None
    size = None
    for marker, segment, _ in _segments(data, 2):
        if marker in (_START, _END) or marker in _OTHER_FRAMES:
            return None
        if marker == _SCAN:
            return size
        if marker in _FRAMES:
            if size is not None or len(segment) < 6 or segment[5] not in _COMPONENTS:
                return None
            size = int.from_bytes(segment[3:5], "big"), int.from_bytes(segment[1:3], "big")
            if 0 in size:
                return None
    return None


def jpeg_scans(data: bytes, most: int) -> int:
    """Return the number of scans that a decoder of a JPEG goes over, up to `most` and one more; 0 if it is none.

    As decoders do, this skips what is no marker. Of a file in which the first scan has all of the picture, a decoder
    reads no other.
    """
    at, scans, all_components = 2, 0, b""
    while scans <= most and (found := _MARKER.search(data, at)) is not None:
        at, marker = found.end(), found[0][1]
        if marker == _END:
            break
        if marker in _STANDALONE or marker == _START:
            continue
        length = int.from_bytes(data[at : at + 2], "big")
        segment, at = data[at + 2 : at + length], at + length
        if marker in _FRAMES | _OTHER_FRAMES:
            all_components = segment[5:6] if marker in _SEQUENTIAL else b""
        elif marker == _SCAN:
            scans += 1
            if all_components and segment[:1] == all_components:
                break
    return scans


def _segments(data: bytes, at: int) -> Iterator[tuple[int, bytes, int]]:
    """Yield each marker from `at` on with its segment, and the position behind it; stop where there is no marker."""
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill bytes
            at += 1
        elif marker in _STANDALONE:
            at += 2
        else:
            length = int.from_bytes(data[at + 2 : at + 4], "big")
            segment, at = data[at + 4 : at + 2 + length], at + 2 + length
            if length < 2 or len(segment) != length - 2:
                return
            yield marker, segment, at
