"""Text from outside, escaped so that a terminal or a log only shows it."""

from __future__ import annotations

import unicodedata

# Control, format (bidirectional marks among them), surrogate, private and unassigned characters,
# and the separators of lines and paragraphs.
_ESCAPED = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def display(text: str) -> str:
    """Return `text` with an escape such as `\\x1b` for each character that a terminal would obey or hide."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character if unicodedata.category(character) not in _ESCAPED else _escape(character)
        for character in text
    )


def _escape(character: str) -> str:
    code = ord(character)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
