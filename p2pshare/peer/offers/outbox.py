"""What this peer offers: keeps the offers, tells people, and notes what becomes of them.

Theory of operation
===================

*Durable first.* `_offers` is what the ledger has. Each change of a recipient goes through `_move`: one at a time, it is
committed, and only then seen by anybody, inside or outside. So a kill at any step leaves an offer in a state from which
it goes on: `load` reads the ledger, and `start` mounts what is open, and tells what is still to be told.

*Two loops.* Telling is driven by this side: each person is told what is to be told, woken by presence (`telling`). What
becomes of an offer is driven by the other side: `state_received` takes each state, in whatever session and order it
comes.

*Visibility.* An offer is mounted as long as it is open for anybody. Whether it is for a viewer is asked for each
request, of the rows as they are then (`OutgoingOffer.is_for`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pshare.core.offers.states import (
    DeliveryState,
    after_inbox_state,
    answer_to_state,
    next_delivery,
)
from p2pshare.core.sharer_transfers import Transfer
from p2pshare.errors import (
    ControlRefused,
    OfferOver,
    P2pshareError,
    Refused,
    SessionPostponed,
    WrongUsage,
)
from p2pshare.net.shared_answer import SharedAnswer
from p2pshare.net.threads import TurnLock, run_in_thread
from p2pshare.peer.control import ID_TEXT_MAX, Action, Fields, page
from p2pshare.peer.offers.clearing import clear_listed
from p2pshare.peer.offers.drafts import Drafts
from p2pshare.peer.offers.parts import OfferParts, id_of, message_of, shown_offer
from p2pshare.peer.offers.progress import Progress, Throttle
from p2pshare.peer.offers.receipts import checked_receipt
from p2pshare.peer.offers.sending import Sending, Wanted
from p2pshare.peer.offers.telling import Telling
from p2pshare.storage.identity.data_folder import private_folders
from p2pshare.storage.offers.history import Direction, HistoryEntry
from p2pshare.storage.offers.outgoing import OutgoingOffer, OutgoingOffers, Recipient
from p2pshare.storage.offers.spool import Spool
from p2pshare.storage.shares.arguments import Viewer
from p2pshare.storage.shares.tree import ShareTree
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.offers.messages import (
    MOUNT,
    InboxState,
    OfferNoted,
    OfferState,
    Withdraw,
)
from p2pshare.wire.offers.receipts import OfferReceipt
from p2pshare.wire.strict_json import text

T = TypeVar("T")

KEPT_FOR = 30 * 86400  # seconds that an offer is listed after it is over
WITHDRAW_FOR = 7 * 86400  # seconds in which people are told that an offer is over
EXPIRY_LOOK = 3600.0  # seconds after which the wall clock is looked at again, since it may be set
EXPIRY_AGAIN = 60.0  # seconds until the end of an offer that could not be written is written again
AGAIN_AFTER = 30  # seconds until the next try of a person who had no room


@dataclass(slots=True)
class _Row:
    """An offer in memory."""

    offer: OutgoingOffer
    """As it is in the ledger."""
    progress: dict[str, Progress] = field(default_factory=dict)
    """By the name of the person."""


class Outbox:
    """The offers of this peer; a `Sending` for its correspondence, and a
    `TransferWatcher` for its uploads.
    """

    _log = Logger()

    def __init__(
        self,
        parts: OfferParts,
        tree: Callable[[], ShareTree | None],
        on_recipients: Callable[[], object] = lambda: None,
    ) -> None:
        """Make offers after `start`.

        Args:
            parts: of the peer.
            tree: returns what it shares, as soon as that is open.
            on_recipients: called when other people than before may fetch, to let them in, or to stop what they fetch.
        """
        self._parts = parts
        self._tree = tree
        self._on_recipients = on_recipients
        self._store = OutgoingOffers(parts.ledger)
        self._spool = Spool(parts.folder)
        self.drafts = Drafts(parts.reactor, self._spool, self._remove_orphans)
        """What a page puts together before it is sent."""
        self._sending = Sending(parts, self._spool, self.drafts)
        self._rows: dict[str, _Row] = {}
        self._making: set[str] = set()  # IDs that requests have drawn
        self._telling: Telling[DeliveryState] = Telling(parts, self._tell, self._person_changed)
        self._watched: dict[str, Callable[[], None]] = {}  # ends the watch of a person's presence
        self._private: tuple[Path, ...] = ()  # folders that are never sent
        self._lock = TurnLock(parts.reactor)  # of changes
        self._expiry: IDelayedCall | None = None
        self._throttle = Throttle(parts.reactor, self._publish)
        self._has_stopped = False

    @property
    def actions(self) -> Mapping[str, Action]:
        """What verbs may ask for."""
        actions = {"send": self.send, "offers": self.list, "cancel": self.cancel}
        actions["offers_clear"] = self.clear
        return {**actions, **self.drafts.actions}

    @property
    def names(self) -> frozenset[str]:
        """The people to whom an offer is open: they may call this peer."""
        return frozenset(
            each.name
            for row in self._rows.values()
            for each in row.offer.recipients
            if not each.state.is_final
        )

    def knows(self, key: PublicKey) -> bool:
        """Whether something was offered to a key."""
        return any(each.key == key for row in self._rows.values() for each in row.offer.recipients)

    def has_offered_to(self, viewer: Viewer) -> bool:
        """Whether something was offered to a person."""
        return any(row.offer.recipient(viewer) is not None for row in self._rows.values())

    async def load(self) -> None:
        """Read the ledger."""
        parts = self._parts
        kept = await run_in_thread(parts.reactor, self._open, parts.now())
        self._rows = {each.id: _Row(each) for each in kept}
        folders = run_in_thread(parts.reactor, private_folders, parts.settings, parts.name)
        self._private = await folders

    def start(self) -> None:
        """Show what is offered, and go on telling it."""
        for row in self._rows.values():
            self._apply(row.offer)
        self._watch_people()
        self._look_at_expiry()
        self.drafts.start()

    async def stop(self) -> None:
        """Tell nothing more. What is being committed is committed."""
        self._has_stopped = True
        self.drafts.stop()
        self._throttle.stop()
        if self._expiry is not None:
            self._expiry.cancel()
        self._telling.stop()
        for unwatch in self._watched.values():
            unwatch()
        self._watched.clear()
        await self._lock.run(lambda: None)

    async def send(self, request: Fields) -> Fields:
        """Perform the action `send`. A request with the ID of an offer that exists makes no other one."""
        wanted = Wanted.read(request)
        tree = self._open_tree()
        if wanted.id in self._rows:
            return self._shown(self._rows[wanted.id])
        if wanted.id in self._making:
            raise ControlRefused(reason="the offer is being made")
        if wanted.id:
            self._making.add(wanted.id)
        try:
            return await self._send(wanted, tree)
        finally:
            self._making.discard(wanted.id)

    async def _send(self, wanted: Wanted, tree: ShareTree) -> Fields:
        if wanted.spooled and any(wanted.spooled == row.offer.spool for row in self._rows.values()):
            raise WrongUsage(reason="The spooled file belongs to another offer.")
        if wanted.again:
            repeated = self._rows[id_of(wanted.again, self._listed())].offer
            wanted = wanted.repeating(repeated, self._parts.now())
        offer = await self._sending.offer_of(wanted, tree)
        if wanted.is_check:
            return {**self._shown(_Row(offer)), "id": ""}
        await SharedAnswer(Deferred.fromCoroutine(self._keep(offer, wanted))).wait()
        return self._shown(self._rows[offer.id])

    async def _keep(self, offer: OutgoingOffer, wanted: Wanted) -> None:
        """Keep a new offer, and tell it."""
        try:
            dropped = await self._locked(
                lambda: self._store.add(offer), lambda: self._expect_copy(wanted)
            )
        except BaseException:
            if wanted.text is not None:
                await self._sending.discard(offer.spool)
            self.drafts.reopen(wanted.draft)
            raise
        self.drafts.sent(wanted.draft)
        for each in dropped:
            self._rows.pop(each.id, None)
        self._rows[offer.id] = _Row(offer)
        self._log.info(
            "offered: id={id} to={to} files={files} bytes={bytes}",
            id=offer.id,
            to=",".join(each.name for each in offer.recipients),
            files=offer.files,
            bytes=offer.bytes,
        )
        self._apply(offer)
        self._recipients_changed()
        self._look_at_expiry()
        self._publish(offer.id)

    async def list(self, request: Fields) -> Fields:
        """Perform the action `offers`."""
        return page(request, "offers", self._listed().items(), self._shown)

    def _listed(self) -> dict[str, _Row]:
        return {each: row for each, row in self._rows.items() if not row.offer.is_cleared}

    async def cancel(self, request: Fields) -> Fields:
        """Perform the action `cancel`: withdraw an offer from everybody who is not done."""
        offer_id = id_of(text({**request}, "id", ID_TEXT_MAX), self._listed())
        offer = self._rows[offer_id].offer
        if not offer.is_open:
            state = ", ".join(dict.fromkeys(each.state.value for each in offer.recipients))
            raise OfferOver(id=offer_id, state=state)
        await self._end(offer_id, DeliveryState.CANCELLED)
        return self._shown(self._rows[offer_id])

    async def clear(self, request: Fields) -> Fields:
        """Perform the action `offers_clear`: remove what is over for everybody from the list."""
        states = {each: "open" if row.offer.is_open else "" for each, row in self._listed().items()}
        return await clear_listed(self._parts, request, states, self._clear, "offer")

    async def _clear(self, ids: Sequence[str]) -> Sequence[Fields]:
        async with self._lock:
            rows = [row for each in ids if (row := self._rows.get(each)) and not row.offer.is_open]
            await run_in_thread(self._parts.reactor, self._store.clear, [row.offer for row in rows])
            shown = [self._shown(row) for row in rows]
            for row in rows:
                row.offer = replace(row.offer, is_cleared=True)
                if row.offer.is_told:  # a new offer may have taken its place meanwhile
                    self._rows.pop(row.offer.id, None)
            for row in rows:
                self._discard(row.offer.spool)
        return shown

    async def state_received(self, viewer: Viewer, state: OfferState) -> OfferNoted | Withdraw:
        """Note what became of an offer at a person; see `Sending` in `correspondence`."""
        row = self._rows.get(state.id)
        recipient = None if row is None else row.offer.recipient(viewer)
        if row is None or recipient is None:
            return answer_to_state(None, state)
        own, keys = self._parts.key().public, {viewer.key, recipient.key}
        receipt, root = checked_receipt(row.offer, own, keys, viewer.name, state)

        def changed(now: Recipient) -> Recipient:
            after = after_inbox_state(now.state, state.state, state.why)
            key = viewer.key if now.key is None or viewer.is_proven else now.key
            is_told = now.is_told or state.state.is_final
            if after is now.state:
                return replace(now, key=key, is_told=is_told)
            return replace(
                now,
                key=key,
                state=after,
                why=state.why,
                updated=self._parts.now(),
                receipt=receipt if after is DeliveryState.DONE else now.receipt,
                is_told=True,
            )

        after = await self._move(state.id, recipient.name, changed, root)
        return answer_to_state(None if after is None else after.state, state)

    def transfer_sent(self, viewer: Viewer, transfer: Transfer, size: int) -> None:
        """Count bytes that have gone out; see `TransferWatcher`."""
        if (found := self._progress_of(viewer, transfer)) is not None:
            found.sent(transfer, size, self._parts.reactor.seconds())

    def transfer_ended(self, viewer: Viewer, transfer: Transfer) -> None:
        """Count a file; see `TransferWatcher`."""
        if (found := self._progress_of(viewer, transfer)) is not None:
            found.ended(transfer)

    def _progress_of(self, viewer: Viewer, transfer: Transfer) -> Progress | None:
        path = transfer.request.path
        if not path or not path[0].startswith(MOUNT):
            return None
        row = self._rows.get(path[0].removeprefix(MOUNT))
        recipient = None if row is None else row.offer.recipient(viewer)
        if row is None or recipient is None or recipient.state.is_final:
            return None
        self._throttle.soon(row.offer.id)
        if recipient.name not in row.progress:
            now = self._parts.reactor.seconds()
            row.progress[recipient.name] = Progress(row.offer.bytes, now)
        return row.progress[recipient.name]

    def _open(self, now: int) -> tuple[OutgoingOffer, ...]:
        """Read all offers, and remove what is not needed any more; blocks."""
        kept = []
        for offer in self._store.all():
            last = max((each.updated for each in offer.recipients), default=offer.created)
            is_told = offer.is_told or last < now - WITHDRAW_FOR
            is_old = last < now - KEPT_FOR or (offer.is_cleared and is_told)
            if not offer.is_open and is_old:
                self._store.remove(offer.id)
            else:
                kept.append(offer)
        self._remove_spooled({each.spool for each in kept if each.keeps_copy(now)}, now)
        return tuple(kept)

    def _remove_spooled(self, kept: Collection[str], now: float) -> None:
        """Remove what is old and belongs to no offer; blocks."""
        self._spool.remove_orphans({*kept, *self._store.spooled_elsewhere()}, now)

    async def _remove_orphans(self) -> None:
        """Remove what is old and belongs neither to an offer nor to a draft."""
        now = self._parts.now()
        kept = {row.offer.spool for row in self._rows.values() if row.offer.keeps_copy(now)}
        kept.update(self.drafts.ids)
        await self._locked(partial(self._remove_spooled, kept, now))

    def _open_tree(self) -> ShareTree:
        tree = self._tree()
        if tree is None or self._has_stopped:
            raise ControlRefused(reason="the peer is ending")
        return tree

    def _expect_copy(self, wanted: Wanted) -> None:
        """Raise an error if an offer that is sent again was removed meanwhile, and its copy with it."""
        if wanted.repeated is not None and wanted.repeated.spool:
            repeated = self._rows[id_of(wanted.again, self._listed())].offer
            wanted.repeating(repeated, self._parts.now())

    async def _locked(
        self, work: Callable[[], T], expect: Callable[[], object] = lambda: None
    ) -> T:
        """Do work on the ledger in a thread, one piece at a time, unless `expect` raises an error just before."""
        await self._lock.acquire()
        try:
            if self._has_stopped:
                raise ControlRefused(reason="the peer is ending")
            expect()
            return await run_in_thread(self._parts.reactor, work)
        finally:
            self._lock.release()

    async def _end(self, offer_id: str, wanted: DeliveryState) -> None:
        """Cancel an offer, or let it expire, for all for whom it is open."""

        def changed(now: Recipient) -> Recipient:
            after = next_delivery(now.state, wanted)
            if after is now.state:
                return now
            return replace(now, state=after, updated=self._parts.now(), is_told=False)

        for each in self._rows[offer_id].offer.recipients:
            await self._move(offer_id, each.name, changed)

    async def _move(
        self,
        offer_id: str,
        name: str,
        changed: Callable[[Recipient], Recipient],
        root: str = "",
    ) -> Recipient | None:
        """Change a recipient, durably, and do what follows from it; return the recipient as it is then.

        The change is made even if the caller is cancelled: memory never lags behind the ledger.

        Args:
            offer_id: the offer.
            name: the recipient's.
            changed: returns the recipient after the change.
            root: of all files, for the history of an offer that is done.
        """
        moving = Deferred.fromCoroutine(self._moved(offer_id, name, changed, root))
        return await SharedAnswer(moving).wait()

    async def _moved(
        self, offer_id: str, name: str, changed: Callable[[Recipient], Recipient], root: str
    ) -> Recipient | None:
        await self._lock.acquire()
        try:
            row = self._rows.get(offer_id)
            if row is None:
                return None
            if self._has_stopped:
                raise ControlRefused(reason="the peer is ending")
            before = _named(row.offer, name)
            after = changed(before)
            if after == before:
                return after
            is_over = after.state.is_final and after.state is not before.state
            entry = self._entry(row.offer, after, root) if is_over else None
            await run_in_thread(self._parts.reactor, self._write, offer_id, after, entry)
            row.offer = row.offer.with_recipient(after)
        finally:
            self._lock.release()
        if after.state is not before.state:
            self._log.info(
                "offer {state}: id={id} peer={peer}",
                state=after.state.value,
                id=offer_id,
                peer=name,
            )
            if after.state.is_final:
                row.progress.pop(name, None)
        self._apply(row.offer)
        if after.state.is_final:
            self._recipients_changed()
        self._publish(offer_id)
        return after

    def _write(self, offer_id: str, recipient: Recipient, entry: HistoryEntry | None) -> None:
        """Write a change and its line in the history; blocks."""
        with self._parts.ledger.changing():
            self._store.update(offer_id, recipient)
            if entry is not None:
                self._parts.history.add(entry)

    def _entry(self, offer: OutgoingOffer, recipient: Recipient, root: str) -> HistoryEntry:
        return HistoryEntry(
            self._parts.now(),
            Direction.SENT,
            recipient.name,
            OfferReceipt.read(recipient.receipt).key if recipient.receipt else recipient.key,
            offer.title,
            offer.files,
            offer.bytes,
            recipient.state.value,
            root,
            recipient.receipt,
            offer.id,
        )

    def _apply(self, offer: OutgoingOffer) -> None:
        """Show an offer as long as it is open, and let people be told what they do not know."""
        tree = self._tree()
        if self._has_stopped or tree is None:
            return
        if offer.is_open:
            tree.mount(offer.id, offer.shared(self._private), self._is_for(offer.id))
        else:
            tree.unmount(offer.id)
            self._discard(offer.spool)
        for each in offer.recipients:
            self._apply_to(offer, each)

    def _discard(self, spool_id: str) -> None:
        """Remove what was in the spool for an offer that is over, unless it is, or can be, sent again."""
        now = self._parts.now()
        same = (row.offer for row in self._rows.values() if row.offer.spool == spool_id)
        if spool_id and not any(each.keeps_copy(now) for each in same):
            discarding = Deferred.fromCoroutine(self._sending.discard(spool_id))
            discarding.addErrback(lambda failure: self._log.failure("not removed", failure))

    def _is_for(self, offer_id: str) -> Callable[[Viewer], bool]:
        def is_for(viewer: Viewer) -> bool:  # called in any thread
            row = self._rows.get(offer_id)
            if row is None or self._parts.wall() >= row.offer.expires:
                return False
            return row.offer.is_for(viewer)

        return is_for

    def _apply_to(self, offer: OutgoingOffer, recipient: Recipient) -> None:
        state = recipient.state
        is_untold = state.is_withdrawn and not recipient.is_told
        is_untold = is_untold and self._parts.now() < recipient.updated + WITHDRAW_FOR
        if state is DeliveryState.WAITING or is_untold:
            self._telling.want(recipient.name, offer.id, state)
        else:
            self._telling.forget(recipient.name, offer.id)

    def _recipients_changed(self) -> None:
        if not self._has_stopped:
            self._watch_people()
            self._on_recipients()

    def _watch_people(self) -> None:
        """Watch the presence of those to whom an offer is open, so that the user sees it."""
        names = self.names
        for name in [name for name in self._watched if name not in names]:
            self._watched.pop(name)()
        for name in sorted(names - self._watched.keys()):
            try:
                changed = partial(self._presence_changed, name)
                self._watched[name] = self._parts.presence.watch(name, changed)
            except Refused as error:
                self._log.warn("presence not watched: peer={peer} why={why}", peer=name, why=error)
                return

    def _presence_changed(self, name: str, _is_online: bool) -> None:
        self._person_changed(name)

    def _person_changed(self, name: str) -> None:
        """Publish the offers to somebody, since presence or trouble has changed."""
        for row in self._rows.values():
            if row.offer.is_open and any(each.name == name for each in row.offer.recipients):
                self._throttle.soon(row.offer.id)

    async def _tell(self, name: str, offer_id: str, state: DeliveryState) -> None:
        """Tell a person about one offer. What comes of it arrives in `state_received`.

        Raises:
            SessionPostponed: the person has no room now.
            P2pshareError: the person was not reached.
        """
        row = self._rows.get(offer_id)
        if row is None or (recipient := _named(row.offer, name)).state is not state:
            return
        message = message_of(row.offer, state, self._parts.now())
        answer = await self._parts.correspondence.exchange(name, recipient.key, message)
        told = answer.message
        assert isinstance(told, OfferState)
        if _named(row.offer, name).state is state and told.state is InboxState.REFUSED:
            reason = "" if told.why is None else told.why.value
            raise SessionPostponed(name=name, reason=reason, retry_after=AGAIN_AFTER)

    def _look_at_expiry(self) -> None:
        """Let offers expire whose time is over, and look again when the next one is due."""
        if self._expiry is not None and self._expiry.active():
            self._expiry.cancel()
        self._expiry = None
        if self._has_stopped:
            return
        now = self._parts.wall()
        standing = [row.offer for row in self._rows.values() if row.offer.is_open]
        for each in standing:
            if each.expires <= now:
                ending = Deferred.fromCoroutine(self._end(each.id, DeliveryState.EXPIRED))
                ending.addErrback(self._not_expired)
        if standing:
            waits = [
                each.expires - now if each.expires > now else EXPIRY_AGAIN for each in standing
            ]
            delay = min(EXPIRY_LOOK, max(1.0, min(waits)))
            self._expiry = self._parts.reactor.callLater(delay, self._look_at_expiry)

    def _not_expired(self, failure: Failure) -> None:
        """Go on with an offer whose end cannot be written. Nobody sees it any more, and it is tried again."""
        if not failure.check(P2pshareError):
            self._log.failure("offer not expired", failure)
        elif not self._has_stopped:
            self._log.error("offer not expired: why={why}", why=failure.value)

    def _publish(self, offer_id: str) -> None:
        row = self._rows.get(offer_id)
        if row is not None and not row.offer.is_cleared and not self._has_stopped:
            self._parts.events.publish("offer", **self._shown(row))

    def _shown(self, row: _Row) -> Fields:
        """Return an offer as verbs see it."""
        shown = shown_offer(row.offer, self._parts.now())
        for fields in shown["to"]:
            name = fields["name"]
            fields["online"] = self._parts.presence.is_online(name)
            if fields["state"] == DeliveryState.WAITING.value:
                fields["why"] = self._telling.trouble(name) or None
            if (progress := row.progress.get(name)) is not None:
                fields["bytes_done"] = progress.bytes_done
                fields["rate"] = progress.rate(self._parts.reactor.seconds())
        return shown


def _named(offer: OutgoingOffer, name: str) -> Recipient:
    return next(each for each in offer.recipients if each.name == name)
