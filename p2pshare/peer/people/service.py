"""The people, as the actions `people` and `person` and the events `person` and `people` show them.

A row joins what three parts know of a name: the directory (`roster`), the pins (`trust`) and the open sessions
(`paths`). It is put together when it is asked for, so that ten thousand names cost no more than their sightings.

Nothing runs until somebody asks for `people`. From then on the list is kept up to date: as long as somebody follows
events, and otherwise for `LEASE` seconds after the last question. Changes are collected for `COLLECT` seconds. So many
that they would flood a follower become one event `people`, after which the follower asks for the list again.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pshare.errors import KeyChanged, KeyGone, NoSuchPeer, Unreachable
from p2pshare.names import NAME_MAX, read_name
from p2pshare.net.threads import run_in_thread
from p2pshare.peer.control import Action, Fields
from p2pshare.peer.find.pins import Pins
from p2pshare.peer.health import shown_error
from p2pshare.peer.people.looks import Looks
from p2pshare.peer.people.paths import OpenPaths
from p2pshare.peer.people.roster import Roster, Sighting
from p2pshare.peer.people.trust import Trust
from p2pshare.peer.running import RunningPeer
from p2pshare.storage.identity.known_peers import KnownPeers
from p2pshare.storage.identity.last_seen import Seen
from p2pshare.web.exchange import Route
from p2pshare.wire.comparison import comparison_code, comparison_text
from p2pshare.wire.keys import TEXT_SIZE, PublicKey
from p2pshare.wire.strict_json import boolean, integer, text
from p2pshare.wire.transfer_messages import Listing

LEASE = 600.0  # seconds after the last question for which the list is kept up to date
LOOK_EVERY = 1.0  # seconds between two looks at the pins and at the sessions
COLLECT = 0.2  # seconds in which changes are collected
CHANGES_MAX = 200  # changes that are told one by one; more become one event
ROWS_MAX = 500  # people in a reply: more would hold the event loop for too long
OLD_AFTER = 3.0  # seconds without changes after which the list counts as old: streams end regularly, and begin again
CLOCKS_DIFFER = 2.0  # seconds: a registry tells its time in whole seconds
LIST_PATIENCE = 5.0  # seconds that a question waits for the first list
QR_BORDER = 4  # light modules around a QR code, as the standard wants it


class People:
    """Shows people, and what the user knows of their keys."""

    _log = Logger()

    def __init__(self, peer: RunningPeer) -> None:
        """Show people to the user of a peer."""
        self._reactor = peer.reactor
        self._wall = peer.wall
        self._name = peer.place.name
        self._key = peer.key
        self._standing = peer.standing
        self._trouble = peer.trouble
        self._directory = peer.directory
        self._events = peer.events
        known = KnownPeers(peer.folder, peer.place.slot, wall=peer.wall)
        waiting = peer.sessions.admission.waiting
        self._trust = Trust(peer.reactor, known, peer.place.is_lan, waiting, self._changed)
        self._pins = Pins(peer.reactor, known, peer.directory)
        self._roster = Roster(
            peer.reactor,
            self._registry_time,
            peer.offers.presence,
            self._sighted,
            self._trust.is_pinned,
        )
        self._looks = Looks(peer.reactor, Seen(peer.folder), peer.wall, self._changed)
        peer.browsing.listings.on_look = self._looked
        self._paths = OpenPaths(lambda: peer.sessions.open_sessions, lambda: peer.network.networks)
        peer.dialler.on_open = self._paths.dialled
        self._sorted: list[str] | None = None  # all names; None if some were added or have gone
        self._connected: Mapping[str, dict[str, Any]] = {}
        self._was_online = False
        self._dirty: dict[str, None] = {}
        self._flushing: IDelayedCall | None = None
        self._looking: IDelayedCall | None = None
        self._asked_at = 0.0
        self._told: Fields | None = None  # the state of the list that somebody was told last
        self._has_stopped = False

    @property
    def actions(self) -> Mapping[str, Action]:
        """What verbs and the page may ask for."""
        return {
            "people": self._people,
            "person": self._person,
            "compared": self._compared,
            "forget": self._forget,
        }

    @property
    def is_looking(self) -> bool:
        """Whether the list is kept up to date now."""
        return self._looking is not None

    def table(self) -> Mapping[bytes, Route]:
        """Return no routes."""
        return {}

    async def start(self) -> None:
        """Do nothing before somebody asks."""

    async def stop(self) -> None:
        """Stop following. May be called again."""
        self._has_stopped = True
        self._rest()

    async def _people(self, request: Fields) -> Fields:
        """Return a page of the list."""
        fields = {"after": "", "search": "", "offline": True, "limit": ROWS_MAX, **request}
        after, search = text(fields, "after", NAME_MAX), text(fields, "search", NAME_MAX).lower()
        with_offline, most = boolean(fields, "offline"), integer(fields, "limit", 1, ROWS_MAX)
        await self._wake()
        await self._roster.complete(LIST_PATIENCE)
        rows: list[dict[str, Any]] = []
        for name in self._names_after(after):
            if search not in name or not (with_offline or self._online_of(name) is not False):
                continue
            if len(rows) == most:
                return {"people": rows, "more": True, **self._about_list()}
            rows.append(self._row(name))
        return {"people": rows, "more": False, **self._about_list()}

    def _about_list(self) -> Fields:
        """Return the state of the list, and remember it as told."""
        roster, since = self._roster, self._roster.old_since
        is_old = since is not None and self._registry_time() - since >= OLD_AFTER
        trouble = None
        if is_old or not roster.is_complete:
            trouble = roster.trouble or (None if roster.is_current else self._trouble())
        self._told = about = {
            "complete": roster.is_complete,
            "left_out": roster.left_out,
            "trouble": None if trouble is None else shown_error(trouble),
            "old_since": self._by_own_clock(int(since)) if since is not None and is_old else None,
        }
        return about

    async def _person(self, request: Fields) -> Fields:
        """Return all that is known of somebody, with the key that the directory shows now."""
        name = read_name(text(dict(request), "name", NAME_MAX))
        await self._wake()
        if name == self._name:
            return {**self._row(name), **_details(self._key().public, None, None)}
        key = await self._key_of(name)
        pin = self._trust.pin(name)
        comparison, own = None, self._key().public
        if key is not None and key != own:
            names = self._name, name
            comparison = await run_in_thread(self._reactor, _comparison_of, own, key, names)
        row = self._row(name)
        if pin is not None and key != pin.key and row["trust"] == "compared":
            row["trust"] = "known"  # a new key that the old one has signed was compared with nobody
        return {
            **row,
            "key": None if key is None else str(key),
            **_details(key, pin.since or None if pin else None, comparison),
        }

    async def _key_of(self, name: str) -> PublicKey | None:
        """Return the key that the directory shows for a name, or else the one that is known or waits.

        Raises:
            NoSuchPeer: nobody has the name, and nobody had it.
        """
        pin, waiting = self._trust.pin(name), self._trust.waiting_key(name)
        own = pin.key if pin is not None else waiting
        try:
            view = await self._directory.look_up_peer(name, by_registry_clock=True)
        except NoSuchPeer:
            if own is None:
                raise
            return own
        except Unreachable:
            return own
        try:
            await self._pins.check(name, view)
        except KeyChanged:
            self._trust.show_changed(name, view.key)
        except KeyGone:
            return own
        else:
            self._trust.show_changed(name, None)
        return view.key

    async def _compared(self, request: Fields) -> Fields:
        """Remember that the user has compared a key with its owner."""
        fields = dict(request)
        name = read_name(text(fields, "name", NAME_MAX))
        key = PublicKey.parse(text(fields, "key", TEXT_SIZE))
        pin = self._trust.pin(name)
        if pin is not None and pin.key != key:  # the old one may have signed it
            view = await self._directory.look_up_peer(name, by_registry_clock=True)
            pinned = await self._pins.check(name, view)
            if view.key == key:
                await self._pins.remember(name, key, pinned)
        await self._trust.compared(name, key)
        return self._row(name)

    async def _forget(self, request: Fields) -> Fields:
        """Forget the key of somebody, so that the next one is accepted."""
        name = read_name(text(dict(request), "name", NAME_MAX))
        key = await self._trust.forget(name)
        await self._looks.forget(name)
        return {"name": name, "key": str(key)}

    async def _wake(self) -> None:
        """Keep the list up to date from now on."""
        self._asked_at = self._reactor.seconds()
        if self._looking is None and not self._has_stopped:
            self._roster.start()
            self._looking = self._reactor.callLater(LOOK_EVERY, self._look)
            await self._trust.refresh()
            await self._looks.read()
            self._look_at_sessions()

    def _looked(self, name: str, listing: Listing) -> None:
        """Remember what the user has seen of somebody's shares."""
        remembering = Deferred.fromCoroutine(self._looks.saw(name, listing))
        remembering.addErrback(self._not_refreshed)

    def _look(self) -> None:
        """Look at what nobody tells: the pins that another process has changed, and the paths of sessions."""
        self._looking = None
        is_wanted = self._events.is_followed
        if not is_wanted and self._reactor.seconds() - self._asked_at >= LEASE:
            self._rest()
            return
        self._looking = self._reactor.callLater(LOOK_EVERY, self._look)
        self._look_at_sessions()
        before = self._told
        if before is not None and before != (now := self._about_list()):
            again = now["complete"] and not before["complete"]
            self._events.publish("people", **now, again=again)
        refreshing = Deferred.fromCoroutine(self._trust.refresh())
        refreshing.addErrback(self._not_refreshed)

    def _look_at_sessions(self) -> None:
        before, self._connected = self._connected, self._paths.by_name()
        for name in before.keys() | self._connected.keys():
            if before.get(name) != self._connected.get(name):
                self._changed(name)
        was_online, self._was_online = self._was_online, self._is_online()
        if was_online is not self._was_online:
            self._changed(self._name)

    def _not_refreshed(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self._log.failure("people not looked at", failure)

    def _rest(self) -> None:
        self._roster.stop()
        for timer in (self._looking, self._flushing):
            if timer is not None and timer.active():
                timer.cancel()
        self._looking = self._flushing = None
        self._dirty.clear()
        self._sorted, self._told, self._connected = None, None, {}

    def _sighted(self, name: str) -> None:
        """Take a change of the directory. While the list is read for the first time, nobody has heard of it yet."""
        if self._roster.is_complete:
            self._changed(name)
        else:
            self._sorted = None

    def _changed(self, name: str) -> None:
        """Tell of a name soon."""
        self._sorted = None if self._is_new_or_gone(name) else self._sorted
        if self._looking is None or not self._roster.is_running:
            return
        if len(self._dirty) <= CHANGES_MAX:
            self._dirty[name] = None
        if self._flushing is None:
            self._flushing = self._reactor.callLater(COLLECT, self._flush)

    def _is_new_or_gone(self, name: str) -> bool:
        if self._sorted is None:
            return True
        at = bisect_right(self._sorted, name)
        is_listed = at > 0 and self._sorted[at - 1] == name
        return is_listed is not self._exists(name)

    def _flush(self) -> None:
        self._flushing = None
        dirty, self._dirty = self._dirty, {}
        if not self._events.is_followed:
            return
        if len(dirty) > CHANGES_MAX:
            self._events.publish("people", **self._about_list(), again=True)
            return
        for name in dirty:
            if self._exists(name):
                self._events.publish("person", **self._row(name))
            else:
                self._events.publish("person", name=name, removed=True)

    def _exists(self, name: str) -> bool:
        return self._roster.sighting(name) is not None or name == self._name or name in self._trust

    def _names_after(self, after: str) -> Iterator[str]:
        if self._sorted is None:
            self._sorted = sorted({*self._roster.names, *self._trust.names, self._name})
        names = self._sorted
        for at in range(bisect_right(names, after), len(names)):
            yield names[at]

    def _is_online(self) -> bool:
        return bool(self._standing()["online"])

    def _online_of(self, name: str) -> bool | None:
        if name == self._name:
            return self._is_online()
        sighting = self._roster.sighting(name)
        return self._absent().online if sighting is None else sighting.online

    def _absent(self) -> Sighting:
        """Return the sighting of somebody whom the directory does not list."""
        return Sighting(False if self._roster.is_complete else None)

    @property
    def _clock_ahead(self) -> float:
        """Seconds by which the clock of this machine is ahead of the directory's, if that can be told."""
        ahead = self._directory.clock_ahead_s or 0.0
        return ahead if abs(ahead) >= CLOCKS_DIFFER else 0.0

    def _registry_time(self) -> float:
        return self._wall() - self._clock_ahead

    def _by_own_clock(self, at: int | None) -> int | None:
        """Return a time of the directory, which may claim any, by the clock of this machine: never one to come."""
        return None if at is None else min(at + round(self._clock_ahead), int(self._wall()))

    def _row(self, name: str) -> dict[str, Any]:
        """Return what is shown of somebody in the list."""
        is_own = name == self._name
        sighting = self._roster.sighting(name) or self._absent()
        pin = self._trust.pin(name)
        key = self._key().public if is_own else pin.key if pin else self._trust.waiting_key(name)
        trust = "known" if is_own else self._trust.state(name, is_other=sighting.is_other)
        return {
            "name": name,
            "online": self._online_of(name),
            "since": self._standing()["since"] if is_own else self._by_own_clock(sighting.since),
            "own": is_own,
            "key": None if key is None else str(key),
            "trust": trust,
            "path": self._connected.get(name),
            "shares": self._looks.of(name) if trust in ("known", "compared") else None,
        }


def _details(
    key: PublicKey | None, pinned: int | None, comparison: _Comparison | None
) -> dict[str, Any]:
    return {
        "fingerprint": None if key is None else key.grouped,
        "pinned": pinned,
        "compare": None if comparison is None else comparison[0],
        "qr": [] if comparison is None else comparison[1],
    }


_Comparison = tuple[dict[str, str], list[str]]


def _comparison_of(own: PublicKey, other: PublicKey, names: tuple[str, str]) -> _Comparison:
    """Return the code, and the rows of its QR code. It takes a while: call it in a thread."""
    code = comparison_code(own, other)
    content = comparison_text(names, code)
    return {"code": code, "text": content}, qr_rows(content)


def qr_rows(content: str) -> list[str]:
    """Return the rows of the QR code of a text, with its border; "1" is a dark module."""
    import segno  # slow to import

    code = segno.make(content, error="m", micro=False)
    return [
        "".join("1" if dark else "0" for dark in row) for row in code.matrix_iter(border=QR_BORDER)
    ]
