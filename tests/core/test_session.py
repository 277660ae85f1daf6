"""Tests for `p2pshare.core.session`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.session import (
    BEFORE_OPEN_MAX,
    EARLY_BYTES_MAX,
    EARLY_MAX,
    LEGAL,
    WEIGHT,
    Event,
    Role,
    SessionCore,
    SessionEnded,
    State,
)
from p2pshare.errors import (
    AcceptanceAwaited,
    LocalProtocolError,
    P2pshareError,
    RemoteProtocolError,
    SessionLost,
    SessionPostponed,
    SessionRefused,
    VersionRefused,
)
from p2pshare.names import ON_NETWORK
from p2pshare.wire.control_messages import ANSWERS, ANY_TIME, OFFERS, REQUESTS, parse_message
from p2pshare.wire.frames import ControlFrame, FrameDecoder
from p2pshare.wire.session_messages import (
    VERSION,
    Bye,
    Credit,
    Hello,
    Message,
    Ping,
    Pong,
    Refusal,
    Refused,
    Welcome,
)
from p2pshare.wire.transfer_messages import (
    PAGE_MAX,
    End,
    Entry,
    EntryKind,
    Get,
    List,
    Listing,
)
from tests.wire.sessions import MESSAGES

HELLO = Hello(VERSION, "test/1", 1000)
SILENCE, IDLE, GREETING = 15.0, 600.0, 10.0


def core_in(state: State, role: Role, *, now: float = 0.0, silence: float = SILENCE) -> SessionCore:
    """Return a core in a state, with nothing left to send."""
    hello = HELLO if role is Role.OPENER else None
    core = SessionCore(
        role, now, name="alice", hello=hello, silence=silence, idle=IDLE, greeting=GREETING
    )
    if state in (State.JUDGING, State.OPEN) and role is Role.ACCEPTOR:
        hear(core, HELLO, now)
    if state is State.OPEN and role is Role.ACCEPTOR:
        core.welcome("alice", 500, now)
    if state is State.OPEN and role is Role.OPENER:
        hear(core, Welcome(VERSION, "test/1", "bob", 500), now)
    assert core.state is state
    core.data_to_send()
    return core


def events(core: SessionCore) -> list[Event]:
    """All that has happened."""
    found = []
    while (event := core.next_event()) is not None:
        found.append(event)
    return found


def hear(core: SessionCore, said: Message | bytes, now: float = 0.0) -> list[Event]:
    """Return the events of a message, or the body of one, from the other side."""
    core.receive_control(said if isinstance(said, bytes) else said.to_json(), now)
    return events(core)


def bodies(data: bytes) -> list[bytes]:
    """Return the bodies of frames."""
    frames = FrameDecoder().receive_data(data)
    return [each.body for each in frames if isinstance(each, ControlFrame)]


def hear_all(core: SessionCore, data: bytes, now: float = 0.0) -> list[Event]:
    """Return the events of frames from the other side."""
    return [event for body in bodies(data) for event in hear(core, body, now)]


def spoken(core: SessionCore) -> list[Message | None]:
    """Return the messages that are sent."""
    return [parse_message(body) for body in bodies(core.data_to_send())]


def end_of(core: SessionCore, said: Message | bytes) -> P2pshareError | None:
    """Return the reason of the end after a message from the other side."""
    (event,) = hear(core, said)
    assert isinstance(event, SessionEnded), event
    assert core.state is State.ENDED
    return event.reason


class GreetingTests(SynchronousTestCase):
    def test_welcome(self) -> None:
        """After the greeting each side receives the messages of the other."""
        opener = SessionCore(Role.OPENER, 0.0, name="alice", hello=HELLO)
        acceptor = SessionCore(Role.ACCEPTOR, 0.0, agent="alice/1")
        self.assertEqual(hear_all(acceptor, opener.data_to_send()), [HELLO])
        self.assertEqual(acceptor.data_to_send(), b"")
        acceptor.welcome("bob", 500, 0.0)
        self.assertEqual(
            hear_all(opener, acceptor.data_to_send()), [Welcome(VERSION, "alice/1", "bob", 500)]
        )
        opener.send(Get(1, ("x",)), 0.0)
        self.assertEqual(hear_all(acceptor, opener.data_to_send()), [Get(1, ("x",))])
        acceptor.send(End(1, bytes(32)), 0.0)
        self.assertTrue(opener.receive_piece(0.0))
        self.assertEqual(hear_all(opener, acceptor.data_to_send()), [End(1, bytes(32))])
        self.assertEqual((acceptor.name, opener.name), ("bob", "alice"))

    def test_nothing_before_welcome(self) -> None:
        """Threat 17: an opener sends nothing before it is welcomed."""
        opener = core_in(State.GREETING, Role.OPENER)
        opener.send(Get(1, ("x",)), 0.0)
        self.assertEqual(opener.data_to_send(), b"")

    def test_refusals(self) -> None:
        """Each refusal ends the session with its own error."""
        for why, kind, code in (
            (Refusal.STRANGER, SessionRefused, 3),
            (Refusal.CHANGED, SessionRefused, 3),
            (Refusal.BUSY, SessionPostponed, 5),
            (Refusal.LATER, SessionPostponed, 5),
            (Refusal.WAITING, AcceptanceAwaited, 5),
            (Refusal.VERSION, VersionRefused, 1),
        ):
            acceptor = core_in(State.JUDGING, Role.ACCEPTOR)
            acceptor.refuse(why, 7)
            (body,) = bodies(acceptor.data_to_send())
            reason = end_of(core_in(State.GREETING, Role.OPENER), body)
            assert isinstance(reason, kind)
            self.assertEqual(reason.exit_code, code)
            if isinstance(reason, SessionPostponed):
                self.assertEqual(reason.fields["retry_after"], 7)
            self.assertEqual(events(acceptor), [SessionEnded(None)])
            acceptor.welcome("bob", 500, 0.0)
            self.assertEqual((acceptor.state, acceptor.data_to_send()), (State.ENDED, b""))

    def test_stranger_welcomed(self) -> None:
        """An opener whose name nobody has proven hears the name that it said; the acceptor keeps the mark."""
        acceptor = core_in(State.JUDGING, Role.ACCEPTOR)
        acceptor.welcome(f"bob{ON_NETWORK}", 500, 0.0)
        (body,) = bodies(acceptor.data_to_send())
        self.assertEqual(
            (parse_message(body), acceptor.name), (Welcome(VERSION, "", "bob", 500), "bob@lan")
        )

    def test_versions(self) -> None:
        """A newer opener gets the acceptor's version; a version that was not offered ends the session."""
        acceptor = core_in(State.WAITING, Role.ACCEPTOR)
        hear(acceptor, Hello(VERSION + 8, "later/9", 0))
        acceptor.welcome("bob", 500, 0.0)
        self.assertEqual(spoken(acceptor), [Welcome(VERSION, "", "bob", 500)])
        reason = end_of(core_in(State.GREETING, Role.OPENER), Welcome(VERSION + 1, "x", "bob", 500))
        self.assertIsInstance(reason, RemoteProtocolError)

    def test_too_slow(self) -> None:
        """Threat 25: a greeting that does not finish in time ends the session, in any state."""
        for role, state in (
            (Role.OPENER, State.GREETING),
            (Role.ACCEPTOR, State.WAITING),
            (Role.ACCEPTOR, State.JUDGING),
        ):
            core = core_in(state, role)
            core.heard(9.0)  # a byte now and then does not help
            self.assertEqual(core.get_timer(), GREETING)
            core.handle_timer(GREETING)
            (event,) = events(core)
            assert isinstance(event, SessionEnded)
            self.assertIsInstance(event.reason, SessionLost)
            self.assertIsNone(core.get_timer())


