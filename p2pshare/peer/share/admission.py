"""Admission: which name the opener of a session has, if any.

TLS has proven the opener's key. The registry is asked which name belongs to the key, and answers with the signed record
of that name. Only a name whose record has this key is admitted: one wrong entry admits nobody. Then comes the same pin
check as for an opener (`peer/find/pins.py`): a registry that gives a known name to another key gets nobody in.

While the registry does not answer, openers with a pinned key are admitted under the name for which it is pinned, and
others are asked to come later. So a session between peers that have met needs no registry.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.task import deferLater
from twisted.logger import Logger

from p2pshare.core.back_off import BackOff
from p2pshare.errors import (
    KeyChanged,
    KnownPeersFull,
    KnownPeersUnusable,
    P2pshareError,
)
from p2pshare.net.shared_answer import SharedAnswer
from p2pshare.net.sockets import IPeerReactor
from p2pshare.net.threads import run_in_thread
from p2pshare.peer.find.directory import Directory
from p2pshare.peer.find.pins import Pins
from p2pshare.storage.identity.known_peers import PEERS_MAX, KnownPeers
from p2pshare.storage.shares.arguments import EVERYONE
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.session_messages import Purpose, Refusal

REMEMBER = 60.0  # seconds for which an answer of the registry is used again
REMEMBER_NO = 5.0  # seconds for which a refusal is used again
ANSWERS_MAX = 1024  # answers that are kept
PINS_MAX = PEERS_MAX // 2  # pins from which on openers that the user has not named are not pinned
PATIENCE = 4.0  # seconds until a registry counts as away: less than an opener waits
RETRY_AFTER = 30  # seconds after which an opener may come again if the registry names no time
RESOLVE_PAUSE, RESOLVE_PAUSE_MAX = 5.0, 300.0  # seconds between two look-ups of unclaimed names


class NotAdmitted(Exception):  # noqa: N818 - it is named after what happened
    """An opener is turned away."""

    def __init__(self, why: Refusal, retry_after: int = 0) -> None:
        super().__init__(why, retry_after)
        self.why = why
        self.retry_after = retry_after
        """Seconds."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """The name of a key, or why there is none."""

    verdict: str | NotAdmitted
    until: float
    """Seconds of the clock until which the answer is used."""


class Admitting(Protocol):
    """Decides who is admitted: the registry knows (`Admission`), or the owner (`peer.lan.admission`)."""

    everyone: str
    """Who sees a share without `--allow`, in words."""

    async def admit(self, key: PublicKey, said: str, purpose: Purpose | None = None) -> str:
        """Return the name of an opener, or raise `NotAdmitted`; `said` is what it calls itself."""
        ...

    async def resolve(self, names: Iterable[str]) -> None:
        """Look up the names in `--allow`."""
        ...

    def waiting(self) -> list[dict[str, Any]]:
        """Return the keys that wait for the owner, as members of the status."""
        ...


class Admission:
    """Finds the names of openers."""

    _log = Logger()
    everyone = EVERYONE

    def __init__(
        self,
        reactor: IPeerReactor,
        client: Directory,
        known: KnownPeers,
        *,
        answers_max: int = ANSWERS_MAX,
        pins_max: int = PINS_MAX,
    ) -> None:
        """Admit the owners of names.

        Args:
            reactor: for threads and timers.
            client: the registry.
            known: the pinned keys.
            answers_max: answers that are kept.
            pins_max: pins from which on openers that the user has not named are not pinned.
        """
        self._reactor = reactor
        self._client = client
        self._known = known
        self._pins = Pins(reactor, known, client)
        self._answers_max = answers_max
        self._pins_max = pins_max
        self._answers: dict[PublicKey, SharedAnswer[_Answer]] = {}  # the oldest question first

    async def admit(self, key: PublicKey, said: str = "", purpose: Purpose | None = None) -> str:
        """Return the name that belongs to a key; what its opener calls itself, and what it wants, are ignored.

        Raises:
            NotAdmitted: the key has no name, another key is pinned for the name, or the registry does not answer.
        """
        question = self._answers.get(key)
        answer = None if question is None else await question.wait()
        if answer is None or answer.until <= self._reactor.seconds():
            self._answers.pop(key, None)
            while len(self._answers) >= self._answers_max:
                del self._answers[next(iter(self._answers))]
            question = SharedAnswer(Deferred.fromCoroutine(self._ask(key)))
            self._answers[key] = question
            answer = await question.wait()
        if isinstance(answer.verdict, NotAdmitted):
            raise NotAdmitted(answer.verdict.why, answer.verdict.retry_after)
        return answer.verdict

    async def resolve(self, names: Iterable[str]) -> None:
        """Pin the keys of the names in `--allow`, each as soon as it has one. Return when all are pinned.

        From then on the permission belongs to the key, whatever the registry says later.
        """
        back_off, waiting = BackOff(RESOLVE_PAUSE, RESOLVE_PAUSE_MAX), list(names)
        while True:
            waiting = [name for name in waiting if not await self._is_resolved(name)]
            if not waiting:
                return
            pause = back_off.next_delay()
            if pause == RESOLVE_PAUSE:
                self._log.info(
                    "not in the registry yet: names={names}. They are allowed nothing until they are claimed.",
                    names=", ".join(waiting),
                )
            await deferLater(self._reactor, pause)

    def waiting(self) -> list[dict[str, Any]]:
        """Return nothing: the registry decides at once."""
        return []

    async def _is_resolved(self, name: str) -> bool:
        try:
            if await self._pins.key(name) is not None:
                return True
            view = await self._client.look_up_peer(name, by_registry_clock=True)
            if view.key is None:
                return False
            await self._pins.remember(name, view.key, None)
        except KnownPeersUnusable as error:
            self._log.error("not pinned: name={name} why={why}", name=name, why=error)
            return False
        except P2pshareError:
            return False
        return True

    async def _ask(self, key: PublicKey) -> _Answer:
        try:
            asking: Deferred[str] = Deferred.fromCoroutine(self._look_up(key))
            name = await asking.addTimeout(PATIENCE, self._reactor)
            return _Answer(name, self._reactor.seconds() + REMEMBER)
        except NotAdmitted as error:
            verdict: str | NotAdmitted = error
        except KeyChanged as error:
            self._log.warn("opener refused: {why}", why=error)
            verdict = NotAdmitted(Refusal.CHANGED)
        except KnownPeersUnusable as error:
            self._log.error("nobody is admitted: {why}", why=error)
            verdict = NotAdmitted(Refusal.LATER, RETRY_AFTER)
        except (P2pshareError, TimeoutError) as error:  # the registry is away
            wait = error.fields.get("retry_after") if isinstance(error, P2pshareError) else None
            verdict = await self._without_registry(key, wait)
        except Exception:
            self._log.failure("admission failed")
            verdict = NotAdmitted(Refusal.LATER, RETRY_AFTER)
        return _Answer(verdict, self._reactor.seconds() + REMEMBER_NO)

    async def _without_registry(self, key: PublicKey, wait: object) -> str | NotAdmitted:
        """Return the name for which a key is pinned; `wait` is the time that the registry has named."""
        try:
            for name in await run_in_thread(self._reactor, self._known.names, key):
                return name
        except KnownPeersUnusable as error:
            self._log.error("nobody is admitted: {why}", why=error)
        return NotAdmitted(Refusal.LATER, wait if isinstance(wait, int) and wait else RETRY_AFTER)

    async def _look_up(self, key: PublicKey) -> str:
        view = await self._client.look_up_key(key)
        if view is None:
            raise NotAdmitted(Refusal.STRANGER)
        name = view.summary.name
        if view.key != key:
            self._log.warn(
                "contradictory registry: name={name} key={key}. It says that the key owns the name and that another"
                " one does.",
                name=name,
                key=key.grouped,
            )
            raise NotAdmitted(Refusal.STRANGER)
        pinned = await self._pins.check(name, view)
        if pinned != key:
            await self._remember(name, key, pinned)
        return name

    async def _remember(self, name: str, key: PublicKey, pinned: PublicKey | None) -> None:
        """Pin the key of an opener. At first contact the opener is admitted even if its key cannot be pinned."""
        most = self._pins_max if pinned is None else PEERS_MAX
        try:
            await self._pins.remember(name, key, pinned, most)
        except KnownPeersUnusable as error:
            if pinned is not None:
                raise
            if not isinstance(error, KnownPeersFull):
                self._log.error(
                    "admitted without a pin: name={name} why={why}", name=name, why=error
                )
