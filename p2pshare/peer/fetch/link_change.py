"""How it stands with the session to a peer, for those who look at a screen."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from p2pshare.errors import P2pshareError
from p2pshare.wire.display import display


class LinkState(enum.Enum):
    """How it stands with the session to a peer."""

    CONNECTING = "connecting"
    """It is being opened, for the first time or again."""
    UP = "up"
    BROKEN = "broken"
    """It is lost, or could not be opened; there will be another try."""


@dataclass(frozen=True, slots=True)
class LinkChange:
    """How it stands with the session to a peer, from now on."""

    state: LinkState
    name: str
    """The peer's."""
    reason: str = ""
    """Why it broke."""
    retry_in: float = 0.0
    """Seconds until the next try, once it broke."""
    again: bool = False
    """Whether there has been a session before."""

    def __str__(self) -> str:
        """Say it on a screen; there is nothing in it that a terminal obeys."""
        name = display(self.name)
        match self.state:
            case LinkState.CONNECTING:
                return f"connecting to {name} again" if self.again else f"connecting to {name}"
            case LinkState.UP:
                return f"the connection to {name} is {'back' if self.again else 'there'}"
            case LinkState.BROKEN:
                what = f"the connection to {name} broke" if self.again else f"{name} is not ready"
                when = f"trying again in {max(1, round(self.retry_in))} s"
                return f"{what} ({display(self.reason)}), {when}"


def reason_of(error: P2pshareError | None) -> str:
    """Why a session ended, in a few words that fit into brackets."""
    if error is None:
        return "it was ended there"
    reason = error.fields.get("reason")
    return str(reason if reason else error).rstrip(".")
