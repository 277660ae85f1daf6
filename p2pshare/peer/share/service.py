"""Shares files over sessions: accepts and admits openers, serves them, and reports what is shared and fetched."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pshare.core.rate import RateLimit
from p2pshare.core.session_interface import Session, SessionUser
from p2pshare.net.session.tcp_congestion import congestion_control
from p2pshare.net.shared_answer import SharedAnswer
from p2pshare.net.sockets import IPeerReactor
from p2pshare.net.threads import FairLimit, run_in_thread
from p2pshare.peer.share.acceptor import DEFAULT_LIMITS, SessionAcceptor
from p2pshare.peer.share.admission import Admitting, NotAdmitted
from p2pshare.peer.share.live_shares import LiveShares
from p2pshare.peer.share.open_sessions import OpenSessions
from p2pshare.peer.share.previews import Previews
from p2pshare.peer.share.session import LISTS_AT_ONCE, LISTS_OF_ONE, ServedSession
from p2pshare.peer.share.upload_log import Uploads
from p2pshare.storage.shares import digest_cache as block_cache
from p2pshare.storage.shares import folder_index, thumbnail_cache
from p2pshare.storage.shares.arguments import SharedPath
from p2pshare.storage.shares.digest_cache import BlockCache
from p2pshare.storage.shares.folder_index import FolderIndex
from p2pshare.storage.shares.listing import Survey
from p2pshare.storage.shares.thumbnail_cache import ThumbnailCache
from p2pshare.storage.shares.tree import ShareTree, Unavailable
from p2pshare.wire.display import display
from p2pshare.wire.keys import PublicKey, SigningKey
from p2pshare.wire.session_messages import Refusal

STOP_TIMEOUT = 1.0  # seconds for the farewells of sessions
SURVEY_AGAIN = 10.0  # seconds after which a status begins another survey of the shares
SURVEY_PATIENCE = 2.0  # seconds that a status waits for a survey
SHARES_LOGGED = 20  # shares whose surveys have a line in the log, and examples in the status
EXAMPLE_MAX = 100  # characters of an example

_REASONS = {
    "unreadable": "unreadable",
    "gone": "not there any more",
    "link": "link not followed",
    "link_loop": "link loop",
    "name": "name not UTF-8, or too long",
    "too_deep": "path too long",
    "special": "device, FIFO or socket",
    "too_large": "file too large",
}


class SessionSharer:
    """Accepts sessions and serves shares."""

    _log = Logger()

    def __init__(
        self,
        reactor: IPeerReactor,
        shares: LiveShares,
        limit: float | None,
        data: Path,
        admission: Admitting,
        key: Callable[[], SigningKey],
    ) -> None:
        """Share after `open`.

        Up to `limit` bytes per second are sent over all sessions together. `data` is the peer's data folder, which
        exists by the time of `open`. The openers' names come from `admission`; `key` returns the peer's current key.
        """
        self._reactor = reactor
        self._live = shares
        self._data = data
        self._limit = RateLimit(limit, reactor.seconds())
        self._uploads = Uploads(reactor)
        self._uploads.counter = shares
        self._listing = FairLimit(LISTS_AT_ONCE, LISTS_OF_ONE)
        self.admission = admission
        limits = DEFAULT_LIMITS.within_open_files()
        self.acceptor = SessionAcceptor(reactor, key, self.admission.admit, self._serve, limits)
        """Accepts sessions after its own `listen`."""
        self.open_sessions = OpenSessions(reactor, limits.credit)
        """The sessions that are open now, and what is requested over them."""
        self.offer_callers: Callable[[], Collection[str] | None] = lambda: ()
        """Returns the names with whom there may be offers; None for all."""
        self.on_change: Callable[[], object] = lambda: None
        """Is called when something else is shared, or with others."""
        self._serving: set[ServedSession] = set()
        self._cache: BlockCache | None = None
        self._thumbnails: ThumbnailCache | None = None
        self._tree: ShareTree | None = None
        self._previews: Previews | None = None
        self._resolving: Deferred[None] | None = None
        self._left_out: dict[str, dict[str, Any]] = {}  # by share, as the status has it
        self._surveying: SharedAnswer[None] | None = None
        self._surveyed_at = 0.0
        self._has_stopped = False
        self._shown: tuple[SharedPath, ...] = ()  # what the tree shows

    def limit(self, bytes_per_second: float | None) -> None:
        """Limit the rate of sending over all sessions from now on; None is no limit."""
        self._limit.change(bytes_per_second, self._reactor.seconds())

    @property
    def shares(self) -> tuple[SharedPath, ...]:
        """What is shared now."""
        return self._live.shares

    @property
    def tree(self) -> ShareTree | None:
        """What is shared, after `open`."""
        return self._tree

    @property
    def uploads(self) -> Uploads:
        """The uploads of all sessions."""
        return self._uploads

    @property
    def callers(self) -> Sequence[str] | None:
        """The names that see any share, or with whom there may be offers, and so may call this peer; None for all."""
        others = self.offer_callers()
        if others is None or any(each.allow is None for each in self.shares):
            return None
        return sorted({*others, *(name for each in self.shares for name in each.allow or ())})

    async def admit_caller(self, key: PublicKey) -> str:
        """Return the name of a key that may call this peer.

        Raises:
            NotAdmitted: it has no name, or sees no share.
        """
        name = await self.admission.admit(key, "")
        callers = self.callers
        if callers is not None and name not in callers:
            raise NotAdmitted(Refusal.STRANGER)
        return name

    async def open(self) -> None:
        """Open the caches, and log what is shared with whom."""
        cache, index, thumbnails = await run_in_thread(
            self._reactor, self._open_stores, abandoned=lambda stores: stores[0].close()
        )
        self._cache, self._thumbnails = cache, thumbnails
        self._shown = self.shares
        self._tree = ShareTree(self.shares, cache, index)
        self._previews = Previews(self._tree, thumbnails)
        self._live.on_change = self._changed
        self._live.left_out = self._left_out_of
        self._log_shares(self.shares)
        if not self.shares:
            self._log.info("nothing shared: no my_file.txt or my_file.jpg here, and no --share")
        self._resolve()
        self._begin_survey(self._tree)

    def _left_out_of(self, name: str) -> dict[str, Any] | None:
        return self._left_out.get(name)

    def _log_shares(self, shares: Iterable[SharedPath]) -> None:
        for each in shares:
            allow = (
                self.admission.everyone
                if each.allow is None
                else ",".join(sorted(each.allow)) or "nobody"
            )
            self._log.info(
                "shared: share={share} path={path} with={allow}",
                share=display(each.name),
                path=display(str(each.path)),
                allow=allow,
            )

    def _resolve(self) -> None:
        """Look up the names that see something, until all have a key."""
        if self._resolving is not None:
            self._resolving.cancel()
        wanted = sorted({name for each in self.shares for name in each.allow or ()})
        self._resolving = Deferred.fromCoroutine(self.admission.resolve(wanted))
        self._resolving.addErrback(self._not_resolved)

    def _changed(self) -> None:
        """Show the shares as they are now."""
        if self._tree is None or self._has_stopped:
            return
        before = self._shown
        self._shown = self.shares
        self._log_shares(each for each in self.shares if each not in before)
        self._tree.show(self.shares)
        self.shares_changed()
        self._resolve()
        names = {each.name for each in self.shares}
        self._left_out = {name: each for name, each in self._left_out.items() if name in names}
        self._begin_survey(self._tree, names - self._left_out.keys())
        self.on_change()

    def shares_changed(self) -> None:
        """Stop the transfers of what is not shared or offered any more, or not with the peer that fetches it."""
        for each in tuple(self._serving):
            each.shares_changed()

    async def stop(self) -> None:
        """Close all sessions and caches. May be called at any time."""
        self._has_stopped = True
        if self._resolving is not None:
            self._resolving.cancel()
        stopping: Deferred[None] = Deferred.fromCoroutine(self.acceptor.stop())
        try:
            await stopping.addTimeout(STOP_TIMEOUT, self._reactor, lambda *_: None)
        finally:
            self._uploads.stop()
            await self._live.stop()
            caches = [self._cache, self._thumbnails]
            self._cache = self._thumbnails = None
            for cache in caches:
                if cache is not None:
                    await run_in_thread(self._reactor, cache.close)

    def left_out(self) -> dict[str, str]:
        """Return what of each share is not listed, in words, as far as it is counted."""
        texts = {name: left_out_text(counted) for name, counted in self._left_out.items()}
        return {name: text for name, text in texts.items() if text}

    async def status(self) -> dict[str, Any]:
        """Return what is shared, what of it is not listed, and who fetches, as members of the peer's status."""
        surveying = self._surveying
        if surveying is not None and self._tree is not None and not self._has_stopped:
            is_old = self._reactor.seconds() - self._surveyed_at > SURVEY_AGAIN
            if is_old and not surveying.is_open:
                surveying = self._begin_survey(self._tree)
            await surveying.wait().addTimeout(SURVEY_PATIENCE, self._reactor, lambda *_: None)
        return {
            "sharing": [each.name for each in self.shares],
            "shares": [
                {
                    "name": each.name,
                    "path": str(each.path),
                    "allow": None if each.allow is None else sorted(each.allow),
                    "left_out": self._left_out.get(each.name),
                }
                for each in self.shares
            ],
            "waiting": self.admission.waiting(),
            "uploads": self._uploads.status(),
            "sessions": self._uploads.sessions,
            "congestion_control": congestion_control(),
        }

    def _begin_survey(
        self, tree: ShareTree, names: Collection[str] | None = None
    ) -> SharedAnswer[None]:
        """Survey the shares of these names; None for all."""
        if names is None:
            names = [each.name for each in self.shares]
        self._surveying = SharedAnswer(Deferred.fromCoroutine(self._survey(tree, names)))
        return self._surveying

    async def _survey(self, tree: ShareTree, names: Collection[str]) -> None:
        """Count, in a thread, what is in the shares but not listed, and tell what has changed."""

        def look() -> dict[str, Survey]:
            return {
                name: tree.survey(name, lambda: self._has_stopped)
                for name in names
                if not self._has_stopped
            }

        try:
            surveys = await run_in_thread(self._reactor, look)
        except Unavailable:  # too many files are open: the next status tries again
            surveys = {}
        except Exception:
            self._log.failure("shares not surveyed")
            surveys = {}
        self._surveyed_at = self._reactor.seconds()
        if self._has_stopped or not surveys:
            return
        before, there = self._left_out, {each.name for each in self.shares}
        self._left_out = before | {
            name: left_out_of(survey, with_examples=number < SHARES_LOGGED)
            for number, (name, survey) in enumerate(surveys.items())
            if name in there
        }
        news = [name for name, counted in self._left_out.items() if counted != before.get(name)]
        for name in news[:SHARES_LOGGED]:
            self._live.surveyed(name)
            if text := left_out_text(self._left_out[name]):
                self._log.info("not shared: share={share} {text}", share=display(name), text=text)

    def _serve(self, session: Session) -> SessionUser:
        assert self._tree is not None, "nobody gets in before the shares are open"
        serving = ServedSession(
            self._reactor,
            session,
            self._tree,
            self._limit,
            self._uploads,
            self._listing,
            previews=self._previews,
        )
        self._serving.add(serving)
        serving.on_end = lambda: self._serving.discard(serving)
        return self.open_sessions.add(session, serving)

    def _open_stores(self) -> tuple[BlockCache, FolderIndex, ThumbnailCache]:
        def fault(path: Path, reason: str) -> None:  # called in any thread
            self._reactor.callFromThread(
                self._log.warn,
                "cache fault: path={path} why={reason!r}",
                path=display(str(path)),
                reason=reason,
            )

        cache = self._data / block_cache.FILE_NAME
        index = self._data / folder_index.FOLDER_NAME
        thumbnails = self._data / thumbnail_cache.FILE_NAME
        return (
            BlockCache(cache, on_trouble=partial(fault, cache)),
            FolderIndex(index, on_trouble=partial(fault, index)),
            ThumbnailCache(thumbnails, on_trouble=partial(fault, thumbnails)),
        )

    def _not_resolved(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self._log.failure("allowed names not looked up", failure)


def left_out_text(counted: Mapping[str, Any]) -> str:
    """Return what of a share is not listed, in words; empty if all is listed."""
    parts = []
    if counted["hidden"]:
        examples = _examples(counted["hidden_examples"], counted["hidden"])
        parts.append(f"{counted['hidden']} hidden or private{examples}")
    if counted.get("excluded"):
        examples = _examples(counted["excluded_examples"], counted["excluded"])
        parts.append(f"{counted['excluded']} excluded{examples}")
    if counted["omitted"]:
        counts = [f"{_REASONS.get(why, why)}: {count}" for why, count in counted["omitted"].items()]
        examples = _examples(counted["omitted_examples"], sum(counted["omitted"].values()))
        parts.append(", ".join(counts) + examples)
    if parts and not counted["complete"]:
        parts.append(f"only the first {counted['looked_at']} files and folders were looked at")
    return "; ".join(parts)


def _examples(names: Sequence[str], count: int) -> str:
    more = ", …" if count > len(names) else ""
    return f" ({', '.join(names)}{more})" if names else ""


def _cut(name: str) -> str:
    return name if len(name) <= EXAMPLE_MAX else f"…{name[1 - EXAMPLE_MAX :]}"


def left_out_of(survey: Survey, *, with_examples: bool = True) -> dict[str, Any]:
    """Return what a survey has found to be left out, as members of the status."""

    def some(names: Sequence[str]) -> list[str]:
        return [_cut(display(name)) for name in names] if with_examples else []

    return {
        "hidden": survey.hidden,
        "hidden_examples": some(survey.hidden_examples),
        "excluded": survey.excluded,
        "excluded_examples": some(survey.excluded_examples),
        "omitted": {why.value: count for why, count in survey.omitted.items()},
        "omitted_examples": some(survey.omitted_examples),
        "looked_at": survey.looked_at,
        "complete": survey.complete,
    }
