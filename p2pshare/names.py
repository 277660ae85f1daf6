"""The names of users: one canonical form, so that no two names look or compare alike."""

from __future__ import annotations

import re
import unicodedata

from p2pshare.errors import IllegalName

NAME_MAX = 32  # characters, all ASCII
RESERVED = frozenset(
    {"list", "user", "name", "v1", "admin", "registry", "healthz", "readyz", "metrics"}
)

_BEGINNING = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")
_LEGAL = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,30}[a-z0-9])?")


def canonical(text: str) -> str:
    """What `text` would have to be spelled like to be a name; it may still be none."""
    return unicodedata.normalize("NFKC", text).casefold().strip()


def check_name(text: str) -> str:
    """Return `text` if it is a legal name in its canonical form.

    Raises:
        IllegalName: it is not.
    """
    if not is_name(text):
        raise IllegalName(name=text[: 2 * NAME_MAX], reserved=", ".join(sorted(RESERVED)))
    return text


def is_name(text: str) -> bool:
    """Whether `text` is a legal name in its canonical form."""
    return bool(_LEGAL.fullmatch(text)) and text == canonical(text) and text not in RESERVED


def can_begin_name(text: str) -> bool:
    """Whether a name can begin with `text`, which is in its canonical form."""
    return bool(_BEGINNING.fullmatch(text))
