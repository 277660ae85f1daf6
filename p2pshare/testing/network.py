"""A network in memory, in virtual time, for the tests of this project and of its users.

`VirtualNetwork` carries datagrams between datagram cores, over links (`p2pshare.testing.links`) that limit, delay,
lose, repeat, reorder, corrupt and mark them, by a seeded source of randomness or by a rule for single datagrams. The
clock jumps to the next event that is due. So minutes pass in milliseconds, and the same seed gives the same run.

A core sends and receives single datagrams (`DatagramCore`) or trains (`TrainCore`). The network splits a train into
segments, each of which meets the link alone. The receiver's end merges those that arrive within `merging` seconds.

    network = VirtualNetwork(random.Random(7), Conditions(loss=0.1))
    network.attach(("10.0.0.1", 5000), sender, on_event=events.append)
    network.attach(("10.0.0.2", 6000), receiver, on_event=events.append)
    network.run(until=60.0)
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure

from p2pshare.core.datagram_core import Address, DatagramCore, OutgoingTrain, TrainCore
from p2pshare.testing.links import Conditions, Link

STEPS_MAX = 10_000_000  # of one `run`: more are an endless loop, not a slow test
STEPS_AT_ONCE_MAX = (
    100_000  # without the time passing: more are a core that wants to be called again and again
)
HEADERS = 28  # bytes of IPv4 and UDP before each datagram (RFC 791, RFC 768)
BUDGET = 256 * 1024  # bytes that a core may send in one call
MERGED_MAX = 64  # segments of one train at the receiver, as with UDP_GRO
MERGED_SIZE_MAX = 65_507  # bytes of one train at the receiver: a UDP payload

Fate = tuple[float, ...]
"""The copies of a datagram that arrive: the delay of each, in seconds."""

Rule = Callable[[int, bytes, Address, Address], Fate | None]
"""Decides by a datagram's number, bytes, source and destination; None leaves it to the link."""


@dataclass(slots=True)
class _Segment:
    data: bytes
    source: Address
    is_marked: bool


@dataclass(slots=True, eq=False)
class _Node:
    core: DatagramCore | TrainCore
    on_event: Callable[[Any], object]
    address: Address
    singles: DatagramCore | None  # `core`, if it takes single datagrams
    trains: TrainCore | None  # `core`, if it takes trains
    is_attached: bool = True
    woken_for: float | None = None
    arrived: list[_Segment] = field(default_factory=list)  # segments that wait to be merged


