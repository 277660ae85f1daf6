"""All kinds of control messages, by what they are for, and their reader."""

from __future__ import annotations

from p2pshare.errors import RemoteProtocolError
from p2pshare.wire.offers.messages import OFFER_BYTES_MAX, Offer, OfferNoted, OfferState, Withdraw
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
    Cancel,
    Digests,
    Done,
    End,
    Failed,
    FileHeader,
    Get,
    Job,
    List,
    Listing,
    Stopped,
)

WORD_MAX = 32  # characters

GREETINGS: tuple[type[Message], ...] = (Hello, Welcome, Refused)
"""Messages that begin a session, or refuse it."""
ANY_TIME: tuple[type[Message], ...] = (Ping, Pong, Bye)
"""Messages of both ends, before the session is open and after."""
REQUESTS: tuple[type[Message], ...] = (List, Get, Credit, Done, Cancel, Job)
"""Messages of a requester."""
ANSWERS: tuple[type[Message], ...] = (Listing, FileHeader, Digests, End, Failed, Stopped)
"""Messages of a sharer."""
OFFERS: tuple[type[Message], ...] = (Offer, OfferState, OfferNoted, Withdraw)
"""Messages about offers, of both ends."""

_KINDS = {each.WORD: each for each in (*GREETINGS, *ANY_TIME, *REQUESTS, *ANSWERS, *OFFERS)}


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
    if kind in OFFERS and len(body) > OFFER_BYTES_MAX:
        raise RemoteProtocolError(reason=f"{kind.WORD!r} is longer than {OFFER_BYTES_MAX} bytes")
    return kind.from_fields(fields)
