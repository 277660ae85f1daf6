"""The sharer's welcome port: who asks for what, and how many are served at once."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

from p2pshare.classic.core.interface import Address, Outgoing
from p2pshare.classic.datagrams import REQUEST_WORDS, Kind, Word, parse_word

PORT_MIN = (
    1024  # no requester has a lower port, but services do, to which a text could be made to go
)
TRANSFERS_MAX = 64  # at once
TRANSFERS_PER_HOST_MAX = 4  # at once, for one IP address
ANSWER_WITHIN = (
    1.0  # seconds in which nobody takes the place of a requester that has not answered yet
)
REMEMBER_FOR = 5.0  # seconds in which a word of a transfer that succeeded may still arrive
REMEMBERED_MAX = 1024  # transfers that succeeded
ANSWERS_MAX = 1024  # answers that wait for a full socket


@dataclass(frozen=True, slots=True)
class TransferRequested:
    """Somebody asks for something; call `transfer_ended` when it is over, however it ends."""

    kind: Kind
    requester: Address
    """Where the word came from, and where the transfer goes to."""
    reports: bool
    """Whether the requester is one of ours."""


@dataclass(frozen=True, slots=True)
class TransferDisplaced:
    """A transfer gave its place to another request: end it."""

    request: TransferRequested


WelcomeEvent = TransferRequested | TransferDisplaced

_Key = tuple[Address, Kind]


class Welcome:
    """Answers the words of requesters, within the caps.

    Anybody can say a word from an address that is not theirs, and take a place with it. So when
    there is no room left, the oldest transfer whose requester did not answer for a while makes some.
    """

    def __init__(
        self,
        has_answered: Callable[[TransferRequested], bool] = lambda _: True,
        *,
        transfers_max: int = TRANSFERS_MAX,
        transfers_per_host_max: int = TRANSFERS_PER_HOST_MAX,
    ) -> None:
        """`has_answered` is asked whether the requester of a transfer was ever heard from."""
        self._has_answered = has_answered
        self._transfers_max = transfers_max
        self._transfers_per_host_max = transfers_per_host_max
        self._serving: dict[_Key, TransferRequested] = {}
        self._since: dict[_Key, float] = {}
        self._per_host: Counter[str] = Counter()
        self._remembered: dict[_Key, float] = {}  # in the order of the times
        self._outbox: deque[tuple[bytes, Address]] = deque(maxlen=ANSWERS_MAX)
        self._events: deque[WelcomeEvent] = deque()
        self.turned_away = 0
        """Words that were not answered because too much is being served."""
        self.dropped = 0
        """Datagrams that are no word."""

    @property
    def serving(self) -> int:
        """The number of transfers under way."""
        return len(self._serving)

    def receive_datagram(self, data: bytes, addr: Address, now: float) -> None:
        """Take in a datagram that came to the welcome port."""
        word = parse_word(data)
        if word is None or word not in REQUEST_WORDS or addr[1] < PORT_MIN:
            self.dropped += 1
            return
        key = addr, REQUEST_WORDS[word]
        if (request := self._serving.get(key)) is None:
            self._forget(now)
            if key in self._remembered:
                return
            if not self._make_room_for(addr[0], now):
                self.turned_away += 1
                return
            request = TransferRequested(key[1], addr, reports=word is Word.IMG2)
            self._serving[key] = request
            self._since[key] = now
            self._per_host[addr[0]] += 1
            self._events.append(request)
        self._outbox.append(((Word.ACK2 if request.reports else Word.ACK).value, addr))

    def transfer_ended(self, request: TransferRequested, now: float, *, succeeded: bool) -> None:
        """The transfer is over: its place is free again."""
        key = request.requester, request.kind
        if self._serving.get(key) is not request:
            return  # displaced; somebody else may have its place, even from the same address
        self._free(request)
        if succeeded and len(self._remembered) < REMEMBERED_MAX:
            self._remembered[key] = now + REMEMBER_FOR

    def handle_timer(self, now: float) -> None:
        """Nothing is ever due."""

    def get_timer(self) -> float | None:
        """There is no timer: what is remembered is forgotten when the next word comes."""
        return None

    def datagrams_to_send(self, now: float) -> Outgoing:
        """What to send now."""
        datagrams = list(self._outbox)
        self._outbox.clear()
        return datagrams

    def next_event(self) -> WelcomeEvent | None:
        """The next request that is to be served, or that is not to be served any more."""
        return self._events.popleft() if self._events else None

    def _make_room_for(self, host: str, now: float) -> bool:
        """Whether there is a place for one more transfer to `host`, if need be another's."""
        serving = self._serving.values()
        if self._per_host[host] >= self._transfers_per_host_max:
            candidates = [each for each in serving if each.requester[0] == host]
        elif len(self._serving) >= self._transfers_max:
            candidates = list(serving)
        else:
            return True
        for request in candidates:  # the oldest first
            if now < self._since[request.requester, request.kind] + ANSWER_WITHIN:
                return False
            if not self._has_answered(request):
                self._free(request)
                self._events.append(TransferDisplaced(request))
                return True
        return False

    def _free(self, request: TransferRequested) -> None:
        host = request.requester[0]
        del self._serving[request.requester, request.kind]
        del self._since[request.requester, request.kind]
        self._per_host[host] -= 1
        if not self._per_host[host]:
            del self._per_host[host]

    def _forget(self, now: float) -> None:
        while self._remembered:
            key, until = next(iter(self._remembered.items()))
            if until > now:
                return
            del self._remembered[key]
