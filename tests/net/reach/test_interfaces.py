"""Tests of `p2pshare.net.reach.interfaces` and `netlink`."""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

from twisted.internet.task import Clock
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from p2pshare.net.reach import interfaces, netlink
from p2pshare.net.reach.interfaces import (
    ASLEEP_MIN,
    POLL_EVERY,
    SETTLE,
    InterfaceAddress,
    NetworkState,
    NetworkWatch,
    read_network,
    seconds_asleep,
)
from p2pshare.net.reach.netlink import LinkedAddress, NetworkEvents

HOME = NetworkState(
    (InterfaceAddress("192.0.2.2", ipaddress.ip_network("192.0.2.0/24"), "eth0"),), ("192.0.2.2",)
)


class ReadingTests(SynchronousTestCase):
    def read(self, *linked: LinkedAddress, sources: tuple[str, ...] = ()) -> list[InterfaceAddress]:
        """Read a machine with these addresses."""
        self.patch(netlink, "linked_addresses", lambda: list(linked))

        def towards(ip: str, _port: int) -> str:
            found = [each for each in sources if (":" in each) == (":" in ip)]
            if not found:
                raise OSError(errno.ENETUNREACH, "no route")
            return found[0]

        self.patch(interfaces, "local_address_towards", towards)
        state = read_network()
        self.assertEqual(state.is_offline, not state.addresses)
        return list(state.addresses)

    def test_excluded(self) -> None:
        """Addresses that other machines cannot use are left out."""
        found = self.read(
            LinkedAddress("127.0.0.1", 8, "lo", 0x80),
            LinkedAddress("::1", 128, "lo", 0x80),
            LinkedAddress("192.0.2.2", 24, "eth0", 0x80),
            LinkedAddress("169.254.7.7", 16, "eth0", 0x80),
            LinkedAddress("fe80::1", 64, "eth0", 0x80),
            LinkedAddress("2001:db8::1", 64, "eth0", 0x80),
            LinkedAddress("2001:db8::2", 64, "eth0", 0x40),  # tentative
            LinkedAddress("2001:db8::3", 64, "eth0", 0x20),  # deprecated
            LinkedAddress("2001:db8::4", 64, "eth0", 0x08),  # somebody else has it
            LinkedAddress("fe80::2%eth0", 64, "eth0", 0),
        )
        self.assertEqual([each.ip for each in found], ["192.0.2.2", "2001:db8::1"])
        self.assertEqual(found[0].network, ipaddress.ip_network("192.0.2.0/24"))

    def test_order(self) -> None:
        """The addresses from which the default routes send come first, then those of the same interfaces."""
        found = self.read(
            LinkedAddress("172.17.0.1", 16, "docker0", 0),
            LinkedAddress("192.0.2.2", 24, "wlan0", 0),
            LinkedAddress("2001:db8::1", 64, "wlan0", 0x100),
            LinkedAddress("2001:db8::2", 64, "wlan0", 0x01),
            sources=("192.0.2.2", "2001:db8::2"),
        )
        order = ["192.0.2.2", "2001:db8::2", "2001:db8::1", "172.17.0.1"]
        self.assertEqual([each.ip for each in found], order)
        self.assertEqual([each.is_temporary for each in found], [False, True, False, False])

    def test_no_netlink(self) -> None:
        """Without netlink the addresses are read in another way."""
        expected = [each.ip for each in read_network().addresses]

        def linked_addresses() -> None:
            raise OSError(errno.EAFNOSUPPORT, "no netlink")

        self.patch(netlink, "linked_addresses", linked_addresses)
        self.assertLessEqual(set(expected), {each.ip for each in read_network().addresses})

    def test_asleep(self) -> None:
        """The system counts the time of suspension, or says nothing of it."""
        self.assertGreaterEqual(seconds_asleep(), -1.0)


class FakeEvents:
    """Notifications that a test sends."""

    def __init__(self, _reactor: object, on_event: Callable[[], object]) -> None:
        self.on_event = on_event
        self.is_stopped = False

    def stop(self) -> None:
        """Record it."""
        self.is_stopped = True


class WatchTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.now = HOME
        self.slept = 0.0
        self.changes: list[bool] = []

    def watch(self, events: Any = FakeEvents) -> NetworkWatch:
        """Start a watch."""
        watch = NetworkWatch(
            self.clock,
            self.changes.append,
            read=lambda: self.now,
            asleep=lambda: self.slept,
            events=events,
        )
        watch.start()
        self.addCleanup(watch.stop)
        self.assertEqual(watch.state, HOME)
        return watch

    def test_reported(self) -> None:
        """Several reports are one change, and it is noticed soon."""
        watch = self.watch()
        watch._events.on_event()
        self.now = NetworkState()
        watch._events.on_event()
        self.clock.advance(SETTLE)
        self.assertEqual((self.changes, watch.state), ([False], NetworkState()))

    def test_nothing_changed(self) -> None:
        """A report that changes no address and no route is none."""
        watch = self.watch()
        watch._events.on_event()
        self.clock.advance(SETTLE)
        self.clock.pump([POLL_EVERY] * 3)
        self.assertEqual(self.changes, [])

    def test_polled(self) -> None:
        """Without reports, and also if one is lost, the addresses are read from time to time."""
        first = self.watch()
        self.now = NetworkState()
        self.clock.advance(POLL_EVERY)
        self.assertEqual(self.changes.pop(), False)
        first.stop()
        self.now = HOME

        def no_events(_reactor: object, _on_event: object) -> None:
            raise OSError(errno.EAFNOSUPPORT, "no netlink")

        self.watch(no_events)
        self.now = NetworkState()
        self.clock.advance(POLL_EVERY)
        self.assertEqual(self.changes, [False])

    def test_suspended(self) -> None:
        """A suspension is a change, even if the addresses are the same."""
        self.watch()
        self.slept = ASLEEP_MIN
        self.clock.advance(POLL_EVERY)
        self.assertEqual(self.changes, [True])
        self.clock.advance(POLL_EVERY)
        self.assertEqual(self.changes, [True])

    def test_stopped(self) -> None:
        """A process that was stopped for long looks at the network anew, and so it does if there is no such clock."""
        self.watch()
        self.clock.advance(POLL_EVERY + 60)
        self.assertEqual(self.changes, [True])

    def test_stop(self) -> None:
        """A watch that is stopped leaves nothing behind."""
        watch = self.watch()
        events = watch._events
        events.on_event()
        watch.stop()
        self.assertTrue(events.is_stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class NetlinkTests(SynchronousTestCase):
    def test_messages(self) -> None:
        """Messages that are cut off, or too short, end what was read."""
        one = struct.pack("=IHHII", 20, 20, 0, 1, 0) + b"abcd"
        self.assertEqual(list(netlink.messages(one + one)), [(20, b"abcd")] * 2)
        for bad in (one[:10], one[:18], struct.pack("=IHHII", 4, 20, 0, 1, 0)):
            self.assertEqual(list(netlink.messages(one + bad)), [(20, b"abcd")])

    def test_addresses(self) -> None:
        """The kernel's messages are read: the own address of a tunnel, long flags, interfaces without a carrier."""

        def attributes(*pairs: tuple[int, bytes]) -> bytes:
            return b"".join(
                struct.pack("=HH", 4 + len(value), number) + value + bytes(-len(value) % 4)
                for number, value in pairs
            )

        links = [
            struct.pack("=BxHiII", 0, 1, 1, 0x41, 0) + attributes((3, b"tun0\0")),
            struct.pack("=BxHiII", 0, 1, 2, 0x01, 0) + attributes((3, b"eth0\0")),
        ]
        own, other = bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])
        six = socket.inet_pton(socket.AF_INET6, "2001:db8::1")
        addresses = [
            struct.pack("=BBBBI", socket.AF_INET, 32, 0x80, 0, 1)
            + attributes((1, other), (2, own)),
            struct.pack("=BBBBI", socket.AF_INET6, 64, 0, 0, 1)
            + attributes((1, six), (8, struct.pack("=I", 0x101))),
            struct.pack("=BBBBI", socket.AF_INET, 24, 0x80, 0, 2) + attributes((1, other)),
            struct.pack("=BBBBI", 99, 24, 0x80, 0, 1) + attributes((1, other)),
            struct.pack("=BBBBI", socket.AF_INET, 24, 0x80, 0, 1) + attributes((1, b"odd")),
        ]
        answers = {18: links, 22: addresses}
        self.patch(netlink, "_dump", lambda _asking, kind: iter(answers[kind]))
        if not hasattr(socket, "AF_NETLINK"):
            raise SkipTest("this system has no netlink")
        self.assertEqual(
            netlink.linked_addresses(),
            [
                LinkedAddress("10.0.0.1", 32, "tun0", 0x80),
                LinkedAddress("2001:db8::1", 64, "tun0", 0x101),
            ],
        )

    def test_events(self) -> None:
        """A notification is told, messages that were lost are one, too, and another error ends it."""
        reactor, told = Mock(), list[str]()
        try:
            events = NetworkEvents(reactor, lambda: told.append("event"))
        except OSError as error:
            raise SkipTest("this system has no netlink") from error
        events._socket.close()
        events._socket = Mock()
        events._socket.fileno.return_value = 7
        events._socket.recv.side_effect = [b"message", OSError(errno.ENOBUFS, ""), BlockingIOError]
        events.doRead()
        self.assertEqual(told, ["event"])
        reactor.removeReader.assert_not_called()
        events._socket.recv.side_effect = [OSError(errno.EBADF, "")]
        events.doRead()
        reactor.removeReader.assert_called_once_with(events)
        self.assertEqual(told, ["event"] * 2)
