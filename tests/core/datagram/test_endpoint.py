"""Tests of an endpoint: what strangers can cause, and every packet and call in every state."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import fields, is_dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.datagram.connection import PACKETS, State
from p2pshare.core.datagram.endpoint import DatagramEndpoint, EndpointSettings
from p2pshare.core.datagram.trains import Address
from p2pshare.errors import LocalProtocolError
from p2pshare.testing.links import Conditions
from p2pshare.wire.datagrams.packets import (
    CID_SIZE,
    OPEN_SIZE,
    UNKNOWN_CID,
    Cookie,
    HandshakeHeader,
    Open,
    PacketType,
    ProtectedHeader,
    parse_packet,
)
from tests import examples
from tests.core.datagram.pair import HERE, THERE, Pair

STRANGER: Address = ("203.0.113.9", 999)
COUNTERS = {"dropped", "rejected", "repeated"}
"""What an unauthenticated datagram may change."""


def snapshot(value: Any, seen: set[int] | None = None) -> Any:
    """Return all that an object holds, without counters; objects of other libraries by identity."""
    seen = set() if seen is None else seen
    if isinstance(value, int | float | str | bytes | bool | None):
        return value
    if id(value) in seen:
        return "again"
    seen.add(id(value))
    match value:
        case bytearray():
            return bytes(value)
        case dict():
            return [(snapshot(k, seen), snapshot(v, seen)) for k, v in value.items()]
        case list() | tuple() | deque() | set() | frozenset():
            return [snapshot(each, seen) for each in value]
    if not type(value).__module__.startswith("p2pshare.core"):
        return id(value)
    names = {name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())}
    names |= set(getattr(value, "__dict__", ()))
    if is_dataclass(value):
        names |= {each.name for each in fields(value)}
    names -= {"__weakref__", "__dict__", "_cache", "_opener", "_sealer", *COUNTERS}
    return [(name, snapshot(getattr(value, name), seen)) for name in sorted(names)]


def take_all(endpoint: DatagramEndpoint, now: float) -> list[tuple[bytes, Address]]:
    """Return what an endpoint sends at once."""
    sent = []
    while trains := endpoint.trains_to_send(now, 65536):
        sent += [(bytes(each.data), each.address) for each in trains]
    return sent


class Recorded(Pair):
    """A pair whose datagrams are kept."""

    def __init__(self, **arguments: Any) -> None:
        self.datagrams: list[tuple[bytes, Address, Address]] = []
        self.is_cut = False
        super().__init__(rule=self.record, **arguments)

    def record(
        self, _number: int, data: bytes, source: Address, to: Address
    ) -> tuple[float, ...] | None:
        self.datagrams.append((data, source, to))
        return () if self.is_cut else None


class StrangerTests(SynchronousTestCase):
    """What those can cause who have no cookie yet."""

    def setUp(self) -> None:
        self.pair = Pair()
        self.endpoint = self.pair.endpoints[THERE]

    def replies_to(
        self, datagram: bytes, address: Address = STRANGER
    ) -> list[tuple[bytes, Address]]:
        self.endpoint.receive_train(
            memoryview(datagram), len(datagram), address, self.pair.network.now
        )
        return take_all(self.endpoint, self.pair.network.now)

    def test_open_gets_one_shorter_cookie(self) -> None:
        """Threat 43: OPEN gets one COOKIE, which is shorter, and leaves no state."""
        self.replies_to(Open(b"7654321", bytes(32)).serialize())  # draws the secret of cookies
        before = snapshot(self.endpoint)
        ((cookie, address),) = self.replies_to(Open(b"1234567", bytes(32)).serialize())
        self.assertEqual(address, STRANGER)
        self.assertLess(len(cookie), OPEN_SIZE)
        self.assertIsInstance(parse_packet(memoryview(cookie)), Cookie)
        self.assertEqual(self.endpoint.connections, 0)
        self.assertEqual(snapshot(self.endpoint), before)

    def test_short_open(self) -> None:
        """An OPEN that is shorter than its answer could be is dropped."""
        self.assertEqual(self.replies_to(Open(b"1234567", bytes(32)).serialize()[:1199]), [])

    def test_other_version(self) -> None:
        """OPEN of another version gets the supported one, and no cookie."""
        ((reply, _),) = self.replies_to(Open(b"1234567", bytes(32), version=9).serialize())
        packet = parse_packet(memoryview(reply))
        assert isinstance(packet, Cookie)
        self.assertEqual((packet.cookie, packet.version), (b"", 1))

    def test_cookie_of_another_address(self) -> None:
        """A token counts at the address that it was made for, and nowhere else."""
        pair = Recorded()
        pair.run(
            0.0025
        )  # OPEN and COOKIE have arrived, and the first HANDSHAKE packet is on its way
        first = next(
            data for data, _, _ in pair.datagrams if data[0] == PacketType.HANDSHAKE_OF_OPENER
        )
        endpoint = pair.endpoints[THERE]
        endpoint.receive_train(memoryview(first), len(first), STRANGER, pair.network.now)
        self.assertEqual((endpoint.connections, take_all(endpoint, pair.network.now)), (0, []))

    def test_floods_are_bounded(self) -> None:
        """Replies that wait are bounded, whatever arrives before they are taken."""
        datagram = Open(b"1234567", bytes(32)).serialize()
        for _ in range(1000):
            self.endpoint.receive_train(memoryview(datagram), len(datagram), STRANGER, 0.0)
        sent = sum(len(data) for data, _ in take_all(self.endpoint, 0.0))
        self.assertLess(sent, 300 * 100)

    def test_half_open_connections_are_bounded(self) -> None:
        """Threat 43: openers that never go on with their handshake take a bounded number of places, for 10 s."""
        endpoints = [
            Pair(seed=seed, settings=EndpointSettings(half_open_max=2)) for seed in range(5)
        ]
        acceptor = endpoints[0].endpoints[THERE]
        for number, pair in enumerate(endpoints):
            opener = pair.endpoints[HERE]
            address = ("10.1.1.1", number + 1)
            for _ in range(2):
                for data, _ in take_all(opener, 0.0):
                    acceptor.receive_train(memoryview(data), len(data), address, 0.0)
                for data, _ in take_all(acceptor, 0.0):
                    opener.receive_train(memoryview(data), len(data), THERE, 0.0)
        self.assertEqual(acceptor.connections, 2)
        while (due := acceptor.get_timer()) is not None and due < 100.0:
            acceptor.handle_timer(due)
            take_all(acceptor, due)
        self.assertEqual(acceptor.connections, 0)

    def test_amplification(self) -> None:
        """Threat 43: until the cookie came back, an acceptor never sends more bytes than it got, whatever is lost."""
        for seed in range(10):
            pair = Recorded(seed=seed, conditions=Conditions(delay=0.02, loss=0.3))
            balance = 0
            pair.run(5.0, lambda pair=pair: pair.acceptor.connection is not None)  # type: ignore[misc]
            for data, source, _ in pair.datagrams:
                if data[0] not in (PacketType.OPEN, PacketType.COOKIE):
                    break
                balance += len(data) if source == HERE else -len(data)
                self.assertGreaterEqual(balance, 0)


class ReplayTests(SynchronousTestCase):
    def test_replayed_datagrams(self) -> None:
        """Threat 41: all datagrams of a session, repeated in any order, change nothing and get no answer."""
        pair = Recorded(conditions=Conditions(delay=0.002))
        pair.open()
        pair.acceptor.send_file(1, bytes(50_000))
        pair.opener.up.send_control(b"hello", pair.network.now)
        pair.run(2.0)
        sent = [each for each in pair.datagrams if each[0][0] != PacketType.OPEN]
        random.Random(5).shuffle(sent)
        before = [snapshot(pair.endpoints[each]) for each in (HERE, THERE)]
        for data, source, to in sent:
            pair.endpoints[to].receive_train(memoryview(data), len(data), source, pair.network.now)
        answers = [take_all(each, pair.network.now) for each in pair.endpoints.values()]
        self.assertEqual(answers, [[], []])
        after = [snapshot(pair.endpoints[each]) for each in (HERE, THERE)]
        self.assertEqual(after, before)
        self.assertIsNone(pair.endpoints[HERE].next_event())

    def test_damaged_datagrams(self) -> None:
        """Threat 41: a datagram with any bit flipped changes nothing and gets no answer."""
        pair = Recorded()
        pair.open().run(2.0)
        pair.is_cut = True
        pair.opener.up.send_control(b"hello", pair.network.now)
        pair.network.pump(HERE)
        genuine = pair.datagrams[-1][0]
        endpoint = pair.endpoints[THERE]
        before = snapshot(endpoint)
        for bit in range(8 * len(genuine)):
            data = bytearray(genuine)
            data[bit // 8] ^= 1 << bit % 8
            endpoint.receive_train(memoryview(data), len(data), HERE, pair.network.now)
        self.assertEqual(take_all(endpoint, pair.network.now), [])
        self.assertEqual(snapshot(endpoint), before)
        endpoint.receive_train(memoryview(genuine), len(genuine), HERE, pair.network.now)
        self.assertNotEqual(snapshot(endpoint), before)


def pair_in(state: State) -> Pair:
    """Return a pair whose opener is in a state."""
    pair = Pair(Conditions(delay=0.01))
    if state is State.OPENING:
        return pair
    if state is State.SHAKING:
        assert pair.run(1.0, lambda: pair.opener.up.state is State.SHAKING)
        return pair
    pair.open().run(1.0)
    if state is State.FINISHING:
        pair.opener.up.send_control(b"x", pair.network.now)
        pair.opener.up.close(0, "", pair.network.now)
    elif state in (State.CLOSING, State.GONE):
        pair.opener.up.abort()
        if state is State.GONE:
            pair.run(60.0)
    return pair


class StateTests(SynchronousTestCase):
    """Every state, every input: it is legal, or a typed error."""

    def test_table(self) -> None:
        """The table names every state."""
        self.assertEqual(set(PACKETS), set(State))
        for state in State:
            self.assertIs(pair_in(state).opener.up.state, state)

    @settings(max_examples=examples(150), deadline=None)
    @given(st.data())
    def test_strange_datagrams(self, data: st.DataObject) -> None:
        """In every state, a datagram of a stranger changes nothing and gets no answer, but OPEN its cookie."""
        state = data.draw(st.sampled_from(State))
        pair = pair_in(state)
        endpoint = pair.endpoints[HERE]
        first = memoryview(Open(b"7654321", bytes(32)).serialize())  # draws the secret of cookies
        endpoint.receive_train(first, len(first), STRANGER, pair.network.now)
        take_all(endpoint, pair.network.now)
        cid = data.draw(st.sampled_from([pair.opener.up.ids.own, bytes(CID_SIZE), b"7654321"]))
        packets = [
            ProtectedHeader(cid or UNKNOWN_CID, data.draw(st.integers(0, 2**40))).serialize(),
            HandshakeHeader(False, cid, b"abcdefg", data.draw(st.integers(0, 2**40))).serialize(),
            HandshakeHeader(True, cid, UNKNOWN_CID, 0, bytes(40)).serialize(),
            Cookie(cid, bytes(32), b"cookie").serialize(),
            bytes([data.draw(st.integers(0, 255))]),
        ]
        datagram = data.draw(st.sampled_from(packets)) + data.draw(st.binary(max_size=60))
        address = data.draw(st.sampled_from([THERE, STRANGER]))
        before = snapshot(endpoint)
        segment = data.draw(st.integers(1, len(datagram)))
        endpoint.receive_train(memoryview(datagram), segment, address, pair.network.now)
        self.assertEqual(take_all(endpoint, pair.network.now), [])
        self.assertEqual(snapshot(endpoint), before)

    @settings(max_examples=examples(100), deadline=None)
    @given(st.data())
    def test_any_use(self, data: st.DataObject) -> None:
        """Any calls of two users at any time, over a bad network, end in nothing but typed errors and idleness."""
        conditions = Conditions(delay=0.01, loss=0.1, duplication=0.1, corruption=0.05)
        pair = Pair(conditions, seed=data.draw(st.integers(0, 100)))
        for _ in range(data.draw(st.integers(1, 15))):
            users = [each for each in (pair.opener, pair.acceptor) if each.connection is not None]
            up = data.draw(st.sampled_from(users)).up
            transfer = data.draw(st.integers(0, 2))
            now = pair.network.now
            try:
                match data.draw(st.sampled_from(["control", "begin", "piece", "finish", "drop",
                                                 "pause", "resume", "close", "abort", "wait"])):  # fmt: skip
                    case "control":
                        up.send_control(bytes(data.draw(st.integers(1, 5000))), now)
                    case "begin":
                        up.begin(transfer, 5000)
                    case "piece":
                        size = data.draw(st.integers(0, 3000))
                        up.send_piece(
                            transfer, data.draw(st.integers(0, 4000)), memoryview(bytes(size)), now
                        )
                    case "finish":
                        up.finish(transfer)
                    case "drop":
                        up.drop(transfer)
                    case "pause":
                        up.pause_control()
                    case "resume":
                        up.resume_control()
                    case "close":
                        up.close(data.draw(st.integers(0, 9)), "why", now)
                    case "abort":
                        up.abort()
                    case "wait":
                        pair.run(data.draw(st.floats(0.0, 2.0)))
            except LocalProtocolError:
                pass
        pair.network.change(Conditions(delay=0.01))
        for user in (pair.opener, pair.acceptor):
            if user.connection is not None:
                user.up.close(0, "", pair.network.now)
        pair.run(60.0)
        self.assertEqual(pair.connections, 0)
        self.assertEqual([each.get_timer() for each in pair.endpoints.values()], [None, None])
