"""The states of an offer at both sides, and that both sides agree whatever the network does."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.offers.states import (
    DELIVERY_MOVES,
    INBOX_MOVES,
    DeliveryState,
    after_inbox_state,
    after_withdrawal,
    answer_to_state,
    expect_move,
    next_delivery,
    next_inbox,
    withdrawal_of,
)
from p2pshare.errors import OfferOver
from p2pshare.wire.offers.messages import (
    InboxState,
    Offer,
    OfferFault,
    OfferItem,
    OfferNoted,
    OfferState,
    Withdraw,
    Withdrawal,
)
from p2pshare.wire.session_messages import Message
from p2pshare.wire.transfer_messages import EntryKind
from tests import examples

ID = "k6xwn2q4h7yxabcd"
OFFER = Offer(ID, 1, 0, 5, (OfferItem("a.txt", EntryKind.FILE, 5, 1),), 0, "", 60)
OPEN = {DeliveryState.WAITING, DeliveryState.DELIVERED, DeliveryState.ACCEPTED}
AGREED = {
    DeliveryState.WAITING: {None},
    DeliveryState.DELIVERED: {InboxState.WAITING},
    DeliveryState.ACCEPTED: {InboxState.ACCEPTED},
    DeliveryState.DECLINED: {InboxState.DECLINED},
    DeliveryState.DONE: {InboxState.DONE},
    DeliveryState.FAILED: {InboxState.FAILED},
    DeliveryState.REFUSED: {None, InboxState.WITHDRAWN, InboxState.DECLINED, InboxState.FAILED},
    DeliveryState.CANCELLED: {
        *(None, InboxState.WITHDRAWN, InboxState.DECLINED, InboxState.FAILED),
    },
    DeliveryState.EXPIRED: {
        *(None, InboxState.WITHDRAWN, InboxState.DECLINED, InboxState.FAILED),
    },
}
"""The states at the receiver that go with each state at the sender, when everything has been told."""


class TableTests(SynchronousTestCase):
    def test_all_states(self) -> None:
        """Each state is in the tables, no state follows itself, and there is no way back."""
        for moves, kind in ((DELIVERY_MOVES, DeliveryState), (INBOX_MOVES, InboxState)):
            self.assertEqual(set(moves), set(kind))
            for state, following in moves.items():
                self.assertNotIn(state, following)
                for each in following:
                    self.assertNotIn(state, moves[each])  # type: ignore[index]

    def test_finals(self) -> None:
        """Nothing follows a final state, except that the receiver may have completed what the sender took for over."""
        for state in DeliveryState:
            self.assertEqual(state.is_final, state not in OPEN)
            if state.is_final:
                self.assertLessEqual(DELIVERY_MOVES[state], {DeliveryState.DONE})
        for told in InboxState:
            self.assertEqual(told.is_final, not INBOX_MOVES[told])

    @given(
        st.sampled_from(DeliveryState),
        st.sampled_from(InboxState),
        st.none() | st.sampled_from(OfferFault),
    )
    def test_any_state_told(
        self, state: DeliveryState, told: InboxState, why: OfferFault | None
    ) -> None:
        """Each state that a receiver can tell, in each state of the sender, is a legal move or changes nothing."""
        after = after_inbox_state(state, told, why)
        self.assertIn(after, {state, *DELIVERY_MOVES[state]})
        self.assertEqual(after_inbox_state(after, told, why), after)
        if why is not None and why.is_temporary and told is InboxState.REFUSED:
            self.assertEqual(after, state)

    @given(st.sampled_from(InboxState), st.sampled_from(InboxState))
    def test_decisions(self, state: InboxState, wanted: InboxState) -> None:
        """A user's decision is legal, or made before, or an error; a message that is neither changes nothing."""
        is_legal = wanted in INBOX_MOVES[state]
        self.assertEqual(next_inbox(state, wanted), wanted if is_legal else state)
        if is_legal or wanted is state:
            expect_move(ID, state, wanted)
        else:
            self.assertRaises(OfferOver, expect_move, ID, state, wanted)

    def test_withdrawals(self) -> None:
        """The reason of a withdrawal follows from the state."""
        self.assertEqual(withdrawal_of(None), Withdrawal.UNKNOWN)
        self.assertEqual(withdrawal_of(DeliveryState.EXPIRED), Withdrawal.EXPIRED)
        self.assertEqual(withdrawal_of(DeliveryState.CANCELLED), Withdrawal.CANCELLED)


@dataclass
class Sender:
    """The sender's part, as it is on its disk."""

    state: DeliveryState = DeliveryState.WAITING
    is_told: bool = True

    def wants(self) -> Message | None:
        """What is to be told until there is an answer."""
        if self.state is DeliveryState.WAITING:
            return OFFER
        if self.state.is_withdrawn and not self.is_told:
            return Withdraw(ID, withdrawal_of(self.state))
        return None

    def end(self, wanted: DeliveryState) -> None:
        """Cancel it, or let it expire."""
        after = next_delivery(self.state, wanted)
        self.is_told = self.is_told and after is self.state
        self.state = after

    def receive(self, message: OfferState) -> Message:
        """Note a state, and answer."""
        self.state = after_inbox_state(self.state, message.state, message.why)
        if message.state.is_final:
            self.is_told = True
        return answer_to_state(self.state, message)


