"""Rendezvous: streams of signals for the owners of names, and the signals that owners post to them.

`docs/protocol-registry.md` shows the bytes. The registry cannot read a signal, which is sealed for its recipient. It
only decides who may send one: see `access`.
"""

# How a signal finds its stream.
#
# A stream belongs to a *place*: a name and an inbox. Each process of the registry has the streams of its own clients,
# and subscribes to a channel for each place that one of them follows. A process that gets a signal for a place of which
# it has the stream delivers it itself. Otherwise it publishes the signal to the channel of the place. The store says
# how many processes that reached; if none, nobody listens. If some, each of them answers on the channel of the process
# that asks: a signal may still be refused by the stream's `accept`, and the stream may have ended meanwhile. The first
# answer other than `not-listening` decides.
#
# One place has one stream: the newest, as a peer whose network broke off connects again before the registry notices it.
# A process announces a new stream on the channel of its place. All processes see the announcements of one channel in
# one order, their own among them. A stream ends when it sees another announcement after its own; one from before
# its own is of an older stream. So of any number of streams that begin together, the one that was announced last
# remains.
#
# The client is told by `open` that its stream can be reached from every process. So whoever calls after it has seen
# `open` does not miss the answer.
#
# A signal is delivered at most once, and nothing is kept for a peer that is away: the sender repeats its call.

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from http import HTTPStatus
from itertools import count
from typing import NamedTuple, Protocol, TypeVar

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pshare.errors import RemoteProtocolError, StoreUnavailable
from p2pshare.names import NAME_MAX, is_name
from p2pshare.net.shared_answer import SharedAnswer
from p2pshare.registry.api.access import AccessControl
from p2pshare.registry.api.event_streams import event_text
from p2pshare.registry.api.events import FLUSH_TIME, HEADERS, REFUSED_RETRY, RETRY_INTERVAL
from p2pshare.registry.api.queries import arguments_of, name_in
from p2pshare.registry.api.rate_limits import Limiter
from p2pshare.web.client_addresses import Origin
from p2pshare.web.exchange import Query, Reply, Route
from p2pshare.web.problems import RequestError, answer_to
from p2pshare.web.reply_bodies import Outlet
from p2pshare.wire.json_fields import Fields
from p2pshare.wire.reach.access import Use, detail_of_body
from p2pshare.wire.reach.rendezvous import (
    ACCEPT_MAX,
    SIGNAL_ALIVE,
    PassedSignal,
    SignalBody,
)
from p2pshare.wire.reach.signals import INBOX, MAIN_INBOX
from p2pshare.wire.strict_json import integer, parse_object, text

ANSWER_TIMEOUT = 1.0  # seconds for another process to say what became of a signal
QUESTIONS_MAX = 1024  # signals about which other processes are asked at once
LOOK_INTERVAL = 0.5  # seconds between two looks at the streams
RECONNECT_AFTER = 1000  # ms that a client waits before it reconnects
ID_MAX = 64  # characters of the id of a process or a stream
ALIVE = event_text("alive", {})

T = TypeVar("T")


class Channels(Protocol):
    """Messages between all processes of a registry. A message can be lost if the store breaks off."""

    def subscribe(self, channel: str, receive: Callable[[bytes], object]) -> Awaitable[None]:
        """Receive the messages of a channel from now on; return when that is so, however long it takes."""

    def unsubscribe(self, channel: str) -> None:
        """Receive them no longer."""

    def publish(self, channel: str, message: bytes) -> Awaitable[int]:
        """Send a message; return how many processes receive it. Fails with `StoreUnavailable`."""


@dataclass(frozen=True, slots=True)
class SignalLimits:
    """The bounds of the streams of signals of one process."""

    streams_max: int = 2048
    streams_per_address_max: int = 256
    """Many peers may be behind one NAT. Clients on the registry's own machine are exempt."""
    streams_per_key_max: int = 16
    body_max: int = 6 * 1024
    """Bytes of the body of a signal that is posted."""
    unsent_max: int = 64 * 1024
    """Bytes that wait for a client, besides the buffer of its transport; a client with more is dropped."""
    stalled_max: float = 20.0
    """Seconds for which a client may read nothing of the bytes that wait for it."""
    unacknowledged_max: float = 10.0
    """Seconds for which a client's machine may acknowledge nothing. While it has vanished, signals to it are lost."""
    life: float = 3600.0
    """Seconds until a stream ends; its client reconnects."""
    keep_alive: float = SIGNAL_ALIVE
    """Seconds between two `alive` events."""


class Place(NamedTuple):
    """Where signals are sent to, and which one stream follows."""

    name: str
    inbox: str

    @property
    def channel(self) -> str:
        """The channel of this place."""
        return f"signals:{self.name}:{self.inbox}"


