"""Tests of whole connections between two endpoints, in virtual time, with real TLS."""

from __future__ import annotations

import random
from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.datagram.connection import ConnectionSettings
from p2pshare.core.datagram.endpoint import EndpointSettings
from p2pshare.core.datagram.events import Closed, HandshakeDone, PathChanged, SizeReceived
from p2pshare.core.datagram.trains import Address
from p2pshare.errors import LocalProtocolError, RemoteProtocolError, Unreachable
from p2pshare.testing.links import Conditions
from p2pshare.wire.datagrams.frames import (
    Ack,
    Complete,
    Control,
    Credit,
    Data,
    Fin,
    Frame,
    Missing,
    Ping,
    Size,
)
from tests.core.datagram.pair import HERE, KEYS, THERE, Pair

MB = 1_000_000
FILE = random.Random(7).randbytes(3 * MB)
SLOW = Conditions(rate=MB, delay=0.02, queue=100_000)
MERGING = 0.001  # seconds: as a network card does, and the runs are cheaper
FAST = Conditions(rate=12.5 * MB, delay=0.01, queue=250_000)
NEW: Address = ("10.0.0.3", 6001)


def with_update(packets: int) -> EndpointSettings:
    return EndpointSettings(ConnectionSettings(update_after=packets))


class HandshakeTests(SynchronousTestCase):
    def test_open(self) -> None:
        """Both ends prove their keys; the opener is done after three round trips, the acceptor half a one later."""
        pair = Pair(Conditions(delay=0.05)).open()
        self.assertEqual(pair.opener.happened(HandshakeDone), [HandshakeDone(KEYS[THERE])])
        self.assertEqual(pair.acceptor.happened(HandshakeDone), [HandshakeDone(KEYS[HERE])])
        self.assertLess(pair.network.now, 0.26)
        self.assertEqual(pair.opener.up.cipher, pair.acceptor.up.cipher)

    def test_another_key(self) -> None:
        """An opener that finds another key ends the connection at both ends, and nothing remains."""
        pair = Pair(expected=KEYS[HERE])
        self.assertTrue(pair.run(5.0, lambda: bool(pair.opener.errors and pair.acceptor.errors)))
        self.assertIsInstance(pair.opener.errors[0], Unreachable)
        self.assertIsInstance(pair.acceptor.errors[0], Unreachable)
        self.assertEqual(pair.opener.up.shown_key, KEYS[THERE])
        pair.run(60.0)
        self.assertEqual(pair.connections, 0)

    def test_nobody_there(self) -> None:
        """An opener gives up after 10 s, and leaves nothing behind."""
        pair = Pair()
        pair.detach()
        pair.run(60.0)
        self.assertIsInstance(pair.opener.errors[0], Unreachable)
        self.assertEqual(pair.connections, 0)
        self.assertLess(pair.network.now, 10.1)

    def open_over(self, conditions: Conditions) -> list[float]:
        return [Pair(conditions, seed=seed).open().network.now for seed in range(1, 26)]

    def test_loss(self) -> None:
        """Handshakes succeed although 30 of 100 packets are lost."""
        self.open_over(Conditions(delay=0.02, loss=0.3))

    def test_corruption(self) -> None:
        """Handshakes succeed although 30 of 100 packets are corrupt."""
        self.open_over(Conditions(delay=0.02, corruption=0.3))

    def test_disorder(self) -> None:
        """Handshakes succeed although packets are repeated and overtake each other, without much delay."""
        conditions = Conditions(
            delay=0.02, duplication=0.5, reordering=0.5, reordering_delay=0.05, jitter=0.01
        )
        self.assertLess(max(self.open_over(conditions)), 1.5)

    def test_long_path(self) -> None:
        """Handshakes succeed over a round trip of 1.2 s."""
        self.assertLess(Pair(Conditions(delay=0.6)).open().network.now, 5.0)


