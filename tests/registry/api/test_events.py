"""A stream has every change, in order, once."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from math import inf
from typing import cast
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.registry.api.event_streams import StreamLimits, Wanted, is_event_id
from p2pshare.registry.api.events import FLUSH_TIME, POLL_INTERVAL, RETRY_INTERVAL, EventHub
from p2pshare.web.problems import RequestError
from p2pshare.web.reply_bodies import Outlet
from p2pshare.wire.registry_answers import Presence
from tests import examples
from tests.registry.watching import Events, EventStore


class Recorder:
    """An outlet that records what is written, and reads when the test says so."""

    def __init__(self) -> None:
        self.text = b""
        self.ended = ""
        self.stalled_since: float | None = None
        self.unsent_max = inf
        self.waiting: list[Deferred[None]] = []
        self._then = lambda: None

    def when_over(self, then: Callable[[], None]) -> None:
        self._then = then
        if self.ended:
            then()

    def write(self, text: bytes) -> None:
        self.text += text

    def drained(self) -> Deferred[None]:
        if self.stalled_since is None:
            return succeed(None)
        self.waiting.append(Deferred())
        return self.waiting[-1]

    def finish(self) -> None:
        self.end("finished")

    def drop(self) -> None:
        self.end("dropped")

    def end(self, how: str) -> None:
        self.ended = self.ended or how
        self._then()

    def read(self) -> None:
        """Read everything, and continue to read."""
        self.stalled_since = None
        waiting, self.waiting = self.waiting, []
        for each in waiting:
            each.callback(None)

    @property
    def events(self) -> Events:
        return Events(self.text)

    @property
    def told(self) -> list[tuple[str, str]]:
        """The names and presences of the events."""
        peers = [json.loads(data) for kind, _, data in self.events if kind == "presence"]
        return [(peer["name"], peer["presence"]) for peer in peers]


class HubTestCase(SynchronousTestCase):
    limits = StreamLimits()

    def setUp(self) -> None:
        self.clock = Clock()
        self.store = EventStore()
        self.hub = self.make_hub()

    def make_hub(self) -> EventHub:
        return EventHub(self.store.as_store, self.clock, self.limits)

    def watch(
        self, *names: str, prefix: str = "", after: str | None = None, address: str = "10.0.0.1"
    ) -> Recorder:
        outlet = Recorder()
        wanted = Wanted(frozenset(names) if names else None, prefix, after)
        newest = self.successResultOf(Deferred.fromCoroutine(self.hub.newest()))
        self.hub.open(wanted, newest, address, cast(Outlet, outlet))
        return outlet

    def refusal(self, address: str) -> str:
        """Return the problem for a client that can have no further stream."""
        with self.assertRaises(RequestError) as refused:
            self.hub.check_room(address)
        word: str = refused.exception.word
        return word

    @property
    def waiting(self) -> int:
        """The number of streams that wait for a turn at the store."""
        return len(self.hub._joins.waiting)

    def assert_nothing_is_left(self) -> None:
        self.clock.advance(0.0)
        self.assertEqual((len(self.hub), len(self.hub._live)), (0, 0))
        self.assertEqual((self.hub._joins.tokens, self.waiting), (self.limits.joins_max, 0))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def pass_time(self, seconds: float = POLL_INTERVAL) -> None:
        for _ in range(max(1, round(seconds / 0.1))):
            self.clock.advance(0.1)


class FollowingTests(HubTestCase):
    """The content of a stream."""

    def test_changes(self) -> None:
        """A change is sent within a second, with its id and the peer as JSON, to those that asked for it only."""
        everybody, bob, with_prefix = self.watch(), self.watch("bob"), self.watch(prefix="al")
        before = len(bob.events)
        ids = [self.store.happen("bob"), self.store.happen("alice", Presence.OFFLINE)]
        self.pass_time(0.9)
        self.assertEqual(everybody.told, [("bob", "online"), ("alice", "offline")])
        self.assertEqual([id for _, id, _ in everybody.events], ids)
        self.assertEqual(
            json.loads(everybody.events[0][2]),
            {"name": "bob", "kind": "owned", "presence": "online", "since": 1_700_000_000},
        )
        self.assertEqual(bob.told[before:], [("bob", "online")])
        self.assertEqual(with_prefix.told, [("alice", "offline")])

    def test_present_state(self) -> None:
        """A stream of names begins with the state of each, and an id to resume from. A free name is `gone`."""
        id = self.store.happen("bob")
        stream = self.watch("bob", "nobody")
        self.assertEqual(stream.told, [("bob", "online"), ("nobody", "gone")])
        self.assertEqual({id for _, id, _ in stream.events}, {id})
        self.assertTrue(stream.text.startswith(b"retry: 3000\n\n"))

    def test_id_at_once(self) -> None:
        """A stream of all names begins with an id to resume from, even if nothing has happened since."""
        id = self.store.happen("bob")
        self.assertEqual(self.watch().events.last_id, id)
        self.assertEqual(self.watch().events, [])

    def test_going_on(self) -> None:
        """A client that reconnects gets exactly the changes that it has missed, however many."""
        seen = self.store.happen("a")
        missed = [self.store.happen(f"n{n}") for n in range(3 * self.limits.events_max)]
        stream = self.watch(after=seen)
        self.assertEqual([id for _, id, _ in stream.events], missed)
        last = self.store.happen("b")
        self.pass_time()
        self.assertEqual([id for _, id, _ in stream.events], [*missed, last])

    def test_too_late(self) -> None:
        """An id that is not kept any longer, of another store, or malformed leads to `reset`."""
        seen = self.store.happen("a")
        self.store.happen("b")
        self.store.forget()
        for after in (seen, "9999999-0", "x", "1-1-1", "\u0661-\u0661"):
            stream = self.watch("b", after=after)
            self.assertEqual([kind for kind, _, _ in stream.events], ["reset", "presence"], after)
        self.store.happen("b", Presence.OFFLINE)
        self.pass_time()
        self.assertEqual(stream.told, [("b", "online"), ("b", "offline")])

    def test_ids_too_great(self) -> None:
        """An id with a half of more than 64 bits, which Redis does not accept, is never sent to the store."""
        great, greater = 2**64 - 1, 2**64
        self.store.newest = (great, great)
        for after, is_id in (
            (f"1-{great}", True),
            (f"{great}-{great}", True),
            (f"1-{greater}", False),
            (f"{greater}-0", False),
            ("1-" + "9" * 20, False),
        ):
            self.assertIs(is_event_id(after), is_id, after)
            with mock.patch.object(self.store, "events", wraps=self.store.events) as events:
                self.watch("b", after=after)
                asked = [call.args[0] for call in events.call_args_list if call.args]
            self.assertEqual(after in asked, is_id, after)

    def test_missed_meanwhile(self) -> None:
        """If the store loses events between two polls, all streams are reset, and then continue."""
        streams = [self.watch(), self.watch("bob")]
        self.store.happen("bob")
        self.store.forget()
        self.pass_time(1.0)
        self.store.happen("bob", Presence.OFFLINE)
        self.pass_time()
        everybody, bob = ([kind for kind, _, _ in stream.events] for stream in streams)
        self.assertEqual(everybody, ["reset", "presence"])
        self.assertEqual(bob, ["presence", "reset", "presence", "presence"])

    def test_nothing_twice_nothing_left_out(self) -> None:
        """Each stream has all changes after its id in order, whenever it joins and however late the store answers."""
        rng = random.Random(5)
        for _ in range(60):
            self.setUp()
            streams: list[tuple[Recorder, str]] = []
            ids = ["1000-0"]
            for _ in range(40):
                match rng.randrange(5):
                    case 0 | 1:
                        ids.append(self.store.happen(rng.choice("abc")))
                    case 2 if self.store.held is None:
                        after = rng.choice(ids)
                        streams.append((self.watch(after=after), after))
                        if rng.random() < 0.5:
                            self.store.held = []
                    case 3:
                        self.store.release()
                    case _:
                        self.pass_time(rng.choice((0.1, 0.4)))
            self.store.release()
            self.pass_time(1.0)
            for stream, after in streams:
                told = [id for _, id, _ in stream.events]
                self.assertEqual(told, ids[ids.index(after) + 1 :])


class StoreTests(HubTestCase):
    """Questions to the store, and a store that does not answer."""

    def test_one_poll_for_all(self) -> None:
        """The store is polled once an interval for any number of streams, and not at all without one."""
        streams = [self.watch() for _ in range(10)]
        asked = self.store.asked
        self.pass_time(3.0)
        self.assertLessEqual(self.store.asked - asked, 11)
        for stream in streams:
            stream.end("left")
        asked = self.store.asked
        self.pass_time(30.0)
        self.assertEqual(self.store.asked, asked)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_store_away(self) -> None:
        """While the store is unavailable, streams stay open and one line is logged; afterwards all changes are sent."""
        stream = self.watch()
        self.store.away = True
        with capturedLogs() as logged:
            self.pass_time(10.0)
        self.store.happen("bob")
        self.store.away = False
        self.pass_time(RETRY_INTERVAL + POLL_INTERVAL)
        self.assertEqual(stream.told, [("bob", "online")])
        self.assertEqual((stream.ended, len(logged)), ("", 1))

    def test_store_away_at_the_beginning(self) -> None:
        """A stream that begins when the store becomes unavailable gets the state when the store is back."""
        self.store.happen("bob")
        outlet = Recorder()
        self.store.away = True
        wanted = Wanted(frozenset({"bob"}))
        self.hub.open(wanted, "1001-0", "10.0.0.1", cast(Outlet, outlet))
        self.pass_time(5.0)
        self.assertEqual(outlet.told, [])
        self.store.away = False
        self.pass_time(2 * RETRY_INTERVAL)
        self.assertEqual(outlet.told, [("bob", "online")])

    def test_defect(self) -> None:
        """A defect while a stream begins is logged, and breaks off this stream only."""
        other = self.watch()
        self.store.present = None  # type: ignore[assignment]
        stream = self.watch("bob")
        self.assertEqual(stream.ended, "dropped")
        self.assertEqual(len(self.flushLoggedErrors(AttributeError)), 1)
        self.assertEqual((other.ended, len(self.hub)), ("", 1))


class BoundTests(HubTestCase):
    """The bounds on streams."""

    limits = StreamLimits(
        streams_max=5, streams_per_address_max=3, life=100.0, keep_alive=10.0, stalled_max=30.0
    )

    def test_numbers(self) -> None:
        """Streams are bounded for one address and in total; one that ends makes room."""
        own = [self.watch(address="10.0.0.1") for _ in range(3)]
        self.assertEqual(self.refusal("10.0.0.1"), "too-many-requests")
        self.hub.check_room("10.0.0.2")
        for _ in range(2):
            self.watch(address="10.0.0.2")
        self.assertEqual(self.refusal("10.0.0.3"), "unavailable")
        own[0].end("left")
        self.hub.check_room("10.0.0.1")

    def test_keep_alive(self) -> None:
        """A quiet stream has `alive` events, with the id from which it can be resumed."""
        stream = self.watch("bob")
        id = self.store.happen("alice")
        self.pass_time(20.5)
        self.assertEqual(stream.events.alive, 2)
        self.assertEqual(stream.events.last_id, id)
        self.assertEqual(len(stream.events), 1)

    def test_life(self) -> None:
        """A stream ends regularly after its life."""
        stream = self.watch()
        self.pass_time(99.0)
        self.assertEqual(stream.ended, "")
        self.pass_time(11.0)
        self.assertEqual((stream.ended, len(self.hub)), ("finished", 0))

    def test_stalled(self) -> None:
        """A client that reads nothing for long is dropped; one that reads in time is not."""
        deaf, slow = self.watch(), self.watch()
        for stream in (deaf, slow):
            stream.stalled_since = self.clock.seconds()
        self.pass_time(20.0)
        slow.read()
        self.pass_time(20.0)
        self.assertEqual((deaf.ended, slow.ended), ("dropped", ""))

    def test_missed_as_fast_as_it_reads(self) -> None:
        """Missed changes are read from the store only as fast as the client reads."""
        seen = self.store.happen("a")
        for n in range(3 * self.limits.events_max):
            self.store.happen(f"n{n}")
        stream = Recorder()
        stream.stalled_since = 0.0
        wanted = Wanted(after=seen)
        self.hub.open(wanted, self.store.kept[-1].id, "10.0.0.1", cast(Outlet, stream))
        self.pass_time(5.0)
        self.assertEqual(stream.events, [])
        stream.read()
        self.assertEqual(len(stream.events), 3 * self.limits.events_max)

    def test_stop(self) -> None:
        """When the process stops, all streams end regularly, and no further one begins."""
        streams = [self.watch(), self.watch("bob")]
        stopping = self.hub.stop()
        self.assertEqual([stream.ended for stream in streams], ["finished"] * 2)
        self.assertNoResult(stopping)
        self.clock.advance(FLUSH_TIME)
        self.successResultOf(stopping)
        self.assertEqual(self.refusal("10.0.0.1"), "unavailable")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_nothing_is_left(self) -> None:
        """After 1000 streams have come and gone, nothing is left of them."""
        for n in range(1000):
            self.watch("bob", address=f"10.0.{n // 200}.{n % 200}").end("left")
        self.assert_nothing_is_left()

    def test_leaving_while_the_store_thinks(self) -> None:
        """A client that leaves before the store has answered leaves nothing behind."""
        outlet = Recorder()
        self.store.held = []
        self.hub.open(Wanted(after="1000-0"), "1000-0", "10.0.0.1", cast(Outlet, outlet))
        outlet.end("left")
        self.store.release()
        self.assertEqual((len(self.hub), self.clock.getDelayedCalls()), (0, []))


class CrowdTests(HubTestCase):
    """Threat: crowds that come and go while the store is slow."""

    limits = StreamLimits(streams_max=10_000, streams_per_address_max=10_000, joins_max=2)

    def crowd(self, number: int) -> list[Recorder]:
        """Open streams that wait for the store."""
        streams = []
        for _ in range(number):
            streams.append(Recorder())
            wanted = Wanted(frozenset({"bob"}))
            self.hub.open(wanted, "1000-0", "10.0.0.1", cast(Outlet, streams[-1]))
        return streams

    def test_leaving_while_waiting(self) -> None:
        """Any number of clients may wait and leave, in any order: nothing is left of them, and the next is served."""
        for order in (1, -1):
            self.store.held = []
            crowd = self.crowd(2 * sys.getrecursionlimit())
            self.assertGreater(self.waiting, sys.getrecursionlimit())
            for stream in crowd[::order]:
                stream.end("left")
            self.assertEqual((len(self.hub), self.waiting), (0, 0))
            self.store.release()
            self.assert_nothing_is_left()
        stream = self.watch("bob")
        self.assertEqual(stream.told, [("bob", "gone")])

    def test_all_are_served(self) -> None:
        """A long line is served, whether the store answers at once or later."""
        self.store.held = []
        crowd = self.crowd(2 * sys.getrecursionlimit())
        self.store.release()
        for _ in range(len(crowd) * 2):
            self.clock.advance(0.0)
        self.assertEqual(self.waiting, 0)
        self.assertEqual({len(stream.told) for stream in crowd}, {1})
        for stream in crowd:
            stream.end("left")
        self.assert_nothing_is_left()

    @settings(max_examples=examples(60))
    @given(steps=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 9)), max_size=60))
    def test_any_order(self, steps: list[tuple[int, int]]) -> None:
        """The counts are right after any sequence of joins, failures, defects and ends, and 0 in the end."""
        HubTestCase.setUp(self)
        streams: list[Recorder] = []
        for step, which in steps:
            match step:
                case 0 | 1:
                    streams.extend(self.crowd(which))
                case 2:
                    for stream in streams[which::3]:
                        stream.end("left")
                case 3 if self.store.held is None:
                    self.store.held = []
                case 4:
                    self.store.away = not self.store.away
                case 5:
                    self.store.fail() if which % 2 else self.store.release()
                case _:
                    self.pass_time(which / 4)
            streams = [stream for stream in streams if not stream.ended]
            self.assertEqual(len(self.hub), len(streams))
            self.assertGreaterEqual(self.hub._joins.tokens, 0)
            self.assertLessEqual(self.waiting, len(streams))
        for stream in streams:
            stream.end("left")
        self.store.release()
        self.pass_time()
        self.flushLoggedErrors(ZeroDivisionError)
        self.assert_nothing_is_left()