class EarlyTests(SynchronousTestCase):
    """Requests that follow the greeting at once."""

    def early(self, count: int = 2) -> list[Message]:
        return [Get(number, ("x",)) for number in range(count)]

    def test_welcomed(self) -> None:
        """Early requests leave with the greeting, and count once the opener is welcomed."""
        requests = [List(1, ()), *self.early()]
        opener = SessionCore(Role.OPENER, 0.0, name="alice", hello=HELLO)
        opener.send_early(requests)
        acceptor = SessionCore(Role.ACCEPTOR, 0.0)
        self.assertEqual(hear_all(acceptor, opener.data_to_send()), [HELLO])
        acceptor.welcome("bob", 500, 1.0)
        self.assertEqual(events(acceptor), requests)
        self.assertEqual(acceptor.unused_for(1.0), 0.0)

    def test_refused(self) -> None:
        """Threat 17: early requests of an opener that is refused are dropped."""
        acceptor = core_in(State.JUDGING, Role.ACCEPTOR)
        for each in self.early():
            self.assertEqual(hear(acceptor, each), [])
        acceptor.refuse(Refusal.STRANGER)
        self.assertEqual(events(acceptor), [SessionEnded(None)])
        acceptor.welcome("bob", 500, 0.0)
        self.assertEqual(events(acceptor), [])

    def test_bounds(self) -> None:
        """Threat 33: as many early requests are kept as an opener may send, and one more ends the session."""
        path = ("x" * 200,) * 5
        fitting = EARLY_BYTES_MAX // len(Get(10, path).to_json())
        self.assertLess(fitting, EARLY_MAX)
        for legal, more in (
            (self.early(EARLY_MAX), Get(99, ("x",))),
            ([Get(10 + number, path) for number in range(fitting)], Get(99, path)),
        ):
            opener = SessionCore(Role.OPENER, 0.0, hello=HELLO)
            opener.send_early(legal)
            self.assertRaises(LocalProtocolError, opener.send_early, [more])
            acceptor = core_in(State.JUDGING, Role.ACCEPTOR)
            for each in legal:
                self.assertEqual(hear(acceptor, each), [])
            self.assertIsInstance(end_of(acceptor, more), RemoteProtocolError)

    def test_long(self) -> None:
        """Threat 33: a long message before the session is open ends it, whatever it is."""
        for state in (State.WAITING, State.JUDGING):
            acceptor = core_in(state, Role.ACCEPTOR)
            body = b'{"m":"later","x":"%b"}' % (b"x" * EARLY_BYTES_MAX)
            self.assertIsInstance(end_of(acceptor, body), RemoteProtocolError)

    def test_beside_pings(self) -> None:
        """Pings of an opener that waits do not take the place of its requests."""
        acceptor = core_in(State.JUDGING, Role.ACCEPTOR)
        for each in (*self.early(EARLY_MAX), Ping(), Ping()):
            self.assertEqual(hear(acceptor, each), [])
        self.assertEqual(acceptor.state, State.JUDGING)