class VirtualNetwork:
    """Datagram cores, the datagrams between them, and the time."""

    def __init__(
        self,
        rng: random.Random,
        conditions: Conditions | None = None,
        rule: Rule | None = None,
        *,
        merging: float = 0.0,
    ) -> None:
        """Make a network whose links all have the same conditions, until `link` changes one.

        Args:
            rng: decides all that is random.
            conditions: of each link.
            rule: decides about single datagrams before the link does.
            merging: seconds that a receiver of trains waits for further segments, as network cards do.
        """
        self.now = 0.0
        """Seconds since the network was made."""
        self.sent = 0
        """The number of datagrams sent, including lost ones."""
        self._rng = rng
        self._conditions = conditions or Conditions()
        self.rule = rule
        """The rule for single datagrams."""
        self._merging = merging
        self._nodes: dict[Address, _Node] = {}
        self._links: dict[tuple[str, str], Link] = {}
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def attach(
        self,
        addr: Address,
        core: DatagramCore | TrainCore,
        on_event: Callable[[Any], object] = lambda _: None,
    ) -> None:
        """Put `core` at `addr`, in place of any other core."""
        self.detach(addr)
        if isinstance(core, TrainCore):
            node = _Node(core, on_event, addr, None, core)
        else:
            node = _Node(core, on_event, addr, core, None)
        self._nodes[addr] = node
        self._schedule(self.now, lambda: self._pump(node))

    def detach(self, addr: Address) -> None:
        """Close `addr`: datagrams to it are lost from now on."""
        if (node := self._nodes.pop(addr, None)) is not None:
            node.is_attached = False

    def rebind(self, addr: Address, new: Address) -> None:
        """Give the core at `addr` another address without its knowledge, as a NAT does.

        Datagrams to the old address are lost from now on, also those that are on their way. The links stay the same.
        """
        node = self._nodes.pop(addr)
        self._nodes[new] = node
        node.address = new
        for (source, destination), link in list(self._links.items()):
            if addr[0] in (source, destination):
                ends = tuple(new[0] if end == addr[0] else end for end in (source, destination))
                self._links.setdefault((ends[0], ends[1]), link)

    def link(self, source: str, destination: str) -> Link:
        """Return the link from one IP address to another. All ports share it."""
        key = source, destination
        if (link := self._links.get(key)) is None:
            link = self._links[key] = Link(self._conditions, self._rng)
        return link

    def change(self, conditions: Conditions) -> None:
        """Give all links other conditions from now on."""
        self._conditions = conditions
        for link in self._links.values():
            link.conditions = conditions

    def send_at(self, when: float, data: bytes, source: Address, destination: Address) -> None:
        """Deliver a datagram that no core has sent at `when` (seconds), in any conditions."""
        self._schedule(when, lambda: self._arrive(_Segment(data, source, False), destination))

    def call_at(self, when: float, action: Callable[[], None]) -> None:
        """Call `action` at `when` (seconds)."""
        self._schedule(when, action)

    def pump(self, addr: Address) -> None:
        """Send what the core at `addr` has to send, after a call of it from outside."""
        self._pump(self._nodes[addr])

    def run(self, until: float, stop: Callable[[], bool] = lambda: False) -> None:
        """Advance the time until nothing is due, `stop()` is true, or `until` (seconds) is reached.

        Raises:
            AssertionError: this took more than `STEPS_MAX` steps, or `STEPS_AT_ONCE_MAX` at one moment.
        """
        at_once = 0
        for _ in range(STEPS_MAX):
            if not self._due or self._due[0][0] > until or stop():
                return
            when, _, action = heapq.heappop(self._due)
            at_once = 0 if when > self.now else at_once + 1
            if at_once > STEPS_AT_ONCE_MAX:
                raise AssertionError(f"still busy at {self.now} s after {at_once} steps")
            self.now = max(self.now, when)
            action()
        raise AssertionError(f"still busy after {STEPS_MAX} steps")

    def _schedule(self, when: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._due, (when, next(self._numbers), action))

    def _send_train(self, node: _Node, core: TrainCore, train: OutgoingTrain) -> None:
        """Send a train in segments; the link refuses a train of segments above its MTU as a whole."""
        size = min(train.segment, len(train.data)) + HEADERS
        link = self.link(node.address[0], train.address[0])
        if link.conditions.refuses_larger and not link.fits(size):
            core.datagram_refused(train.address)
            return
        data = bytes(train.data)
        for start in range(0, len(data), train.segment):
            self._send(data[start : start + train.segment], node.address, train.address)

    def _send(self, data: bytes, source: Address, destination: Address) -> None:
        fate = self.rule(self.sent, data, source, destination) if self.rule else None
        self.sent += 1
        if fate is not None:
            for delay in fate:
                self.send_at(self.now + delay, data, source, destination)
            return
        link = self.link(source[0], destination[0])
        for when, is_marked, is_corrupted in link.send(len(data) + HEADERS, self.now):
            received = _with_flipped_bit(data, self._rng) if is_corrupted else data
            segment = _Segment(received, source, is_marked)
            self._schedule(when, partial(self._arrive, segment, destination))

    def _arrive(self, segment: _Segment, destination: Address) -> None:
        if (node := self._nodes.get(destination)) is None:
            return
        if node.singles is not None:
            node.singles.receive_datagram(segment.data, segment.source, self.now)
            self._pump(node)
            return
        node.arrived.append(segment)
        if len(node.arrived) == 1:
            self._schedule(self.now + self._merging, lambda: self._deliver(node))

    def _deliver(self, node: _Node) -> None:
        """Pass the segments that have arrived to a core, in trains."""
        segments, node.arrived = node.arrived, []
        for train in _merge(segments):
            if not node.is_attached or node.trains is None:
                return
            data = bytearray().join(each.data for each in train)
            marked = sum(each.is_marked for each in train)
            size = len(train[0].data)
            node.trains.receive_train(memoryview(data), size, train[0].source, self.now, marked)
            data[:] = bytes(len(data))  # a core that keeps the buffer is found out
            self._pump(node)

    def _pump(self, node: _Node) -> None:
        """Send the datagrams of a core, pass its events on, and schedule its timer."""
        is_busy = node.is_attached
        while is_busy:
            self._send_due(node)
            is_busy = self._pass_events(node)
        if node.is_attached:
            self._schedule_timer(node)

    def _send_due(self, node: _Node) -> None:
        if not node.is_attached:
            return
        if node.singles is not None:
            for data, destination in node.singles.datagrams_to_send(self.now):
                self._send(data, node.address, destination)
        if (core := node.trains) is not None:
            while trains := core.trains_to_send(self.now, BUDGET):
                for train in trains:
                    self._send_train(node, core, train)

    def _pass_events(self, node: _Node) -> bool:
        """Pass the events of a core on, and return whether there were any."""
        count = 0
        while (event := node.core.next_event()) is not None:
            count += 1
            node.on_event(event)
        return count > 0

    def _schedule_timer(self, node: _Node) -> None:
        timer = node.core.get_timer()
        if timer is not None and (node.woken_for is None or timer < node.woken_for):
            node.woken_for = timer
            self._schedule(max(self.now, timer), lambda: self._wake(node, timer))

    def _wake(self, node: _Node, timer: float) -> None:
        if node.woken_for != timer or not node.is_attached:
            return
        node.woken_for = None
        due = node.core.get_timer()
        if due is not None and due <= self.now:
            node.core.handle_timer(self.now)
            self._pump(node)
        else:
            self._schedule_timer(node)


