"""The shares of a peer, which change while it runs: those of its command line, and those that were added and are kept.

A change is written first, durably, and takes effect after that. Then `on_change` is called, and the peer shows the new
shares, stops transfers of what is not shared any more, and tells followers. Sessions stay open.

A share may end by time, or after a number of downloads (`download_counts`). A download is counted before its first byte
goes out, in the thread that opens the file, and written first if the number matters. So neither a crash nor a peer that
confirms nothing makes room for one more.

The verb `share` uses this class also while no peer runs. It holds the lock of the data folder then, and nothing is
served.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pshare.errors import NoSuchShare, SharesUnusable, WrongUsage
from p2pshare.names import ON_NETWORK, read_viewer
from p2pshare.net.sockets import IPeerReactor
from p2pshare.net.threads import run_in_thread
from p2pshare.peer.control import Action, Fields, page
from p2pshare.peer.share.download_counts import Downloads
from p2pshare.storage.shares.arguments import (
    SHARES_MAX,
    SharedPath,
    Viewer,
    check_share_name,
    check_shareable,
)
from p2pshare.storage.shares.kept import (
    ALLOWED_MAX,
    COUNT_MAX,
    EXPIRY_MAX,
    NAME_TEXT_MAX,
    PATH_TEXT_MAX,
    KeptShare,
    KeptShares,
    row_of,
)
from p2pshare.storage.shares.rules import PATTERN_MAX, PATTERNS_MAX, Rules
from p2pshare.wire.display import display
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.strict_json import boolean, integer, text, texts

LOOK_EVERY = 60.0  # seconds between two looks at the wall clock, which may be set, or go on while the machine sleeps


class _Live:
    """A share, with its counted downloads."""

    def __init__(self, kept: KeptShare, now: float, *, is_kept: bool) -> None:
        self.shared = kept.shared
        self.expires = kept.expires
        self.is_kept = is_kept
        self.downloads = Downloads(kept.count, kept.downloads, kept.downloading, now)

    @property
    def visible(self) -> SharedPath:
        """The share as viewers see it now."""
        if not self.downloads.is_full:
            return self.shared
        return replace(self.shared, keys=frozenset(self.downloads.keys))

    def to_keep(self) -> KeptShare:
        """Return what is written of it."""
        counted = self.downloads
        return KeptShare(self.shared, self.expires, counted.most, counted.count, counted.keys)


class LiveShares:
    """The shares. `load` them first."""

    _log = Logger()

    def __init__(
        self,
        reactor: IPeerReactor,
        wall: Callable[[], float],
        store: KeptShares,
        fixed: Sequence[SharedPath] | None,
        private: Iterable[Path] = (),
        *,
        is_lan: bool = False,
    ) -> None:
        """Keep shares in `store`.

        Args:
            reactor: for threads and timers.
            wall: the Unix time in s.
            store: where added shares are kept.
            fixed: the shares of the command line; None if nothing is shared now, not even what is kept.
            private: folders that are never shared.
            is_lan: whether there is no registry.
        """
        self._reactor = reactor
        self._wall = wall
        self._store = store
        self._fixed = fixed
        self._private = tuple(private)
        self._is_lan = is_lan
        self._rows: dict[str, _Live] = {}
        self._lock = threading.Lock()  # of the rows; never held while the disk is waited for
        self._writing = threading.Lock()  # of the file, in threads; taken before the other one
        self._changing = DeferredLock()  # one change at a time
        self._timer: IDelayedCall | None = None
        self._is_active = False
        self.shares: tuple[SharedPath, ...] = ()
        """What is shared now."""
        self.on_change: Callable[[], object] = lambda: None
        """Called when `shares` has changed."""
        self.on_row: Callable[[Fields, bool], object] = lambda row, is_removed: None
        """Called with a share that was added or changed, or has ended."""
        self.left_out: Callable[[str], Any] = lambda name: None
        """Returns what is left out of a share, as members of a status; None if that is not counted yet."""

    def keep_private(self, folder: Path) -> None:
        """Never share a folder from now on.

        Raises:
            WrongUsage: a part of it is shared, or it is a part of what is shared.
        """
        for each in self.shares:
            if folder.is_relative_to(each.path) or each.path.is_relative_to(folder):
                reason = f"{folder} cannot be the inbox folder: it is shared as {each.name!r}, or contains that share."
                raise WrongUsage(reason=reason)
        if folder not in self._private:
            self._private = (*self._private, folder)

    def load(self) -> None:
        """Read what is kept. Shares that have ended meanwhile are left out. This blocks.

        Raises:
            SharesUnusable: the file cannot be used.
        """
        now = self._reactor.seconds()
        kept = [
            _Live(
                replace(each, shared=replace(each.shared, private=self._private)), now, is_kept=True
            )
            for each in self._store.read()
        ]
        rows = {each.name: _Live(KeptShare(each), now, is_kept=False) for each in self._fixed or ()}
        for row in kept:
            name = row.shared.name
            if name in rows:
                self._log.warn(
                    "share not used: share={share}. Another one of the command line has its name.",
                    share=display(name),
                )
            elif not self._has_ended(row):
                rows[name] = row
        self._rows = rows
        self._is_active = self._fixed is not None
        self._show()

    async def stop(self) -> None:
        """Write the counts that were not written yet. May be called at any time."""
        is_active, self._is_active = self._is_active, False
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if is_active and any(row.downloads.count for row in self._kept(self._rows)):
            try:
                await run_in_thread(self._reactor, self._write_again)
            except SharesUnusable as error:
                self._log.warn("downloads not counted: {why}", why=error)

    @property
    def uncounted(self) -> tuple[SharedPath, ...]:
        """What is shared now without a limit on downloads."""
        return tuple(each for each in self.shares if self._rows[each.name].downloads.most is None)

    def surveyed(self, name: str) -> None:
        """Tell followers that what is left out of a share has been counted, or has changed."""
        if (row := self._rows.get(name)) is not None and self._is_active:
            self.on_row(self._shown(row), False)

    @property
    def actions(self) -> Mapping[str, Action]:
        """What verbs may ask for."""
        return {
            "shares": self._list,
            "share_add": self._add,
            "share_remove": self._remove,
            "share_allow": self._allow,
        }

    # Downloads

    def begin(self, viewer: Viewer, name: str) -> bool:
        """Note that a file of a share is opened for a viewer, in any thread; return False if it may not be sent.

        Raises:
            SharesUnusable: the number of downloads matters, and cannot be written.
        """
        with self._lock:
            row = self._rows.get(name)
            if row is None:
                return True
            if row.downloads.most is None:
                before = row.downloads.count
                may = row.downloads.begin(viewer.key, self._reactor.seconds())
                if row.downloads.count != before:
                    self._reactor.callFromThread(self._counted, name)
                return may
        with self._writing:
            with self._lock:
                before = row.downloads.count
                may = row.downloads.begin(viewer.key, self._reactor.seconds())
                if row.downloads.count == before:
                    return may
                kept = self._to_keep(self._rows)
            try:
                self._store.write(kept)
            except SharesUnusable:
                with self._lock:
                    row.downloads.forget(viewer.key)
                raise
        self._reactor.callFromThread(self._counted, name)
        return True

    def attach(self, name: str, key: PublicKey) -> None:
        """Note that a session fetches from a share."""
        with self._lock:
            if (row := self._rows.get(name)) is not None:
                row.downloads.attach(key)

    def detach(self, name: str, key: PublicKey, *, is_complete: bool) -> None:
        """Note that a session fetches no more from a share; `is_complete` if the peer said that its job has ended."""
        with self._lock:
            row = self._rows.get(name)
            if row is None:
                return
            row.downloads.detach(key, self._reactor.seconds(), is_complete=is_complete)
            is_full = row.downloads.is_full
        if is_full and self._is_active:
            self._look()

    def _counted(self, name: str) -> None:
        if (row := self._rows.get(name)) is not None and self._is_active:
            self._show()
            self.on_row(self._shown(row), False)

    # Ends

    def _has_ended(self, row: _Live) -> bool:
        is_expired = row.expires is not None and row.expires <= self._wall()
        return is_expired or row.downloads.is_over

    def _look(self) -> None:
        """End the shares whose time or number of downloads has come, and look again when the next may end."""
        now = self._reactor.seconds()
        with self._lock:
            for row in self._rows.values():
                row.downloads.expire(now)
            ended = [row for row in self._rows.values() if self._has_ended(row)]
            self._rows = {
                name: row
                for name, row in self._rows.items()
                if not any(row is each for each in ended)
            }
        self._show()
        for row in ended:
            why = "downloads" if row.downloads.is_over else "time"
            name = display(row.shared.name)
            self._log.info("share ended: share={share} why={why}", share=name, why=why)
            self.on_row(self._shown(row), True)
        if ended:
            writing = self._changing.run(run_in_thread, self._reactor, self._write_again)
            writing.addErrback(self._not_written)

    def _write_again(self) -> None:
        with self._writing:
            with self._lock:
                kept = self._to_keep(self._rows)
            self._store.write(kept)

    def _not_written(self, failure: Failure) -> None:
        """Go on without the file: a share that has ended is left out by `load`, too."""
        failure.trap(SharesUnusable)
        self._log.warn("ended share not removed: {why}", why=failure.value)

    def _show(self) -> None:
        """Show the shares as they are now, and arrange the next look."""
        before = self.shares
        if self._is_active:
            self.shares = tuple(row.visible for row in self._rows.values())
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        wall, now = self._wall(), self._reactor.seconds()
        waits = [row.expires - wall for row in self._rows.values() if row.expires is not None]
        pauses = [row.downloads.next_expiry() for row in self._rows.values()]
        waits += [each - now for each in pauses if each is not None]
        if waits and self._is_active:
            wait = max(0.0, min(LOOK_EVERY, *waits))
            self._timer = self._reactor.callLater(wait, self._look)
        if self.shares != before:
            self.on_change()

    # Actions

    async def _list(self, request: Fields) -> Fields:
        """Return the shares."""
        return page(request, "shares", self._rows.items(), self._shown)

    async def _add(self, request: Fields) -> Fields:
        """Share something."""
        row = self._read(request)
        name = row.shared.name

        def change(rows: dict[str, _Live]) -> None:
            if name in rows:
                raise WrongUsage(
                    reason=f"A share named {name!r} exists already. Remove it first, or choose another name (--as)."
                )
            if len(rows) >= SHARES_MAX:
                raise WrongUsage(reason=f"At most {SHARES_MAX} files and folders can be shared.")
            rows[name] = row

        await run_in_thread(self._reactor, check_shareable, row.shared, self._private)
        await self._change(change)
        return self._told(row)

    async def _remove(self, request: Fields) -> Fields:
        """End a share."""
        name = text({**request}, "name", PATH_TEXT_MAX)
        removed: list[_Live] = []

        def change(rows: dict[str, _Live]) -> None:
            removed.append(_found(rows, name))
            del rows[name]

        await self._change(change)
        return self._told(removed[0], is_removed=True)

    async def _allow(self, request: Fields) -> Fields:
        """Change who may see a share."""
        name, allow = text({**request}, "name", PATH_TEXT_MAX), self._read_allow(request)
        changed: list[_Live] = []

        def change(rows: dict[str, _Live]) -> None:
            row = rows[name] = copy(_found(rows, name))
            row.shared = replace(row.shared, allow=allow)
            changed.append(row)

        await self._change(change)
        return self._told(changed[0])

    async def _change(self, change: Callable[[dict[str, _Live]], object]) -> None:
        """Change the rows in a thread, one change at a time: they are written, and then shown.

        Raises:
            WrongUsage, NoSuchShare: the change is not possible.
            SharesUnusable: it cannot be written, and has no effect.
        """

        def do() -> None:
            with self._writing:
                with self._lock:
                    before, rows = self._rows, dict(self._rows)
                    change(rows)
                    kept = self._to_keep(rows)
                if self._kept(rows) != self._kept(before):
                    self._store.write(kept)
                with self._lock:
                    ended = before.keys() - self._rows.keys()  # meanwhile
                    self._rows = {name: row for name, row in rows.items() if name not in ended}

        def done(_: object = None) -> None:
            self._show()

        def run() -> Deferred[None]:
            doing: Deferred[None] = run_in_thread(self._reactor, do, abandoned=done)
            return doing.addCallback(done)

        await self._changing.run(run)

    def _to_keep(self, rows: Mapping[str, _Live]) -> list[KeptShare]:
        """Return what is written of the rows."""
        return [row.to_keep() for row in self._kept(rows)]

    def _kept(self, rows: Mapping[str, _Live]) -> list[_Live]:
        return [row for row in rows.values() if row.is_kept]

    def _told(self, row: _Live, *, is_removed: bool = False) -> Fields:
        shown = self._shown(row)
        self._log.info(
            "share {what}: share={share}",
            what="removed" if is_removed else "added or changed",
            share=display(row.shared.name),
        )
        self.on_row(shown, is_removed)
        return shown

    def _read(self, request: Fields) -> _Live:
        """Read a new share.

        Raises:
            RemoteProtocolError: a field is not valid.
            WrongUsage: it cannot be shared so.
        """
        fields = {key: value for key, value in request.items() if value is not None}
        path = Path(text(fields, "path", PATH_TEXT_MAX))
        if not path.is_absolute() or "\0" in str(path):
            raise WrongUsage(reason=f"{str(path)!r} is not an absolute path.")
        name = text({"name": path.name, **fields}, "name", PATH_TEXT_MAX)
        check_share_name(name, path)
        exclude = texts({"exclude": [], **fields}, "exclude", PATTERNS_MAX, PATTERN_MAX)
        rules = Rules.of(exclude, hidden=boolean({"hidden": False, **fields}, "hidden"))
        expires = count = None
        if "expires_s" in fields:
            expires = int(self._wall()) + integer(fields, "expires_s", 1, EXPIRY_MAX)
        if "count" in fields:
            count = integer(fields, "count", 1, COUNT_MAX)
        allow = self._read_allow(request)
        shared = SharedPath(name, path, allow, private=self._private, rules=rules)
        now = self._reactor.seconds()
        return _Live(KeptShare(shared, expires, count), now, is_kept=True)

    def _read_allow(self, request: Fields) -> frozenset[str] | None:
        if request.get("allow") is None:
            return None
        names = texts({**request}, "allow", ALLOWED_MAX, NAME_TEXT_MAX)
        allow = frozenset(map(read_viewer, names))
        if ON_NETWORK in allow and not self._is_lan:
            raise WrongUsage(reason=f"--allow {ON_NETWORK} is for peers without a registry.")
        return allow

    def _shown(self, row: _Live) -> Fields:
        told = row_of(row.to_keep())
        del told["downloading"]
        return {**told, "left_out": self.left_out(row.shared.name), "kept": row.is_kept}


def _found(rows: Mapping[str, _Live], name: str) -> _Live:
    row = rows.get(name)
    if row is None:
        known = ", ".join(map(repr, sorted(rows))) or "nothing"
        raise NoSuchShare(share=name, known=known)
    return row