class CostTests(SynchronousTestCase):
    """Threat 33."""

    def test_before_open(self) -> None:
        """Threat 33: only a few messages, of any kind, are accepted before the session is open."""
        for state, frame in ((State.WAITING, b'{"m":"later"}'), (State.JUDGING, Ping().to_json())):
            core = core_in(state, Role.ACCEPTOR)
            (ended,) = (event for _ in range(BEFORE_OPEN_MAX + 1) for event in hear(core, frame))
            assert isinstance(ended, SessionEnded)
            self.assertIsInstance(ended.reason, RemoteProtocolError)

    def test_cost(self) -> None:
        """Each message counts, an unknown one, too, and a long one as several."""
        core = core_in(State.OPEN, Role.ACCEPTOR)
        core.take_cost()
        for body, cost in (
            (Ping().to_json(), 1),
            (b'{"m":"later"}', 1),
            (b'{"m":"later","x":"%b"}' % (b"x" * 3 * WEIGHT), 4),
        ):
            self.assertEqual(hear(core, body), [])
            self.assertEqual((core.take_cost(), core.take_cost()), (cost, 0))

    def test_cost_of_answers(self) -> None:
        """An answer counts once, however long it is: this end has asked for it."""
        core = core_in(State.OPEN, Role.ACCEPTOR)
        core.take_cost()
        entries = tuple(
            Entry((f"{number:0200}",), EntryKind.FOLDER, 0, 0) for number in range(PAGE_MAX)
        )
        hear(core, Listing(1, entries, more=False))
        self.assertEqual(core.take_cost(), 1)


