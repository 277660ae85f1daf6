"""Completion by the running peer: names of peers and entries of their folders, for a shell.

A user who presses Tab again asks for the same or a longer prefix. Therefore answers are kept for some seconds, and
callers with the same question share one answer. A session stays open for a minute after its last use.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from p2pshare.errors import ControlRefused, P2pshareError, RemoteProtocolError
from p2pshare.names import NAME_MAX, can_begin_name, is_name
from p2pshare.net.shared_answer import SharedAnswer
from p2pshare.net.sockets import IPeerReactor
from p2pshare.net.threads import run_in_thread
from p2pshare.peer.control import Fields
from p2pshare.peer.fetch.plan import just_before
from p2pshare.peer.fetch.remote import LinkLimits, RemotePeer, SessionOpener
from p2pshare.peer.find.directory import Directory
from p2pshare.peer.find.lookup import PeerFinder
from p2pshare.storage.identity.last_seen import Seen
from p2pshare.wire.paths import COMPONENT_MAX, DEPTH_MAX, PATH_MAX, RemotePath, parse_path
from p2pshare.wire.strict_json import text

KEPT_FOR = 5.0  # seconds that an answer is used again
ANSWERS_MAX = 64  # answers that are kept or awaited
REMOTES_MAX = 8  # peers with an open session
IDLE_MAX = 60.0  # seconds after its last use until a session is closed
NAMES_MAX = 300  # names in an answer
ENTRIES_MAX = 300  # entries in an answer
ANSWER_BYTES_MAX = 48 * 1024  # bytes of the names in an answer
PATIENCE = 8.0  # seconds for opening a session: a user who completes a word waits no longer

Answer = dict[str, bool]
"""Names, and whether each is a folder."""


@dataclass(slots=True)
class _Session:
    """A session with a peer, and how many questions use it."""

    remote: RemotePeer
    users: int = 0
    idle: IDelayedCall | None = None
    """Closes the session when it has not been used for `IDLE_MAX`."""


class Browsing:
    """Looks up names and folders for completion, and remembers them for when nobody can be asked."""

    def __init__(
        self,
        reactor: IPeerReactor,
        rng: random.Random,
        registry: Directory,
        finder: PeerFinder,
        opener: SessionOpener,
        data: Path,
    ) -> None:
        """Look up as the user of a running peer.

        Args:
            reactor: for sessions, timers and threads.
            rng: source of jitter.
            registry: is asked for names.
            finder: finds the peers.
            opener: opens sessions.
            data: the data folder, in which answers are remembered.
        """
        self._reactor = reactor
        self._rng = rng
        self._registry = registry
        self._finder = finder
        self._seen = Seen(data)
        self._opener = opener
        self._answers: dict[tuple[str, ...], tuple[float, SharedAnswer[Answer]]] = {}
        self._sessions: dict[str, _Session] = {}  # the one that was used last at the end
        self._has_stopped = False

    async def complete(self, request: Fields) -> Fields:
        """Perform the action `complete`: return the names of peers that begin with `prefix`, or with a `peer`, the
        entries of its folder `path` that do.

        Raises:
            ControlRefused: no name can be meant by the request.
            P2pshareError: the registry or the peer does not answer.
        """
        try:
            fields = {"peer": "", "path": "", **request}
            peer, prefix = text(fields, "peer", NAME_MAX), text(fields, "prefix", COMPONENT_MAX)
            path = parse_path(text(fields, "path", PATH_MAX))
            legal = is_name(peer) if peer else can_begin_name(prefix) or not prefix
            legal = legal and (prefix.isprintable() or not prefix)
            if not legal or len(path) >= DEPTH_MAX or "/" in prefix or "\0" in prefix:
                raise RemoteProtocolError(reason="no peer and no file has such a name")
        except RemoteProtocolError as error:
            raise ControlRefused(
                reason=f"it is asked for nothing that can exist: {error}"
            ) from error
        if self._has_stopped:
            raise ControlRefused(reason="the peer is ending")
        answer = await self._ask((peer, *path, prefix), peer, path, prefix)
        return {"entries": [f"{name}/" if folder else name for name, folder in answer.items()]}

    async def stop(self) -> None:
        """Cancel all questions, and close all sessions. May be called again."""
        self._has_stopped = True
        for _, answer in list(self._answers.values()):
            answer.cancel()
        while self._sessions:  # an idle session may end meanwhile
            await self._close(next(iter(self._sessions)))

    async def _ask(
        self, question: tuple[str, ...], peer: str, path: RemotePath, prefix: str
    ) -> Answer:
        """Return the answer that is kept, the one that is awaited, or a new one."""
        now = self._reactor.seconds()
        self._answers = {
            each: (since, answer)
            for each, (since, answer) in self._answers.items()
            if answer.is_open or (now - since < KEPT_FOR and not answer.has_failed)
        }
        if question not in self._answers:
            if len(self._answers) >= ANSWERS_MAX:
                _, oldest = self._answers.pop(next(iter(self._answers)))
                oldest.cancel()
            asking = self._entries(peer, path, prefix) if peer else self._names(prefix)
            self._answers[question] = now, SharedAnswer(Deferred.fromCoroutine(asking))
        return await self._answers[question][1].wait()

    async def _names(self, prefix: str) -> Answer:
        found: Answer = {}
        async for each in self._registry.peers(prefix, online=True):
            if not each.mark:
                found[each.name] = False
            if len(found) == NAMES_MAX:
                break
        await run_in_thread(self._reactor, self._seen.saw_names, tuple(found))
        return found

    async def _entries(self, peer: str, path: RemotePath, prefix: str) -> Answer:
        after = just_before(prefix) if prefix else ()
        async with self._session(peer) as remote:
            page = await remote.list(path, after, ENTRIES_MAX)
        entries = page.children
        whole = not after and not page.more
        await run_in_thread(
            self._reactor, lambda: self._seen.saw_entries(peer, path, entries, whole=whole)
        )
        return _bounded({name: kind for name, kind in entries.items() if name.startswith(prefix)})

    @asynccontextmanager
    async def _session(self, peer: str) -> AsyncIterator[RemotePeer]:
        """Use the session with a peer. A new one takes the place of the one that was unused longest.

        Raises:
            ControlRefused: there are `REMOTES_MAX` sessions, and all are in use.
        """
        session = self._sessions.pop(peer, None)
        if session is None:
            if len(self._sessions) >= REMOTES_MAX:
                unused = next(
                    (name for name, each in self._sessions.items() if not each.users), None
                )
                if unused is None:
                    raise ControlRefused(reason="it looks at too many peers now")
                self._close_soon(unused)
            find, limits = self._finder.target(peer), LinkLimits(patience=PATIENCE, acceptance=0.0)
            remote = RemotePeer(self._reactor, self._rng, peer, find, self._opener, limits)
            session = _Session(remote)
        self._sessions[peer] = session
        _cancel(session.idle)
        session.users += 1
        try:
            yield session.remote
        finally:
            session.users -= 1
            if not session.users and self._sessions.get(peer) is session:
                session.idle = self._reactor.callLater(IDLE_MAX, self._close_soon, peer)

    def _close_soon(self, peer: str) -> None:
        closing = Deferred.fromCoroutine(self._close(peer))
        closing.addErrback(lambda failure: failure.trap(P2pshareError))

    async def _close(self, peer: str) -> None:
        session = self._sessions.pop(peer)
        _cancel(session.idle)
        await session.remote.close()


def _cancel(timer: IDelayedCall | None) -> None:
    if timer is not None and timer.active():
        timer.cancel()


def _bounded(answer: Answer) -> Answer:
    """Return the beginning of an answer that fits into `ANSWER_BYTES_MAX`."""
    left = ANSWER_BYTES_MAX
    kept: Answer = {}
    for name, folder in answer.items():
        left -= len(name.encode("unicode-escape")) + 5
        if left < 0:
            break
        kept[name] = folder
    return kept
