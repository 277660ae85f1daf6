"""The states of an offer at both sides, and which of them may follow which.

The receiver decides, and tells its `InboxState`. The sender has a `DeliveryState` for each receiver: what the receiver
has told last, and what the sender has decided itself. Both tables only lead forward, so a message that is repeated or
late changes nothing, and the two sides agree as soon as one message has come through each way:

    sender       receiver
    waiting      none yet
    delivered    waiting
    accepted     accepted
    declined, done, failed, refused: the same at both
    cancelled    withdrawn, or a final state that it had reached before, except done
    expired      the same; the receiver may also have found out itself: failed

If a receiver has completed an offer while its sender cancelled it, the offer is done for both.
"""

from __future__ import annotations

import enum

from p2pshare.errors import OfferOver
from p2pshare.wire.offers.messages import (
    InboxState,
    OfferFault,
    OfferNoted,
    OfferState,
    Withdraw,
    Withdrawal,
)


class DeliveryState(enum.Enum):
    """States of an offer at its sender, for one receiver."""

    WAITING = "waiting"
    """The receiver has not been told yet."""
    DELIVERED = "delivered"
    """The receiver keeps it, and has not decided yet."""
    ACCEPTED = "accepted"
    """The receiver fetches it."""
    DECLINED = "declined"
    DONE = "done"
    """The receiver has all of it."""
    FAILED = "failed"
    """The receiver has given it up, or cannot be told."""
    REFUSED = "refused"
    """The receiver does not take it."""
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    """The sender has cancelled it."""

    @property
    def is_final(self) -> bool:
        """Whether nothing more is expected of the receiver."""
        return self not in _OPEN

    @property
    def is_withdrawn(self) -> bool:
        """Whether the sender has ended it, which the receiver may not know."""
        return self in (DeliveryState.EXPIRED, DeliveryState.CANCELLED)


_OPEN = DeliveryState.WAITING, DeliveryState.DELIVERED, DeliveryState.ACCEPTED
_OVER = frozenset(DeliveryState) - {*_OPEN}

DELIVERY_MOVES: dict[DeliveryState, frozenset[DeliveryState]] = {
    DeliveryState.WAITING: _OVER | {DeliveryState.DELIVERED, DeliveryState.ACCEPTED},
    DeliveryState.DELIVERED: _OVER | {DeliveryState.ACCEPTED},
    DeliveryState.ACCEPTED: _OVER,
    DeliveryState.EXPIRED: frozenset({DeliveryState.DONE}),
    DeliveryState.CANCELLED: frozenset({DeliveryState.DONE}),
    DeliveryState.REFUSED: frozenset({DeliveryState.DONE}),  # it was told twice, and kept later
    **{
        each: frozenset()
        for each in (
            DeliveryState.DECLINED,
            DeliveryState.DONE,
            DeliveryState.FAILED,
        )
    },
}
"""The states that may follow each state at the sender."""

_INBOX_OVER = frozenset(each for each in InboxState if each.is_final) - {InboxState.REFUSED}

INBOX_MOVES: dict[InboxState, frozenset[InboxState]] = {
    InboxState.WAITING: _INBOX_OVER - {InboxState.DONE} | {InboxState.ACCEPTED},
    InboxState.ACCEPTED: _INBOX_OVER,
    **{each: frozenset() for each in InboxState if each.is_final},
}
"""The states that may follow each state at the receiver. What it refuses it does not keep."""

_TOLD = {
    InboxState.WAITING: DeliveryState.DELIVERED,
    InboxState.ACCEPTED: DeliveryState.ACCEPTED,
    InboxState.DECLINED: DeliveryState.DECLINED,
    InboxState.DONE: DeliveryState.DONE,
    InboxState.FAILED: DeliveryState.FAILED,
    InboxState.REFUSED: DeliveryState.REFUSED,
    InboxState.WITHDRAWN: DeliveryState.FAILED,  # which this sender has not wanted
}


def next_delivery(state: DeliveryState, wanted: DeliveryState) -> DeliveryState:
    """Return the state at the sender after something that leads to `wanted`: the same one if that is not legal."""
    return wanted if wanted in DELIVERY_MOVES[state] else state


def after_inbox_state(
    state: DeliveryState, told: InboxState, why: OfferFault | None = None
) -> DeliveryState:
    """Return the state at the sender after the receiver has told its own, in any order and as often as it likes."""
    if told is InboxState.REFUSED and why is not None and why.is_temporary:
        return state
    return next_delivery(state, _TOLD[told])


def answer_to_state(state: DeliveryState | None, told: OfferState) -> OfferNoted | Withdraw:
    """Return the sender's answer to a receiver's state.

    Args:
        state: at the sender, after it has noted what was told; None if it does not know the offer.
        told: the message.
    """
    if told.state.is_final or not (state is None or state.is_final):
        return OfferNoted(told.id, told.state)
    return Withdraw(told.id, withdrawal_of(state))


def withdrawal_of(state: DeliveryState | None) -> Withdrawal:
    """Return why there is no such offer any more; `state` is final, or None if the sender does not know it."""
    match state:
        case None:
            return Withdrawal.UNKNOWN
        case DeliveryState.EXPIRED:
            return Withdrawal.EXPIRED
        case _:
            return Withdrawal.CANCELLED


def after_withdrawal(state: InboxState | None) -> InboxState:
    """Return the state at the receiver after a `Withdraw`, which is its answer; None stands for an unknown offer."""
    return InboxState.WITHDRAWN if state is None else next_inbox(state, InboxState.WITHDRAWN)


def next_inbox(state: InboxState, wanted: InboxState) -> InboxState:
    """Return the state at the receiver after something that leads to `wanted`: the same one if that is not legal."""
    return wanted if wanted in INBOX_MOVES[state] else state


def expect_move(offer_id: str, state: InboxState, wanted: InboxState) -> None:
    """Make sure that a user's decision is possible; the state that is there already is.

    Raises:
        OfferOver: it is not.
    """
    if wanted is not state and wanted not in INBOX_MOVES[state]:
        raise OfferOver(id=offer_id, state=state.value)
