"""Names and folders that a verb has seen, remembered in the user's data folder for completion."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from p2pshare.net.threads import run_in_thread
from p2pshare.storage.identity.data_folder import peer_folder
from p2pshare.storage.identity.last_seen import Seen
from p2pshare.ui.invocation import Invocation
from p2pshare.wire.paths import RemotePath
from p2pshare.wire.transfer_messages import Entry, EntryKind


async def remember_names(
    invocation: Invocation, own_name: str | None, names: Iterable[str]
) -> None:
    """Remember names of peers."""
    await _remember(invocation, own_name, lambda seen: seen.saw_names(tuple(names)))


async def remember_entries(
    invocation: Invocation,
    own_name: str | None,
    peer: str,
    path: RemotePath,
    entries: Iterable[Entry],
    *,
    whole: bool = False,
) -> None:
    """Remember the entries of a folder.

    Args:
        invocation: the run of the command line.
        own_name: the user's name, if it is not that of the settings.
        peer: the owner of the folder.
        path: the folder.
        entries: its entries; those of folders below are left out.
        whole: whether these are all entries, so that others are forgotten.
    """
    names = {each.path[0]: each.kind is EntryKind.FOLDER for each in entries if len(each.path) == 1}
    await _remember(
        invocation, own_name, lambda seen: seen.saw_entries(peer, path, names, whole=whole)
    )


async def _remember(
    invocation: Invocation, own_name: str | None, saw: Callable[[Seen], None]
) -> None:
    """Call `saw` in a thread, unless the user has neither a name nor a data folder."""
    settings = invocation.settings
    name = own_name or settings.name
    if name is not None or settings.data is not None:
        seen = Seen(peer_folder(settings, name or ""))
        await run_in_thread(invocation.reactor, saw, seen)