class TransferTests(SynchronousTestCase):
    def fetch(self, pair: Pair, *sizes: int, seconds: float = 600.0) -> None:
        """Let the acceptor send files of these sizes, and wait until all have arrived and are forgotten."""
        transfers = range(1, len(sizes) + 1)
        for transfer, size in zip(transfers, sizes, strict=True):
            pair.acceptor.send_file(transfer, FILE[:size])

        def is_done() -> bool:
            return all(each in pair.opener.done for each in transfers)

        self.assertTrue(pair.run(seconds, is_done))
        for transfer, size in zip(transfers, sizes, strict=True):
            self.assertEqual(bytes(pair.opener.files[transfer].data), FILE[:size])

    def test_no_loss(self) -> None:
        """A file of 3 MB arrives exactly, at the rate of the link; then both ends are idle without a timer."""
        pair = Pair(FAST, merging=MERGING).open()
        start = pair.network.now
        self.fetch(pair, 3 * MB)
        self.assertLess(pair.network.now - start, 1.0)
        pair.run(5.0)
        self.assertEqual([each.get_timer() for each in pair.endpoints.values()], [None, None])
        self.assertEqual(pair.acceptor.up.pieces_held, 0)

    def test_loss(self) -> None:
        """A file arrives exactly although 5 of 100 packets are lost."""
        self.fetch(Pair(Conditions(delay=0.005, loss=0.05)).open(), MB // 2)

    def test_much_loss(self) -> None:
        """A file arrives exactly although 20 of 100 packets are lost."""
        self.fetch(Pair(Conditions(delay=0.005, loss=0.2)).open(), MB // 2)

    def test_every_trouble(self) -> None:
        """A file arrives exactly although packets are corrupt, repeated and overtake each other."""
        conditions = Conditions(
            delay=0.01,
            loss=0.02,
            corruption=0.02,
            duplication=0.1,
            reordering=0.1,
            reordering_delay=0.01,
        )
        self.fetch(Pair(conditions).open(), MB // 2)

    def test_empty_file(self) -> None:
        """A file without bytes is announced and finished."""
        pair = Pair().open()
        pair.acceptor.send_file(1, b"")
        pair.run(1.0)
        self.assertEqual(pair.opener.happened(SizeReceived), [SizeReceived(1, 0)])
        self.assertEqual(pair.acceptor.up.pieces_held, 0)

    def test_both_directions(self) -> None:
        """Files cross in both directions at once under the same number."""
        pair = Pair(FAST, merging=MERGING).open()
        pair.opener.send_file(1, FILE[: MB // 2])
        self.fetch(pair, MB)
        self.assertTrue(pair.run(10.0, lambda: 1 in pair.acceptor.done))
        self.assertEqual(bytes(pair.acceptor.files[1].data), FILE[: MB // 2])

    def test_fair_shares(self) -> None:
        """Two transfers share the connection evenly."""
        pair = Pair(SLOW, merging=MERGING).open()
        pair.acceptor.piece = 20_000
        pair.acceptor.send_files({1: FILE[:MB], 2: FILE[:MB]})
        half = MB // 2
        self.assertTrue(
            pair.run(60.0, lambda: any(f.there.total >= half for f in pair.opener.files.values()))
        )
        self.assertGreater(min(f.there.total for f in pair.opener.files.values()), 0.8 * half)

    def test_control_passes_data(self) -> None:
        """Control arrives within little more than the queue of the link, while a transfer fills it."""
        pair = Pair(SLOW, merging=MERGING).open()
        pair.acceptor.send_file(1, FILE)
        pair.run(1.0)
        start = pair.network.now
        pair.acceptor.up.send_control(b"now", start)
        self.assertTrue(pair.run(5.0, lambda: bool(pair.opener.control)))
        self.assertLess(pair.network.now - start, 0.2)

    def test_drop(self) -> None:
        """A dropped transfer stops, and the next one goes on."""
        pair = Pair(SLOW, merging=MERGING).open()
        pair.acceptor.send_file(1, FILE)
        pair.run(0.5)
        pair.acceptor.up.drop(1)
        pair.acceptor.sending.clear()
        self.assertEqual(pair.acceptor.up.pieces_held, 0)
        pair.run(1.0)
        before = pair.opener.files[1].there.total
        pair.acceptor.send_file(2, FILE[:1000])
        self.assertTrue(pair.run(5.0, lambda: 2 in pair.opener.done))
        self.assertEqual(pair.opener.files[1].there.total, before)

    def test_key_update(self) -> None:
        """Keys change in both directions during transfers in both directions, under loss."""
        pair = Pair(Conditions(delay=0.005, loss=0.02), settings=with_update(50)).open()
        pair.opener.send_file(9, FILE[:MB])
        self.fetch(pair, MB)
        self.assertTrue(pair.run(60.0, lambda: 9 in pair.acceptor.done))
        self.assertEqual(bytes(pair.acceptor.files[9].data), FILE[:MB])
        self.assertGreater(pair.opener.up.key_phase, 3)
        self.assertGreater(pair.acceptor.up.key_phase, 3)

    def test_is_full(self) -> None:
        """The bound of what a user may hand over follows the window, and is kept."""
        bound = 512 * 1024
        pair = Pair(
            FAST, merging=MERGING, settings=EndpointSettings(ConnectionSettings(held_max=bound))
        ).open()
        self.assertFalse(pair.acceptor.up.is_full)
        pair.acceptor.send_file(1, FILE)
        most = 0

        def is_done() -> bool:
            nonlocal most
            most = max(most, pair.acceptor.up.pieces_held)
            return 1 in pair.opener.done

        self.assertTrue(pair.run(60.0, is_done))
        self.assertLessEqual(most, 2 * bound + 256 * 1024)


class ControlTests(SynchronousTestCase):
    def test_loss(self) -> None:
        """The control stream arrives in order and exactly, over a path that loses packets."""
        pair = Pair(Conditions(delay=0.01, loss=0.1)).open()
        sent = FILE[:200_000]
        for at in range(0, len(sent), 1000):
            pair.opener.up.send_control(sent[at : at + 1000], pair.network.now)
        self.assertTrue(pair.run(120.0, lambda: len(pair.acceptor.control) == len(sent)))
        self.assertEqual(bytes(pair.acceptor.control), sent)

    def test_before_the_handshake(self) -> None:
        """What is sent before the handshake is done goes out with its end."""
        pair = Pair(Conditions(delay=0.05))
        pair.opener.up.send_control(b"early", 0.0)
        self.assertTrue(pair.run(5.0, lambda: bool(pair.acceptor.control)))
        self.assertLess(pair.network.now, 0.26)

    def test_pause(self) -> None:
        """A paused user gets nothing, and the other end stops after one window; afterwards all arrives."""
        pair = Pair(FAST, merging=MERGING).open()
        pair.acceptor.up.pause_control()
        sent = FILE[: 2 * MB]
        pair.opener.up.send_control(sent, pair.network.now)
        pair.run(10.0)
        self.assertEqual(bytes(pair.acceptor.control), b"")
        self.assertGreater(pair.opener.up.control_waiting, MB)
        self.assertTrue(pair.opener.up.is_full)
        pair.acceptor.up.resume_control()
        self.assertTrue(pair.run(10.0, lambda: len(pair.acceptor.control) == len(sent)))
        self.assertEqual(bytes(pair.acceptor.control), sent)


class PathTests(SynchronousTestCase):
    def test_rebinding_in_a_transfer(self) -> None:
        """A receiver whose address changes gets its file, and the sender moves to the new address."""
        pair = Pair(SLOW, merging=MERGING).open()
        pair.acceptor.send_file(1, FILE[:MB])
        pair.run(0.3)
        pair.rebind(NEW)
        self.assertTrue(pair.run(60.0, lambda: 1 in pair.opener.done))
        self.assertEqual(pair.acceptor.happened(PathChanged), [PathChanged(NEW)])
        self.assertEqual(pair.acceptor.up.remote, NEW)
        self.assertEqual(bytes(pair.opener.files[1].data), FILE[:MB])

    def test_rebinding_of_a_sender(self) -> None:
        """A sender whose address changes is challenged, and the transfer goes on."""
        pair = Pair(SLOW, merging=MERGING).open()
        pair.opener.send_file(1, FILE[:MB])
        pair.run(0.3)
        pair.rebind(NEW)
        self.assertTrue(pair.run(60.0, lambda: 1 in pair.acceptor.done))
        self.assertEqual(pair.acceptor.up.remote, NEW)
        self.assertEqual(bytes(pair.acceptor.files[1].data), FILE[:MB])

    def test_rebinding_while_idle(self) -> None:
        """The first packet from a new address moves an idle connection."""
        pair = Pair(SLOW, merging=MERGING).open()
        pair.run(2.0)
        pair.rebind(NEW)
        pair.opener.up.send_control(b"still here", pair.network.now)
        pair.run(2.0)
        self.assertEqual(pair.acceptor.up.remote, NEW)
        pair.acceptor.up.send_control(b"so am I", pair.network.now)
        self.assertTrue(pair.run(2.0, lambda: bytes(pair.opener.control) == b"so am I"))

    def test_a_copied_packet(self) -> None:
        """Threat 45: a packet that is copied to another address moves nothing, and gets at most 3 times its bytes."""
        sent = list[tuple[bytes, Address, Address]]()

        def rule(
            _number: int, data: bytes, source: Address, to: Address
        ) -> tuple[float, ...] | None:
            sent.append((data, source, to))
            is_stolen = is_stealing and source == HERE
            return () if is_stolen else None

        is_stealing = False
        pair = Pair(rule=rule).open()
        pair.run(2.0)
        is_stealing = True
        pair.opener.up.send_control(b"x", pair.network.now)
        pair.network.pump(HERE)
        is_stealing = False
        stolen = sent[-1][0]
        sent.clear()
        pair.network.send_at(pair.network.now, stolen, NEW, THERE)
        pair.run(30.0)
        to_attacker = sum(len(data) for data, _, to in sent if to == NEW)
        self.assertGreater(to_attacker, 0)
        self.assertLessEqual(to_attacker, 3 * len(stolen))
        self.assertEqual(pair.acceptor.up.remote, HERE)


class EndTests(SynchronousTestCase):
    def test_close(self) -> None:
        """A close delivers what was sent before it, and both ends end without an error, under loss."""
        for seed in range(1, 11):
            pair = Pair(Conditions(delay=0.02, loss=0.2), seed=seed).open()
            pair.opener.up.send_control(b"last words" * 1000, pair.network.now)
            pair.opener.send_file(1, FILE[:100_000])
            pair.opener.up.close(0, "", pair.network.now)
            pair.run(30.0)
            self.assertEqual(pair.opener.errors, [None])
            self.assertEqual(len(pair.acceptor.control), 10_000)
            self.assertIn(1, pair.acceptor.done)

    def test_nothing_remains(self) -> None:
        """After a close both endpoints forget the connection and have no timer."""
        pair = Pair(Conditions(delay=0.02)).open()
        pair.opener.up.close(0, "", pair.network.now)
        pair.run(30.0)
        self.assertEqual((pair.opener.errors, pair.acceptor.errors), ([None], [None]))
        self.assertEqual(pair.connections, 0)
        self.assertEqual([each.get_timer() for each in pair.endpoints.values()], [None, None])

    def test_both_close(self) -> None:
        """Two ends that close at once do not answer each other without end."""
        pair = Pair(Conditions(delay=0.02)).open()
        for user in (pair.opener, pair.acceptor):
            user.up.close(0, "", pair.network.now)
        before = pair.network.sent
        pair.run(30.0)
        self.assertLess(pair.network.sent - before, 10)
        self.assertEqual(pair.connections, 0)

    def test_patience(self) -> None:
        """A close waits at most its patience for an other end that is gone."""
        pair = Pair().open()
        pair.opener.up.send_control(b"x", pair.network.now)
        pair.detach()
        start = pair.network.now
        pair.opener.up.close(0, "", start)
        self.assertTrue(pair.run(30.0, lambda: bool(pair.opener.errors)))
        self.assertAlmostEqual(pair.network.now - start, 5.0, delta=0.1)

    def test_a_lost_close_is_repeated(self) -> None:
        """An end that missed CLOSE gets it again as the answer to what it sends."""
        pair = Pair(Conditions(delay=0.1)).open()
        pair.run(1.0)
        pair.network.rule = lambda _number, _data, source, _to: () if source == HERE else None
        pair.opener.up.abort()
        pair.network.pump(HERE)
        pair.network.rule = None
        pair.acceptor.up.send_control(b"hello?", pair.network.now)
        self.assertTrue(pair.run(2.0, lambda: bool(pair.acceptor.errors)))
        self.assertEqual(pair.acceptor.errors, [None])

    def test_reason(self) -> None:
        """A close with a code is an error for the other end."""
        pair = Pair().open()
        pair.opener.up.close(3, "out of memory", pair.network.now)
        pair.run(5.0)
        self.assertIn("out of memory", str(pair.acceptor.errors[0]))

    def test_keep_alive(self) -> None:
        """With a keep-alive an idle connection sends a PING; with an idle timeout a silent one ends."""
        settings = EndpointSettings(ConnectionSettings(keep_alive=15.0, idle_timeout=40.0))
        pair = Pair(settings=settings).open()
        pair.run(300.0)
        self.assertEqual(pair.opener.errors + pair.acceptor.errors, [])
        pair.detach()
        pair.run(60.0)
        self.assertIsInstance(pair.opener.errors[0], Unreachable)

    def test_calls_after_the_end(self) -> None:
        """Calls after the end are ignored."""
        pair = Pair().open()
        up = pair.opener.up
        up.abort()
        for call in calls_of(pair):
            call()
        pair.run(10.0)
        self.assertEqual(pair.opener.happened(Closed), [Closed(None)])
        self.assertEqual(pair.connections, 0)


def calls_of(pair: Pair) -> list[Callable[[], object]]:
    """Return the calls of a user."""
    up, now = pair.opener.up, pair.network.now
    return [
        lambda: up.send_control(b"x", now),
        lambda: up.begin(5, 10),
        lambda: up.send_piece(5, 0, memoryview(b"12345"), now),
        lambda: up.finish(5),
        lambda: up.drop(5),
        lambda: up.answer_fin(5, ()),
        up.pause_control,
        up.resume_control,
        lambda: up.is_full,
        lambda: up.close(0, "", now),
        up.abort,
    ]


class LiarTests(SynchronousTestCase):
    """An authenticated peer that violates the protocol is closed with an error, and costs nothing more."""

    def assert_closed_by(self, *frames: Frame) -> None:
        pair = Pair().open()
        pair.acceptor.send_file(1, FILE[:1000])
        pair.run(1.0)
        pair.send_frames(pair.opener, *frames)
        pair.run(1.0)
        self.assertIsInstance(pair.acceptor.errors[0], RemoteProtocolError)
        self.assertIsInstance(pair.opener.errors[0], Unreachable)
        pair.run(60.0)
        self.assertEqual(pair.connections, 0)

    def test_acknowledged_too_much(self) -> None:
        """Threat 44: packets that were never sent."""
        self.assert_closed_by(Ack(10**6, 0, 0, ((10**6, 10**6 + 1),)))

    def test_credit(self) -> None:
        """Credit that decreases."""
        self.assert_closed_by(Credit(1))

    def test_control(self) -> None:
        """Threat 44: a control stream beyond its credit."""
        self.assert_closed_by(Control(2**40, b"x"))

    def test_size(self) -> None:
        """Threat 44: a size that changes."""
        self.assert_closed_by(Size(4, 10), Size(4, 11))

    def test_data(self) -> None:
        """Threat 44: bytes beyond the size of a file."""
        self.assert_closed_by(Size(4, 10), Data(4, 5, b"123456"))

    def test_fin(self) -> None:
        """More bytes sent than the file has."""
        self.assert_closed_by(Size(4, 10), Fin(4, 11))

    def test_judgement(self) -> None:
        """A judgement about a transfer that has not been finished."""
        pair = Pair().open()
        pair.acceptor.up.begin(7, 100)
        for frame in (Missing(7, ((0, 5),)), Complete(7)):
            pair.send_frames(pair.opener, Ping(), frame)
        pair.run(1.0)
        self.assertIsInstance(pair.acceptor.errors[0], RemoteProtocolError)

    def test_harmless(self) -> None:
        """Frames about transfers that are not known, as after a drop, are ignored."""
        pair = Pair().open()
        unknown: list[Frame] = [Missing(9, ((0, 5),)), Complete(9), Fin(9, 5), Data(9, 0, b"12345")]
        for frame in unknown:
            pair.send_frames(pair.opener, frame)
        pair.run(1.0)
        self.assertEqual(pair.acceptor.errors, [])

    def test_misuse(self) -> None:
        """A bug of the user on this side is an error at once, and ends nothing."""
        pair = Pair().open()
        pair.opener.up.begin(1, 10)
        with self.assertRaises(LocalProtocolError):
            pair.opener.up.begin(1, 10)
        self.assertEqual(pair.opener.errors, [])


class PathMtuTests(SynchronousTestCase):
    def send(self, conditions: Conditions, settings: EndpointSettings | None = None) -> Pair:
        pair = Pair(conditions, settings=settings, merging=MERGING).open()
        pair.acceptor.send_file(1, FILE[:MB])
        self.assertTrue(pair.run(60.0, lambda: 1 in pair.opener.done))
        self.assertEqual(bytes(pair.opener.files[1].data), FILE[:MB])
        return pair

    def test_discovery(self) -> None:
        """A sender of files finds the largest packets that pass, silently or refused by the kernel."""
        for refuses in (False, True):
            for mtu, least in ((1500, 1472), (1400, 1300)):
                conditions = Conditions(
                    rate=2 * MB, delay=0.005, queue=20_000, mtu=mtu, refuses_larger=refuses
                )
                found = self.send(conditions).acceptor.up.path_mtu
                self.assertTrue(least <= found <= mtu - 28, (mtu, found))

    def test_jumbo(self) -> None:
        """The bound on packets is an argument."""
        settings = EndpointSettings(segment_max=8972)
        pair = self.send(Conditions(rate=50 * MB, delay=0.002, mtu=9000), settings)
        self.assertEqual(pair.acceptor.up.path_mtu, 8972)

    def test_black_hole(self) -> None:
        """A path that carries only small packets from some moment on is noticed, and the file arrives."""
        pair = Pair(SLOW, merging=MERGING).open()
        pair.acceptor.send_file(1, FILE[:MB])
        self.assertTrue(pair.run(10.0, lambda: pair.acceptor.up.path_mtu == 1472))
        pair.network.change(Conditions(rate=MB, delay=0.02, queue=100_000, mtu=1300))
        self.assertTrue(pair.run(60.0, lambda: 1 in pair.opener.done))
        self.assertEqual(bytes(pair.opener.files[1].data), FILE[:MB])
        self.assertLessEqual(pair.acceptor.up.path_mtu, 1272)


class MarkTests(SynchronousTestCase):
    def test_marks(self) -> None:
        """Marks of congestion reduce the window before anything is lost."""
        marking = Conditions(rate=MB, delay=0.02, queue=10 * MB, mark_above=40_000)
        pair = Pair(marking, merging=MERGING).open()
        pair.acceptor.send_file(1, FILE[: 3 * MB // 2])
        self.assertTrue(pair.run(60.0, lambda: 1 in pair.opener.done))
        link = pair.network.link(THERE[0], HERE[0])
        self.assertGreater(link.counts.marked, 0)
        self.assertLess(pair.acceptor.up.rtt, 0.2)
