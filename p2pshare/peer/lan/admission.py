"""Admission without a registry: the owner accepts a key once, and the key then has its name.

TLS has proven the opener's key. What it calls itself (`Hello.name`) proves nothing; it is what the owner is asked
about. The names and keys are in the data folder, in the list of known keys, under two headings:

    lan             keys by name: met when files were fetched from them, or accepted
    lan accepted    the keys that may see shares

    key             name that it says     result
    accepted        any                   admitted, under the name by which it was accepted
    pinned          any                   the same, if the name is in `--allow`
    neither         known by another key  refused: `CHANGED`
    neither         unknown               admitted as a stranger (`NAME@lan`) if a share is open to the whole network
    neither         unknown               the same if it offers files, and the owner takes offers of this key, or if the
                                          owner has offered something to this key
    neither         unknown               otherwise refused: `WAITING`; the owner is asked, and the opener comes again

Anybody can make keys and invent names, so what waits is bounded. When the table is full, a new key takes the place of
the one that has not come again for the longest time, and none of one that still waits. Questions to the owner have a
rate limit. The owner can always accept a key by its whole text.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.logger import Logger

from p2pshare.errors import KeyChanged, KnownPeersUnusable, NotFound, RemoteProtocolError
from p2pshare.names import ON_NETWORK
from p2pshare.net.sockets import IPeerReactor
from p2pshare.net.threads import run_in_thread
from p2pshare.peer.share.admission import RETRY_AFTER, NotAdmitted
from p2pshare.storage.identity.data_folder import LAN_PLACE
from p2pshare.storage.identity.known_peers import KnownPeers
from p2pshare.storage.shares.arguments import EVERYONE_ACCEPTED
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.session_messages import Purpose, Refusal

ACCEPTED = f"{LAN_PLACE} accepted"
"""The heading of accepted keys in the list of known keys."""
COME_AGAIN = 3  # seconds after which an opener that waits comes again
WAITING_MAX = 32  # keys that wait
PER_NAME_MAX = 4  # of them with one name
WAITING_LIFE = 900.0  # seconds after its last visit until a key does not wait any more
STALE = 4.0 * COME_AGAIN  # seconds after which a key that has not come again gives way
QUESTIONS_MAX = 10  # questions to the owner in `QUESTIONS_TIME`
QUESTIONS_TIME = 60.0  # seconds
PART_MIN = 8  # characters of a key that name it


@dataclass(slots=True)
class _Waiting:
    """A key that the owner is asked about."""

    name: str
    """What it calls itself."""
    key: PublicKey
    last: float
    """When it came last, in seconds of the clock."""


class AcceptedPeers:
    """The keys that are accepted, and the names that they have. All methods block."""

    def __init__(self, folder: Path, wall: Callable[[], float] = lambda: 0.0) -> None:
        """Use the lists in a data folder; `wall` returns the Unix time in s."""
        self.pins = KnownPeers(folder, LAN_PLACE, wall=wall)
        self.accepted = KnownPeers(folder, ACCEPTED, wall=wall)

    def name_of(self, key: PublicKey, allowed: Collection[str]) -> str | None:
        """Return the name by which a key is admitted, if it is; `allowed` are names of which pinned keys are."""
        pinned = self.pins.names(key)
        for name in self.accepted.names(key):
            if name in pinned:
                return name
        return next((name for name in pinned if name in allowed), None)

    def accept(self, name: str, key: PublicKey) -> None:
        """Accept a key under a name.

        Raises:
            KeyChanged: another key is known for the name.
            KnownPeersUnusable: the list cannot be written, or is full.
        """
        known = self.pins.pin(name, key, None)
        if known != key:
            raise KeyChanged(name=name, known=known.grouped, now=key.grouped)
        before = self.accepted.key(name)
        if before != key:
            self.accepted.pin(name, key, before)

    def forget(self, name: str) -> PublicKey | None:
        """Remove a name; return the key that was pinned."""
        self.accepted.forget(name)
        return self.pins.forget(name)


class LanAdmission:
    """Finds the names of openers, and asks the owner about new ones."""

    _log = Logger()
    everyone = EVERYONE_ACCEPTED
    """Who sees a share without `--allow`."""

    def __init__(
        self,
        reactor: IPeerReactor,
        folder: Path,
        own_name: str,
        allowed: Iterable[str] = (),
        *,
        wall: Callable[[], float] = lambda: 0.0,
        on_question: Callable[[str, PublicKey], object] = lambda *_: None,
        waiting_max: int = WAITING_MAX,
        per_name_max: int = PER_NAME_MAX,
    ) -> None:
        """Admit keys that the owner has accepted.

        Args:
            reactor: for threads and the time.
            folder: the data folder.
            own_name: the owner's, which nobody else has here.
            allowed: names that see a share by `--allow`, and `ON_NETWORK` if one is open to the network.
            wall: the Unix time in s.
            on_question: called when a key begins to wait, with the name that it says.
            waiting_max: keys that wait.
            per_name_max: those of them with one name.
        """
        self._reactor = reactor
        self._peers = AcceptedPeers(folder, wall)
        self._own_name = own_name
        self._allowed = frozenset(allowed)
        self._on_question = on_question
        self._waiting_max = waiting_max
        self._per_name_max = per_name_max
        self.takes_offers: Callable[[Collection[str]], bool] = lambda _pinned: False
        """Returns whether the owner takes offers of a key; called with the names under which it is pinned."""
        self.has_offered: Callable[[PublicKey], bool] = lambda _key: False
        """Returns whether the owner has offered something to a key."""
        self._waiting: dict[PublicKey, _Waiting] = {}  # the one that came last at the end
        self._asked: deque[float] = deque(maxlen=QUESTIONS_MAX)  # when questions were asked

    async def admit(self, key: PublicKey, said: str, purpose: Purpose | None = None) -> str:
        """Return the name of an opener, with `ON_NETWORK` behind it if nobody has accepted its key.

        Args:
            key: the opener's.
            said: what it calls itself.
            purpose: what it wants.

        Raises:
            NotAdmitted: the owner has not accepted the key, or knows another one for the name.
        """
        try:
            name = await run_in_thread(self._reactor, self._peers.name_of, key, self._allowed)
            if name is not None:
                self._waiting.pop(key, None)
                return name
            known = await run_in_thread(self._reactor, self._peers.pins.key, said)
            pinned = await run_in_thread(self._reactor, self._peers.pins.names, key)
        except KnownPeersUnusable as error:
            self._log.error("nobody is admitted: {why}", why=error)
            raise NotAdmitted(Refusal.LATER, RETRY_AFTER) from error
        if not said:
            raise NotAdmitted(Refusal.STRANGER)
        if known not in (None, key) or said == self._own_name:
            self._log.warn("opener refused: name={name} key={key}", name=said, key=key.grouped)
            raise NotAdmitted(Refusal.CHANGED)
        is_offering = purpose is Purpose.OFFER
        may_offer = is_offering and self.takes_offers(pinned)
        if ON_NETWORK in self._allowed or may_offer or self.has_offered(key):
            return f"{said}{ON_NETWORK}"
        if is_offering:  # that is no reason to ask the owner
            raise NotAdmitted(Refusal.STRANGER)
        if not self._wait(key, said):
            raise NotAdmitted(Refusal.LATER, RETRY_AFTER)
        raise NotAdmitted(Refusal.WAITING, COME_AGAIN)

    async def resolve(self, names: Iterable[str]) -> None:
        """Let in the keys of the names in `--allow`, and log of which of them no key is known."""
        self._allowed = frozenset(names)
        try:
            known = await run_in_thread(self._reactor, self._peers.pins.all)
        except KnownPeersUnusable as error:
            self._log.error("nobody is admitted: {why}", why=error)
            return
        unknown = sorted(self._allowed - {ON_NETWORK, *known})
        if unknown:
            self._log.info(
                "not accepted yet: names={names}. You are asked when they come first.",
                names=", ".join(unknown),
            )

    async def accept(self, name: str, part: str = "") -> PublicKey:
        """Accept a key, whose owner may be waiting; return the key.

        Args:
            name: the name that it has from now on.
            part: the key, or its beginning if it waits; empty if only one with this name waits or is known.

        Raises:
            NotFound: no such key waits, or several do.
            KeyChanged: another key is known for the name.
            KnownPeersUnusable: the list cannot be written, or is full.
        """
        known = await run_in_thread(self._reactor, self._peers.pins.key, name)
        waiting = [each.key for each in self._still_waiting() if each.name == name]
        key = chosen_key(name, part, known, waiting)
        await run_in_thread(self._reactor, self._peers.accept, name, key)
        self._waiting.pop(key, None)
        self._log.info("accepted: name={name} key={key}", name=name, key=key.grouped)
        return key

    def waiting(self) -> list[dict[str, Any]]:
        """Return the keys that wait, as members of the peer's status."""
        return [{"name": each.name, "key": str(each.key)} for each in self._still_waiting()]

    def _still_waiting(self) -> list[_Waiting]:
        now = self._reactor.seconds()
        self._waiting = {
            key: each for key, each in self._waiting.items() if now - each.last < WAITING_LIFE
        }
        return list(self._waiting.values())

    def _wait(self, key: PublicKey, said: str) -> bool:
        """Let a key wait; whether there is a place for it."""
        now, before = self._reactor.seconds(), self._waiting.pop(key, None)
        if before is None:
            waiting = self._still_waiting()
            of_name = [each for each in waiting if each.name == said]
            for those, most in ((of_name, self._per_name_max), (waiting, self._waiting_max)):
                if len(those) >= most:
                    if now - those[0].last < STALE:
                        return False
                    del self._waiting[those[0].key]
                    break
        self._waiting[key] = _Waiting(said, key, now)
        if before is None or before.name != said:
            self._ask(key, said, now)
        return True

    def _ask(self, key: PublicKey, said: str, now: float) -> None:
        if len(self._asked) == QUESTIONS_MAX and now - self._asked[0] < QUESTIONS_TIME:
            return
        self._asked.append(now)
        self._log.info("waits to be accepted: name={name} key={key}", name=said, key=key.grouped)
        self._on_question(said, key)


