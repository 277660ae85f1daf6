"""Machines with TCP between them, in memory and in virtual time, to count round trips.

Bandwidth has no bound and computing takes no time, so the time between two events is a number of round trips. The
delays are sums of powers of two: a count is exact.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable
from math import inf
from operator import attrgetter
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.base import DelayedCall
from twisted.internet.error import ConnectionDone, ConnectionRefusedError, TimeoutError
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from p2pshare.testing.network import ThreadlessReactor

STEPS_MAX = 100_000  # of one `run`: more are an endless loop
_TIME = attrgetter("time")


class QuickClock(Clock):
    """A clock that keeps its calls in order, as the real reactor does. Twisted's sorts all of them at each step.

    A call that was delayed stays at its first time until that has come, and moves on then.
    """

    calls: list[DelayedCall]

    def callLater(self, delay: float, callable: Any, *args: Any, **kw: Any) -> DelayedCall:
        """Schedule a call behind those of the same time."""
        due = self.rightNow + delay
        call = DelayedCall(due, callable, args, kw, self.calls.remove, self._moved, self.seconds)
        insort(self.calls, call, key=_TIME)
        return call

    def _moved(self, call: DelayedCall) -> None:
        self.calls.remove(call)
        insort(self.calls, call, key=_TIME)

    def next_due(self) -> float:
        """Return the time of the next call, or infinity."""
        while self.calls and self.calls[0].delayed_time:
            call = self.calls.pop(0)
            call.activate_delay()
            insort(self.calls, call, key=_TIME)
        return self.calls[0].time if self.calls else inf

    def advance(self, amount: float) -> None:
        """Let time pass, and run what becomes due."""
        self.rightNow += amount
        while self.next_due() <= self.rightNow:
            call = self.calls.pop(0)
            call.called = 1
            call.func(*call.args, **call.kw)


class DelayedNetwork:
    """Machines, the time from one to another, and the clock of all."""

    def __init__(self, delay: float) -> None:
        """Begin with `delay` seconds from each machine to each other one."""
        self.clock = QuickClock()
        self.ports: dict[tuple[str, int], tuple[Machine, Any]] = {}
        """The machine and the factory that listen at an address and port."""
        self.connections: list[tuple[str, str, int]] = []
        """The machine, and the address and port, of each connection that was wanted."""
        self._delay = delay
        self._delays: dict[frozenset[str], float] = {}

    def machine(self, ip: str) -> Machine:
        """Return the machine at an address; a reactor."""
        return Machine(self, ip)

    def set_delay(self, one: str, other: str, delay: float) -> None:
        """Let data take `delay` seconds from one machine to the other, and back."""
        self._delays[frozenset((one, other))] = delay

    def delay(self, one: str, other: str) -> float:
        """Return the seconds from one machine to another."""
        return self._delays.get(frozenset((one, other)), self._delay)

    def answers(self, one: str, other: str) -> bool:
        """Whether a machine that wants to connect to another one gets any answer."""
        return True

    def run(self, stop: Callable[[], object], within: float = 60.0) -> None:
        """Let time pass until `stop()` is true.

        Raises:
            AssertionError: it is not `within` so many seconds.
        """
        clock = self.clock
        until = clock.seconds() + within
        for _ in range(STEPS_MAX):
            if stop():
                return
            due = clock.next_due()
            if due > until or due == inf:
                break
            clock.rightNow = max(clock.rightNow, due)  # exact, unlike a sum of steps
            clock.advance(0)
        raise AssertionError(f"it has not come about by {clock.seconds():.3f} s")

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        until = self.clock.seconds() + seconds
        self.clock.callLater(seconds, lambda: None)
        self.run(lambda: self.clock.seconds() >= until, 2 * seconds)


class Machine(ThreadlessReactor):
    """The reactor of one machine, whose threads work at once."""

    def __init__(self, network: DelayedNetwork, ip: str) -> None:
        super().__init__()
        self.network = network
        self.ip = ip

    def seconds(self) -> float:
        return self.network.clock.seconds()

    def callLater(self, delay: float, callable: Any, *args: Any, **kw: Any) -> Any:
        return self.network.clock.callLater(delay, callable, *args, **kw)

    def end(self, host: IPv4Address, peer: IPv4Address) -> _End:
        """Return this machine's end of a new connection."""
        return _End(self, host, peer)

    def listenTCP(  # noqa: N802 - reactors have it
        self, port: int, factory: Any, backlog: int = 50, interface: str = ""
    ) -> Any:
        factory.doStart()
        port = port or 30_000 + len(self.network.ports)
        self.network.ports[self.ip, port] = self, factory
        return _Port(self.network, self.ip, port)

    def connectTCP(  # noqa: N802 - reactors have it
        self,
        host: str,
        port: int,
        factory: Any,
        timeout: float = 30,
        bindAddress: Any = None,  # noqa: N803
    ) -> Any:
        self.network.connections.append((self.ip, host, port))
        connector = _Connector(IPv4Address("TCP", host, port))
        factory.doStart()
        factory.startedConnecting(connector)
        delay = self.network.delay(self.ip, host)

        def timed_out() -> None:
            if not connector.is_stopped:
                factory.clientConnectionFailed(connector, Failure(TimeoutError()))

        def answered() -> None:
            if connector.is_stopped:
                return
            if not self.network.answers(self.ip, host):
                self.callLater(timeout, timed_out)
                return
            if (host, port) not in self.network.ports:
                factory.clientConnectionFailed(connector, Failure(ConnectionRefusedError()))
                return
            machine, server = self.network.ports[host, port]
            here = IPv4Address("TCP", self.ip, 40000 + len(self.network.connections))
            there = IPv4Address("TCP", host, port)
            near, far = self.end(here, there), machine.end(there, here)
            near.other, far.other = far, near
            machine.callLater(delay, lambda: far.begin(server.buildProtocol(here)))
            near.begin(factory.buildProtocol(there))

        self.callLater(2 * delay, answered)
        return connector


