"""The keys of Redis."""

from __future__ import annotations

import re

_TAG = re.compile(r"[A-Za-z0-9._:%/-]{1,128}")


def key_of(tag: str, kind: str) -> str:
    """The key under which something is kept; a tag that could make it another's is a mistake of ours."""
    if not _TAG.fullmatch(tag):
        raise ValueError(f"{tag!r} can be no part of a key")
    return f"p2p:{{{tag}}}:{kind}"


def keys_of(tag: str, *kinds: str) -> list[str]:
    """Several of them, in one slot."""
    return [key_of(tag, kind) for kind in kinds]
