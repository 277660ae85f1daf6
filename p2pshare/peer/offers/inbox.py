"""The inbox: keeps the offers of others, and lets the user decide about them.

Theory of operation

*Durable first.* `_rows` is what the ledger has. Each change goes through `_change`: one at a time, it is committed,
and only then told to the sender, shown to the user, or acted on. So a kill at any step leaves an offer in a state from
which it goes on: `load` reads the ledger, and `start` fetches what was accepted, and tells the states that their
senders have not noted.

*Who decides.* A new offer is refused or kept by the owner's policy and bounds (`core.offers.incoming`). It waits,
unless its sender is one whose offers the user accepts without asking (`--accept-from`), and the inbox folder has room
for it (`--inbox-quota`). An offer that waits for room is looked at again when something has ended, and each `LOOK`
seconds.

*IDs.* An offer has the ID that its sender gave it, since the two people may talk about it. If another offer here has
that ID already, this peer draws a new one. So nobody can make an offer that takes the place of another one.

*Once only.* An offer is known by the sender's key and ID, or by the sender's proven name and ID after a change of the
key. If it comes again, the answer is its state. What it says then is ignored: the user decided by what it said first.

*Nothing happens to what arrives.* Files are saved, never opened and never run. The inbox folder is never shared
(`storage.identity.data_folder.unshared_folders`); a folder that the user names for one offer may be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from p2pshare.core.offers.incoming import IncomingGate, Kept, OffersPolicy, Sender
from p2pshare.core.offers.states import expect_move, next_inbox
from p2pshare.errors import CannotRead, ControlRefused, JobNotSo, P2pshareError
from p2pshare.net.shared_answer import SharedAnswer
from p2pshare.net.threads import TurnLock, run_in_thread
from p2pshare.peer.control import ID_TEXT_MAX, Action, Fields, page
from p2pshare.peer.offers.clearing import clear_listed
from p2pshare.peer.offers.downloads import Arrived, Downloads
from p2pshare.peer.offers.parts import OfferParts, id_of, shown_incoming
from p2pshare.peer.offers.telling import Telling
from p2pshare.storage.identity.data_folder import inbox_folder
from p2pshare.storage.offers.history import Direction, HistoryEntry
from p2pshare.storage.offers.inbox_folder import expect_folder, folder_size
from p2pshare.storage.offers.incoming import IncomingOffer, IncomingOffers
from p2pshare.storage.os_errors import plain_reason
from p2pshare.storage.settings import Settings
from p2pshare.storage.shares.arguments import Viewer
from p2pshare.storage.text_files import read_text_file
from p2pshare.wire.offers.messages import (
    SNIPPET_MAX,
    InboxState,
    Offer,
    OfferFault,
    OfferNoted,
    OfferState,
    Withdraw,
    Withdrawal,
)
from p2pshare.wire.offers.receipts import OfferReceipt
from p2pshare.wire.paths import PATH_MAX
from p2pshare.wire.strict_json import text

KEPT_FOR = 30 * 86400  # seconds that an offer is listed after it is over
TELL_FOR = 7 * 86400  # seconds after its expiry in which the sender is told what became of an offer
LOOK = 60.0  # seconds until expiry and room are looked at again


class Inbox:
    """The offers to this peer; a `Receiving` for its correspondence."""

    _log = Logger()

    def __init__(self, parts: OfferParts, has_offered_to: Callable[[Viewer], bool]) -> None:
        """Take offers after `start`.

        Args:
            parts: of the peer.
            has_offered_to: whether the user has offered something to a person, who then is known.
        """
        self._has_offered_to = has_offered_to
        self._parts = parts
        self._store = IncomingOffers(parts.ledger)
        self.use(parts.settings)
        self._gate = IncomingGate(parts.reactor.seconds())
        self._rows: dict[str, IncomingOffer] = {}
        self._lock = TurnLock(parts.reactor)  # of changes
        # Of decisions about room, each of which counts what the one before took.
        self._unasked = TurnLock(parts.reactor)
        self._telling: Telling[InboxState] = Telling(parts, self._tell)
        self.downloads = Downloads(parts, self._arrived, self._failed, self._publish)
        """Fetches what was accepted."""
        self._looking: IDelayedCall | None = None
        self._is_looking = False
        self._has_stopped = False

    def use(self, settings: Settings) -> None:
        """Take offers by these settings from now on; those that are here already stay as they are."""
        self._policy = OffersPolicy(settings.offers)
        self._accepted_names = frozenset(settings.accept_from)
        allowed = (each.rpartition("=")[2].split(",") for each in settings.allow)
        self._allowed_names = self._accepted_names.union(*allowed)
        self.folder = inbox_folder(settings)
        """Where accepted offers are saved, each in a folder with the name of its sender."""

    @property
    def actions(self) -> Mapping[str, Action]:
        """What verbs may ask for."""
        return {
            "inbox": self.list,
            "accept_offer": self.accept,
            "decline_offer": self.decline,
            "pause_offer": partial(self._pause, is_paused=True),
            "go_on_offer": partial(self._pause, is_paused=False),
            "offer_text": self.text,
            "inbox_clear": self.clear,
        }

    async def load(self) -> None:
        """Read the ledger."""
        parts = self._parts
        kept = await run_in_thread(parts.reactor, self._read, parts.now())
        self._rows = {each.id: each for each in kept}

    def start(self) -> None:
        """Go on fetching what was accepted, tell what senders do not know, and remove what is left of other offers."""
        for row in list(self._rows.values()):
            self._apply(row)
            if row.state.is_final and row.state is not InboxState.DONE:
                self.downloads.discard(
                    row
                )  # again: the peer may have been killed before it was done
        self._look()

    async def stop(self) -> None:
        """Fetch and tell nothing more. What is being committed is committed."""
        self._has_stopped = True
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None
        self._telling.stop()
        await self.downloads.stop()
        await self._lock.run(lambda: None)

    async def offer_received(self, viewer: Viewer, offer: Offer) -> OfferState:
        """Keep an offer, or refuse it; see `Receiving` in `correspondence`."""
        if (known := self._row_of(viewer, offer.id)) is not None:
            return _state_of(known)
        sender = await self._sender(viewer)
        kept = [each for each in self._rows.values() if not each.state.is_final]
        counts = Kept(len(kept), sum(each.key == viewer.key for each in kept))
        now = self._parts.reactor.seconds()
        fault = self._gate.fault(self._policy, sender, offer, counts, now)
        if fault is not None:
            self._log.info(
                "offer refused: peer={peer} why={why}", peer=viewer.name, why=fault.value
            )
            return OfferState(offer.id, InboxState.REFUSED, fault)
        row = self._new_row(viewer, offer)
        if not viewer.is_proven or viewer.name not in self._accepted_names:
            return _state_of(await self._add(viewer, row))
        await self._unasked.acquire()
        try:
            return _state_of(await self._add(viewer, await self._accepted_unasked(row)))
        finally:
            self._unasked.release()

    async def withdrawn(self, viewer: Viewer, withdraw: Withdraw) -> OfferState:
        """Drop an offer that its sender has withdrawn; see `Receiving`."""
        row = self._row_of(viewer, withdraw.id)
        if row is None:
            return OfferState(withdraw.id, InboxState.WITHDRAWN)
        why = OfferFault.EXPIRED if withdraw.why is Withdrawal.EXPIRED else None
        after = await self._move(row.id, InboxState.WITHDRAWN, why=why)
        return OfferState(withdraw.id, InboxState.WITHDRAWN) if after is None else _state_of(after)

    async def noted(self, viewer: Viewer, noted: OfferNoted) -> None:
        """Note that the sender knows a state; see `Receiving`."""
        row = self._row_of(viewer, noted.id)
        if row is not None and row.state is noted.state and not row.is_told:
            await self._change(row.id, lambda now: replace(now, told=noted.state))

    async def list(self, request: Fields) -> Fields:
        """Perform the action `inbox`."""
        return page(request, "items", self._listed().items(), self._shown)

    def _listed(self) -> dict[str, IncomingOffer]:
        return {each: row for each, row in self._rows.items() if not row.is_cleared}

    async def accept(self, request: Fields) -> Fields:
        """Perform the action `accept_offer`: fetch an offer. One that is being fetched may get another folder."""
        chosen = request.get("folder")
        if chosen is not None:
            chosen = text({**request}, "folder", PATH_MAX)
        row = self._wanted_row(request)
        folder = self._folder_of(row)
        if chosen is not None:
            folder = Path(chosen)
            private = self._parts.private
            await run_in_thread(self._parts.reactor, expect_folder, folder, "an offer", private)
            row = self._wanted_row(request)  # as it is by now
        elif row.folder is not None:
            folder = row.folder
        expect_move(row.id, row.state, InboxState.ACCEPTED)
        here = {} if folder == row.folder else {"files_here": 0, "bytes_here": 0}
        await self._move(row.id, InboxState.ACCEPTED, folder=folder, why=None, **here)
        return self._shown(self._wanted_row({"id": row.id}))

    async def decline(self, request: Fields) -> Fields:
        """Perform the action `decline_offer`: end an offer, also one that is being fetched."""
        row = self._wanted_row(request)
        expect_move(row.id, row.state, InboxState.DECLINED)
        await self._move(row.id, InboxState.DECLINED, why=None)
        return self._shown(self._wanted_row({"id": row.id}))

    async def clear(self, request: Fields) -> Fields:
        """Perform the action `inbox_clear`: remove what is over from the list; the files stay."""
        states = {
            each: "" if row.state.is_final else row.state.value
            for each, row in self._listed().items()
        }
        return await clear_listed(self._parts, request, states, self._clear, "inbox")

    async def _clear(self, ids: Sequence[str]) -> Sequence[Fields]:
        async with self._lock:
            found = [row for each in ids if (row := self._rows.get(each)) and row.state.is_final]
            await run_in_thread(self._parts.reactor, self._store.clear, found)
            for row in found:
                if row.is_told:
                    self._drop(row.id)
                else:
                    self._rows[row.id] = replace(row, is_cleared=True)
        return [self._shown(row) for row in found]

    async def _pause(self, request: Fields, *, is_paused: bool) -> Fields:
        """Perform `pause_offer` or `go_on_offer`: what has arrived stays, and is not fetched again."""
        local_id = self._wanted_row(request).id

        def changed(now: IncomingOffer) -> IncomingOffer:
            if now.state is not InboxState.ACCEPTED:
                action = "paused" if is_paused else "resumed"
                raise JobNotSo(id=local_id, state=now.state.value, action=action)
            if now.is_paused is is_paused:
                return now
            files, size, _ = self._progress(now)
            return replace(now, is_paused=is_paused, files_here=files, bytes_here=size)

        await self._change(local_id, changed)
        return self._shown(self._wanted_row({"id": local_id}))  # it may be removed by now

    async def text(self, request: Fields) -> Fields:
        """Perform the action `offer_text`: return a text that has arrived, as it is on the disk now."""
        row = self._wanted_row(request)
        if not row.is_text or row.state is not InboxState.DONE or not row.saved:
            raise ControlRefused(reason="the offer is no text that has arrived")
        content = await run_in_thread(self._parts.reactor, _read_text, Path(row.saved[0]))
        return {"id": row.id, "text": content}

    def saved_path(self, local_id: str, index: str) -> Path | None:
        """Return what an offer that is done has at that place of `saved`, if it is in the folder of the offer."""
        row = self._listed().get(local_id)
        if row is None or row.state is not InboxState.DONE:
            return None
        saved = (Path(each) for place, each in enumerate(row.saved) if str(place) == index)
        return next((each for each in saved if each.parent == row.folder), None)

    def _wanted_row(self, request: Fields) -> IncomingOffer:
        return self._rows[id_of(text({**request}, "id", ID_TEXT_MAX), self._listed())]

    def _row_of(self, viewer: Viewer, offer_id: str) -> IncomingOffer | None:
        """Return the offer of a sender, who may have another key by now."""
        for row in self._rows.values():
            if row.offer_id == offer_id:
                is_same_name = viewer.is_proven and viewer.name == row.sender
                if row.key == viewer.key or is_same_name:
                    return row
        return None

    async def _sender(self, viewer: Viewer) -> Sender:
        """Return what is known of a sender."""
        is_named = viewer.is_proven and viewer.name in self._allowed_names
        is_known = self._has_offered_to(viewer)
        if self._parts.is_lan and viewer.is_proven:  # the owner has accepted the key
            is_known = True
        elif not (is_known or is_named):
            history = self._parts.history
            is_known = await run_in_thread(self._parts.reactor, history.has_dealt_with, viewer)
        return Sender(viewer.name, viewer.key, is_known, is_named)

    def _new_row(self, viewer: Viewer, offer: Offer) -> IncomingOffer:
        now = self._parts.now()
        return IncomingOffer(
            offer.id,
            viewer.name,
            viewer.key,
            offer.id,
            now,
            now + offer.expires_in,
            offer.note,
            offer.is_text,
            offer.items,
            offer.more_items,
            offer.files,
            offer.folders,
            offer.bytes,
            updated=now,
        )

    async def _add(self, viewer: Viewer, row: IncomingOffer) -> IncomingOffer:
        """Keep a new offer durably, unless it has come over another session meanwhile."""
        await self._lock.acquire()
        try:
            if (known := self._row_of(viewer, row.offer_id)) is not None:
                return known
            while row.id in self._rows:  # of another sender, who may have chosen it for that
                row = replace(row, id=self._parts.draw_id())
            for local_id in await run_in_thread(self._parts.reactor, self._store.add, row):
                self._drop(local_id)
            self._rows[row.id] = row
        finally:
            self._lock.release()
        self._log.info(
            "offer {state}: id={id} peer={peer} files={files} bytes={bytes}",
            state=row.state.value,
            id=row.id,
            peer=row.sender,
            files=row.files,
            bytes=row.bytes,
        )
        self._apply(row)
        self._publish(row.id)
        return row

    def _drop(self, local_id: str) -> None:
        row = self._rows.pop(local_id, None)
        if row is not None:
            self._telling.forget(row.sender, local_id)

    def _folder_of(self, row: IncomingOffer) -> Path:
        """Return where an offer is saved unless the user says otherwise. Names of senders are names of folders."""
        return self.folder / row.sender

    async def _accepted_unasked(self, row: IncomingOffer) -> IncomingOffer:
        """Return an offer that is accepted without asking, or that waits for room."""
        quota = self._parts.settings.inbox_quota
        if quota is not None:
            used = await run_in_thread(self._parts.reactor, folder_size, self.folder)
            coming = sum(
                max(0, each.bytes - self._progress(each)[1])
                for each in self._rows.values()
                if each.state is InboxState.ACCEPTED and each.id != row.id
            )
            if used is None or used + coming + row.bytes > quota:
                return replace(row, why=OfferFault.FULL)
        folder, state = self._folder_of(row), InboxState.ACCEPTED
        return replace(row, state=state, folder=folder, is_auto=True, why=None)

    async def _move(self, local_id: str, wanted: InboxState, **others: Any) -> IncomingOffer | None:
        """Bring an offer into a state, if that may follow its present one; return what it is then."""

        def changed(now: IncomingOffer) -> IncomingOffer:
            if now.state is not wanted and next_inbox(now.state, wanted) is not wanted:
                return now
            updated = now.updated if now.state is wanted else self._parts.now()
            return replace(now, state=wanted, updated=updated, is_paused=False, **others)

        return await self._change(local_id, changed)

    async def _change(
        self, local_id: str, changed: Callable[[IncomingOffer], IncomingOffer]
    ) -> IncomingOffer | None:
        """Change an offer, durably, and do what follows from it; return what it is then.

        The change is made even if the caller is cancelled: memory never lags behind the ledger.
        """
        changing = Deferred.fromCoroutine(self._changed(local_id, changed))
        return await SharedAnswer(changing).wait()

    async def _changed(
        self, local_id: str, changed: Callable[[IncomingOffer], IncomingOffer]
    ) -> IncomingOffer | None:
        await self._lock.acquire()
        try:
            before = self._rows.get(local_id)
            if before is None:
                return None
            after = changed(before)
            if after == before:
                return after
            is_over = after.state.is_final and not before.state.is_final
            is_history = (
                is_over and before.folder is not None
            ) or after.state is InboxState.DECLINED
            entry = self._entry(after) if is_over and is_history else None
            await run_in_thread(self._parts.reactor, self._write, after, entry)
            self._rows[local_id] = after
        finally:
            self._lock.release()
        if after.state is not before.state:
            self._log.info(
                "offer {state}: id={id} peer={peer}",
                state=after.state.value,
                id=local_id,
                peer=after.sender,
            )
        if is_over and after.state is not InboxState.DONE and not self._has_stopped:
            self.downloads.discard(after)
        self._apply(after)
        self._publish(local_id)
        if is_over:
            self._look_soon()
        return after

    def _write(self, offer: IncomingOffer, entry: HistoryEntry | None) -> None:
        """Write a change and its line in the history; blocks."""
        with self._parts.ledger.changing():
            self._store.update(offer)
            if entry is not None:
                self._parts.history.add(entry)

    def _entry(self, offer: IncomingOffer) -> HistoryEntry:
        return HistoryEntry(
            self._parts.now(),
            Direction.RECEIVED,
            offer.sender,
            offer.key,
            offer.items[0].name,
            offer.files,
            offer.bytes,
            offer.state.value,
            offer.root,
            offer.receipt,
            offer.id,
        )

    def _read(self, now: int) -> tuple[IncomingOffer, ...]:
        """Read all offers, and remove what is not needed any more; blocks."""
        kept = []
        for offer in self._store.all():
            is_old = offer.is_cleared or offer.updated < now - KEPT_FOR
            is_old = is_old and offer.state.is_final
            if is_old and (offer.is_told or now >= offer.expires + TELL_FOR):
                self._store.remove(offer.id)
            else:
                kept.append(offer)
        return tuple(kept)

    def _apply(self, row: IncomingOffer) -> None:
        """Fetch an offer or not, and tell its sender or not, as its state wants it."""
        if self._has_stopped:
            return
        if row.is_wanted:
            self.downloads.start(row)
        else:
            self.downloads.cancel(row.id)
        is_wanted = self._parts.now() < row.expires + TELL_FOR
        # That an offer waits is the answer to it; if that is lost, the offer comes again.
        if row.is_told or row.state is InboxState.WAITING or not is_wanted:
            self._telling.forget(row.sender, row.id)
        else:
            self._telling.want(row.sender, row.id, row.state)

    async def _tell(self, _name: str, local_id: str, state: InboxState) -> None:
        """Tell a sender a state. The answer arrives in `noted` or `withdrawn`."""
        row = self._rows.get(local_id)
        if row is not None and row.state is state and not row.is_told:
            await self._parts.correspondence.exchange(row.sender, row.key, _state_of(row))

    def _arrived(self, local_id: str, arrived: Arrived) -> None:
        """Sign a receipt for an offer that is complete."""
        row, parts = self._rows[local_id], self._parts
        key = parts.key()
        receipt = OfferReceipt(
            row.offer_id, arrived.key, key.public, row.files, row.bytes, arrived.root, parts.now()
        )
        self._in_background(
            self._move(
                local_id,
                InboxState.DONE,
                why=None,
                key=arrived.key,
                saved=arrived.saved,
                root=arrived.root.hex(),
                receipt=receipt.sign(key),
            ),
            lambda: self._apply_again(local_id),
        )

    def _failed(self, local_id: str, fault: OfferFault) -> None:
        self._in_background(
            self._move(local_id, InboxState.FAILED, why=fault),
            lambda: self._apply_again(local_id),
        )

    def _apply_again(self, local_id: str) -> None:
        """Go on with an offer as it is now, whatever the user has decided meanwhile."""
        if (row := self._rows.get(local_id)) is not None:
            self._apply(row)

    def _in_background(self, work: Any, again: Callable[[], object] = lambda: None) -> None:
        """Do something that nobody waits for; if the ledger cannot be written, do `again` later."""

        def failed(failure: Any) -> None:
            if not failure.check(P2pshareError):
                self._log.failure("inbox not changed", failure)
                return
            if not self._has_stopped:
                self._log.error("inbox not changed: {why}", why=failure.value)
                self._parts.reactor.callLater(LOOK, lambda: self._has_stopped or again())

        Deferred.fromCoroutine(work).addErrback(failed)

    def _look_soon(self) -> None:
        """Look at what waits for room, now that something has ended."""
        if self._looking is not None and self._looking.active():
            self._looking.reset(0)

    def _look(self) -> None:
        """Let offers expire, and accept those for which there is room by now."""
        self._looking = None
        if self._has_stopped:
            return
        if (
            not self._is_looking
        ):  # a look at a large folder may take longer than the pause between two
            self._is_looking = True
            self._in_background(self._look_at_all())
        self._looking = self._parts.reactor.callLater(LOOK, self._look)

    async def _look_at_all(self) -> None:
        now, may_have_room = self._parts.wall(), True
        try:
            for row in list(self._rows.values()):
                is_full = row.state is InboxState.WAITING and row.why is OfferFault.FULL
                if row.state.is_final:
                    continue
                if row.expires <= now and not self.downloads.is_running(row.id):
                    await self._move(row.id, InboxState.FAILED, why=OfferFault.EXPIRED)
                elif is_full and may_have_room:
                    may_have_room = await self._accept_if_room(row)  # the oldest first
        finally:
            self._is_looking = False

    async def _accept_if_room(self, row: IncomingOffer) -> bool:
        """Accept an offer that waits for room, if there is any; whether there was."""
        await self._unasked.acquire()
        try:
            accepted = await self._accepted_unasked(row)
            if accepted.state is InboxState.ACCEPTED:
                others = {"folder": accepted.folder, "is_auto": True, "why": None}
                await self._move(row.id, InboxState.ACCEPTED, **others)
            return accepted.state is InboxState.ACCEPTED
        finally:
            self._unasked.release()

    def _publish(self, local_id: str) -> None:
        row = self._rows.get(local_id)
        if row is not None and not row.is_cleared and not self._has_stopped:
            self._parts.events.publish("inbox", **self._shown(row))

    def _progress(self, row: IncomingOffer) -> tuple[int, int, int]:
        """Return the files and bytes of an offer that are here, and the rate in bytes per second."""
        if row.state is InboxState.DONE:
            return row.files, row.bytes, 0
        if row.is_paused:
            return row.files_here, row.bytes_here, 0
        return self.downloads.files(row.id), *self.downloads.progress(row.id)

    def _shown(self, row: IncomingOffer) -> Fields:
        """Return an offer as verbs see it."""
        return shown_incoming(row, self._progress(row), self.downloads.trouble(row.id))


def _read_text(path: Path) -> str:
    """Return the text in a file.

    Raises:
        CannotRead: it is gone, or cannot be read.
    """
    try:
        return read_text_file(path, SNIPPET_MAX).decode(errors="replace")
    except OSError as error:
        raise CannotRead(path=path, reason=plain_reason(error)) from error


def _state_of(row: IncomingOffer) -> OfferState:
    """Return the message that tells the state of an offer. That it waits for room is nobody else's business."""
    why = row.why if row.state is InboxState.FAILED else None
    return OfferState(row.offer_id, row.state, why, row.receipt)
