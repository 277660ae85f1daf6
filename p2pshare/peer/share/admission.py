"""Who may open a session: those whose key owns a name in the registry.

The registry is asked both ways, which name the key has, and which key the name has. A name that is met first is known
by its key from then on; another key counts only if the one before has signed it. So a registry that swaps keys gets
nobody in who was met before. While it is away, those are let in that are known, and others asked to come later.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.task import deferLater
from twisted.logger import Logger

from p2pshare.core.back_off import BackOff
from p2pshare.errors import (
    KeyChanged,
    KnownPeersFull,
    KnownPeersUnusable,
    NoSuchPeer,
    P2pshareError,
)
from p2pshare.net.shared_answer import SharedAnswer
from p2pshare.net.sockets import IPeerReactor
from p2pshare.net.threads import run_in_thread
from p2pshare.peer.find.pins import Pins
from p2pshare.registry.client import RegistryClient
from p2pshare.storage.identity.known_peers import PEERS_MAX, KnownPeers
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.session_messages import Refusal

REMEMBER = 60.0  # seconds for which an answer of the registry holds
REMEMBER_NO = 5.0  # seconds for which a refusal holds
ANSWERS_MAX = 1024  # that are remembered
PINS_MAX = PEERS_MAX // 2  # names in the file up to which strangers can have themselves put into it
PATIENCE = 4.0  # seconds until a registry counts as away: less than an opener waits
RETRY_AFTER = 30  # seconds, where the registry does not say when it is back
RESOLVE_PAUSE, RESOLVE_PAUSE_MAX = 5.0, 300.0  # seconds between two looks for names that nobody has

T = TypeVar("T")


class NotAdmitted(Exception):  # noqa: N818 - it is named after what happened
    """Somebody is turned away."""

    def __init__(self, why: Refusal, retry_after: int = 0) -> None:
        super().__init__(why, retry_after)
        self.why = why
        self.retry_after = retry_after
        """Seconds."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """What is known of a key: a name, or why there is none."""

    verdict: str | NotAdmitted
    until: float
    """When it is to be asked again."""


class Admission:
    """Finds the names of those who open sessions."""

    _log = Logger()

    def __init__(
        self,
        reactor: IPeerReactor,
        client: RegistryClient,
        known: KnownPeers,
        *,
        answers_max: int = ANSWERS_MAX,
        pins_max: int = PINS_MAX,
    ) -> None:
        """Ask `client`, and hold peers to the keys in `known`.

        Args:
            reactor: what it runs on.
            client: the registry.
            known: the keys that were met.
            answers_max: answers that are remembered.
            pins_max: names in `known` from which on nobody is added who was not named by the user.
        """
        self._reactor = reactor
        self._client = client
        self._known = known
        self._pins = Pins(reactor, known, client)
        self._answers_max = answers_max
        self._pins_max = pins_max
        self._answers: OrderedDict[PublicKey, _Answer] = OrderedDict()  # the oldest first
        self._asking: dict[PublicKey, SharedAnswer[_Answer]] = {}

    async def admit(self, key: PublicKey) -> str:
        """The name of who has this key.

        Raises:
            NotAdmitted: there is none, or it is known by another key, or nobody can tell just now.
        """
        answer = self._answers.get(key)
        if answer is None or answer.until <= self._reactor.seconds():
            answer = await self._ask_once(key)
        if isinstance(answer.verdict, NotAdmitted):
            raise NotAdmitted(answer.verdict.why, answer.verdict.retry_after)
        return answer.verdict

    async def resolve(self, names: Iterable[str]) -> None:
        """Know names by their keys, each as soon as it has one: it returns once all are known. Cancel it to stop.

        Args:
            names: those that the user has named.
        """
        back_off, waiting = BackOff(RESOLVE_PAUSE, RESOLVE_PAUSE_MAX), list(names)
        while True:
            waiting = [name for name in waiting if not await self._is_resolved(name)]
            if not waiting:
                return
            pause = back_off.next_delay()
            if pause == RESOLVE_PAUSE:
                said = ", ".join(waiting)
                self._log.info(
                    "not in the registry yet, and so allowed nothing: {names}", names=said
                )
            await deferLater(self._reactor, pause)

    async def _is_resolved(self, name: str) -> bool:
        try:
            if await self._pins.key(name) is not None:
                return True
            view = await self._client.look_up_peer(name, by_registry_clock=True)
            if view.key is None:
                return False
            await self._pins.remember(name, view.key, None)
        except KnownPeersUnusable as error:
            self._log.error("{why}", why=str(error))
            return False
        except P2pshareError:
            return False
        return True

    def _ask_once(self, key: PublicKey) -> Deferred[_Answer]:
        """Ask, or wait for the answer to the same question."""
        asking = self._asking.get(key)
        if asking is None:
            asking = self._asking[key] = SharedAnswer(Deferred.fromCoroutine(self._ask(key)))
            asking.wait().addCallback(self._answered, key)
        return asking.wait()

    def _answered(self, answer: _Answer, key: PublicKey) -> None:
        del self._asking[key]
        self._answers.pop(key, None)
        self._answers[key] = answer
        while len(self._answers) > self._answers_max:
            self._answers.popitem(last=False)

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
            self._log.error("nobody is let in: {why}", why=str(error))
            verdict = NotAdmitted(Refusal.LATER, RETRY_AFTER)
        except (P2pshareError, TimeoutError) as error:  # the registry is away
            wait = error.fields.get("retry_after") if isinstance(error, P2pshareError) else None
            verdict = await self._without_registry(key, wait)
        except Exception:
            self._log.failure("nobody can say who opens a session")
            verdict = NotAdmitted(Refusal.LATER, RETRY_AFTER)
        return _Answer(verdict, self._reactor.seconds() + REMEMBER_NO)

    async def _without_registry(self, key: PublicKey, wait: object) -> str | NotAdmitted:
        try:
            names = await self._in_thread(self._known.names, key)
        except KnownPeersUnusable as damaged:
            self._log.error("nobody is let in: {why}", why=str(damaged))
            names = []
        if names:
            return names[0]
        return NotAdmitted(Refusal.LATER, wait if isinstance(wait, int) and wait else RETRY_AFTER)

    async def _look_up(self, key: PublicKey) -> str:
        name = await self._client.look_up_key(str(key))
        if name is None:
            raise NotAdmitted(Refusal.STRANGER)
        try:
            view = await self._client.look_up_peer(name, by_registry_clock=True)
        except NoSuchPeer:
            raise NotAdmitted(Refusal.STRANGER) from None
        if view.key != key:
            self._log.warn(
                "the registry says that {key} owns {name}, and that another key does",
                key=key.grouped,
                name=name,
            )
            raise NotAdmitted(Refusal.STRANGER)
        pinned = await self._pins.check(name, view)
        if pinned != key:
            await self._remember(name, key, pinned)
        return name

    async def _remember(self, name: str, key: PublicKey, pinned: PublicKey | None) -> None:
        """Pin the key of an opener. One that is met first is admitted even if its key cannot be pinned."""
        most = self._pins_max if pinned is None else PEERS_MAX
        try:
            await self._pins.remember(name, key, pinned, most)
        except KnownPeersUnusable as error:
            if pinned is not None:
                raise
            if not isinstance(error, KnownPeersFull):
                self._log.error("{name} is let in, but not remembered: {why}", name=name, why=error)

    async def _in_thread(self, work: Callable[..., T], *args: object) -> T:
        return await run_in_thread(self._reactor, work, *args)