class RoleTests(SynchronousTestCase):
    @given(st.sampled_from(sorted(LEGAL, key=str)), st.one_of(*MESSAGES.values()))
    def test_every_message_in_every_state(
        self, place: tuple[Role, State], message: Message
    ) -> None:
        """A message is one that this side may hear now, or ends the session with the other side's fault."""
        role, state = place
        core = core_in(state, role)
        happened = hear(core, message)
        if not isinstance(message, LEGAL[place]):
            (event,) = happened
            assert isinstance(event, SessionEnded)
            self.assertIsInstance(event.reason, RemoteProtocolError)
            self.assertEqual(spoken(core), [])
            return
        match message:
            case Bye():
                self.assertEqual(happened, [SessionEnded(None)])
            case Ping():
                self.assertEqual((happened, spoken(core)), ([], [Pong()]))
            case Pong():
                self.assertEqual((happened, spoken(core)), ([], []))
            case Hello():
                self.assertEqual((happened, core.state), ([message], State.JUDGING))
            case Welcome():
                self.assertEqual((happened, core.state), ([message], State.OPEN))
            case Refused():
                self.assertEqual(core.state, State.ENDED)
            case _ if state is State.JUDGING:
                self.assertEqual((happened, spoken(core)), ([], []))
            case _:
                self.assertEqual(happened, [message])

    def test_table(self) -> None:
        """Both ends of an open session accept all messages except a second greeting; before that, few are legal."""
        for role in Role:
            self.assertEqual(
                set(LEGAL[role, State.OPEN]), {*REQUESTS, *ANSWERS, *OFFERS, *ANY_TIME}
            )
        self.assertEqual(set(LEGAL[Role.ACCEPTOR, State.WAITING]), {Hello, Bye})
        self.assertEqual(set(LEGAL[Role.ACCEPTOR, State.JUDGING]), {*REQUESTS, *ANY_TIME})
        self.assertEqual(set(LEGAL[Role.OPENER, State.GREETING]), {Welcome, Refused, *ANY_TIME})

    def test_data(self) -> None:
        """Bytes of files are legal in an open session only."""
        for role, state in LEGAL:
            core = core_in(state, role)
            if state is State.OPEN:
                self.assertTrue(core.receive_piece(0.0))
                self.assertEqual(events(core), [])
            else:
                self.assertFalse(core.receive_piece(0.0))
                (ended,) = events(core)
                assert isinstance(ended, SessionEnded)
                self.assertIsInstance(ended.reason, RemoteProtocolError)
                self.assertFalse(core.receive_piece(0.0))
                self.assertEqual(events(core), [])

    def test_unknown_kind(self) -> None:
        """Unknown messages are ignored in every state."""
        for role, state in LEGAL:
            core = core_in(state, role)
            self.assertEqual(hear(core, b'{"m":"later"}'), [])
            self.assertEqual((core.state, core.data_to_send()), (state, b""))

    @given(st.sampled_from(sorted(LEGAL, key=str)), st.lists(st.binary(max_size=64), max_size=6))
    def test_anything(self, place: tuple[Role, State], chunks: list[bytes]) -> None:
        """Threat 6: any bodies give events, at most one end, and nothing after it."""
        core = core_in(place[1], place[0])
        happened = [event for chunk in chunks for event in hear(core, chunk)]
        ends = [n for n, each in enumerate(happened) if isinstance(each, SessionEnded)]
        self.assertIn(ends, ([], [len(happened) - 1]))
        self.assertEqual(core.state is State.ENDED, bool(ends))

    def test_after_the_end(self) -> None:
        """After the end nothing is received or sent."""
        core = core_in(State.OPEN, Role.ACCEPTOR)
        self.assertIsNone(end_of(core, Bye()))
        self.assertEqual(hear(core, Get(1, ("x",))), [])
        core.send(End(1, bytes(32)), 0.0)
        core.close()
        self.assertEqual(core.data_to_send(), b"")
        self.assertFalse(core.is_ended_here)

    def test_close(self) -> None:
        """A side that ends the session sends `Bye` after everything before."""
        core = core_in(State.OPEN, Role.OPENER)
        core.send(Credit(5), 0.0)
        core.close()
        self.assertEqual(spoken(core), [Credit(5), Bye()])
        self.assertEqual(events(core), [SessionEnded(None)])
        self.assertTrue(core.is_ended_here)


