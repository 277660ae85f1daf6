"""Bodies of the requests and events by which a registry passes signals on (`/v1/peers/NAME/signals`).

A registry sees these fields, and the sealed bytes of the signal. `signals` has what is inside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from p2pshare.wire.json_fields import NAME, Codec, JsonObject
from p2pshare.wire.keys import PublicKey, from_base64url, to_base64url
from p2pshare.wire.reach.signals import INBOX, SEALED_MAX
from p2pshare.wire.registry_answers import Body
from p2pshare.wire.statements import KEY
from p2pshare.wire.strict_json import text

ACCEPT_MAX = 64  # names of senders that a stream accepts
SIGNAL_ALIVE = 5.0  # seconds between two `alive` events of a stream
SEALED_TEXT_MAX = -(-SEALED_MAX * 4 // 3)  # characters of base64url

SEALED = Codec(
    lambda fields, key: from_base64url(text(fields, key, SEALED_TEXT_MAX), f"the {key}"),
    to_base64url,
)
"""A sealed signal."""
_SENDER = NAME._replace(key="from")


@dataclass(frozen=True, slots=True)
class SignalBody(Body):
    """The body of `POST /v1/peers/NAME/signals`."""

    inbox: Annotated[str, INBOX]
    """The recipient's."""
    sender: Annotated[str, _SENDER]
    """The name of the sender, as in its access statement."""
    sealed: Annotated[bytes, SEALED]


@dataclass(frozen=True, slots=True)
class PassedSignal(JsonObject):
    """The data of the event `signal`."""

    sender: Annotated[str, _SENDER]
    """A name that `key` owns, according to the registry."""
    key: Annotated[PublicKey, KEY]
    """The sender's, according to the registry; the signature inside the seal proves it."""
    inbox: Annotated[str, INBOX]
    """The recipient's."""
    sealed: Annotated[bytes, SEALED]
