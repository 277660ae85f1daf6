"""The size that a JPEG announces, read from its header without decoding anything.

A preview comes from a stranger and goes to a browser, which decodes it. This decides whether the bytes are a JPEG, and
of how many pixels, before the browser sees them: a file of some KiB may announce 65 535 by 65 535 pixels.
"""

from __future__ import annotations

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
_COMPONENTS = (1, 3)  # grey, and colours; four are for print


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Return width and height of a JPEG in pixels (ITU T.81, annex B); None if it is not one that browsers decode."""
    if data[:2] != b"\xff\xd8" or data[-2:] != b"\xff\xd9":
        return None
    at, size = 2, None
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:  # fill bytes
            at += 1
            continue
        if marker in _STANDALONE:
            at += 2
            continue
        if marker in (_START, _END) or marker in _OTHER_FRAMES:
            return None
        if marker == _SCAN:
            return size
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        segment = data[at + 4 : at + 2 + length]
        if length < 2 or len(segment) != length - 2:
            return None
        if marker in _FRAMES:
            if size is not None or len(segment) < 6 or segment[5] not in _COMPONENTS:
                return None
            size = int.from_bytes(segment[3:5], "big"), int.from_bytes(segment[1:3], "big")
            if 0 in size:
                return None
        at += 2 + length
    return None