class _Connector:
    def __init__(self, there: IPv4Address) -> None:
        self._there = there
        self.is_stopped = False

    def getDestination(self) -> IPv4Address:  # noqa: N802 - connectors have it
        return self._there

    def stopConnecting(self) -> None:  # noqa: N802 - connectors have it
        self.is_stopped = True

    disconnect = stopConnecting


class _Port:
    def __init__(self, network: DelayedNetwork, ip: str, port: int) -> None:
        self._network, self._ip, self._port = network, ip, port

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", self._ip, self._port)

    def stopListening(self) -> None:
        self._network.ports.pop((self._ip, self._port), None)


class _End:
    """One end of a connection; the transport of its protocol."""

    other: _End
    disconnecting = False

    def __init__(self, clock: Machine, host: IPv4Address, peer: IPv4Address) -> None:
        self._clock, self._host, self._peer = clock, host, peer
        self._protocol: Protocol | None = None
        self._is_paused = self._is_over = self._sends_no_more = False
        self._waiting: list[bytes | None] = []  # that arrived; None for the end

    def begin(self, protocol: Protocol | None) -> None:
        if protocol is None:
            self.abortConnection()
            return
        self._protocol = protocol
        protocol.makeConnection(self)
        self._deliver()

    def write(self, data: bytes) -> None:
        if not self._sends_no_more:
            self._send(bytes(data))

    def writeSequence(self, parts: Any) -> None:  # noqa: N802 - transports have it
        self.write(b"".join(parts))

    def arrived(self, data: bytes | None) -> None:
        self._waiting.append(data)
        self._deliver()

    def loseWriteConnection(self) -> None:  # noqa: N802 - transports have it
        if not self._sends_no_more:
            self._sends_no_more = True
            self._send(None)

    def loseConnection(self) -> None:
        self.loseWriteConnection()
        self.disconnecting = True
        self._clock.callLater(0, self._end)

    abortConnection = loseConnection

    def pauseProducing(self) -> None:
        self._is_paused = True

    def resumeProducing(self) -> None:
        self._is_paused = False
        self._clock.callLater(0, self._deliver)

    stopProducing = loseConnection

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Do nothing: there is always room."""

    def unregisterProducer(self) -> None:
        """Do nothing."""

    def getPeer(self) -> IPv4Address:
        return self._peer

    def getHost(self) -> IPv4Address:
        return self._host

    def _send(self, data: bytes | None) -> None:
        delay = self._clock.network.delay(self._host.host, self._peer.host)
        self._clock.callLater(delay, self.other.arrived, data)

    def _deliver(self) -> None:
        protocol = self._protocol
        while self._waiting and not (self._is_paused or self._is_over) and protocol is not None:
            data = self._waiting.pop(0)
            if data is None:
                self.loseConnection()
            else:
                protocol.dataReceived(data)

    def _end(self) -> None:
        if not self._is_over:
            self._is_over = True
            if self._protocol is not None:
                self._protocol.connectionLost(Failure(ConnectionDone()))
