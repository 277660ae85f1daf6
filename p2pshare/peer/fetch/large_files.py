"""One file of more than a block: it comes block by block, and goes on where it was left off."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pshare.core.receiver import ArrivedBlock
from p2pshare.errors import BlockCorrupt, InUse, P2pshareError, SharerLied, TooManyOpenFiles
from p2pshare.peer.fetch.context import (
    IN_USE_DELAY,
    IN_USE_PATIENCE,
    IN_USE_REMARK,
    SHORT_DELAY,
    SHORT_PATIENCE,
    TRIES_MAX,
    Folder,
    JobContext,
    announced_by,
    found_file,
    sought,
)
from p2pshare.peer.fetch.plan import WantedFile
from p2pshare.peer.fetch.remote_faults import error_of
from p2pshare.peer.fetch.tally import SavedFile
from p2pshare.storage.incoming.announcement import Announced, Origin
from p2pshare.storage.incoming.partial_file import Incoming
from p2pshare.storage.incoming.present_files import Present, Sought, Stopped
from p2pshare.wire.blocks import BLOCK_SIZE, block_count
from p2pshare.wire.paths import format_path
from p2pshare.wire.transfer_messages import Cancelled, Fault, Offer

CHECKPOINT_BYTES = (
    32 * 1024 * 1024
)  # written and not yet journalled, upon which there is a checkpoint
CHECKPOINT_TIME = 0.5  # seconds from one checkpoint to the next, while blocks come
READING_TICKS = 3  # without its end, once all blocks are here, upon which that is said
CHANGES_MAX = 4  # versions of a file with which what is here is compared
CHANGED_DELAY = 1.0  # seconds before the next one: a file that was written just now has another one at each look
BUSY_DELAY = 1.0  # seconds before a sharer that has no time is asked again


class _AlreadyThere(Exception):  # noqa: N818 - it is no error
    """It need not be fetched."""

    def __init__(self, present: Present) -> None:
        super().__init__()
        self.present = present


class _Doubt(Exception):  # noqa: N818 - it is no error
    """There are files that may be it."""


class LargeFetch:
    """One such file; a `Receiver`. `run` it once."""

    _log = Logger()

    def __init__(self, context: JobContext, folder: Folder, wanted: WantedFile) -> None:
        self.wanted = wanted
        self._context = context
        self._folder = folder
        self._origin = Origin(context.remote.key, wanted.path, context.remote.name)
        self._incoming: Incoming | None = None
        self._offer: Offer | None = None
        self._preparing = False
        self._number: int | None = None  # of the transfer, until it is done or cancelled
        self._has_slot = True
        self._outcome: Deferred[bytes | Fault | None] | None = None
        self._pending: deque[ArrivedBlock] = deque()
        self._writing = 0
        self._error: BaseException | None = None
        self._drained: Deferred[None] | None = None
        self._syncing = False
        self._checkpoint_at = 0.0  # when the last one began
        self._finishing = False  # from then on nobody else touches it
        self._comparing = False  # what is there with what the sharer has
        self._had = 0  # bytes that were there
        self._held = 0  # bytes of blocks that arrived and are not written
        self._written = 0  # bytes that came since
        self._known_size = wanted.size
        self._ticks_whole = 0
        self._stopping = False
        self._waiting: Deferred[None] | None = None
        self._short_since: float | None = None  # when there were too many open files to go on
        self.is_held_elsewhere = False
        """Whether it waits for another process that fetches it."""

    @property
    def bytes_here(self) -> int:
        """Bytes of it that have come, now or earlier."""
        return self._had + self._written + self.bytes_coming

    @property
    def bytes_coming(self) -> int:
        """Bytes of it that have come now, and are not on the disk yet."""
        arriving = 0 if self._number is None else self._context.remote.arriving(self._number)
        return self._held + arriving

    async def run(self) -> None:
        """Fetch it; whatever happens is told to the job."""
        context, wanted = self._context, self.wanted
        try:
            started = context.reactor.seconds()
            while True:
                try:
                    await self._fetch(started)
                    break
                except InUse as error:
                    self._note("held by another process")
                    await self._wait_for_other(error)
                except TooManyOpenFiles as error:
                    await self._wait_for_files(error)
        except Stopped:
            self._note("stopped")
        except _AlreadyThere as there:
            self._note("here already")
            context.tally.already_there(self.wanted.size or 0)
            context.on_saved(found_file(self.wanted, there.present))
            incoming, self._incoming = self._incoming, None
            if incoming is not None:
                await context.threads.run(incoming.discard)
        except BlockCorrupt as error:
            self._note("corrupt", error)
            lied = SharerLied(name=context.remote.name, path=format_path(wanted.path))
            context.fail(wanted.path, self._known_size, lied)
        except P2pshareError as error:
            self._note("failed", error)
            context.fail(wanted.path, self._known_size, error)
        finally:
            self._cancel(Cancelled.BY_USER)
            self._free_slot()
            incoming, self._incoming = self._incoming, None
            if incoming is not None:
                await context.threads.run(incoming.suspend)

    def stop(self) -> None:
        """End soon, and keep what has come."""
        self._stopping = True
        self._cancel(Cancelled.BY_USER)
        self._over(None)
        if self._waiting is not None:
            self._waiting.cancel()

    def tick(self) -> None:
        """Some time has passed: make durable what was written, unless somebody has removed the part, and say it if the
        sharer takes long to end it.
        """
        self._checkpoint(even_if_durable=True)
        if self._comparing and self._number is not None:
            self._ticks_whole += 1
            if self._ticks_whole == READING_TICKS:
                name = self._context.remote.name
                self._remark(f"is here by name; {name} still reads its file, to compare.")
            return
        offer = self._offer
        if self._number is None or offer is None or not self._had or self.bytes_here < offer.size:
            return
        self._ticks_whole += 1
        if self._ticks_whole == READING_TICKS:
            name = self._context.remote.name
            self._remark(f"is all here; {name} still reads what was fetched earlier, to compare.")

    def offered(self, offer: Offer) -> None:
        """It is about to come."""
        self._offer = offer
        if self._known_size != offer.size:
            self._context.tally.known_better(self._known_size, offer.size)
            self._known_size = offer.size
        if self._comparing:
            if (offer.size, offer.version) != (self.wanted.size, self.wanted.version):
                self._cancel(Cancelled.BY_USER)
                self._over(Fault.CHANGED)
            return
        self._preparing = True
        Deferred.fromCoroutine(self._prepare(offer)).addErrback(self._failed)

    def outgrown(self, offer: Offer) -> None:
        """Any size is welcome."""

    def block_arrived(self, block: ArrivedBlock) -> None:
        """A block is to be written."""
        if self._error is not None or self._stopping or self._comparing:
            block.release()
            return
        self._held += len(block.data)
        self._pending.append(block)
        if not self._preparing:
            self._write()

    def ended(self, root: bytes) -> None:
        """All of it has come."""
        if not self._comparing:
            self._free_slot()
        self._over(root)

    def failed(self, why: Fault) -> None:
        """It does not come."""
        self._number = None
        self._over(why)

    def interrupted(self) -> None:
        """The session is lost."""
        self._number = None
        self._over(None)

    async def _fetch(self, started: float) -> None:
        context, tries = self._context, self.wanted.tries
        if self.wanted.candidates:
            tries = await self._compare(tries)
        self._incoming = await context.threads.run(self._resume)
        self._check_stopped()
        self._had = self._bytes_had()
        self._note("resumed" if self._had else "begun")
        while True:
            try:
                outcome = await self._transfer()
            except _Doubt:
                self._error = None
                tries = await self._compare(tries)
                continue
            if isinstance(outcome, bytes):
                break
            self._note("interrupted" if outcome is None else f"not sent ({outcome.value})")
            if outcome is None:
                continue
            tries += 1
            await self._give_up_or_wait(outcome, tries, outcome is Fault.BUSY)
        path, wanted = await self._finish(outcome), self.wanted
        assert self._offer is not None
        size, fetched = self._offer.size, self._written
        self._note("verified and saved")
        self._had = self._written = 0
        context.tally.saved(size)
        seconds = context.reactor.seconds() - started
        is_renamed = wanted.is_renamed or path.name != wanted.place.name
        context.on_saved(
            SavedFile(
                wanted.path, path, size, fetched, seconds, root=outcome, is_renamed=is_renamed
            )
        )

    def _note(self, event: str, error: P2pshareError | None = None) -> None:
        self._log.debug(
            "file {event}: path={path!r} size={size} had={had} fetched={fetched}{why}",
            event=event,
            path=format_path(self.wanted.path),
            size=self._known_size,
            had=self._had,
            fetched=self._written,
            why="" if error is None else f" why={str(error)!r}",
        )

    async def _wait_for_other(self, error: InUse) -> None:
        """Wait until another process no longer has the file, while it gets on with it.

        Raises:
            _AlreadyThere: the other one has fetched it.
            InUse: nothing comes there any more.
        """
        context, folder = self._context, self._folder
        self._error = None
        self._free_slot()
        self.is_held_elsewhere = True
        place, seconds = self.wanted.place, context.reactor.seconds
        began = moved = seconds()
        last, is_told = 0, False
        while (
            since := await context.threads.run(folder.held_since, place, self._origin)
        ) is not None:
            if since != last:
                last, moved = since, seconds()
            elif seconds() - moved >= IN_USE_PATIENCE:
                raise error
            if not is_told and seconds() - began >= IN_USE_REMARK:
                is_told = True
                self._remark("is being fetched by another process: waiting for that one.")
            await self._wait(deferLater(context.reactor, IN_USE_DELAY))
        while not context.remote.in_flight.admit_large():
            await self._wait(deferLater(context.reactor, IN_USE_DELAY))
        self._has_slot = True
        self.is_held_elsewhere = False
        if self.wanted.is_claimed:
            folder.give_back(place)
            self.wanted = replace(self.wanted, is_claimed=False)
        if self.wanted.size is not None:
            await self._look_up(self.wanted.size, self.wanted.version)

    async def _wait_for_files(self, error: TooManyOpenFiles) -> None:
        """Close what is open of it, and wait for others to do the same.

        Raises:
            TooManyOpenFiles: they have not for too long.
        """
        context, now = self._context, self._context.reactor.seconds()
        self._error = None
        self._finishing = False
        if self._short_since is None:
            self._short_since = now
        elif now - self._short_since >= SHORT_PATIENCE:
            raise error
        incoming, self._incoming = self._incoming, None
        if incoming is not None:
            await context.threads.run(incoming.suspend)
        self._had = self._written = 0
        await self._wait(deferLater(context.reactor, SHORT_DELAY))

    async def _give_up_or_wait(self, why: Fault, tries: int, waits: bool) -> None:
        """Wait before it is asked for again, if it is.

        Raises:
            P2pshareError: it has failed for good.
        """
        context = self._context
        if why not in (Fault.CHANGED, Fault.BUSY) or tries >= TRIES_MAX:
            raise error_of(why, context.remote.name, self.wanted.path)
        if waits:
            await self._wait(deferLater(context.reactor, BUSY_DELAY * tries))

    async def _compare(self, tries: int) -> int:
        """Compare files that are there with what the sharer has: only its root comes; returns the tries so far.

        Raises:
            _AlreadyThere: one of them is it.
            P2pshareError: the sharer cannot tell.
        """
        context, threads = self._context, self._context.threads
        changes = 0
        while self.wanted.candidates:
            outcome: bytes | Fault | None = self.wanted.content_root or None
            if outcome is None:
                outcome = await self._transfer(comparing=True)
            wanted, number = self.wanted, self._number
            if outcome is None:
                continue
            candidates, root = wanted.candidates, outcome
            if outcome is Fault.CHANGED and self._offer is not None:
                changes += 1
                if changes < CHANGES_MAX:
                    await self._wait(deferLater(context.reactor, CHANGED_DELAY))
                    await self._look_up(self._offer.size, self._offer.version)
                    continue
                candidates, root = (), b""  # it is fetched as it is by then
            if isinstance(root, Fault):
                tries += 1
                await self._give_up_or_wait(root, tries, True)
                continue
            sought = self._sought(wanted.size or 0, wanted.version)
            found = await threads.run(
                self._folder.settle, sought, candidates, root, lambda: self._stopping
            )
            self._number = None
            if isinstance(found, Present):
                if number is not None:
                    context.remote.done([number])
                raise _AlreadyThere(found)
            if number is not None:
                context.remote.cancel(number, Cancelled.BY_USER)
            self.wanted = context.placed(wanted, found)
        return tries

    async def _look_up(self, size: int, version: str) -> None:
        """Look whether the file is there in a version, of so many bytes.

        Raises:
            _AlreadyThere: it is.
        """
        self.wanted = replace(self.wanted, size=size, version=version)
        sought = self._sought(size, version)
        found = await self._context.threads.run(self._folder.look_up, sought)
        if isinstance(found, Present):
            raise _AlreadyThere(found)
        self.wanted = self._context.placed(self.wanted, found)

    def _sought(self, size: int, version: str) -> Sought:
        return sought(self._context.remote.key, self.wanted, size, version)

    async def _finish(self, root: bytes) -> Path:
        """Give it its name, and tell the sharer."""
        context, incoming, number = self._context, self._incoming, self._number
        assert incoming is not None and number is not None
        self._number = None
        self._finishing = True
        try:
            path = await context.threads.run(incoming.finish, root)
        except P2pshareError as error:
            context.remote.cancel(number, _why(error))
            raise
        self._incoming = None
        context.remote.done([number])
        return path

    async def _transfer(self, *, comparing: bool = False) -> bytes | Fault | None:
        """Ask for it once, or for its root alone; None if the session was lost."""
        remote = self._context.remote
        while not remote.is_up:
            await self._session()
        incoming, wanted = self._incoming, self.wanted
        version = "" if incoming is None else incoming.announced.version
        have = () if incoming is None else incoming.have
        if comparing:
            version, have = wanted.version, ((0, block_count(wanted.size or 0)),)
        self._comparing = comparing
        self._outcome = Deferred()
        self._number = remote.get(self, self.wanted.path, version, have)
        try:
            outcome = await self._outcome
        finally:
            self._outcome = None
            await self._drain()
        self._check_stopped()
        return outcome

    async def _session(self) -> None:
        try:
            await self._wait(Deferred.fromCoroutine(self._context.remote.ready()))
        except P2pshareError as error:
            self._context.stop(error)
            raise Stopped from error

    async def _prepare(self, offer: Offer) -> None:
        """Go on with what is there, or begin anew; what arrives meanwhile waits."""
        incoming, announced = self._incoming, announced_by(offer)
        if incoming is not None and announced == replace(
            incoming.announced, executable=offer.executable
        ):
            incoming.announced = announced
            await self._context.threads.run(incoming.reserve)
        else:
            await self._begin(offer, announced)
        self._preparing = False
        self._write()
        self._check_drained()

    async def _begin(self, offer: Offer, announced: Announced) -> None:
        old, self._incoming = self._incoming, None
        if old is not None:
            self._remark("has changed since a part of it was fetched, so it begins anew.")
            self._had = self._written = 0
            await self._context.threads.run(old.discard)
        if not self.wanted.is_claimed:
            await self._look_up(offer.size, offer.version)
            if self.wanted.candidates:
                raise _Doubt
        wanted, threads = self.wanted, self._context.threads
        self._incoming = await threads.run(
            lambda: self._folder.begin(
                wanted.place, self._origin, announced, overwrite=wanted.overwrite
            )
        )

    def _remark(self, said: str) -> None:
        path = self.wanted.path
        self._context.on_remark(path, f"{format_path(path)!r} {said}")

    def _resume(self) -> Incoming | None:
        return self._folder.resume(
            self.wanted.place,
            self._origin,
            overwrite=self.wanted.overwrite,
            on_progress=self._checked,
            stop=lambda: self._stopping,
        )

    def _checked(self, done: int, total: int) -> None:
        """Blocks that are there were hashed again; runs in a thread."""
        self._had = done * BLOCK_SIZE

    def _bytes_had(self) -> int:
        return 0 if self._incoming is None else self._incoming.bytes_there

    def _write(self) -> None:
        incoming = self._incoming
        assert incoming is not None
        while self._pending:
            block = self._pending.popleft()
            self._writing += 1
            self._context.writer.write(incoming, block, self._block_written)

    def _block_written(self, size: int, failure: Failure | None) -> None:
        self._writing -= 1
        self._held -= size
        if failure is not None:
            self._failed(failure)
        else:
            self._written += size
            self._context.tally.bytes_fetched += size
            incoming, now = self._incoming, self._context.reactor.seconds()
            assert incoming is not None
            if (
                now - self._checkpoint_at >= CHECKPOINT_TIME
                or incoming.unsynced >= CHECKPOINT_BYTES
            ):
                self._checkpoint()
        self._check_drained()

    def _checkpoint(self, *, even_if_durable: bool = False) -> None:
        """Make durable what was written, and journal it: a kill costs what is written after that."""
        incoming = self._incoming
        is_taken = self._syncing or self._preparing or self._finishing
        if incoming is None or is_taken or not (incoming.unsynced or even_if_durable):
            return
        self._syncing = True
        self._checkpoint_at = self._context.reactor.seconds()
        syncing = self._context.threads.run(incoming.sync)
        syncing.addCallbacks(self._synced, self._not_synced).addErrback(self._context.stop)

    def _synced(self, _: None) -> None:
        self._syncing = False
        self._short_since = None
        self._check_drained()

    def _not_synced(self, failure: Failure) -> None:
        self._syncing = False
        self._failed(failure)
        self._check_drained()

    def _failed(self, failure: Failure) -> None:
        """It cannot go on."""
        self._preparing = False
        if self._error is None:
            self._error = failure.value
            self._cancel(_why(failure.value))
        while self._pending:
            block = self._pending.popleft()
            self._held -= len(block.data)
            block.release()
        self._over(None)
        self._check_drained()

    def _over(self, outcome: bytes | Fault | None) -> None:
        if self._outcome is not None and not self._outcome.called:
            self._outcome.callback(outcome)

    def _cancel(self, why: Cancelled) -> None:
        number, self._number = self._number, None
        if number is not None:
            self._context.remote.cancel(number, why)

    def _free_slot(self) -> None:
        if self._has_slot:
            self._has_slot = False
            self._context.remote.in_flight.large_left()
            self._context.remote.room_freed()

    async def _drain(self) -> None:
        """Return once nothing of it waits, or is in a thread."""
        if self._is_busy:
            self._drained = Deferred()
            await self._drained
        if self._error is not None:
            raise self._error

    @property
    def _is_busy(self) -> bool:
        return self._preparing or self._syncing or bool(self._pending or self._writing)

    def _check_drained(self) -> None:
        if self._drained is not None and not self._is_busy:
            drained, self._drained = self._drained, None
            drained.callback(None)

    async def _wait(self, waiting: Deferred[None]) -> None:
        self._check_stopped()
        self._waiting = waiting
        try:
            await waiting
        except P2pshareError:
            raise
        except BaseException:
            self._check_stopped()
            raise
        finally:
            self._waiting = None
        self._check_stopped()

    def _check_stopped(self) -> None:
        if self._stopping:
            raise Stopped


def _why(error: BaseException | None) -> Cancelled:
    """Why a transfer is not wanted any more, once `error` happened."""
    if isinstance(error, _AlreadyThere | _Doubt | InUse | TooManyOpenFiles):
        return Cancelled.BY_USER
    return Cancelled.CORRUPT if isinstance(error, BlockCorrupt) else Cancelled.DISK