@dataclass
class Receiver:
    """The receiver's part, as it is on its disk."""

    state: InboxState | None = None
    noted: InboxState | None = None
    deliveries: int = 0
    refuses: OfferFault | None = None

    def wants(self) -> Message | None:
        """What is to be told until it is noted."""
        if self.state is None or self.state is self.noted:
            return None
        return OfferState(ID, self.state)

    def receive(self, message: Message) -> Message | None:
        """Take an offer, a withdrawal, or that a state was noted."""
        match message:
            case Offer():
                if self.state is None:
                    if self.refuses is not None:
                        return OfferState(ID, InboxState.REFUSED, self.refuses)
                    self.state = InboxState.WAITING
                return OfferState(ID, self.state)
            case Withdraw():
                after = after_withdrawal(self.state)
                if self.state is not None:
                    self.state = after
                return OfferState(ID, after)
            case OfferNoted(state=state):
                if state is self.state:
                    self.noted = state
        return None

    def decide(self, wanted: InboxState) -> None:
        """Move on, if that is possible."""
        if self.state is not None and wanted in INBOX_MOVES[self.state]:
            self.deliveries += wanted is InboxState.DONE
            self.state = wanted


@dataclass
class World:
    """Both sides, and all messages that are on their way, or may come again."""

    sender: Sender = field(default_factory=Sender)
    receiver: Receiver = field(default_factory=Receiver)
    to_receiver: list[Message] = field(default_factory=list)
    to_sender: list[OfferState] = field(default_factory=list)

    def tell(self) -> bool:
        """Let both sides say what they have to say; whether there was anything."""
        offer, state = self.sender.wants(), self.receiver.wants()
        if offer is not None:
            self.to_receiver.append(offer)
        if isinstance(state, OfferState):
            self.to_sender.append(state)
        return offer is not None or state is not None

    def deliver(self, number: int, *, again: bool) -> None:
        """Deliver any message on its way; `again`: it may come once more."""
        queues: list[list[Message]] = [self.to_receiver, self.to_sender]  # type: ignore[list-item]
        queue = queues[number % 2]
        if not queue:
            return
        place = number // 2 % len(queue)
        message = queue[place] if again else queue.pop(place)
        if number % 2:
            assert isinstance(message, OfferState)
            self.to_receiver.append(self.sender.receive(message))
        elif (answer := self.receiver.receive(message)) is not None:
            assert isinstance(answer, OfferState)
            self.to_sender.append(answer)

    def settle(self) -> None:
        """Let the network work until nobody has anything to say."""
        for _ in range(50):
            while self.to_receiver or self.to_sender:
                self.deliver(0, again=False)
                self.deliver(1, again=False)
            if not self.tell():
                return
        raise AssertionError(f"never settled: {self}")


STEPS = st.one_of(
    st.just("tell"),
    st.tuples(st.sampled_from(["deliver", "repeat", "lose"]), st.integers(0, 30)),
    st.sampled_from([DeliveryState.CANCELLED, DeliveryState.EXPIRED]),
    st.sampled_from([each for each in InboxState if each is not InboxState.REFUSED]),
    st.sampled_from([None, *OfferFault]),
)


class ConvergenceTests(SynchronousTestCase):
    @settings(max_examples=examples(800))
    @given(st.lists(STEPS, max_size=40))
    def test_agreement(self, steps: list[object]) -> None:
        """Messages that are lost, repeated or reordered leave both sides in agreement, and nothing comes twice."""
        world = World()
        for step in steps:
            match step:
                case "tell":
                    world.tell()
                case ("lose", int(number)):
                    queue: list[Message] = (world.to_receiver, world.to_sender)[number % 2]  # type: ignore[assignment]
                    del queue[number // 2 :][:1]
                case (str(how), int(number)):
                    world.deliver(number, again=how == "repeat")
                case DeliveryState():
                    world.sender.end(step)
                case InboxState.WITHDRAWN:
                    pass  # only the sender does that
                case InboxState():
                    world.receiver.decide(step)
                case OfferFault() | None:
                    world.receiver.refuses = step
            self.assertLessEqual(world.receiver.deliveries, 1)
        if (refuses := world.receiver.refuses) is not None and refuses.is_temporary:
            world.receiver.refuses = None
        world.settle()
        self.assertIn(world.receiver.state, AGREED[world.sender.state], world)
        is_done = world.sender.state is DeliveryState.DONE
        self.assertEqual(world.receiver.deliveries, is_done)

    def test_crossing(self) -> None:
        """An offer that was completed while it was cancelled is done for both."""
        world = World()
        world.tell()
        world.settle()
        world.receiver.decide(InboxState.ACCEPTED)
        world.sender.end(DeliveryState.CANCELLED)
        world.receiver.decide(InboxState.DONE)
        world.settle()
        self.assertEqual(
            (world.sender.state, world.receiver.state), (DeliveryState.DONE, InboxState.DONE)
        )
