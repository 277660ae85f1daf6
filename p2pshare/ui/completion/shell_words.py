"""The word that is being typed in a line of bash: what it says, and how another one is put in its place.

Bash would quote candidates itself, as names of files; but not all of them once a dollar sign or a backtick was typed.
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
    """Those before the last one, as the program would get them."""
    last: str
    """The one at the cursor, likewise; it may be empty."""
    kept: int = 0
    """Characters of `last` that the shell leaves as they are when it puts a completed word in."""
    quote: str = ""
    """The quotation mark that is open."""


def split_line(line: str, breaks: str) -> Typed:
    """Read a line as bash does.

    Args:
        line: it, up to the cursor.
        breaks: `COMP_WORDBREAKS`; bash replaces only what stands behind the last of these that is not quoted.
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
    """What bash is to choose from to put in the place of the word, quoted.

    Several candidates become one if they go on alike: as far as they do. Where they do not, and what is alike in their
    quotation would cut it, a blank is among them, so that bash puts nothing in.

    Args:
        typed: what was typed.
        candidates: whole words that begin with the last one.
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
    """Text so written, behind an open quotation mark if there is one, that it stands for itself."""
    if quote == "'":
        return text.replace("'", "'\\''")
    escaped = _TO_ESCAPE[quote].sub(r"\\\g<0>", text)
    # In double quotes, a backslash keeps the shell from looking up its history, but stays.
    return escaped.replace("!", "\"'!'\"") if quote else escaped


def _common(texts: Sequence[str]) -> str:
    """What all of them begin with."""
    first, last = min(texts), max(texts)
    alike = next((at for at, char in enumerate(first) if last[at] != char), len(first))
    return first[:alike]