class Verdict(Enum):
    """What became of a signal."""

    ACCEPTED = "accepted"
    NOT_ACCEPTED = "not-accepted"
    NOT_LISTENING = "not-listening"


@dataclass(eq=False, slots=True)
class _Stream:
    """An open stream."""

    place: Place
    key: str
    accept: frozenset[str] | None
    """The senders whose signals it gets; None for all."""
    origin: Origin
    outlet: Outlet
    id: str
    """Different from that of any other stream of the registry."""
    opened: float
    due: float
    """When it is looked at, and gets `alive`. Streams are due at different times."""
    is_open: bool = True
    is_announced: bool = False
    """Whether all processes know it."""
    announcing: Deferred[None] | None = None

    def send(self, text: bytes) -> None:
        if self.is_open:
            self.outlet.write(text)

    def replace(self) -> None:
        """End it, since a newer one has its place."""
        self.send(event_text("replaced", {}))
        self.outlet.finish()


@dataclass(eq=False, slots=True)
class _Question:
    """A signal that was published, whose outcome is not known yet."""

    answer: Deferred[Verdict] = field(default_factory=Deferred)
    asked: int | None = None
    """How many processes have it; None while that is not known."""
    not_listening: int = 0
    """How many of them have no stream for it."""

    def decide(self, verdict: Verdict | None = None) -> None:
        """Take an answer, if there is one; the last process without a stream decides as well."""
        self.not_listening += verdict is Verdict.NOT_LISTENING
        if verdict is Verdict.NOT_LISTENING or verdict is None:
            if self.asked is None or self.not_listening < self.asked:
                return
            verdict = Verdict.NOT_LISTENING
        if not self.answer.called:
            self.answer.callback(verdict)


