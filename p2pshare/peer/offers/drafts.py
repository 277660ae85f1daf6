"""The drafts of a peer: files that a page collects before they are sent.

A client begins a draft, brings files one by one, and names the draft in the action `send`. Then the draft takes no more
files, and belongs to the offer. Drafts are known as long as the peer runs. What a restart leaves behind is removed
after a day, as everything in the spool that belongs to no offer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from p2pshare.errors import ControlRefused, P2pshareError, WrongUsage
from p2pshare.net.sockets import IPeerReactor
from p2pshare.net.threads import run_in_thread
from p2pshare.peer.control import Action, Fields
from p2pshare.storage.offers.drafts import Draft, DraftFile
from p2pshare.storage.offers.spool import ORPHAN_LIFE, Spool
from p2pshare.wire.offers.messages import ID_FORM
from p2pshare.wire.paths import RemotePath
from p2pshare.wire.strict_json import integer, text

DRAFTS_MAX = (
    32  # drafts that are being filled; for one more, the one that was used first is removed
)
FILES_AT_ONCE = 32  # files that are being written into drafts
ORPHANS_EVERY = 3600.0  # seconds between two looks for what belongs to no offer


@dataclass(slots=True)
class _Kept:
    draft: Draft
    used: float
    """Seconds of the clock."""


class Drafts:
    """The drafts of a peer that runs."""

    _log = Logger()

    def __init__(
        self,
        reactor: IPeerReactor,
        spool: Spool,
        on_look: Callable[[], Awaitable[object]],
        *,
        most: int = DRAFTS_MAX,
    ) -> None:
        """Keep up to `most` drafts in a spool; `on_look` is called from time to time to remove what was left there."""
        self._reactor = reactor
        self._spool = spool
        self._on_look = on_look
        self._most = most
        self._kept: dict[str, _Kept] = {}
        self._files = 0  # that are being written
        self._timer: IDelayedCall | None = None
        self._has_stopped = False

    @property
    def actions(self) -> Mapping[str, Action]:
        """What clients may ask for."""
        return {"draft_begin": self._begin, "draft_discard": self._discard}

    @property
    def ids(self) -> Collection[str]:
        """The IDs of the drafts that are being filled."""
        return self._kept.keys()

    def start(self) -> None:
        """Remove abandoned drafts from time to time."""
        if not self._has_stopped:
            self._timer = self._reactor.callLater(ORPHANS_EVERY, self._look)

    def stop(self) -> None:
        """Remove nothing more. May be called at any time."""
        self._has_stopped = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    async def _begin(self, request: Fields) -> Fields:
        """Begin a draft, if there is room for what it is to have."""
        given = {key: value for key, value in request.items() if value is not None}
        fields = {"files": 0, "bytes": 0, **given}
        files, size = integer(fields, "files"), integer(fields, "bytes")
        await self._make_room()
        draft = await run_in_thread(self._reactor, self._new, files, size, abandoned=self._unmake)
        self._kept[draft.id] = _Kept(draft, self._reactor.seconds())
        return {"draft": draft.id}

    async def _discard(self, request: Fields) -> Fields:
        """Remove a draft that is not wanted."""
        draft = self.find(text({**request}, "draft", ID_FORM[1]))
        if draft.is_closed:
            raise WrongUsage(reason="The draft is being sent. Withdraw the offer instead.")
        del self._kept[draft.id]
        await self._remove(draft.id)
        return {"draft": draft.id}

    def find(self, draft_id: str) -> Draft:
        """Return a draft, which is being used now.

        Raises:
            WrongUsage: there is none.
        """
        kept = self._kept.get(draft_id)
        if kept is None:
            raise WrongUsage(reason=f"There is no draft {draft_id!r}. Begin a new one.")
        kept.used = self._reactor.seconds()
        return kept.draft

    async def add_folder(self, draft_id: str, path: RemotePath) -> None:
        """Make a folder of a draft.

        Raises:
            P2pshareError: as for `Draft.add_folder`, or there is no such draft.
        """
        await run_in_thread(self._reactor, self.find(draft_id).add_folder, path)

    async def begin_file(self, draft_id: str, path: RemotePath, length: int) -> DraftFile:
        """Begin a file of a draft; the caller calls `end_file` in the end, and writes in threads meanwhile.

        Raises:
            P2pshareError: as for `Draft.begin`, or too many files are being written.
        """
        draft = self.find(draft_id)
        if self._files >= FILES_AT_ONCE:
            raise ControlRefused(reason="too many files are arriving at once")
        self._files += 1
        try:
            return await run_in_thread(
                self._reactor, draft.begin, path, length, abandoned=DraftFile.discard
            )
        except BaseException:
            self._files -= 1
            raise

    async def end_file(self, file: DraftFile) -> None:
        """Forget a file that was finished, or is discarded now."""
        self._files -= 1
        await run_in_thread(self._reactor, file.discard)

    async def close(self, draft_id: str) -> tuple[Path, ...]:
        """Take no more files into a draft, and return its paths at the top.

        Raises:
            P2pshareError: as for `Draft.close`, or there is no such draft.
        """
        draft = self.find(draft_id)
        closing = run_in_thread(self._reactor, draft.close, abandoned=lambda _: draft.reopen())
        return await closing

    def reopen(self, draft_id: str) -> None:
        """Take files again, since the draft was not sent."""
        if (kept := self._kept.get(draft_id)) is not None:
            kept.draft.reopen()

    def sent(self, draft_id: str) -> None:
        """Forget a draft, which belongs to an offer now."""
        self._kept.pop(draft_id, None)

    async def _make_room(self) -> None:
        idle = [each for each in self._kept.values() if not each.draft.is_busy]
        if len(self._kept) >= self._most:
            if not idle:
                raise ControlRefused(reason="too many drafts are being filled")
            oldest = min(idle, key=lambda each: each.used).draft
            del self._kept[oldest.id]
            await self._remove(oldest.id)

    def _look(self) -> None:
        """Forget drafts that nobody has used for a day, and remove them with all that belongs to no offer."""
        now = self._reactor.seconds()
        for each in [*self._kept.values()]:
            if not each.draft.is_busy and now - each.used >= ORPHAN_LIFE:
                del self._kept[each.draft.id]
        looking = Deferred.fromCoroutine(self._looked())
        looking.addErrback(lambda failure: self._log.failure("drafts not removed", failure))

    async def _looked(self) -> None:
        try:
            await self._on_look()
        finally:
            self.start()

    def _remove(self, draft_id: str) -> Deferred[Any]:
        return run_in_thread(self._reactor, self._spool.remove, draft_id)

    def _new(self, files: int, size: int) -> Draft:
        draft = Draft(self._spool.make_folder())
        try:
            draft.expect_room(files, size)
        except P2pshareError:
            self._unmake(draft)
            raise
        return draft

    def _unmake(self, draft: Draft) -> None:
        self._spool.remove(draft.id)
