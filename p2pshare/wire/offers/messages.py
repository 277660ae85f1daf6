"""Control messages about offers: files that one person, the *sender*, proposes to send to another, the *receiver*.

The messages tell the receiver what is offered, and the sender what became of it. The files themselves travel as any
others: the receiver lists and fetches the folder `mount_of(id)` of the sender, which only the receivers of the offer
can see.

Each message may be lost with its session, and is then told again. So each of them says the same if it comes twice.
"""

from __future__ import annotations

import base64
import enum
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Self

from p2pshare.errors import RemoteProtocolError
from p2pshare.wire.json_fields import (
    Codec,
    Fields,
    array,
    matching,
    omittable,
    one_of,
    whole,
    words,
)
from p2pshare.wire.paths import component_fault
from p2pshare.wire.session_messages import Message
from p2pshare.wire.statements import STATEMENT_MAX
from p2pshare.wire.strict_json import INTEGER_MAX, boolean
from p2pshare.wire.transfer_messages import EntryKind

ID_LENGTH = 16  # characters of an offer's id: 80 random bits in base32
ID_BYTES = ID_LENGTH * 5 // 8  # random bytes that an id is made of
ITEMS_MAX = 32  # files and folders that an offer names; others are counted
NOTE_MAX = 1000  # characters
EXPIRY_MAX = 366 * 86400  # seconds until an offer expires
SNIPPET_MAX = 64 * 1024  # bytes of a text that is offered without a file
OFFER_BYTES_MAX = 16 * 1024  # bytes of a message about an offer
MOUNT = "@"
"""The beginning of the name of an offer's folder. The name of a share never begins with it."""

ID_FORM = (
    re.compile(rf"[a-z2-7]{{{ID_LENGTH}}}"),
    ID_LENGTH,
    f"{ID_LENGTH} characters of a-z and 2-7",
)
"""The form of an offer's id, for `matching`."""


class InboxState(enum.Enum):
    """States of an offer at its receiver."""

    WAITING = "waiting"
    """The receiver has kept it, and nobody has decided yet."""
    ACCEPTED = "accepted"
    """The receiver fetches it."""
    DECLINED = "declined"
    DONE = "done"
    """All of it is on the receiver's disk: complete, verified, and under its name."""
    FAILED = "failed"
    """The receiver has given it up."""
    REFUSED = "refused"
    """The receiver has not kept it."""
    WITHDRAWN = "withdrawn"
    """The sender has withdrawn it."""

    @property
    def is_final(self) -> bool:
        """Whether no other state follows."""
        return self not in (InboxState.WAITING, InboxState.ACCEPTED)


class OfferFault(enum.Enum):
    """Reasons why an offer was refused, or has failed."""

    POLICY = "policy"
    """The receiver takes no offers from this sender."""
    FULL = "full"
    """The receiver keeps as many offers as it can. The sender may come again."""
    RATE = "rate"
    """There were too many offers at once. The sender may come again."""
    TOO_LARGE = "too_large"
    """It has more files or bytes than the receiver takes."""
    CHANGED = "changed"
    """The sender has more files or bytes there than it has offered, or other ones."""
    DISK = "disk"
    """The receiver cannot write it."""
    GONE = "gone"
    """The sender does not have it any more, or cannot read it."""
    EXPIRED = "expired"
    """Its time was over before it was complete."""
    OTHER = "other"

    @property
    def is_temporary(self) -> bool:
        """Whether the same offer may be accepted later."""
        return self in (OfferFault.FULL, OfferFault.RATE)


class Withdrawal(enum.Enum):
    """Reasons why an offer does not exist any more."""

    CANCELLED = "cancelled"
    """Its sender has cancelled it."""
    EXPIRED = "expired"
    UNKNOWN = "unknown"
    """The sender does not know it."""


@dataclass(frozen=True, slots=True)
class OfferItem:
    """A file or folder at the top of an offer."""

    name: str
    """One component of a path."""
    kind: EntryKind
    size: int
    """Bytes of the file, or of all files in the folder."""
    files: int
    """Files in the folder; 1 for a file."""


def id_from(drawn: bytes) -> str:
    """Return the id of an offer from `ID_BYTES` random bytes."""
    return base64.b32encode(drawn).decode().lower()


def mount_of(offer_id: str) -> str:
    """Return the name of the folder in which the sender has the files of an offer."""
    return f"{MOUNT}{offer_id}"


