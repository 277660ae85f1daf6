"""The verb `users`: who is registered and online, once or continuously."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

from rich.text import Text
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from p2pshare.errors import Refused, Unreachable, WrongUsage
from p2pshare.names import NAME_MAX, can_begin_name, canonical
from p2pshare.peer.find.directory import Directory
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.terminal.roster import LiveRoster, Roster, Rows, cells, classic_summary
from p2pshare.wire.registry_answers import PAGE_MAX, PeerSummary

LIST_AGAIN = 2.0  # seconds until a list that failed is requested again
REMEMBERED_MAX = 1000  # names, for completion
PENDING_MAX = 10_000  # changes that wait for the list

NOBODY = "Nobody is registered yet: `p2pshare --name NAME` makes you the first."
NOBODY_HERE = "Nobody is on this network: `p2pshare` on another machine of it makes it appear here."
NO_MATCH = "No user matches. `p2pshare users` lists all of them."
AWAY = "No answer from the registry, retrying."
BACK = "The registry answers again."
CANNOT_TELL = "This registry does not know who is online: these are all registered names."


async def users(
    invocation: Invocation, *, prefix: str = "", online: bool = False, watch: bool = False
) -> int:
    """List users; return the exit code.

    Args:
        invocation: the run of the command line.
        prefix: only names that begin with this.
        online: only users that are online, or may be: the presence of a classic name is unknown.
        watch: go on, and show each change.

    Raises:
        WrongUsage: no name can begin with the prefix; the registry was not asked.
        P2pshareError: the registry does not answer, or reports no changes.
    """
    prefix = _prefix(prefix)
    async with invocation.registry() as registry:
        info = await registry.info()
        if info is None:
            if watch:
                reason = f"The registry {registry.url} does not report changes: omit --watch."
                raise Refused(reason=reason)
            return await _list_classic(invocation, registry, prefix, online=online)
        ahead = info.time - invocation.wall()
        listing = Listing(invocation, lambda: invocation.wall() + ahead)
        if watch:
            await _Watch(invocation, registry, listing, prefix, online=online).run()
        batch: list[PeerSummary] = []
        names: list[str] = []
        async for peer in registry.peers(prefix, online):
            batch.append(peer)
            if len(names) < REMEMBERED_MAX and not peer.mark:
                names.append(peer.name)
            if len(batch) == PAGE_MAX:
                listing.show(batch)
                batch.clear()
        listing.show(batch)
        await invocation.remember(None, lambda seen: seen.saw_names(names))
    if not listing.has_shown:
        nobody = NOBODY if registry.keeps_names else NOBODY_HERE
        invocation.output.remark(NO_MATCH if prefix or online else nobody)
    return 0


def _prefix(text: str) -> str:
    if not text or (can_begin_name(text) and text == canonical(text)):
        return text
    meant = canonical(text)
    hint = f" Did you mean --prefix {meant}?" if can_begin_name(meant) else ""
    raise WrongUsage(
        reason=f"No name begins with {text[: 2 * NAME_MAX]!r}: names consist of a-z, 0-9 and, not at the beginning,"
        f" '.', '_' and '-'.{hint}"
    )


async def _list_classic(
    invocation: Invocation, registry: Directory, prefix: str, *, online: bool
) -> int:
    """List the names of an original registry, which knows nothing else."""
    names = sorted(name for name in await registry.list_names() if name.startswith(prefix))
    listing = Listing(invocation, invocation.wall)
    for start in range(0, len(names), PAGE_MAX):
        listing.show([classic_summary(name) for name in names[start : start + PAGE_MAX]])
    if not names:
        invocation.output.remark(NO_MATCH if prefix else NOBODY)
    elif online:
        invocation.output.remark(CANNOT_TELL)
    return 0


class Listing:
    """Peers as a table on a terminal, as lines in a pipe, or as events."""

    def __init__(self, invocation: Invocation, registry_time: Callable[[], float]) -> None:
        """Write to the output of `invocation`; `registry_time` returns the Unix time by the registry's clock."""
        self._output = invocation.output
        self._own = invocation.settings.name
        self._time = registry_time
        self.has_shown = False
        """Whether there was a peer."""

    def show(self, peers: Sequence[PeerSummary]) -> None:
        """Add peers to the list."""
        for peer in peers:
            mark = {"mark": peer.mark} if peer.mark else {}
            self._output.event("user", **peer.to_fields(), **mark)
        screen = self._output.screen()
        if screen is None or self._output.is_quiet:
            quiet = self._output.is_quiet
            self._output.rows([peer.label] if quiet else cells(peer) for peer in peers)
        elif peers:
            rows = Rows(screen.columns, (peer.label for peer in peers), self._own)
            header = [] if self.has_shown else [rows.header()]
            now = self._time()
            lines = Text("\n").join([*header, *(rows.row(peer, now) for peer in peers)])
            screen.console().print(lines, soft_wrap=True)
        self.has_shown |= bool(peers)

    def live(self) -> LiveRoster | None:
        """Return a live table, if the terminal can redraw."""
        screen = self._output.screen()
        if screen is None or not screen.redraws or self._output.is_quiet:
            return None
        return LiveRoster(screen, self._own, self._time)


