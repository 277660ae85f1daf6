"""The names of users: one canonical form, so that no two names look or compare alike."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from p2pshare.errors import IllegalName

NAME_MAX = 32  # characters, all ASCII
RESERVED = frozenset(
    {"list", "user", "name", "v1", "admin", "registry", "healthz", "readyz", "metrics"}
)

ON_NETWORK = "@lan"
"""In place of a name: everyone on the local network. Behind a name: one that nobody has accepted, and that proves
nothing. No name contains it.
"""

FORM = '1 to 32 of a-z, 0-9, ".", "_" and "-", with a letter or digit first and last'
"""The form of a name, for people."""

_BEGINNING = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")
_LEGAL = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,30}[a-z0-9])?")


def canonical(text: str) -> str:
    """Return the canonical spelling of `text`, which need not be a valid name."""
    return unicodedata.normalize("NFKC", text).casefold().strip()


def check_name(text: str) -> str:
    """Return `text` if it is a legal name in its canonical form.

    Raises:
        IllegalName: it is not.
    """
    if text in RESERVED:
        words = ", ".join(sorted(RESERVED))
        raise IllegalName(name=text, reason=f"it is reserved, as each of {words} is")
    if not is_name(text):
        raise IllegalName(name=text[: 2 * NAME_MAX], reason=f"use {FORM}")
    return text


def read_name(text: str) -> str:
    """Return the name that a user means by `text`, which may be in upper case.

    Raises:
        IllegalName: it is no valid name.
    """
    return check_name(canonical(text))


def read_viewer(text: str) -> str:
    """Return what a user means who names a viewer of shares: a name, or `ON_NETWORK`.

    Raises:
        IllegalName: it is neither.
    """
    return ON_NETWORK if canonical(text) == ON_NETWORK else read_name(text)


def did_you_mean(text: str, known: Iterable[str]) -> str | None:
    """Return the known word that is most similar to `text`, or None if none is similar."""
    import difflib  # where a sentence needs it

    return next(iter(difflib.get_close_matches(text, list(known), 1)), None)


def is_name(text: str) -> bool:
    """Whether `text` is a valid name in its canonical form."""
    return bool(_LEGAL.fullmatch(text)) and text not in RESERVED


def can_begin_name(text: str) -> bool:
    """Whether a name can begin with `text`, in its canonical form."""
    return bool(_BEGINNING.fullmatch(text))
