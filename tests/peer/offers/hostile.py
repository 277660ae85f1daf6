"""Hostile peers: they own a name and a key as everybody does, and say in sessions whatever a test wants.

Their messages are JSON that the test writes by the documents. Nothing of it is checked on the way out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from twisted.internet.defer import Deferred

from p2pshare.core.ranges import Range
from p2pshare.core.session_interface import Session
from p2pshare.errors import P2pshareError
from p2pshare.net.session.carriers import Carriers
from p2pshare.peer.find.target import Target
from p2pshare.peer.reach.dialler import Dialler
from p2pshare.storage.settings import Via
from p2pshare.wire.session_messages import Message, Purpose
from tests.peer.offers.world import Person

CREDIT = 10_000_000  # bytes that the victim may send

Fields = dict[str, Any]


@dataclass(frozen=True)
class RawMessage(Message):
    """Any bytes, as a control message."""

    WORD = "raw"

    body: bytes

    def to_json(self) -> bytes:
        return self.body


class RawSession:
    """A session of a hostile peer with a victim."""

    def __init__(
        self, session: Session, on_message: Callable[[RawSession, Fields], object]
    ) -> None:
        self.session = session
        self.heard: list[Fields] = []
        """The messages of the victim."""
        self.data = b""
        """The bytes of files that came, in the order of their arrival."""
        self.is_over = False
        self.reason: P2pshareError | None = None
        self._on_message = on_message

    def say(self, **fields: Any) -> None:
        """Send a message."""
        self.say_bytes(json.dumps(fields).encode())

    def say_bytes(self, body: bytes) -> None:
        """Send any bytes as a message."""
        if not self.is_over:
            self.session.send(RawMessage(body))

    def of_kind(self, word: str) -> list[Fields]:
        """Return the messages of one kind."""
        return [each for each in self.heard if each["m"] == word]

    def message_received(self, message: Message) -> None:
        fields = json.loads(message.to_json())
        self.heard.append(fields)
        self._on_message(self, fields)

    def data_received(self, transfer: int, offset: int, data: memoryview) -> None:
        self.data += data

    def size_received(self, transfer: int, size: int) -> None:
        """Ignore it."""

    def fin_received(self, transfer: int) -> Sequence[Range]:
        return ()

    def room_again(self) -> None:
        """Ignore it."""

    def session_ended(self, reason: P2pshareError | None) -> None:
        self.is_over, self.reason = True, reason


class Hostile:
    """A person whose peer is only there to be registered; sessions with it are the test's."""

    def __init__(self, person: Person, *, own_name: str = "", purpose: bool = False) -> None:
        """Take over a peer that has started.

        Args:
            person: whose peer it is.
            own_name: what it calls itself, where there is no registry.
            purpose: whether its sessions are said to be for offers only.
        """
        self.person = person
        self.accepted: list[RawSession] = []
        """The sessions that others have opened."""
        self.answer: Callable[[RawSession, Fields], object] = lambda _session, _fields: None
        """Is called with each message of a victim."""
        peer: Any = person.peer
        peer._sessions.acceptor._serve = self._accept
        self._peer = peer
        host = person.host
        self._dialler = Dialler(
            cast("Any", host),
            lambda: peer.key,
            Carriers(cast("Any", host), Via.TCP),
            own_name=own_name,
        )
        self._purpose = Purpose.OFFER if purpose else None

    def open(self, victim: Person) -> RawSession:
        """Open a session with another peer."""
        peer = victim.peer
        assert peer is not None
        target = Target.at(victim.name, peer.key.public, victim.address)
        opening = Deferred.fromCoroutine(
            self._dialler.open(target, credit=CREDIT, purpose=self._purpose)
        )
        session = cast("Session", self.person.world.result(opening))
        raw = RawSession(session, self._heard)
        session.begin(raw)
        return raw

    def _accept(self, session: Session) -> RawSession:
        self.accepted.append(RawSession(session, self._heard))
        return self.accepted[-1]

    def _heard(self, session: RawSession, fields: Fields) -> None:
        self.answer(session, fields)