def _merge(segments: list[_Segment]) -> list[list[_Segment]]:
    """Merge segments into trains as UDP_GRO does: neighbours of equal size, the last of a train may be shorter."""
    trains: list[list[_Segment]] = []
    is_open = False
    for segment in segments:
        train = trains[-1] if trains else []
        size = len(train[0].data) if train else 0
        if (
            is_open
            and segment.source == train[0].source
            and len(segment.data) <= size
            and len(train) < MERGED_MAX
            and (len(train) + 1) * size <= MERGED_SIZE_MAX
        ):
            train.append(segment)
            is_open = len(segment.data) == size
        else:
            trains.append([segment])
            is_open = True
    return trains


def _with_flipped_bit(data: bytes, rng: random.Random) -> bytes:
    if not data:
        return data
    flipped = bytearray(data)
    flipped[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(flipped)


class ThreadlessReactor(MemoryReactorClock):
    """A reactor in memory whose thread pool works at once, or when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self._held: list[Callable[[], object]] | None = None

    def getThreadPool(self) -> Any:
        """Return the reactor, which is its own pool."""
        return self

    def callInThreadWithCallback(
        self, on_result: Any, work: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> None:
        """Call `work` at once, unless threads are held."""

        def run() -> None:
            try:
                result = work(*args, **kwargs)
            except Exception:
                on_result(False, Failure())
            else:
                on_result(True, result)

        if self._held is None:
            run()
        else:
            self._held.append(run)

    def callFromThread(self, callable: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Call `callable` at once: there is only one thread."""
        callable(*args, **kwargs)

    def hold_threads(self) -> Callable[[], None]:
        """Hold the work for threads back, until the returned function is called."""
        held = self._held = []

        def release() -> None:
            self._held = None
            for run in held:
                run()

        return release