def chosen_key(
    name: str, part: str, known: PublicKey | None, waiting: Collection[PublicKey]
) -> PublicKey:
    """Return the key that a user means who accepts a name.

    Args:
        name: the name.
        part: the key or its beginning, with or without spaces; empty for the only one.
        known: the pinned key.
        waiting: the keys that wait under this name.

    Raises:
        NotFound: none or several are meant.
    """
    wanted = "".join(part.split()).lower()
    try:
        return PublicKey.parse(wanted)
    except RemoteProtocolError:
        pass
    if wanted and len(wanted) < PART_MIN:
        reason = f"{part!r} is too short: name at least {PART_MIN} characters of the key"
        raise NotFound(reason=reason)
    keys = dict.fromkeys([*waiting, *([] if known is None else [known])])
    found = [each for each in keys if str(each).startswith(wanted)]
    command = f"`p2pshare peers accept {name} KEY`"
    if not found:
        what = f"No key that begins with {wanted}" if wanted else "No key"
        raise NotFound(
            reason=f"{what} waits under the name {name!r}. `p2pshare peers` shows those that do, while your peer runs."
            f" Or give the whole key: {command}"
        )
    if len(found) > 1:
        shown = ", ".join(each.grouped for each in found)
        raise NotFound(
            reason=f"Several keys use the name {name!r}: {shown}. Ask {name!r} which one is right, and add it:"
            f" {command}"
        )
    return found[0]
