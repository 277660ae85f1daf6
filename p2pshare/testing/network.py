"""A network in memory, in virtual time, for the tests of this project and of its users.

`VirtualNetwork` carries datagrams between datagram cores. It loses, repeats, delays and reorders them, by a seeded
source of randomness or by a rule for single datagrams. The clock jumps to the next event that is due. So minutes pass
in milliseconds, and the same seed gives the same run.

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
from typing import Any

from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure

from p2pshare.core.datagram_core import Address, DatagramCore

STEPS_MAX = 1_000_000  # of one `run`: more are an endless loop, not a slow test


@dataclass(frozen=True, slots=True)
class Conditions:
    """The quality of the network; each datagram meets it independently of all others."""

    loss: float = 0.0
    """The probability that a datagram is lost."""
    repeat: float = 0.0
    """The probability that a datagram arrives twice."""
    delay_min: float = 0.001
    """Seconds."""
    delay_max: float = 0.001
    """Seconds; datagrams are reordered if this is more than `delay_min`."""


Fate = tuple[float, ...]
"""The copies of a datagram that arrive: the delay of each, in seconds."""

Rule = Callable[[int, bytes, Address, Address], Fate | None]
"""Decides by a datagram's number, bytes, source and destination; None leaves it to the conditions."""


@dataclass(slots=True)
class _Node:
    core: DatagramCore
    on_event: Callable[[Any], object]
    woken_for: float | None = None


@dataclass(order=True, slots=True)
class _Due:
    when: float
    number: int
    action: Callable[[], None] = field(compare=False)


class VirtualNetwork:
    """Datagram cores, the datagrams between them, and the time."""

    def __init__(
        self,
        rng: random.Random,
        conditions: Conditions | None = None,
        rule: Rule | None = None,
    ) -> None:
        self.now = 0.0
        """Seconds since the network was made."""
        self.sent = 0
        """The number of datagrams sent, including lost ones."""
        self._rng = rng
        self._conditions = conditions or Conditions()
        self.rule = rule
        """The rule for single datagrams."""
        self._nodes: dict[Address, _Node] = {}
        self._due: list[_Due] = []
        self._numbers = itertools.count()

    def attach(
        self, addr: Address, core: DatagramCore, on_event: Callable[[Any], object] = lambda _: None
    ) -> None:
        """Put `core` at `addr`, in place of any other core."""
        node = self._nodes[addr] = _Node(core, on_event)
        self._schedule(self.now, lambda: self._pump(addr, node))

    def detach(self, addr: Address) -> None:
        """Close `addr`: datagrams to it are lost from now on."""
        self._nodes.pop(addr, None)

    def send_at(self, when: float, data: bytes, source: Address, destination: Address) -> None:
        """Deliver a datagram that no core has sent at `when` (seconds), in any conditions."""
        self._schedule(when, lambda: self._deliver(data, source, destination))

    def call_at(self, when: float, action: Callable[[], None]) -> None:
        """Call `action` at `when` (seconds)."""
        self._schedule(when, action)

    def run(self, until: float, stop: Callable[[], bool] = lambda: False) -> None:
        """Advance the time until nothing is due, `stop()` is true, or `until` (seconds) is reached.

        Raises:
            AssertionError: this took more than `STEPS_MAX` steps.
        """
        for _ in range(STEPS_MAX):
            if not self._due or self._due[0].when > until or stop():
                return
            due = heapq.heappop(self._due)
            self.now = max(self.now, due.when)
            due.action()
        raise AssertionError(f"still busy after {STEPS_MAX} steps")

    def _schedule(self, when: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._due, _Due(when, next(self._numbers), action))

    def _send(self, data: bytes, source: Address, destination: Address) -> None:
        fate = self.rule(self.sent, data, source, destination) if self.rule else None
        self.sent += 1
        for delay in self._draw_fate() if fate is None else fate:
            self._schedule(self.now + delay, lambda: self._deliver(data, source, destination))

    def _draw_fate(self) -> Fate:
        rng, conditions = self._rng, self._conditions
        if rng.random() < conditions.loss:
            return ()
        copies = 2 if rng.random() < conditions.repeat else 1
        return tuple(rng.uniform(conditions.delay_min, conditions.delay_max) for _ in range(copies))

    def _deliver(self, data: bytes, source: Address, destination: Address) -> None:
        if (node := self._nodes.get(destination)) is not None:
            node.core.receive_datagram(data, source, self.now)
            self._pump(destination, node)

    def _pump(self, addr: Address, node: _Node) -> None:
        """Send the datagrams of a core, pass its events on, and schedule its timer."""
        if self._nodes.get(addr) is not node:
            return
        for data, destination in node.core.datagrams_to_send(self.now):
            self._send(data, addr, destination)
        while (event := node.core.next_event()) is not None:
            node.on_event(event)
        timer = node.core.get_timer()
        if timer is not None and (node.woken_for is None or timer < node.woken_for):
            node.woken_for = timer
            self._schedule(max(self.now, timer), lambda: self._wake(addr, node, timer))

    def _wake(self, addr: Address, node: _Node, timer: float) -> None:
        if node.woken_for == timer and self._nodes.get(addr) is node:
            node.woken_for = None
            node.core.handle_timer(self.now)
            self._pump(addr, node)


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
