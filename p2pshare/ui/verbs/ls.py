"""The verb `ls`: the shares and folders of a peer, shown page by page as they arrive."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rich.cells import cell_len, chop_cells

from p2pshare.errors import RemoteIsFile, RemoteProtocolError, WrongUsage
from p2pshare.peer.fetch.link_change import LinkChange, LinkState
from p2pshare.peer.fetch.plan import just_before
from p2pshare.peer.fetch.remote_faults import omission_errors
from p2pshare.storage.file_times import utc_time
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.output import Output
from p2pshare.ui.terminal.capabilities import Terminal
from p2pshare.ui.verbs.connection import announce, connection, finder_of, introduce
from p2pshare.ui.verbs.key import name_of
from p2pshare.ui.verbs.remote_arguments import parse_at, parse_where
from p2pshare.wire.paths import RemotePath, format_path
from p2pshare.wire.quantities import size_text
from p2pshare.wire.transfer_messages import PAGE_MAX, Entry, EntryKind, Listing

SIZE_WIDTH = len("1023.9 KiB")
GAP = "  "
COLUMNS_FOR_TIME = 48  # columns from which on the time is shown
COLUMNS_FOR_SIZE = 24  # columns from which on the size is shown

YOURSELF = "That is you: `p2pshare status` shows what you share."
NOTHING = "The folder is empty."
NOTHING_SHARED = "{name} shares nothing with you."


class Remote(Protocol):
    """The part of a `RemotePeer` that is used here."""

    async def list(
        self, path: RemotePath, after: RemotePath = (), limit: int = ..., *, recursive: bool = False
    ) -> Listing:
        """Request a page of a folder."""
        ...


async def ls(invocation: Invocation, where: str, *, recursive: bool, at: str | None = None) -> int:
    """List a folder or the shares of a peer; return the exit code, which is 1 if the peer left something out.

    Args:
        invocation: the run of the command line.
        where: `PEER` or `PEER:PATH`.
        recursive: list folders below it, too.
        at: the address of the peer, `IP:PORT`; None to look it up.

    Raises:
        WrongUsage: `where` is invalid, or the settings have no name.
        RemoteNotFound: the folder does not exist, or is not shared with the user.
        P2pshareError: the folder cannot be listed for another reason.
    """
    peer, path = parse_where(where)
    own, address = name_of(invocation.settings), parse_at(at)
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
    if first is not None:
        whole, children = not first.more and not recursive, first.children
        now = int(invocation.wall())
        await invocation.remember(
            own, lambda seen: seen.saw_entries(peer, path, children, whole=whole, at=now)
        )
    if not rows.count and not rows.omitted:
        invocation.output.remark(NOTHING if path else NOTHING_SHARED.format(name=peer))
    return 1 if rows.omitted else 0


async def show_all(
    remote: Remote, path: RemotePath, rows: Rows, *, recursive: bool
) -> Listing | None:
    """Show all pages of a folder, or a file; return the first page of a folder.

    Raises:
        RemoteProtocolError: a page does not continue the one before.
        P2pshareError: as for `RemotePeer.list`.
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
            raise RemoteProtocolError(reason="its list does not go on")  # or this would never end
        after = page.entries[-1].path


async def _show_file(remote: Remote, path: RemotePath, rows: Rows) -> bool:
    """Show a file as an entry of its folder; return whether the folder has it."""
    above = path[:-1]
    try:
        page = await remote.list(above, just_before(path[-1]))
    except RemoteIsFile:  # the peer contradicts itself
        return False
    entries = [entry for entry in page.entries if entry.path == path[-1:]]
    rows.above = above
    rows.show(entries)
    return bool(entries)


class Rows:
    """Entries as aligned columns on a terminal, as cells in a pipe, or as events.

    People see paths relative to the listed folder; programs see whole paths, as `get` takes them.
    """

    def __init__(self, output: Output, above: RemotePath, peer: str) -> None:
        """Show the entries of the folder `above` of `peer` on `output`."""
        self._output = output
        self._peer = peer
        self.above = above
        """The folder that is listed."""
        self.count = 0
        """The number of entries."""
        self.omitted = 0
        """The number of files and folders that the peer left out."""

    def show(self, entries: Sequence[Entry]) -> None:
        """Show more entries."""
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
        """Show what the peer left out of a page, as errors."""
        self.omitted += len(page.omitted) + page.unnamed
        for path, error in omission_errors(self._peer, self.above, page):
            self._output.failed(f"{self._peer}:{format_path(path)}", error)

    def _whole(self, entry: Entry) -> str:
        return format_path(self.above + entry.path)

    def _cells(self, entry: Entry) -> Sequence[str]:
        """Return an entry for a pipe: path, type, bytes, UTC time."""
        time = f"{utc_time(entry.mtime_ns):%Y-%m-%dT%H:%M:%SZ}"
        return self._whole(entry), entry.kind.value, str(entry.size), time


def row(entry: Entry, columns: int, screen: Terminal) -> list[str]:
    """Return an entry as lines: size, local time and name. In few columns the time is left out first, then the size."""
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
    """Remarks about a broken connection, one for each reason."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._said: str | None = None

    def link(self, change: LinkChange) -> None:
        """Process a change of the connection."""
        if change.state is LinkState.BROKEN and change.reason != self._said:
            self._said = change.reason
            self._output.event("remark", **{"from": change.name}, text=f"{change}.")
            self._output.remark(f"{change}.")
