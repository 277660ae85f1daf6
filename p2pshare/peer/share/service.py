"""All that a peer does for those who open sessions: it takes them, and serves its shares."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pshare.core.rate import RateLimit
from p2pshare.core.session_interface import Session
from p2pshare.net.fair_turns import FairTurns
from p2pshare.net.shared_answer import SharedAnswer
from p2pshare.net.sockets import IPeerReactor
from p2pshare.net.threads import run_in_thread
from p2pshare.peer.share.acceptor import DEFAULT_LIMITS, SessionServer
from p2pshare.peer.share.admission import Admission
from p2pshare.peer.share.session import LISTS_AT_ONCE, LISTS_OF_ONE, Serving
from p2pshare.peer.share.upload_log import Uploads
from p2pshare.registry.client import RegistryClient
from p2pshare.storage.identity.known_peers import KnownPeers
from p2pshare.storage.shares import digest_cache as block_cache
from p2pshare.storage.shares import folder_index
from p2pshare.storage.shares.arguments import EVERYONE, SharedPath
from p2pshare.storage.shares.digest_cache import BlockCache
from p2pshare.storage.shares.folder_index import FolderIndex
from p2pshare.storage.shares.listing import Survey
from p2pshare.storage.shares.tree import ShareTree, Unavailable
from p2pshare.wire.display import display
from p2pshare.wire.keys import SigningKey

STOP_TIMEOUT = 1.0  # seconds for the last words of sessions
SURVEY_AGAIN = (
    10.0  # seconds after a survey of the shares from which on a status begins another one
)
SURVEY_PATIENCE = 2.0  # seconds that a status waits for it
SHARES_TOLD = 20  # shares of whose surveys the log has a line, and the status examples
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
    """Takes sessions and serves shares."""

    _log = Logger()

    def __init__(
        self,
        reactor: IPeerReactor,
        shares: Sequence[SharedPath],
        limit: float | None,
        data: Path,
        client: RegistryClient,
        known: KnownPeers,
        key: Callable[[], SigningKey],
    ) -> None:
        """Share, once this was opened and listens.

        Args:
            reactor: what it runs on.
            shares: what is shared, and with whom.
            limit: bytes per second that go out over all sessions together; None is as fast as it goes.
            data: the peer's data folder, which is there by the time of `open`.
            client: the registry, which knows who has which key.
            known: the keys of others.
            key: the peer's key; it is asked for each session.
        """
        self._reactor = reactor
        self._shares = tuple(shares)
        self._data = data
        self._limit = RateLimit(limit, reactor.seconds())
        self._uploads = Uploads(reactor)
        self._listing = FairTurns(LISTS_AT_ONCE, LISTS_OF_ONE)
        self._admission = Admission(reactor, client, known)
        limits = DEFAULT_LIMITS.within_open_files()
        self._server = SessionServer(reactor, key, self._admission.admit, self._serve, limits)
        self._stores: tuple[BlockCache, FolderIndex] | None = None
        self._tree: ShareTree | None = None
        self._resolving: Deferred[None] | None = None
        self._left_out: dict[str, dict[str, Any]] = {}  # by share, as the status tells it
        self._surveying: SharedAnswer[None] | None = None
        self._surveyed_at = float("-inf")
        self._has_stopped = False

    async def open(self) -> None:
        """Make ready what remembers the shares, and say what is shared with whom."""
        self._stores = await run_in_thread(self._reactor, self._open_stores, abandoned=_close)
        self._tree = ShareTree(self._shares, *self._stores)
        self._log.info("{sharing}", sharing=sharing_text(self._shares))
        wanted = sorted({name for each in self._shares for name in each.allow or ()})
        if wanted:
            self._resolving = Deferred.fromCoroutine(self._admission.resolve(wanted))
            self._resolving.addErrback(self._not_resolved)
        self._survey()

    async def listen(self, port: int, interface: str) -> None:
        """Take sessions from now on.

        Raises:
            PortUnusable: the port is in use, or not ours to use.
        """
        await self._server.listen(port, interface)

    def stop_listening(self) -> None:
        """Close the port again, which `listen` has opened just now."""
        self._server.stop_listening()

    async def stop(self) -> None:
        """Tell all sessions that this is the end, and close everything. May be called at any time."""
        self._has_stopped = True
        if self._resolving is not None:
            self._resolving.cancel()
        stopping: Deferred[None] = Deferred.fromCoroutine(self._server.stop())
        stopping.addTimeout(STOP_TIMEOUT, self._reactor, lambda *_: None)
        try:
            await stopping
        finally:
            self._uploads.stop()
            stores, self._stores = self._stores, None
            if stores is not None:
                await run_in_thread(self._reactor, _close, stores)

    def left_out(self) -> dict[str, str]:
        """What of each share is not listed, in words, as far as that is counted."""
        return {
            name: text for name, told in self._left_out.items() if (text := left_out_text(told))
        }

    async def status(self) -> dict[str, Any]:
        """What is shared, what of it is left out, and who fetches: members of the status of a peer."""
        if self._surveying is None and self._reactor.seconds() - self._surveyed_at > SURVEY_AGAIN:
            self._survey()
        if self._surveying is not None:
            await self._surveying.wait().addTimeout(SURVEY_PATIENCE, self._reactor, lambda *_: None)
        return {
            "sharing": [each.name for each in self._shares],
            "shares": [
                {
                    "name": each.name,
                    "path": str(each.path),
                    "allow": None if each.allow is None else sorted(each.allow),
                    "left_out": self._left_out.get(each.name),
                }
                for each in self._shares
            ],
            "uploads": self._uploads.status(),
            "sessions": self._uploads.sessions,
        }

    def _survey(self) -> None:
        """Find out, in a thread, what is in the shares but not listed, and log it if that is news."""
        tree = self._tree
        if tree is None or self._has_stopped:
            return

        def look() -> dict[str, Survey]:
            return {
                each.name: tree.survey(each.name, lambda: self._has_stopped)
                for each in self._shares
                if not self._has_stopped
            }

        surveying = run_in_thread(self._reactor, look).addCallback(self._surveyed)
        self._surveying = SharedAnswer(surveying.addErrback(self._not_surveyed))
        self._surveying.wait().addCallback(self._survey_ended)

    def _surveyed(self, surveys: Mapping[str, Survey]) -> None:
        if self._has_stopped:
            return
        before, self._left_out = (
            self._left_out,
            {
                name: _told(survey, with_examples=number < SHARES_TOLD)
                for number, (name, survey) in enumerate(surveys.items())
            },
        )
        news = [name for name, told in self._left_out.items() if told != before.get(name)]
        for name in news[:SHARES_TOLD]:
            if text := left_out_text(self._left_out[name]):
                self._log.info("not shared: share={name} {text}", name=display(name), text=text)

    def _not_surveyed(self, failure: Failure) -> None:
        if not failure.check(
            Unavailable
        ):  # too many files are open: the next status tries it again
            self._log.failure("the shares were not looked through", failure)

    def _survey_ended(self, _: object) -> None:
        self._surveying = None
        self._surveyed_at = self._reactor.seconds()

    def _serve(self, session: Session) -> Serving:
        assert self._tree is not None, "nobody gets in before the shares are open"
        return Serving(
            self._reactor,
            session,
            self._tree,
            self._limit,
            self._uploads,
            listing=self._listing,
        )

    def _open_stores(self) -> tuple[BlockCache, FolderIndex]:
        cache = self._data / block_cache.FILE_NAME
        index = self._data / folder_index.FOLDER_NAME
        return (
            BlockCache(cache, on_trouble=partial(self._trouble, "shared files", cache)),
            FolderIndex(index, on_trouble=partial(self._trouble, "shared folders", index)),
        )

    def _trouble(self, what: str, path: Path, reason: str) -> None:
        """Called in whatever thread."""
        self._reactor.callFromThread(
            self._log.warn,
            "what is remembered of {what} ({path}): {reason}",
            what=what,
            path=display(str(path)),
            reason=reason,
        )

    def _not_resolved(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self._log.failure("the names that may see a share were not looked up", failure)


def sharing_text(shares: Sequence[SharedPath]) -> str:
    """Who may fetch what, in a sentence."""
    if not shares:
        return "nothing is shared: there is no my_file.txt or my_file.jpg here, and no --share"
    told = []
    for each in shares:
        whom = EVERYONE if each.allow is None else ", ".join(sorted(each.allow)) or "nobody"
        told.append(f"{display(each.name)} ({display(str(each.path))}) with {whom}")
    return f"shared are {'; '.join(told)}"


def left_out_text(told: Mapping[str, Any]) -> str:
    """Say what of a share is not listed, as the status tells it; nothing if that is nothing."""
    parts = []
    if told["hidden"]:
        examples = _examples(told["hidden_examples"], told["hidden"])
        parts.append(f"{told['hidden']} hidden or private{examples}")
    if told["omitted"]:
        counts = [f"{_REASONS.get(why, why)}: {count}" for why, count in told["omitted"].items()]
        examples = _examples(told["omitted_examples"], sum(told["omitted"].values()))
        parts.append(", ".join(counts) + examples)
    if parts and not told["complete"]:
        parts.append(f"only the first {told['looked_at']} files and folders were looked at")
    return "; ".join(parts)


def _examples(names: Sequence[str], count: int) -> str:
    more = ", …" if count > len(names) else ""
    return f" ({', '.join(names)}{more})" if names else ""


def _cut(name: str) -> str:
    return name if len(name) <= EXAMPLE_MAX else f"…{name[1 - EXAMPLE_MAX :]}"


def _told(survey: Survey, *, with_examples: bool) -> dict[str, Any]:
    def some(names: Sequence[str]) -> list[str]:
        return [_cut(display(name)) for name in names] if with_examples else []

    return {
        "hidden": survey.hidden,
        "hidden_examples": some(survey.hidden_examples),
        "omitted": {why.value: count for why, count in survey.omitted.items()},
        "omitted_examples": some(survey.omitted_examples),
        "looked_at": survey.looked_at,
        "complete": survey.complete,
    }


def _close(stores: tuple[BlockCache, FolderIndex]) -> None:
    cache, _ = stores
    cache.close()