class SignOfLifeTests(SynchronousTestCase):
    def run_pair(self, until: float, *, opener_speaks: bool = True) -> dict[str, float | int]:
        """Run an opener and a acceptor with nothing to say; return what they send, and when the opener gives up."""
        opener = core_in(State.OPEN, Role.OPENER)
        acceptor = core_in(State.OPEN, Role.ACCEPTOR, silence=60.0)
        seen: dict[str, float | int] = {"sent": 0}
        now = 0.0
        while now < until and opener.state is State.OPEN:
            timers = [core.get_timer() for core in (opener, acceptor)]
            now = min(each for each in timers if each is not None)
            for core in (opener, acceptor):
                core.handle_timer(now)
            for _ in range(2):
                for source, target in ((opener, acceptor), (acceptor, opener)):
                    data = source.data_to_send()
                    seen["sent"] += len(data) > 0
                    if data and opener_speaks:
                        events_of = hear_all(target, data, now)
                        assert events_of in ([], [SessionEnded(None)]), events_of
        seen["ended"] = now
        return seen

    def test_idle(self) -> None:
        """An unused session stays open by a ping every 5 s, until the acceptor ends it."""
        seen = self.run_pair(10_000.0)
        self.assertEqual(seen["ended"], IDLE)
        self.assertLessEqual(seen["sent"], 2 * IDLE / 5 + 2)

    def test_silence(self) -> None:
        """An opener that receives nothing pings at most three times, and ends the session after 15 s."""
        opener = core_in(State.OPEN, Role.OPENER)
        pings, now = [], 0.0
        while opener.state is State.OPEN:
            timer = opener.get_timer()
            assert timer is not None
            self.assertGreater(timer, now)
            now = timer
            opener.handle_timer(now)
            pings += [now for each in spoken(opener) if each == Ping()]
        self.assertEqual((now, pings), (SILENCE, [5.0, 10.0]))
        (event,) = events(opener)
        assert isinstance(event, SessionEnded) and event.reason is not None
        self.assertIn(f"{SILENCE:g} s", str(event.reason.fields["reason"]))
        self.assertEqual(event.reason.exit_code, 5)

    def test_one_way(self) -> None:
        """A side that only receives still sends something every third of its timeout."""
        opener = core_in(State.OPEN, Role.OPENER)
        said = []
        for second in range(1, 31):
            opener.receive_piece(float(second))
            opener.handle_timer(float(second))
            said += [second for each in spoken(opener) if each == Ping()]
        self.assertEqual(said, [5, 10, 15, 20, 25, 30])

    def test_slept(self) -> None:
        """A machine that slept asks once more before it takes its own absence for the other side's."""
        opener = core_in(State.OPEN, Role.OPENER)
        opener.handle_timer(8 * 3600.0)
        self.assertEqual((opener.state, spoken(opener)), (State.OPEN, [Ping()]))
        timer = opener.get_timer()
        assert timer is not None
        self.assertEqual(timer - 8 * 3600.0, 5.0)
        opener.handle_timer(timer)
        self.assertEqual(opener.state, State.ENDED)

    def test_idle_means_unused(self) -> None:
        """Bytes and messages in either direction count as use; pings do not."""
        for use in (
            lambda core, now: core.send(End(1, bytes(32)), now),
            lambda core, now: core.data_sent(now),
            lambda core, now: hear(core, Credit(1), now),
            lambda core, now: core.keep_alive(now),
        ):
            core = core_in(State.OPEN, Role.ACCEPTOR, silence=60.0)
            for second in range(0, 599, 10):
                hear(core, Ping(), float(second))
            use(core, 599.0)
            for second in range(600, 1199, 10):
                hear(core, Ping(), float(second))
                core.handle_timer(float(second))
            self.assertEqual(core.state, State.OPEN)
            core.handle_timer(1199.0)
            self.assertEqual(events(core), [SessionEnded(None)])
            self.assertEqual(spoken(core)[-1], Bye())

    def test_flood(self) -> None:
        """Threat 31: however many pings come before anything can be sent, one answer waits, not a queue of them."""
        core = core_in(State.OPEN, Role.ACCEPTOR)
        for _ in range(10_000):
            self.assertEqual(hear(core, Ping()), [])
        self.assertEqual(spoken(core), [Pong()])
        self.assertEqual(core.data_to_send(), b"")

    def test_early_timer(self) -> None:
        """An early call of the timer does nothing."""
        core = core_in(State.OPEN, Role.OPENER)
        core.handle_timer(4.9)
        self.assertEqual((core.state, core.data_to_send()), (State.OPEN, b""))

    def test_lost(self) -> None:
        """A carrier that breaks ends the session once."""
        core = core_in(State.OPEN, Role.OPENER)
        core.lose("it broke")
        core.lose("it broke again")
        (event,) = events(core)
        assert isinstance(event, SessionEnded)
        assert isinstance(event.reason, SessionLost)
        self.assertEqual(event.reason.fields, {"name": "alice", "reason": "it broke"})
