"""The words of `send`: what is sent, and to whom; checked before a peer is asked."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p2pshare.errors import IllegalName, SendingToOneself, WrongUsage
from p2pshare.names import is_name, read_name

STDIN = "-"
STDIN_NAME = "stdin"
"""The name under which standard input arrives by default."""
NAMES_MAX = 100  # people of one offer
NOTE_MAX = 1000  # characters
TEXT_MAX = 64 * 1024  # bytes of a snippet
HOW = "Type `p2pshare send PATH ... NAME`."


@dataclass(frozen=True, slots=True)
class Sources:
    """What `send` sends, and to whom."""

    paths: tuple[str, ...]
    """Absolute; empty for a text and for standard input."""
    to: tuple[str, ...]
    text: str | None = None
    is_stdin: bool = False
    as_name: str | None = None
    again: str | None = None
    """The ID of the offer whose files are sent again, or its beginning."""

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of a request; standard input must be in the spool by then."""
        return {
            "paths": list(self.paths) or None,
            "to": list(self.to),
            "text": self.text,
            "as_name": self.as_name,
            "again": self.again,
        }


def read_sources(
    words: Sequence[str],
    own_name: str,
    cwd: Path,
    *,
    text: str | None,
    as_name: str | None,
    again: str | None = None,
) -> Sources:
    """Return what the words of `send` mean.

    Raises:
        WrongUsage: they mean nothing, a file is missing, or somebody is no possible recipient.
        IllegalName: the last word is not a name.
    """
    if not words:
        raise WrongUsage(reason=f"NAME is missing: who gets it? {HOW}")
    *given, people = words
    if again is not None:
        if given or text is not None or as_name is not None:
            raise WrongUsage(reason="--again ID sends the same as before: add the NAME only.")
        return Sources((), _names(people, own_name, cwd), again=again)
    if not given and text is None:
        kind = "a file here" if os.path.lexists(cwd / people) else "a name"
        missing = "NAME" if kind == "a file here" else "PATH"
        raise WrongUsage(reason=f"{people!r} is {kind}, and {missing} is missing. {HOW}")
    to = _names(people, own_name, cwd)
    if text is not None:
        return Sources((), to, _checked_text(text, given, as_name))
    if STDIN in given:
        if len(given) > 1:
            raise WrongUsage(reason="Standard input (-) is sent alone: omit the other paths.")
        return Sources((), to, None, True, as_name or STDIN_NAME)
    if as_name is not None and len(given) > 1:
        raise WrongUsage(reason="--as-name names one file or folder: send them one by one.")
    return Sources(tuple(_absolute(each, cwd, people) for each in given), to, None, False, as_name)


def check_note(note: str | None) -> str | None:
    """Return a note that is short enough.

    Raises:
        WrongUsage: it is not.
    """
    if note is not None and len(note) > NOTE_MAX:
        raise WrongUsage(reason=f"The note has {len(note)} characters, and the most is {NOTE_MAX}.")
    return note


def _names(people: str, own_name: str, cwd: Path) -> tuple[str, ...]:
    try:
        names = tuple(dict.fromkeys(read_name(each) for each in people.split(",") if each.strip()))
    except IllegalName as error:
        if not os.path.lexists(cwd / people):
            raise
        reason = f"The last word of `send` is a name, but {people!r} is a file. {HOW}"
        raise WrongUsage(reason=reason) from error
    if not names:
        raise WrongUsage(reason=f"NAME is missing: who gets it? {HOW}")
    if own_name in names:
        raise SendingToOneself(name=own_name)
    if len(names) > NAMES_MAX:
        raise WrongUsage(
            reason=f"An offer has at most {NAMES_MAX} names, and these are {len(names)}."
        )
    return names


def _checked_text(text: str, given: Sequence[str], as_name: str | None) -> str:
    if given or as_name is not None:
        other = "--as-name" if as_name is not None else f"{given[0]!r}"
        raise WrongUsage(reason=f"--text is sent alone: omit {other}.")
    if not text:
        raise WrongUsage(reason="The text is empty.")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise WrongUsage(reason="The text is not valid in UTF-8.") from None
    if size > TEXT_MAX:
        raise WrongUsage(
            reason=f"The text has {size} bytes, and the most is {TEXT_MAX}: send it as a file, or through -."
        )
    return text


def _absolute(word: str, cwd: Path, people: str) -> str:
    path = os.path.abspath(cwd / os.path.expanduser(word))
    if not os.path.exists(path):
        dangling = " It is a link that leads nowhere." if os.path.lexists(path) else ""
        hint = (
            f" If it is a person, join the names by a comma: {word},{people}."
            if is_name(word)
            else ""
        )
        raise WrongUsage(reason=f"There is no file or folder {word!r} here.{dangling or hint}")
    try:
        path.encode()
    except UnicodeEncodeError:
        raise WrongUsage(
            reason=f"The path {word!r} is not valid in {sys.getfilesystemencoding()}: rename it first."
        ) from None
    return path
