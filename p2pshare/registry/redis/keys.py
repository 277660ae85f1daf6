"""The keys in Redis (or Valkey).

Each key has a hash tag, and no script touches two tags, so a cluster could hold them. Of a name there are::

    p2p:{bob}:owner         HASH key, seq, claim, session, beat, seen, since and until (ms: presence), originals (1 if
                            original clients see it, or nothing), rotated (the iat of the last rotation, if there was
                            one), mark ("BORN ID" of the store's mark under which it was claimed); expires when the
                            ownership ends
    p2p:{bob}:signed        the rotations that led to the key, then the record, a line each; expires with the owner
    p2p:{bob}:location      "IP PORT" for original clients, or nothing, then on a line the location; deleted when the
                            peer leaves; if the peer vanishes, it expires with the peer's session
    p2p:{bob}:classic       "10.0.0.5 50000 PROOF", or "-" for no proof; expires when the lease ends. It also holds the
                            address of an owned name that is online and speaks the classic protocol, with "=" as proof
    p2p:{bob}:former        the former owners, for a while: "CLAIM SEEN" of the last one, then "KEY SEQ" of each on a
                            line, the newest first; older records of theirs are rejected

The hash is small and its values are short, so Redis packs it tightly. Of other things there are::

    p2p:{key:KEY}:name              the name that a key claimed last; only a hint, since the owner of the name decides
    p2p:{invitation:ID}:holder      the key that used an invitation
    p2p:{nonce:KEY:NONCE}:used      nothing: the nonce of an access statement that was used
    p2p:{room:DIGEST}:home          the number of the worker at which the ends of a room at the relay meet
    p2p:{limit:BUCKET}:tokens       "LEVEL TIME" of a token bucket that is not full

Of all names together there is an index (`index.py`), in one slot::

    p2p:{index}:store       "ID BORN first" or "ID BORN lost": the mark by which a loss of the store is noticed
    p2p:{index}:registry    the public key of the registry that has these names
    p2p:{index}:recovering  "LEFT COUNTED" in ms, after a loss: the rest of the recovery, and when that was counted
    p2p:{index}:names       ZSET, all scores 0: every live name, in lexical order, and some expired ones
    p2p:{index}:checks      ZSET, name -> when to check whether it has expired, in ms
    p2p:{index}:here        ZSET, all scores 0: names that are or may be online
    p2p:{index}:originals   ZSET, all scores 0: those of them that original clients see
    p2p:{index}:presence    ZSET, owned name -> when it was seen, in ms; negative while it is offline
    p2p:{index}:since       HASH, owned name that is online -> since when without a break, in ms
    p2p:{index}:classic     HASH, classic name -> "REGISTERED ENDS", in ms
    p2p:{index}:events      STREAM of changes, e = "NAME KIND PRESENCE SINCE"; its first entry was made with the mark
"""

from __future__ import annotations

import re

_TAG = re.compile(r"[A-Za-z0-9._:%/-]{1,128}")
_INDEX = (
    "store", "recovering", "names", "checks", "here", "originals", "presence", "since", "classic",
    "events",
)  # fmt: skip

INDEX_KEYS = tuple(f"p2p:{{index}}:{word}" for word in _INDEX)
"""The keys that every script of the index gets, in this order."""
REGISTRY_KEY = "p2p:{index}:registry"
CLASSIC_KEY = INDEX_KEYS[_INDEX.index("classic")]


def key_of(tag: str, kind: str) -> str:
    """Return a key.

    Raises:
        ValueError: the tag could make it the key of something else.
    """
    if not _TAG.fullmatch(tag):
        raise ValueError(f"{tag!r} can be no part of a key")
    return f"p2p:{{{tag}}}:{kind}"


def keys_of(tag: str, *kinds: str) -> list[str]:
    """Return several keys in one slot."""
    return [key_of(tag, kind) for kind in kinds]
