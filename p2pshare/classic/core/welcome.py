"""The sharer's welcome port: which requests are accepted, and how many transfers run at once."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

from p2pshare.classic.datagrams import REQUEST_WORDS, Kind, Word, parse_word
from p2pshare.core.datagram_core import Address, Outgoing

PORT_MIN = (
    1024  # requesters have higher ports; a forged word could make a text go to a service below
)
TRANSFERS_MAX = 64  # at once
TRANSFERS_PER_HOST_MAX = 4  # at once, for one IP address
ANSWER_WITHIN = 1.0  # seconds for which a requester keeps its place without having answered
REMEMBER_FOR = 5.0  # seconds after a successful transfer in which repeated words are ignored
REMEMBERED_MAX = 1024  # successful transfers
ANSWERS_MAX = 1024  # answers that wait while the socket is full


@dataclass(frozen=True, slots=True)
class TransferRequested:
    """A request was accepted: start the transfer, and call `transfer_ended` when it is over, however it ends."""

    kind: Kind
    requester: Address
    """The source of the word, and the destination of the transfer."""
    reports: bool
    """Whether the requester is one of ours, and answers probes."""


@dataclass(frozen=True, slots=True)
class TransferDisplaced:
    """A transfer lost its place to another request: end it."""

    request: TransferRequested


WelcomeEvent = TransferRequested | TransferDisplaced

_Key = tuple[Address, Kind]


class Welcome:
    """The answers to requesters, within the limits on transfers.

    A word with a forged source address takes a place, too. So when all places are taken, the oldest transfer whose
    requester did not answer within `ANSWER_WITHIN` loses its place.
    """

    def __init__(
        self,
        has_answered: Callable[[TransferRequested], bool] = lambda _: True,
        *,
        transfers_max: int = TRANSFERS_MAX,
        transfers_per_host_max: int = TRANSFERS_PER_HOST_MAX,
    ) -> None:
        """`has_answered` returns whether the requester of a transfer was ever heard from."""
        self._has_answered = has_answered
        self._transfers_max = transfers_max
        self._transfers_per_host_max = transfers_per_host_max
        self._serving: dict[
            _Key, tuple[TransferRequested, float]
        ] = {}  # with the start, the oldest first
        self._per_host: Counter[str] = Counter()
        self._remembered: dict[_Key, float] = {}  # until when, the earliest first
        self._outbox: deque[tuple[bytes, Address]] = deque(maxlen=ANSWERS_MAX)
        self._events: deque[WelcomeEvent] = deque()
        self.turned_away = 0
        """Words that were not answered, as all places were taken."""
        self.dropped = 0
        """Datagrams that are not a word."""

    @property
    def serving(self) -> int:
        """The number of running transfers."""
        return len(self._serving)

    def receive_datagram(self, data: bytes, addr: Address, now: float) -> None:
        """Process a datagram from the welcome port."""
        word = parse_word(data)
        if word is None or word not in REQUEST_WORDS or addr[1] < PORT_MIN:
            self.dropped += 1
            return
        key = addr, REQUEST_WORDS[word]
        if key in self._serving:
            request, _ = self._serving[key]
        else:
            self._forget(now)
            if key in self._remembered:
                return
            if not self._make_room_for(addr[0], now):
                self.turned_away += 1
                return
            request = TransferRequested(key[1], addr, reports=word is Word.IMG2)
            self._serving[key] = request, now
            self._per_host[addr[0]] += 1
            self._events.append(request)
        self._outbox.append(((Word.ACK2 if request.reports else Word.ACK).value, addr))

    def transfer_ended(self, request: TransferRequested, now: float, *, succeeded: bool) -> None:
        """Free the place of a transfer that is over."""
        key = request.requester, request.kind
        if key not in self._serving or self._serving[key][0] is not request:
            return  # displaced; another request may have its place, even one from the same address
        self._free(key)
        if succeeded and len(self._remembered) < REMEMBERED_MAX:
            self._remembered[key] = now + REMEMBER_FOR

    def handle_timer(self, now: float) -> None:
        """Do nothing, as nothing is ever due."""

    def get_timer(self) -> float | None:
        """Return None: remembered transfers are forgotten when the next word arrives."""
        return None

    def datagrams_to_send(self, now: float) -> Outgoing:
        """Return the answers."""
        datagrams = list(self._outbox)
        self._outbox.clear()
        return datagrams

    def next_event(self) -> WelcomeEvent | None:
        """Return the oldest event that was not returned yet, or None."""
        return self._events.popleft() if self._events else None

    def _make_room_for(self, host: str, now: float) -> bool:
        """Return whether there is a place for one more transfer to `host`, if need be by displacing one."""
        only_host = self._per_host[host] >= self._transfers_per_host_max
        if not only_host and len(self._serving) < self._transfers_max:
            return True
        for key, (request, since) in self._serving.items():
            if only_host and request.requester[0] != host:
                continue
            if now < since + ANSWER_WITHIN:
                return False
            if not self._has_answered(request):
                self._free(key)
                self._events.append(TransferDisplaced(request))
                return True
        return False

    def _free(self, key: _Key) -> None:
        del self._serving[key]
        (host, _), _ = key
        self._per_host[host] -= 1
        if not self._per_host[host]:
            del self._per_host[host]

    def _forget(self, now: float) -> None:
        while self._remembered:
            key, until = next(iter(self._remembered.items()))
            if until > now:
                return
            del self._remembered[key]
