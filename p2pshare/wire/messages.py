"""All control messages of a session: who may say which, and how they are read."""

from __future__ import annotations

from p2pshare.wire.message_fields import Message
from p2pshare.wire.session_messages import Bye, Credit, Hello, Ping, Pong, Refused, Welcome
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

FROM_OPENER = (Hello, List, Get, Credit, Done, Cancel, Job, Ping, Pong, Bye)
"""What who opened a session may say."""
FROM_SHARER = (Welcome, Refused, Listing, Offer, Block, End, Failed, Ping, Pong, Bye)
"""What the other side may say."""

_KINDS: dict[str, type[Message]] = {each.WORD: each for each in (*FROM_OPENER, *FROM_SHARER)}


def parse_message(body: bytes) -> Message | None:
    """Read a control message; None if it is of a kind that came up later, which is passed over.

    Raises:
        RemoteProtocolError: it is no message.
    """
    fields = parse_object(body, "a message")
    kind = _KINDS.get(text(fields, "m", 32))
    return None if kind is None else kind.from_fields(fields)