def _item(value: object) -> OfferItem:
    match value:
        case [str(name), str(kind), int(size), int(files)] if (
            type(size) is int
            and type(files) is int
            and 0 <= size <= INTEGER_MAX
            and 0 <= files <= INTEGER_MAX
            and component_fault(name) is None
        ):
            if kind == "file" and files == 1:
                return OfferItem(name, EntryKind.FILE, size, 1)
            if kind == "folder":
                return OfferItem(name, EntryKind.FOLDER, size, files)
    raise RemoteProtocolError(
        reason="an item is not the name of a file or folder, its kind, its bytes and its files"
    )


def _row(item: OfferItem) -> list[object]:
    return [item.name, item.kind.value, item.size, item.files]


_Id = Annotated[str, matching(*ID_FORM)]
_Flag = Annotated[bool, omittable(Codec(boolean, key="text"), False)]
_Items = Annotated[tuple[OfferItem, ...], array(1, ITEMS_MAX, _item, _row)]


@dataclass(frozen=True, slots=True)
class Offer(Message):
    """The sender offers files. The answer is an `OfferState`."""

    WORD = "offer"

    id: _Id
    """Drawn by the sender. Offers of different senders may have the same one."""
    files: Annotated[int, whole()]
    folders: Annotated[int, whole()]
    """Folders, those among the items included."""
    bytes: Annotated[int, whole()]
    """Bytes of all files."""
    items: _Items
    """The files and folders at the top, with different names; at most `ITEMS_MAX`."""
    more_items: Annotated[int, whole()]
    """Number of further ones that `items` has no room for."""
    note: Annotated[str, words(NOTE_MAX)]
    expires_in: Annotated[int, whole(1, EXPIRY_MAX)]
    """Seconds."""
    is_text: _Flag = False
    """Whether it is a text that is to be shown: one file of at most `SNIPPET_MAX` bytes."""

    @classmethod
    def from_fields(cls, fields: Fields) -> Self:
        """Read it, and make sure that its numbers do not contradict each other."""
        offer = super(Offer, cls).from_fields(fields)
        if (fault := _fault(offer)) is not None:
            raise RemoteProtocolError(reason=f"the offer {fault}")
        return offer

    def fitting(self) -> Self:
        """Return the offer without the last of its items, if it is too long for a message with them."""
        offer = self
        while len(offer.to_json()) > OFFER_BYTES_MAX or len(offer.items) > ITEMS_MAX:
            offer = replace(offer, items=offer.items[:-1], more_items=offer.more_items + 1)
        return offer


def _fault(offer: Offer) -> str | None:
    """Return what contradicts itself in an offer; None if nothing does."""
    items = offer.items
    if len({each.name for each in items}) < len(items):
        return "has two items of one name"
    counted = (
        sum(each.files for each in items),
        sum(each.kind is EntryKind.FOLDER for each in items),
        sum(each.size for each in items),
    )
    if any(part > whole for part, whole in zip(counted, _totals(offer), strict=True)):
        return "has less in all than its items have"
    is_snippet = len(items) == 1 and _totals(offer) == (1, 0, items[0].size)
    if offer.is_text and not (is_snippet and offer.bytes <= SNIPPET_MAX and not offer.more_items):
        return f"is no text of at most {SNIPPET_MAX} bytes"
    return None


def _totals(offer: Offer) -> Sequence[int]:
    return offer.files, offer.folders, offer.bytes


@dataclass(frozen=True, slots=True)
class OfferState(Message):
    """The receiver tells what became of an offer, when it is asked or when that has changed.

    The answer is an `OfferNoted`, or a `Withdraw` if the state is not final and the sender does not offer it any more.
    """

    WORD = "offer_state"

    id: _Id
    state: Annotated[InboxState, one_of(InboxState)]
    why: Annotated[OfferFault | None, omittable(one_of(OfferFault), None)] = None
    """Why it was refused, or has failed."""
    receipt: Annotated[str, omittable(words(STATEMENT_MAX), "")] = ""
    """The `OfferReceipt` for an offer that is done."""


@dataclass(frozen=True, slots=True)
class OfferNoted(Message):
    """The sender has noted a state of an offer, durably."""

    WORD = "offer_noted"

    id: _Id
    state: Annotated[InboxState, one_of(InboxState)]


@dataclass(frozen=True, slots=True)
class Withdraw(Message):
    """The sender tells that an offer does not exist any more.

    The answer is an `OfferState`: withdrawn, or the final state that the offer had reached before.
    """

    WORD = "withdraw"

    id: _Id
    why: Annotated[Withdrawal, one_of(Withdrawal)]
