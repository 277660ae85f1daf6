"""Completion by the running peer: names of peers and entries of their folders, for a shell.

A user who presses Tab again asks for the same or a longer prefix. Therefore answers are kept for some seconds, and
callers with the same question share one answer. The sessions are those over which the user looks at files
(`sessions`); completion pins no key.
"""

from __future__ import annotations

from pathlib import Path

from twisted.internet.defer import Deferred, TimeoutError

from p2pshare.errors import ControlRefused, RemoteProtocolError
from p2pshare.names import NAME_MAX, can_begin_name, is_name
from p2pshare.net.shared_answer import SharedAnswer
from p2pshare.net.threads import run_in_thread
from p2pshare.peer.browse.sessions import RemoteSessions
from p2pshare.peer.control import Fields
from p2pshare.peer.fetch.plan import just_before
from p2pshare.peer.find.directory import Directory
from p2pshare.storage.identity.last_seen import Seen
from p2pshare.wire.paths import COMPONENT_MAX, DEPTH_MAX, PATH_MAX, RemotePath, parse_path
from p2pshare.wire.strict_json import text

KEPT_FOR = 5.0  # seconds that an answer is used again
ANSWERS_MAX = 64  # answers that are kept or awaited
NAMES_MAX = 300  # names in an answer
ENTRIES_MAX = 300  # entries in an answer
ANSWER_BYTES_MAX = 48 * 1024  # bytes of the names in an answer
PATIENCE = 8.0  # seconds for an answer: a user who completes a word waits no longer

Answer = dict[str, bool]
"""Names, and whether each is a folder."""


class Completion:
    """Looks up names and folders for completion, and remembers them for when nobody can be asked."""

    def __init__(self, registry: Directory, sessions: RemoteSessions, data: Path) -> None:
        """Look up as the user of a running peer.

        Args:
            registry: is asked for names.
            sessions: over which peers are asked.
            data: the data folder, in which answers are remembered.
        """
        self._reactor = sessions.reactor
        self._registry = registry
        self._sessions = sessions
        self._seen = Seen(data)
        self._answers: dict[tuple[str, ...], tuple[float, SharedAnswer[Answer]]] = {}
        self._has_stopped = False

    async def complete(self, request: Fields) -> Fields:
        """Perform the action `complete`: return the names of peers that begin with `prefix`, or with a `peer`, the
        entries of its folder `path` that do.

        Raises:
            ControlRefused: no name can be meant by the request.
            P2pshareError: the registry or the peer does not answer, or not within `PATIENCE`.
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
        waiting = self._ask((peer, *path, prefix), peer, path, prefix)
        try:
            answer = await waiting.addTimeout(PATIENCE, self._reactor)
        except TimeoutError as error:
            raise ControlRefused(reason="the answer takes too long") from error
        return {"entries": [f"{name}/" if folder else name for name, folder in answer.items()]}

    def stop(self) -> None:
        """Cancel all questions. May be called again."""
        self._has_stopped = True
        for _, answer in list(self._answers.values()):
            answer.cancel()

    def _ask(
        self, question: tuple[str, ...], peer: str, path: RemotePath, prefix: str
    ) -> Deferred[Answer]:
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
        return self._answers[question][1].wait()

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
        async with self._sessions.use(peer, pins=False) as session:
            page = await session.remote.list(path, after, ENTRIES_MAX)
        entries = page.children
        whole = not after and not page.more
        await run_in_thread(
            self._reactor, lambda: self._seen.saw_entries(peer, path, entries, whole=whole)
        )
        return _bounded({name: kind for name, kind in entries.items() if name.startswith(prefix)})


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
