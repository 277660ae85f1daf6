"""The kinds of control messages, by the side that may send them, and how they are read."""

from __future__ import annotations

from p2pshare.wire.session_messages import (
    Bye,
    Credit,
    Hello,
    Message,
    Ping,
    Pong,
    Refused,
    Welcome,
)
from p2pshare.wire.strict_json import parse_object, text
from p2pshare.wire.transfer_messages import (
    Block,
    Cancel,
    Done,
    End,
    Failed,
    Get,
    Job,
    List,
    Listing,
    Offer,
)

WORD_MAX = 32  # characters

FROM_OPENER = (Hello, List, Get, Credit, Done, Cancel, Job, Ping, Pong, Bye)
"""Messages that an opener may send."""
FROM_SHARER = (Welcome, Refused, Listing, Offer, Block, End, Failed, Ping, Pong, Bye)
"""Messages that a sharer may send."""

_KINDS: dict[str, type[Message]] = {each.WORD: each for each in (*FROM_OPENER, *FROM_SHARER)}


def parse_message(body: bytes) -> Message | None:
    """Read a control message; return None for a kind that only later versions know, which callers ignore.

    Raises:
        RemoteProtocolError: it is not a valid message.
    """
    fields = parse_object(body, "a message")
    word = fields.get("m")
    kind = _KINDS.get(word) if isinstance(word, str) else None
    if kind is None:
        text(fields, "m", WORD_MAX)
        return None
    return kind.from_fields(fields)