class _Watch:
    """A list that is kept up to date, and shown as a live table or change by change.

    The registry streams changes, and says when changes may be missing. Then the whole list is requested again; changes
    that arrive in the meantime are applied to the new list, as they may be newer than it.
    """

    def __init__(
        self,
        invocation: Invocation,
        registry: Directory,
        listing: Listing,
        prefix: str,
        *,
        online: bool,
    ) -> None:
        self._clock = invocation.reactor
        self._rng = invocation.rng
        self._remark = invocation.output.remark
        self._registry = registry
        self._listing = listing
        self._prefix, self._online = prefix, online
        self._roster = Roster(prefix=prefix, online=online)
        self._live = listing.live()
        self._refreshing: Deferred[None] | None = None
        self._is_listing = False
        self._pending: list[PeerSummary] = []
        self._is_there = True
        self._failed: Deferred[None] = Deferred()

    async def run(self) -> None:
        """Go on until cancelled.

        Raises:
            P2pshareError: the registry refuses for good.
        """
        watching = Deferred.fromCoroutine(
            self._registry.watch(
                (), self._changed, self._reset, on_link=self._linked, rng=self._rng
            )
        )
        watching.addErrback(self._fail)
        try:
            if self._live is not None:
                self._live.start(self._clock, self._roster).addErrback(self._fail)
            await self._failed
        finally:
            watching.cancel()
            if self._refreshing is not None:
                self._refreshing.cancel()
            if self._live is not None:
                self._live.stop()

    def _linked(self, is_there: bool, _why: object) -> None:
        if self._live is not None:
            self._live.is_away = not is_there
            self._live.is_due = True
        elif is_there != self._is_there:
            self._remark(BACK if is_there else AWAY)
        self._is_there = is_there

    def _reset(self) -> None:
        """Request the whole list again."""
        if self._refreshing is not None:
            self._refreshing.cancel()
        self._is_listing, self._pending = True, []
        self._refreshing = Deferred.fromCoroutine(self._refresh())
        self._refreshing.addErrback(self._fail)

    async def _refresh(self) -> None:
        while True:
            with contextlib.suppress(Unreachable):
                peers = [peer async for peer in self._registry.peers(self._prefix, self._online)]
                break
            await deferLater(self._clock, LIST_AGAIN, lambda: None)
        self._is_listing = False
        self._show(self._roster.begin_again(peers))
        pending, self._pending = self._pending, []
        for peer in pending:
            self._changed(peer)

    def _changed(self, peer: PeerSummary) -> None:
        if not self._is_listing:
            if self._roster.change(peer):
                self._show([peer])
        elif len(self._pending) >= PENDING_MAX:
            self._reset()
        else:
            self._pending.append(peer)

    def _show(self, changed: Sequence[PeerSummary]) -> None:
        if self._live is None:
            self._listing.show(changed)
        else:
            self._live.has_list = self._live.is_due = True

    def _fail(self, failure: Failure) -> None:
        """End the verb with an error, such as that of a terminal that is gone."""
        if not failure.check(CancelledError) and not self._failed.called:
            self._failed.errback(failure)
