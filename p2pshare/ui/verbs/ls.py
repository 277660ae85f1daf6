"""The verb `ls`: what somebody shares, page by page as it comes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rich.cells import cell_len, chop_cells

from p2pshare.errors import RemoteIsFile, RemoteProtocolError, WrongUsage
from p2pshare.peer.fetch.link_change import LinkChange, LinkState
from p2pshare.peer.fetch.plan import just_before
from p2pshare.peer.fetch.remote_faults import omission_errors
from p2pshare.storage.file_times import utc_time
from p2pshare.ui.completion.memory import remember_entries
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.output import Output
from p2pshare.ui.terminal.capabilities import Terminal
from p2pshare.ui.verbs.connection import announce, connection, finder_of, introduce, name_of
from p2pshare.ui.verbs.items import parse_at, parse_where
from p2pshare.wire.paths import RemotePath, format_path
from p2pshare.wire.quantities import size_text
from p2pshare.wire.transfer_messages import PAGE_MAX, Entry, EntryKind, Listing

SIZE_WIDTH = len("1023.9 KiB")
GAP = "  "
COLUMNS_FOR_TIME = 48  # from here on there is room for a time
COLUMNS_FOR_SIZE = 24  # from here on there is room for a size

YOURSELF = "That is you: `p2pshare status` shows what you share."
NOTHING = "There is nothing in it."
NOTHING_SHARED = "{name} shares nothing with you."


class Remote(Protocol):
    """What is needed of a `RemotePeer`."""

    async def list(
        self, path: RemotePath, after: RemotePath = (), limit: int = ..., *, recursive: bool = False
    ) -> Listing:
        """Ask for a page of a folder."""
        ...


async def ls(invocation: Invocation, where: str, *, recursive: bool, at: str | None = None) -> int:
    """List what is in a folder of a peer, or its shares; returns the exit code, 1 if the peer left something out.

    Args:
        invocation: the run of the command line.
        where: the folder.
        recursive: list what is below, too.
        at: the address of the peer, `IP:PORT`, if it is not to be looked up.

    Raises:
        WrongUsage: `where` is no place, or it is not said who asks.
        RemoteNotFound: there is none, or none for who asks.
        P2pshareError: it cannot be listed for another reason.
    """
    peer, path = parse_where(where)
    own, address = name_of(invocation), parse_at(at)
    if peer == own:
        raise WrongUsage(reason=YOURSELF)
    rows = Rows(invocation.output, path, peer)
    async with invocation.registry() as registry:
        finder = finder_of(invocation, registry, own, address)
        me, looking_up = await introduce(invocation, registry, finder, peer)
        found = await looking_up
        found.expect_sessions()
        announce(invocation, found)
        try:
            async with connection(
                invocation, me, finder, found, Troubles(invocation.output).link
            ) as remote:
                first = await show_all(remote, path, rows, recursive=recursive)
        finally:
            invocation.output.end_failures()
    if first is not None:  # for who completes words
        whole = not first.more and not recursive
        await remember_entries(invocation, own, peer, path, first.entries, whole=whole)
    if not rows.count and not rows.omitted:
        invocation.output.remark(NOTHING if path else NOTHING_SHARED.format(name=peer))
    return 1 if rows.omitted else 0


async def show_all(
    remote: Remote, path: RemotePath, rows: Rows, *, recursive: bool
) -> Listing | None:
    """Show each page as it comes, of however many there are; returns the first, if it is a folder.

    Raises:
        RemoteProtocolError: the pages do not go on.
        P2pshareError: what `RemotePeer.list` raises.
    """
    after: RemotePath = ()
    first: Listing | None = None
    while True:
        try:
            page = await remote.list(path, after, PAGE_MAX, recursive=recursive)
        except RemoteIsFile:
            if not await _show_file(remote, path, rows):
                raise
            return None
        rows.show(page.entries)
        rows.show_omitted(page)
        first = first or page
        if not page.more:
            return first
        if not page.entries or page.entries[-1].path <= after:
            raise RemoteProtocolError(reason="its list does not go on")  # or there would be no end
        after = page.entries[-1].path


async def _show_file(remote: Remote, path: RemotePath, rows: Rows) -> bool:
    """Show a file, which is an entry of the folder that it is in."""
    above = path[:-1]
    try:
        page = await remote.list(above, just_before(path[-1]))
    except RemoteIsFile:  # it contradicts itself
        return False
    entries = [entry for entry in page.entries if entry.path == path[-1:]]
    rows.above = above
    rows.show(entries)
    return bool(entries)


class Rows:
    """Shows entries: as aligned columns on a terminal, as lines with tabs in a pipe, as events.

    People see a path as it goes on from the folder that is listed; programs see all of it, as `get` takes it.
    """

    def __init__(self, output: Output, above: RemotePath, peer: str) -> None:
        """Show the entries of the folder `above` of `peer` on `output`."""
        self._output = output
        self._peer = peer
        self.above = above
        """What is listed."""
        self.count = 0
        """Entries that were shown."""
        self.omitted = 0
        """Files and folders that the peer left out."""

    def show(self, entries: Sequence[Entry]) -> None:
        """Show some more."""
        self.count += len(entries)
        for entry in entries:
            self._output.event(
                "entry",
                path=self._whole(entry),
                type=entry.kind.value,
                size=entry.size,
                mtime=entry.mtime_ns // 1000 / 1e6,
            )
        screen = self._output.screen()
        if screen is not None and not self._output.is_quiet:
            columns = screen.columns
            lines = [line for entry in entries for line in row(entry, columns, screen)]
            if lines:
                screen.stream.write("\n".join(lines) + "\n")
                screen.stream.flush()
        elif self._output.is_quiet:
            self._output.rows([self._whole(entry)] for entry in entries)
        else:
            self._output.rows(self._cells(entry) for entry in entries)

    def show_omitted(self, page: Listing) -> None:
        """Say what the peer left out of a page."""
        self.omitted += len(page.omitted) + page.unnamed
        for path, error in omission_errors(self._peer, self.above, page):
            self._output.failed(f"{self._peer}:{format_path(path)}", error)

    def _whole(self, entry: Entry) -> str:
        return format_path(self.above + entry.path)

    def _cells(self, entry: Entry) -> Sequence[str]:
        """An entry as a pipe gets it: path, type, bytes, UTC."""
        time = f"{utc_time(entry.mtime_ns):%Y-%m-%dT%H:%M:%SZ}"
        return self._whole(entry), entry.kind.value, str(entry.size), time


def row(entry: Entry, columns: int, screen: Terminal) -> list[str]:
    """An entry in lines of so many columns: size, local time and name. Of few columns the time is left out first."""
    folder = entry.kind is EntryKind.FOLDER
    head = ""
    if columns >= COLUMNS_FOR_SIZE:
        head += f"{'folder' if folder else size_text(entry.size):>{SIZE_WIDTH}}{GAP}"
    if columns >= COLUMNS_FOR_TIME:
        head += f"{utc_time(entry.mtime_ns).astimezone():%Y-%m-%d %H:%M}{GAP}"
    name = screen.shown(format_path(entry.path)) + ("/" if folder else "")
    width = max(1, columns - len(head))
    if cell_len(name) <= width:
        return [head + name]
    first, *rest = chop_cells(name, width)
    return [head + first, *(" " * len(head) + each for each in rest)]


class Troubles:
    """Says that it takes longer, and why: once, however often it is tried again for that reason."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._said: str | None = None

    def link(self, change: LinkChange) -> None:
        """Know how it stands with the session."""
        if change.state is LinkState.BROKEN and change.reason != self._said:
            self._said = change.reason
            self._output.event("remark", **{"from": change.name}, text=f"{change}.")
            self._output.remark(f"{change}.")