class SignalHub:
    """Has the streams of signals of one process, and passes signals on."""

    _log = Logger()

    def __init__(
        self,
        access: AccessControl,
        limiter: Limiter,
        channels: Channels,
        clock: IReactorTime,
        *,
        id: str,
        count_signal: Callable[[str], object] = lambda _: None,
        limits: SignalLimits | None = None,
    ) -> None:
        """Prepare it.

        Args:
            access: decides whose requests are answered.
            limiter: bounds the signals to a name.
            channels: reach the other processes.
            clock: for deadlines.
            id: different from that of any other process of the registry; drawn at random.
            count_signal: called with the outcome of each signal.
            limits: the bounds of the streams.
        """
        self.limits = limits or SignalLimits()
        self._access = access
        self._limiter = limiter
        self._channels = channels
        self._clock = clock
        self._id = id
        self._count_signal = count_signal
        self._streams: dict[Place, _Stream] = {}
        self._questions: dict[int, _Question] = {}
        self._numbers = count(1)
        self._answers_come: SharedAnswer[None] | None = None
        """Fires when this process is subscribed to its own channel; None before that is needed."""
        self._stopped = False
        self._looking = LoopingCall(self._look_after_streams)
        self._looking.clock = clock

    def __len__(self) -> int:
        """The number of open streams."""
        return len(self._streams)

    def table(self) -> dict[bytes, Route]:
        """Return the route by its path."""
        methods = {b"GET": self._follow, b"POST": self._post}
        return {b"v1/peers/*/signals": Route("v1-signals", methods)}

    def stop(self) -> Deferred[None]:
        """End all streams; fires when the ends have had time to be sent."""
        self._stopped = True
        ending = tuple(self._streams.values())
        for stream in ending:
            stream.outlet.finish()
        if self._answers_come is not None:
            self._channels.unsubscribe(_channel_of(self._id))
        return deferLater(self._clock, FLUSH_TIME if ending else 0.0)

    # Streams

    async def _follow(self, query: Query) -> Reply:
        """Answer `GET`: the owner of a name follows an inbox of it."""
        arguments = arguments_of(query, {"inbox", "accept"})
        place = Place(name_in(query), INBOX.read({"inbox": MAIN_INBOX, **arguments}, "inbox"))
        accept = _read_accept(arguments.get("accept"))
        access = await self._access.admit(query, Use.SIGNALS, place.inbox, place.name)
        key, origin = str(access.key), self._limiter.origin(query)
        self._check_room(place, key, origin)
        return Reply(
            HTTPStatus.OK,
            (),
            b"text/event-stream",
            HEADERS,
            stream=partial(self._open, place, key, accept, origin),
        )

    def _check_room(self, place: Place, key: str, origin: Origin) -> None:
        """Raise `RequestError` if there is no room for one more stream; one that it replaces does not count."""
        limits = self.limits
        others = [each for each in self._streams.values() if each.place != place]
        if sum(each.key == key for each in others) >= limits.streams_per_key_max:
            detail = "Your key has too many streams of signals."
            raise RequestError("too-many-requests", detail, retry_after=REFUSED_RETRY)
        of_address = sum(each.origin.host == origin.host for each in others)
        if of_address >= limits.streams_per_address_max and not origin.is_here:
            detail = "Your address has too many streams of signals."
            raise RequestError("too-many-requests", detail, retry_after=REFUSED_RETRY)
        is_full = len(others) >= limits.streams_max and not self._make_room(others, origin)
        if self._stopped or is_full:
            detail = "There are too many streams of signals."
            raise RequestError("unavailable", detail, retry_after=REFUSED_RETRY)

    def _make_room(self, others: list[_Stream], origin: Origin) -> bool:
        """End the newest stream of the network that has most of them, unless the newcomer's has hardly fewer."""
        counts = Counter(each.origin.network for each in others)
        ((network, most),) = counts.most_common(1)
        if most <= counts[origin.network] + 1:
            return False
        newest = max(
            (each for each in others if each.origin.network == network),
            key=lambda each: each.opened,
        )
        newest.outlet.drop()
        return True

    def _open(
        self,
        place: Place,
        key: str,
        accept: frozenset[str] | None,
        origin: Origin,
        outlet: Outlet,
    ) -> None:
        """Begin a stream for which there is room."""
        outlet.unsent_max = self.limits.unsent_max
        outlet.limit_unacknowledged(self.limits.unacknowledged_max)
        id, now = f"{self._id}:{next(self._numbers)}", self._clock.seconds()
        due = now + self.limits.keep_alive
        stream = _Stream(place, key, accept, origin, outlet, id, now, due)
        older, self._streams[place] = self._streams.get(place), stream
        if older is not None:
            older.replace()
        if not self._looking.running:
            self._looking.start(LOOK_INTERVAL, now=False)
        stream.send(b"retry: %d\n\n" % RECONNECT_AFTER)
        stream.announcing = Deferred.fromCoroutine(self._announce(stream))
        stream.announcing.addErrback(self._not_announced, stream)
        outlet.when_over(partial(self._forget, stream))

    async def _announce(self, stream: _Stream) -> None:
        """Let all processes know a stream: those with an older one of its place end that."""
        channel = stream.place.channel
        await self._channels.subscribe(channel, partial(self._hear, stream.place))
        while stream.is_open and not stream.is_announced:
            try:
                await self._channels.publish(channel, _encoded({"announced": stream.id}))
            except StoreUnavailable as error:
                self._log.debug("stream not announced: reason={error!s}", error=error)
            # The announcement comes back at once, unless it was lost.
            await deferLater(self._clock, RETRY_INTERVAL)

    def _not_announced(self, failure: Failure, stream: _Stream) -> None:
        if failure.check(CancelledError) is None:
            self._log.failure(
                "stream of signals failed: name={name}", failure, name=stream.place.name
            )
            stream.outlet.drop()

    def _forget(self, stream: _Stream) -> None:
        if not stream.is_open:
            return
        stream.is_open = False
        if stream.announcing is not None:
            stream.announcing.cancel()
        if self._streams.get(stream.place) is stream:
            del self._streams[stream.place]
            self._channels.unsubscribe(stream.place.channel)
        if not self._streams and self._looking.running:
            self._looking.stop()

    def _look_after_streams(self) -> None:
        now, limits = self._clock.seconds(), self.limits
        for stream in tuple(self._streams.values()):
            if now < stream.due:
                continue
            stream.due = now + limits.keep_alive
            stalled = stream.outlet.stalled_since
            if stalled is not None and now - stalled >= limits.stalled_max:
                stream.outlet.drop()
            elif now - stream.opened >= limits.life:
                stream.outlet.finish()
            elif stalled is None:
                stream.send(ALIVE)

    # Signals

    async def _post(self, query: Query) -> Reply:
        """Answer `POST`: the owner of a name sends a signal to another one."""
        try:
            verdict = await self._take(query)
        except (RequestError, RemoteProtocolError, StoreUnavailable) as error:
            self._count_signal(answer_to(error)[0])
            raise
        self._count_signal(verdict.value)
        if verdict is not Verdict.ACCEPTED:
            raise RequestError(verdict.value)
        return Reply(HTTPStatus.ACCEPTED)

    async def _take(self, query: Query) -> Verdict:
        name = name_in(query)
        if len(query.body) > self.limits.body_max:
            detail = f"the body of a signal has at most {self.limits.body_max} bytes"
            raise RequestError("too-large", detail)
        body = SignalBody.parse(query.body)
        access = await self._access.admit(query, Use.SIGNAL, detail_of_body(query.body))
        if access.name != body.sender:
            raise RequestError("wrong-name", f"the access statement is for {access.name}")
        # A network has a share of its own of the signals to a name, so that no other network can use that up.
        origin = self._limiter.origin(query)
        await self._limiter.admit("signals", origin, f"{name}:{origin.network}")
        await self._limiter.admit("inbox", origin, name)
        signal = PassedSignal(body.sender, access.key, body.inbox, body.sealed)
        return await self._pass_on(Place(name, body.inbox), signal)

    async def _pass_on(self, place: Place, signal: PassedSignal) -> Verdict:
        """Deliver a signal in this process, or let another one do so."""
        if place in self._streams:
            return self._deliver(place, signal)
        if self._stopped or len(self._questions) >= QUESTIONS_MAX:
            raise RequestError("unavailable", "Too many signals are under way.", retry_after=1)
        number, question = next(self._numbers), _Question()
        self._questions[number] = question
        try:
            await self._until_answers_come()
            message = {"signal": signal.to_fields(), "number": number, "process": self._id}
            question.asked = await self._channels.publish(place.channel, _encoded(message))
            question.decide()
            return await question.answer.addTimeout(ANSWER_TIMEOUT, self._clock)
        except TimeoutError:
            detail = "The process with the peer's stream does not answer."
            raise RequestError("unavailable", detail, retry_after=1) from None
        finally:
            del self._questions[number]

    def _deliver(self, place: Place, signal: PassedSignal) -> Verdict:
        stream = self._streams.get(place)
        if stream is None:
            return Verdict.NOT_LISTENING
        if stream.accept is not None and signal.sender not in stream.accept:
            return Verdict.NOT_ACCEPTED
        stream.send(event_text("signal", signal.to_fields()))
        return Verdict.ACCEPTED if stream.is_open else Verdict.NOT_LISTENING

    # Other processes

    async def _until_answers_come(self) -> None:
        if self._answers_come is None:
            subscribing = self._channels.subscribe(_channel_of(self._id), self._hear_answer)
            self._answers_come = SharedAnswer(Deferred.fromCoroutine(_awaited(subscribing)))
        await self._answers_come.wait().addTimeout(ANSWER_TIMEOUT, self._clock)

    def _hear(self, place: Place, message: bytes) -> None:
        """Take a message on the channel of a place: a stream that was announced, or a signal."""
        try:
            fields = parse_object(message)
            if "announced" in fields:
                self._hear_announced(place, text(fields, "announced", ID_MAX))
                return
            signal = PassedSignal.from_fields(_object(fields, "signal"))
            number, process = integer(fields, "number"), text(fields, "process", ID_MAX)
        except RemoteProtocolError as error:
            self._log.warn(
                "message ignored: place={place} reason={error!s}", place=place, error=error
            )
            return
        answer = _encoded({"number": number, "verdict": self._deliver(place, signal).value})
        answering = Deferred.fromCoroutine(
            _awaited(self._channels.publish(_channel_of(process), answer))
        )
        answering.addErrback(lambda failure: failure.trap(StoreUnavailable) and None)

    def _hear_announced(self, place: Place, id: str) -> None:
        stream = self._streams.get(place)
        if stream is None:
            return
        if stream.id == id:
            if not stream.is_announced:
                stream.is_announced = True
                stream.send(event_text("open", {}))
        elif stream.is_announced:
            stream.replace()

    def _hear_answer(self, message: bytes) -> None:
        """Take the answer of another process about a signal."""
        try:
            fields = parse_object(message)
            number, verdict = integer(fields, "number"), Verdict(text(fields, "verdict", ID_MAX))
        except (RemoteProtocolError, ValueError) as error:
            self._log.warn("answer ignored: reason={error!s}", error=error)
            return
        question = self._questions.get(number)
        if question is not None:
            question.decide(verdict)


def _read_accept(argument: str | None) -> frozenset[str] | None:
    """Read the names of the senders that a stream accepts; None for all."""
    if argument is None:
        return None
    names = argument.split(",")
    if len(names) > ACCEPT_MAX:
        raise RemoteProtocolError(reason=f"there are more than {ACCEPT_MAX} names in accept")
    for name in names:
        if not is_name(name):
            raise RemoteProtocolError(reason=f"{name[:NAME_MAX]!r} is not a valid name")
    return frozenset(names)


def _channel_of(process: str) -> str:
    return f"signals@{process}"


def _encoded(message: Fields) -> bytes:
    return json.dumps(message).encode()


def _object(fields: Fields, key: str) -> Fields:
    value = fields.get(key)
    if not isinstance(value, dict):
        raise RemoteProtocolError(reason=f"the {key} is no object")
    return value


async def _awaited(work: Awaitable[T]) -> T:
    return await work
