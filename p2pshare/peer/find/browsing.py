"""What the running peer looks up on behalf of who completes a word: names, and what is in the folders of others.

Answers are kept for a few seconds, and a session that nobody needs is ended after a minute; both are few.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Protocol, Self, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from p2pshare.errors import ControlRefused, P2pshareError, RemoteProtocolError
from p2pshare.names import NAME_MAX, can_begin_name, is_name
from p2pshare.net.shared_answer import SharedAnswer
from p2pshare.net.sockets import IPeerReactor
from p2pshare.net.threads import run_in_thread
from p2pshare.peer.control import Fields
from p2pshare.peer.fetch.plan import just_before
from p2pshare.peer.fetch.remote import LinkLimits, RemotePeer
from p2pshare.peer.find.lookup import PeerFinder
from p2pshare.registry.client import RegistryClient
from p2pshare.storage.identity.last_seen import Names, Seen
from p2pshare.wire.keys import SigningKey
from p2pshare.wire.paths import COMPONENT_MAX, DEPTH_MAX, PATH_MAX, RemotePath, parse_path
from p2pshare.wire.strict_json import text
from p2pshare.wire.transfer_messages import EntryKind, Listing

KEPT_FOR = 5.0  # seconds that an answer is good
ANSWERS_MAX = 64  # answers that are kept
REMOTES_MAX = 8  # peers with whom there is a session
IDLE_MAX = 60.0  # seconds until a session that nobody needs is ended
NAMES_MAX = 300  # of an answer
ENTRIES_MAX = 300  # of an answer
ANSWER_BYTES_MAX = 48 * 1024  # bytes of the names in an answer
PATIENCE = 8.0  # seconds for a session to come up: who completes a word waits no longer

Answer = dict[str, bool]
"""Names, and whether each is a folder."""
T = TypeVar("T")


class Remote(Protocol):
    """What is needed of a `RemotePeer`."""

    async def list(
        self, path: RemotePath, after: RemotePath = (), limit: int = ..., *, recursive: bool = False
    ) -> Listing:
        """Ask for a page of a folder."""
        ...

    async def close(self) -> None:
        """End the session."""
        ...


class Browsing:
    """Looks names and folders up, and remembers them."""

    def __init__(
        self,
        reactor: IReactorTime,
        names: Callable[[str], AsyncIterator[str]],
        remote: Callable[[str], Remote],
        seen: Seen,
    ) -> None:
        """Look up with what is given.

        Args:
            reactor: its clock, and its threads.
            names: all names with a prefix, in their order.
            remote: makes the end of a session with a peer, by its name.
            seen: is told what was found.
        """
        self._reactor = reactor
        self._names = names
        self._remote = remote
        self._seen = seen
        self._answers: dict[tuple[str, ...], tuple[float, SharedAnswer[Answer]]] = {}
        self._remotes: dict[str, _Open] = {}
        self._has_stopped = False

    @classmethod
    def of_peer(
        cls,
        reactor: IPeerReactor,
        rng: random.Random,
        key: Callable[[], SigningKey],
        registry: RegistryClient,
        finder: PeerFinder,
        data: Path,
    ) -> Self:
        """Look up as the peer with a key and a data folder."""

        async def names(prefix: str) -> AsyncIterator[str]:
            async for each in registry.peers(prefix, online=True):
                yield each.name

        def remote(name: str) -> RemotePeer:
            return RemotePeer(
                reactor, rng, key(), name, finder.target(name), LinkLimits(patience=PATIENCE)
            )

        return cls(reactor, names, remote, Seen(data))

    async def complete(self, request: Fields) -> Fields:
        """The deed "complete": the names of peers that begin with `prefix`; or, if there is a `peer`, what begins so in
        the folder `path` of it.

        Raises:
            ControlRefused: it asks for what nobody can be called.
            P2pshareError: the registry or the peer cannot be asked, or does not tell.
        """
        try:
            fields = {"peer": "", "path": "", **request}
            peer, prefix = text(fields, "peer", NAME_MAX), text(fields, "prefix", COMPONENT_MAX)
            path = parse_path(text(fields, "path", PATH_MAX))
            legal = is_name(peer) if peer else can_begin_name(prefix) or not prefix
            legal = legal and (prefix.isprintable() or not prefix)
            if not legal or len(path) >= DEPTH_MAX or "/" in prefix or "\0" in prefix:
                raise RemoteProtocolError(reason="nobody is called so")
        except RemoteProtocolError as error:
            raise ControlRefused(reason=f"nothing can be looked up by that: {error}") from error
        if self._has_stopped:
            raise ControlRefused(reason="the peer is ending")
        answer = await self._ask((peer, *path, prefix), peer, path, prefix)
        return {"entries": [f"{name}/" if folder else name for name, folder in answer.items()]}

    async def stop(self) -> None:
        """End all sessions, and whatever is being asked. May be called again."""
        self._has_stopped = True
        for _, answer in list(self._answers.values()):
            answer.cancel()
        while self._remotes:
            _, each = self._remotes.popitem()
            await each.end()

    async def _ask(
        self, question: tuple[str, ...], peer: str, path: RemotePath, prefix: str
    ) -> Answer:
        """The answer that is kept, or that is on its way, or a new one."""
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
            looking = self._entries_of(peer, path, prefix) if peer else self._names_of(prefix)
            self._answers[question] = now, SharedAnswer(Deferred.fromCoroutine(looking))
        return await self._answers[question][1].wait()

    async def _names_of(self, prefix: str) -> Answer:
        found: Answer = {}
        async for name in self._names(prefix):
            found[name] = False
            if len(found) == NAMES_MAX:
                break
        await self._in_thread(self._seen.saw_names, tuple(found))
        return found

    async def _entries_of(self, peer: str, path: RemotePath, prefix: str) -> Answer:
        remote = self._opened(peer)
        remote.users += 1
        try:
            after = just_before(prefix) if prefix else ()
            page = await remote.remote.list(path, after, ENTRIES_MAX)
        finally:
            remote.users -= 1
            remote.rest(self._reactor, lambda: self._close(peer, remote))
        all_of_it: Names = {
            each.path[-1]: each.kind is EntryKind.FOLDER
            for each in page.entries
            if len(each.path) == 1
        }
        whole = not after and not page.more
        await self._in_thread(_saw, self._seen, peer, path, all_of_it, whole)
        return _bounded({name: kind for name, kind in all_of_it.items() if name.startswith(prefix)})

    def _opened(self, peer: str) -> _Open:
        """The session with a peer; for a new one, that which was used longest ago has to go if there are too many.

        Raises:
            ControlRefused: there are too many, and all are in use.
        """
        known = self._remotes.pop(peer, None)
        if known is None:
            if len(self._remotes) >= REMOTES_MAX:
                idle = next((name for name, each in self._remotes.items() if not each.users), None)
                if idle is None:
                    raise ControlRefused(reason="it is looking at too many peers just now")
                self._close(idle, self._remotes[idle])
            known = _Open(self._remote(peer))
        self._remotes[peer] = known
        return known

    def _close(self, peer: str, remote: _Open) -> None:
        if self._remotes.get(peer) is remote:
            del self._remotes[peer]
        Deferred.fromCoroutine(remote.end()).addErrback(lambda failure: failure.trap(P2pshareError))

    async def _in_thread(self, work: Callable[..., T], *args: object) -> T:
        return await run_in_thread(self._reactor, work, *args)  # type: ignore[arg-type]


class _Open:
    """A session, and who uses it."""

    def __init__(self, remote: Remote) -> None:
        self.remote = remote
        self.users = 0
        self._resting: IDelayedCall | None = None

    def rest(self, clock: IReactorTime, close: Callable[[], None]) -> None:
        """End it in a while, unless somebody uses it."""
        self._wake()
        if not self.users:
            self._resting = clock.callLater(IDLE_MAX, close)

    async def end(self) -> None:
        """End it now."""
        self._wake()
        await self.remote.close()

    def _wake(self) -> None:
        resting, self._resting = self._resting, None
        if resting is not None and resting.active():
            resting.cancel()


def _bounded(answer: Answer) -> Answer:
    """As much as goes into a reply."""
    left = ANSWER_BYTES_MAX
    kept: Answer = {}
    for name, folder in answer.items():
        left -= len(name.encode("unicode-escape")) + 5
        if left < 0:
            break
        kept[name] = folder
    return kept


def _saw(seen: Seen, peer: str, path: RemotePath, entries: Names, whole: bool) -> None:
    seen.saw_entries(peer, path, entries, whole=whole)
