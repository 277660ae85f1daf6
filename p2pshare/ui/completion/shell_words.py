"""The word at the cursor in a line of bash: how it is read, and how a candidate is quoted in its place.

Bash can quote candidates itself, as file names, but not all of them after a dollar sign or a backtick was typed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_BLANKS = " \t\n"
_ESCAPED_IN_QUOTES = '$`"\\\n'
_TO_ESCAPE = {"": re.compile(r"[^\w./:=@%+,-]"), '"': re.compile(r'[$`"\\]')}


@dataclass(frozen=True, slots=True)
class Typed:
    """A line up to the cursor."""

    words: tuple[str, ...]
    """The words before the last one, as the program gets them."""
    last: str
    """The word at the cursor, which may be empty."""
    kept: int = 0
    """The number of characters of `last` that bash does not replace."""
    quote: str = ""
    """The open quotation mark, if there is one."""


def split_line(line: str, breaks: str) -> Typed:
    """Read a line as bash does.

    Args:
        line: the line up to the cursor.
        breaks: `COMP_WORDBREAKS`; bash replaces only the text after the last unquoted one of these.
    """
    words: list[str] = []
    word = quote = ""
    kept = kept_before = 0
    is_word = escaped = False
    for char in line:
        if escaped:
            escaped = False
            word += char if quote != '"' or char in _ESCAPED_IN_QUOTES else f"\\{char}"
        elif char == "\\" and quote != "'":
            escaped = is_word = True
        elif quote:
            if char == quote:
                quote, kept = "", kept_before
            else:
                word += char
        elif char in "'\"":
            quote, kept_before, kept = char, kept, len(word)
            is_word = True
        elif char in _BLANKS:
            if is_word:
                words.append(word)
            word, kept, is_word = "", 0, False
        else:
            word += char
            is_word = True
            if char in breaks:
                kept = len(word)
    return Typed(tuple(words), word, kept, quote)


def replacements(typed: Typed, candidates: Sequence[str]) -> list[str]:
    """Return the quoted candidates for bash, which inserts their common beginning.

    If the candidates share more than was typed, this common beginning is the only result. If they do not, but their
    quoted forms share a beginning that would be cut inside a quotation, a blank is added, so that bash inserts nothing.

    Args:
        typed: the line.
        candidates: whole words that begin with the word at the cursor.
    """
    rests = [each[typed.kept :] for each in candidates]
    quoted = [_quoted(each, typed.quote) for each in rests]
    if len(rests) < 2:
        return quoted
    common = _common(rests)
    if len(common) > len(typed.last) - typed.kept:
        return [_quoted(common, typed.quote)]
    if _common(quoted) != _quoted(common, typed.quote):
        return [*quoted, " "]
    return quoted


def _quoted(text: str, quote: str) -> str:
    """Quote a text so that bash reads it as it is, after the open quotation mark if there is one."""
    if quote == "'":
        return text.replace("'", "'\\''")
    escaped = _TO_ESCAPE[quote].sub(r"\\\g<0>", text)
    # In double quotes, a backslash would prevent history expansion, but stay in the word.
    return escaped.replace("!", "\"'!'\"") if quote else escaped


def _common(texts: Sequence[str]) -> str:
    """Return the common beginning."""
    first, last = min(texts), max(texts)
    alike = next((at for at, char in enumerate(first) if last[at] != char), len(first))
    return first[:alike]
