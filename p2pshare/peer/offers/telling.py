"""Tells people things about offers until they have answered: at once, when they come online, and with back-off.

Each person has one `PersonSchedule`, and is told one thing at a time. What is to be told is kept in the ledger by the
caller, which asks for it again after a start.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pshare.core.offers.outgoing import PersonSchedule
from p2pshare.errors import P2pshareError, Refused
from p2pshare.names import ON_NETWORK
from p2pshare.net.clocks import LazyTimer
from p2pshare.peer.fetch.link_change import reason_of
from p2pshare.peer.offers.parts import OfferParts

T = TypeVar("T")


@dataclass(slots=True)
class _Person(Generic[T]):
    """Somebody who is to be told something."""

    schedule: PersonSchedule[T]
    timer: LazyTimer
    unwatch: Callable[[], object] = lambda: None
    """Ends the watch of the person's presence."""
    telling: Deferred[None] | None = None
    trouble: str = ""
    """Why the last try failed."""


class Telling(Generic[T]):
    """What all people are to be told."""

    _log = Logger()

    def __init__(
        self,
        parts: OfferParts,
        tell: Callable[[str, str, T], Awaitable[object]],
        on_change: Callable[[str], object] = lambda _: None,
    ) -> None:
        """Tell what is wanted.

        Args:
            parts: of the peer.
            tell: gets a name, the ID of an offer and what is to be told of it. If it raises a `P2pshareError`, the
                person is told again later.
            on_change: called with a name when the trouble with telling that person has changed.
        """
        self._parts = parts
        self._tell = tell
        self._on_change = on_change
        self._people: dict[str, _Person[T]] = {}
        self._has_stopped = False

    def want(self, name: str, offer_id: str, telling: T) -> None:
        """Tell a person something; it takes the place of what was to be told about the same offer."""
        if not self._has_stopped:
            person = self._people.get(name) or self._meet(name)
            person.schedule.want(offer_id, telling, self._parts.reactor.seconds())
            self._go_on(name)

    def forget(self, name: str, offer_id: str) -> None:
        """Tell nothing more about an offer."""
        if (person := self._people.get(name)) is not None:
            person.schedule.forget(offer_id)
            self._go_on(name)

    def trouble(self, name: str) -> str:
        """Return why the last try to tell a person failed; empty if it did not."""
        person = self._people.get(name)
        return "" if person is None else person.trouble

    def stop(self) -> None:
        """Tell nobody anything any more."""
        self._has_stopped = True
        for person in self._people.values():
            self._dismiss(person)
        self._people.clear()

    def _meet(self, name: str) -> _Person[T]:
        parts = self._parts
        schedule: PersonSchedule[T] = PersonSchedule(parts.rng)
        person = _Person(schedule, LazyTimer(parts.reactor, lambda: self._go_on(name)))
        self._people[name] = person

        def changed(is_online: bool) -> None:
            schedule.presence(is_online, parts.reactor.seconds())
            self._go_on(name)

        try:
            person.unwatch = parts.presence.watch(name.removesuffix(ON_NETWORK), changed)
        except Refused as error:
            self._log.warn("presence not watched: peer={peer} why={why}", peer=name, why=error)
        return person

    def _dismiss(self, person: _Person[T]) -> None:
        person.timer.cancel()
        person.unwatch()
        if person.telling is not None:
            person.telling.cancel()

    def _go_on(self, name: str) -> None:
        """Tell a person the next thing, if it is time for that."""
        person = self._people.get(name)
        if person is None or self._has_stopped:
            return
        if person.schedule.is_idle and person.telling is None:
            self._dismiss(self._people.pop(name))
        elif (due := person.schedule.next(self._parts.reactor.seconds())) is not None:
            person.telling = Deferred.fromCoroutine(self._try(name, person, *due))
            person.telling.addBoth(self._tried, name, person)
        else:
            person.timer.set(person.schedule.get_timer())

    def _tried(self, result: object, name: str, person: _Person[T]) -> None:
        person.telling = None
        if isinstance(result, Failure):
            if not result.check(CancelledError):
                self._log.failure("not told: peer={peer}", result, peer=name)
            person.schedule.failed(self._parts.reactor.seconds())
        self._go_on(name)

    async def _try(self, name: str, person: _Person[T], offer_id: str, telling: T) -> None:
        try:
            await self._tell(name, offer_id, telling)
        except P2pshareError as error:
            wait = error.fields.get("retry_after")
            at_least = wait if isinstance(wait, int) else 0.0
            person.schedule.failed(self._parts.reactor.seconds(), at_least)
            if person.trouble != reason_of(error):
                person.trouble = reason_of(error)
                self._log.info(
                    "not told: peer={peer} id={id} why={why}", peer=name, id=offer_id, why=error
                )
                self._on_change(name)
        else:
            person.trouble = ""
            person.schedule.told()
