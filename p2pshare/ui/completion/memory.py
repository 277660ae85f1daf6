"""What a verb has seen of others, kept for who completes words while nobody can be asked."""

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
    """Remember names in the data folder of the user; who has none remembers nothing."""
    seen = _seen(invocation, own_name)
    if seen is not None:
        await _in_thread(invocation, lambda: seen.saw_names(tuple(names)))


async def remember_entries(
    invocation: Invocation,
    own_name: str | None,
    peer: str,
    path: RemotePath,
    entries: Iterable[Entry],
    *,
    whole: bool = False,
) -> None:
    """Remember what is in a folder of a peer, likewise.

    Args:
        invocation: whose data folder it is.
        own_name: the user's own name.
        peer: whose folder it is.
        path: the folder.
        entries: what was seen in it; of a listing that goes deeper, only what is in the folder itself counts.
        whole: nothing else is in it.
    """
    seen = _seen(invocation, own_name)
    if seen is not None:
        names = {
            each.path[0]: each.kind is EntryKind.FOLDER for each in entries if len(each.path) == 1
        }
        await _in_thread(invocation, lambda: seen.saw_entries(peer, path, names, whole=whole))


def _seen(invocation: Invocation, own_name: str | None) -> Seen | None:
    settings = invocation.settings
    name = own_name or settings.name
    if name is None and settings.data is None:
        return None
    return Seen(peer_folder(settings, name or ""))


async def _in_thread(invocation: Invocation, work: Callable[[], None]) -> None:
    await run_in_thread(invocation.reactor, work)
