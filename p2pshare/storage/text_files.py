"""Text files that a person may have written or saved again: their encoding and line ends.

Editors add a byte-order mark, end lines with CR LF, or save in an encoding other than UTF-8. The first two are accepted
everywhere. Another encoding is an `OSError` without a number, which readers report as they report an unreadable file;
`plain_reason` returns its text.
"""

from __future__ import annotations

import codecs
import os
import re
import stat
from pathlib import Path

_MARKS = (  # longer ones first: a mark of UTF-32 may begin with one of UTF-16
    (codecs.BOM_UTF32_LE, "UTF-32 (little-endian)"),
    (codecs.BOM_UTF32_BE, "UTF-32 (big-endian)"),
    (codecs.BOM_UTF16_LE, "UTF-16 (little-endian)"),
    (codecs.BOM_UTF16_BE, "UTF-16 (big-endian)"),
)
_CONTROLS = re.compile(rb"[\x80-\x9f]")  # of Latin-1; letters and signs in Windows-1252


def read_text_file(path: Path, most: int) -> bytes:
    """Return the first `most` bytes of a plain file as UTF-8, as `plain_utf8` does.

    Raises:
        FileNotFoundError: there is none.
        OSError: it is not a plain file, is in another encoding, or cannot be read.
    """
    with open(path, "rb", opener=_open_regular) as file:
        content = file.read(most)
    return content if len(content) == most else plain_utf8(content)  # a cut may split a character


def plain_utf8(content: bytes) -> bytes:
    """Return a text as UTF-8, without a byte-order mark, and with LF at line ends.

    Raises:
        OSError: it is in another encoding. The error names it, and quotes nothing, since `content` may be secret.
    """
    content = plain_ascii(content)
    if b"\0" in content:
        raise OSError("it contains NUL bytes, so it is not text. Save it as text in UTF-8")
    try:
        content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        such = "Windows-1252" if _CONTROLS.search(content) else "Windows-1252 or Latin-1"
        raise OSError(
            f"line {line} is not UTF-8, but in an 8-bit encoding such as {such}. Save it as UTF-8"
        ) from None
    return content


def plain_ascii(content: bytes) -> bytes:
    """Do the same for a text that has to be ASCII; other bytes stay, since they are damage and no encoding.

    Raises:
        OSError: it is in UTF-16 or UTF-32.
    """
    encoding = _wide_encoding(content)
    if encoding is not None:
        raise OSError(f"it is in {encoding}. Save it as UTF-8")
    return content.removeprefix(codecs.BOM_UTF8).replace(b"\r\n", b"\n")


def _wide_encoding(content: bytes) -> str | None:
    """Return the encoding of a text in units of two or four bytes; None for any other."""
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return encoding
    high, low = content[::2].count(0), content[1::2].count(0)
    if 0 < len(content) <= 4 * (high + low) and 0 in (high, low):  # most of it is ASCII
        return "UTF-16 (big-endian)" if high else "UTF-16 (little-endian)"
    return None


def _open_regular(path: str, flags: int) -> int:
    """Open a plain file; anything else might block, or have no end."""
    fd = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError("it is not a plain file")
    return fd
