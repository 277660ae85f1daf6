"""The peers that were heard on the local network, within bounds that strangers cannot push.

A peer repeats its announcement every `REPEAT` seconds. One that was not heard for `LIFETIME` is gone: it has crashed,
or its machine is suspended. Multicast DNS itself keeps records for more than a quarter of an hour.

Anybody can announce any number of names and keys. When the table is full, a new peer is left out, and not an old one
displaced. A peer whose key is known always has a place, so that a flood does not hide the user's friends.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from p2pshare.peer.lan.announcement import Announcement
from p2pshare.wire.keys import PublicKey

REPEAT = 10.0  # seconds between two announcements of a peer
LIFETIME = 2.5 * REPEAT  # seconds without an announcement after which a peer is gone
SERVICES_MAX = 512  # peers; beyond that only known ones
PER_NAME_MAX = 4  # with one name
PER_HOST_MAX = 32  # with one address

_Place = tuple[str, PublicKey]


@dataclass(frozen=True, slots=True)
class Service:
    """A peer that was heard."""

    announcement: Announcement
    heard: float
    """When it was heard last, in seconds of the clock."""


class Services:
    """The peers that were heard, by name and key."""

    def __init__(
        self,
        is_known: Callable[[str, PublicKey], bool],
        *,
        services_max: int = SERVICES_MAX,
        per_name_max: int = PER_NAME_MAX,
        per_host_max: int = PER_HOST_MAX,
    ) -> None:
        """Keep peers within bounds.

        Args:
            is_known: whether a name has this key, as far as the user knows; such a peer always has a place.
            services_max: peers from which on others have none.
            per_name_max: the same for those with one name.
            per_host_max: the same for those with one address.
        """
        self._is_known = is_known
        self._services_max = services_max
        self._per_name_max = per_name_max
        self._per_host_max = per_host_max
        self._services: dict[_Place, Service] = {}
        self._names: Counter[str] = Counter()
        self._hosts: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Service]:
        """Iterate over all peers, by name and key."""
        for _, service in sorted(self._services.items(), key=lambda each: _order(each[0])):
            yield service

    def heard(self, announcement: Announcement, now: float) -> bool:
        """Note an announcement; return whether it says anything new."""
        place = announcement.name, announcement.key
        before = self._services.get(place)
        if before is None and not self._has_room(announcement):
            return False
        if before is not None:
            self._remove(before)
        self._services[place] = Service(announcement, now)
        self._names[announcement.name] += 1
        self._hosts.update(_hosts(announcement))
        return before is None or before.announcement != announcement

    def left(self, instance: str) -> list[Announcement]:
        """Remove the peers of an instance, and return them."""
        gone = [each for each in self._services.values() if each.announcement.instance == instance]
        return [self._remove(each) for each in gone]

    def expire(self, now: float) -> list[Announcement]:
        """Remove the peers that were not heard for `LIFETIME`, and return them."""
        gone = [each for each in self._services.values() if now - each.heard >= LIFETIME]
        return [self._remove(each) for each in gone]

    def count(self, name: str) -> int:
        """Return how many peers have a name."""
        return self._names[name]

    def named(self, name: str) -> list[Service]:
        """Return the peers with a name."""
        if not self._names[name]:
            return []
        return [each for each in self._services.values() if each.announcement.name == name]

    def of_key(self, key: PublicKey) -> list[Service]:
        """Return the peers with a key."""
        return [each for each in self._services.values() if each.announcement.key == key]

    def _remove(self, service: Service) -> Announcement:
        announcement = service.announcement
        del self._services[announcement.name, announcement.key]
        for counter, counted in (
            (self._names, {announcement.name}),
            (self._hosts, _hosts(announcement)),
        ):
            counter.subtract(counted)
            for each in counted:
                if not counter[each]:
                    del counter[each]
        return announcement

    def _has_room(self, new: Announcement) -> bool:
        if self._is_known(new.name, new.key):
            return True
        return (
            len(self._services) < self._services_max
            and self._names[new.name] < self._per_name_max
            and all(self._hosts[each] < self._per_host_max for each in _hosts(new))
        )


def _hosts(announcement: Announcement) -> set[str]:
    return {each.ip for each in announcement.addresses}


def _order(place: _Place) -> tuple[str, str]:
    return place[0], str(place[1])
