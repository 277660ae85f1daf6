"""When a person is told about offers."""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.back_off import JITTER
from p2pshare.core.offers.outgoing import RETRY_FIRST, RETRY_MAX, PersonSchedule

STEPS = st.one_of(
    st.tuples(st.just("want"), st.sampled_from("abc"), st.sampled_from("ow")),
    st.tuples(st.just("forget"), st.sampled_from("abc")),
    st.tuples(st.just("presence"), st.sampled_from([True, False, None])),
    st.tuples(st.just("wait"), st.floats(0, 2 * RETRY_MAX)),
    st.sampled_from([("told",), ("failed",)]),
)


def schedule() -> PersonSchedule[str]:
    return PersonSchedule(Random(1))


class ScheduleTests(SynchronousTestCase):
    def test_first_try(self) -> None:
        """The first try is made at once, whatever presence says; the next ones follow with longer pauses."""
        for is_online in (None, True, False):
            person = schedule()
            person.presence(is_online, 0.0)
            person.want("a", "offer", 5.0)
            self.assertEqual(person.get_timer(), 5.0)
            self.assertEqual(person.next(5.0), ("a", "offer"))
            self.assertIsNone(person.next(5.0), "it is under way")

    def test_pauses(self) -> None:
        """Each pause is twice as long as the one before, up to the longest, and as long as was asked for."""
        person, now, pauses = schedule(), 0.0, []
        person.want("a", "offer", now)
        for _ in range(12):
            assert person.next(now) is not None
            person.failed(now)
            due = person.get_timer()
            assert due is not None
            self.assertIsNone(person.next(due - 0.1))
            pauses.append(due - now)
            now = due
        for number, pause in enumerate(pauses):
            least = min(RETRY_MAX, RETRY_FIRST * 2**number)
            self.assertTrue(least <= pause <= least * (1 + JITTER))
        person.presence(True, now)
        assert person.next(now) is not None
        person.failed(now, at_least=60.0)
        self.assertGreaterEqual(person.get_timer() or 0.0, now + 60.0)

    def test_offline(self) -> None:
        """A person who is offline is not tried again until presence shows that person."""
        person = schedule()
        person.presence(False, 0.0)
        person.want("a", "offer", 0.0)
        person.next(0.0)
        person.failed(0.0)
        person.want("b", "offer", 1.0)
        self.assertEqual((person.get_timer(), person.next(1e6)), (None, None))
        person.presence(True, 2e6)
        self.assertEqual(person.next(2e6), ("a", "offer"))
        person.failed(2e6)
        self.assertEqual(
            person.next(3e6), ("b", "offer"), "one failure does not hold up the others"
        )
        person.told()
        self.assertEqual(person.next(3e6), ("a", "offer"))
        person.told()
        self.assertTrue(person.is_idle)

    def test_unknown_presence(self) -> None:
        """While nothing is known of a person's presence, tries go on."""
        person = schedule()
        person.want("a", "offer", 0.0)
        person.next(0.0)
        person.failed(0.0)
        self.assertIsNotNone(person.get_timer())
        person.presence(False, 1.0)
        self.assertIsNone(person.get_timer())

    def test_replaced(self) -> None:
        """What is wanted while the old thing is being told is told then."""
        person = schedule()
        person.want("a", "offer", 0.0)
        person.next(0.0)
        person.want("a", "withdrawal", 0.0)
        person.told()
        self.assertEqual(person.next(0.0), ("a", "withdrawal"))

    @given(st.lists(STEPS, max_size=40))
    def test_any_order(self, steps: list[tuple[str, Any]]) -> None:
        """In any order of events: one thing at a time, nothing before its time, and nothing is forgotten."""
        now, person, wanted = 0.0, schedule(), dict[str, str]()
        under_way: list[tuple[str, str]] = []  # at most one

        def told() -> None:
            person.told()
            offer, telling = under_way.pop()
            if wanted.get(offer) == telling:
                del wanted[offer]

        for what, *rest in steps:
            if what == "want":
                person.want(rest[0], rest[1], now)
                wanted[rest[0]] = rest[1]
            elif what == "forget":
                person.forget(*rest)
                wanted.pop(rest[0], None)
            elif what == "presence":
                person.presence(rest[0], now)
            elif what == "wait":
                now += rest[0]
            elif under_way and what == "told":
                told()
            elif under_way:
                person.failed(now)
                under_way.clear()
            due, found = person.get_timer(), person.next(now)
            self.assertEqual(found is not None, due is not None and due <= now)
            if found is not None:
                self.assertEqual(under_way, [])
                self.assertEqual(wanted[found[0]], found[1])
                under_way.append(found)
            self.assertEqual(person.is_idle, not wanted)
        if under_way:
            told()
        person.presence(True, now)
        while (found := person.next(now)) is not None:
            under_way.append(found)
            told()
        self.assertEqual((person.is_idle, wanted), (True, {}))
