"""The state of the connection to a peer, as shown to users."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from p2pshare.core.session_interface import SessionPath
from p2pshare.errors import P2pshareError
from p2pshare.wire.display import display


class LinkState(enum.Enum):
    """The state of the connection to a peer."""

    IDLE = "idle"
    """No session, and nobody needs one."""
    CONNECTING = "connecting"
    """A session is being opened, for the first time or again."""
    BROKEN = "broken"
    """The session is lost or could not be opened; there is a pause before the next try."""
    UP = "up"
    CLOSED = "closed"
    """There will be no other session."""


@dataclass(frozen=True, slots=True)
class LinkChange:
    """A new state of the connection to a peer."""

    state: LinkState
    """`CONNECTING`, `BROKEN` or `UP`; users do not hear of the others."""
    name: str
    """The peer's name."""
    reason: str = ""
    """The reason for `BROKEN`."""
    retry_in: float = 0.0
    """Seconds until the next try, for `BROKEN`."""
    again: bool = False
    """Whether there was a session before."""
    path: SessionPath | None = None
    """The way of the session, for `UP`."""
    is_moved: bool = False
    """Whether this session has taken the place of one that worked, for `UP`."""
    awaits_acceptance: bool = False
    """Whether the peer's owner has to accept this user's key first, for `BROKEN` and `CONNECTING`."""

    def __str__(self) -> str:
        """Return a sentence for a screen, without control characters and without a full stop."""
        name = display(self.name)
        match self.state:
            case LinkState.CONNECTING:
                return f"connecting to {name} again" if self.again else f"connecting to {name}"
            case LinkState.BROKEN if self.awaits_acceptance:
                return f"waiting until {name} accepts your key"
            case LinkState.BROKEN:
                what = f"the connection to {name} broke" if self.again else f"{name} is not ready"
                when = f"trying again in {max(1, round(self.retry_in))} s"
                return f"{what} ({display(self.reason)}), {when}"
            case _:
                via = "" if self.path is None else f" ({self.path})"
                if self.is_moved:
                    return f"the connection to {name} is direct now{via}"
                return f"the connection to {name} is {'back' if self.again else 'there'}{via}"


def reason_of(error: P2pshareError | None) -> str:
    """Return why a session ended, as a few words for brackets."""
    if error is None:
        return "the peer ended it"
    reason = error.fields.get("reason")
    return str(reason if reason else error).rstrip(".")
