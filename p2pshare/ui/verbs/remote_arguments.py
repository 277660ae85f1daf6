"""The words of `get` and `ls`: which items of which peers, and the destination. They are read first."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from pathlib import Path

from p2pshare.errors import RemoteProtocolError, WrongUsage
from p2pshare.names import canonical, is_name, read_name
from p2pshare.peer.fetch.plan import JobItem
from p2pshare.storage.incoming.destination import is_folder, resolve_destination
from p2pshare.wire.addresses import PeerAddress, address_fault
from p2pshare.wire.paths import RemotePath, parse_path

FROM_YOURSELF = "You cannot get files from yourself."
WHICH_FILE = (
    "write {peer}:PATH. `p2pshare ls {peer}` lists the paths, and '{peer}:*' means all of them"
)


def parse_items(
    words: Sequence[str],
    own_name: str | None,
    cwd: Path,
    *,
    overwrite: bool,
    update: bool = False,
    which_file: str = WHICH_FILE,
) -> dict[str, list[JobItem]]:
    """Read `PEER:PATH… [DEST]`; return the items of each peer, in the order of the words.

    Args:
        words: the items, and the destination.
        own_name: the user's name.
        cwd: the folder that a relative destination starts from.
        overwrite: replace existing files.
        update: replace files that are as they were fetched.
        which_file: what to do about an item without a path; it may contain `{peer}`.

    Raises:
        WrongUsage: the words are invalid, or the destination cannot take the items.
    """
    if "" in words:
        raise WrongUsage(reason="One of the words is empty: is a variable not set?")
    items, dest = list(words), None
    if len(items) > 1 and not _is_item(items[-1]):
        dest = items.pop()
    parsed = [_parse_remote(item, which_file) for item in items]
    if any(peer == own_name for peer, _ in parsed):
        raise WrongUsage(reason=FROM_YOURSELF)
    folder, name = _destination([path for _, path in parsed], dest, cwd)
    jobs: dict[str, list[JobItem]] = {}
    for peer, path in parsed:
        jobs.setdefault(peer, []).append(JobItem(path, folder, name, overwrite, update))
    return jobs


def parse_where(word: str) -> tuple[str, RemotePath]:
    """Read `PEER`, `PEER:` or `PEER:PATH`; slashes at the ends of the path are ignored.

    Raises:
        WrongUsage: the word is none of these.
    """
    peer, colon, text = word.partition(":")
    if not colon:
        _expect_no_slash(word)
    peer = read_name(peer)
    try:
        return peer, parse_path(text.strip("/"))
    except RemoteProtocolError as error:
        reason = str(error.fields["reason"]).replace("a component of the path", "a part of it")
        raise WrongUsage(reason=f"{text!r} cannot be a path at {peer}: {reason}.") from None


def parse_at(text: str | None) -> PeerAddress | None:
    """Read the value of `--at`. A link-local IPv4 address is allowed, since the user knows the link.

    Raises:
        WrongUsage: it is not the IP address of a machine, with a port.
    """
    if text is None:
        return None
    try:
        address = PeerAddress.parse(text)
    except ValueError:
        address = None
    if address is None or not (
        address_fault(address.ip) is None
        or (not address.is_ipv6 and ipaddress.IPv4Address(address.ip).is_link_local)
    ):
        raise WrongUsage(
            reason=f"--at is {text!r}, but must be an IP address and a port, such as 192.0.2.7:50000 or"
            " [2001:db8::7]:50000."
        )
    return address


def _expect_no_slash(word: str) -> None:
    """Reject `PEER/PATH`, and suggest `PEER:PATH`."""
    peer, slash, path = word.partition("/")
    if slash and is_name(canonical(peer)):
        raise WrongUsage(
            reason=f"{word!r} is not a peer: a colon follows the name. Did you mean {f'{peer}:{path}'!r}?"
        )


def _destination(
    paths: Sequence[RemotePath], dest: str | None, cwd: Path
) -> tuple[Path, str | None]:
    """Return the destination folder, and the new name of the only item if the destination is one."""
    if dest is not None and is_folder(dest, cwd):
        return cwd / dest, None
    is_glob = any(character in component for component in paths[0] for character in "*?[")
    if dest is not None and (len(paths) > 1 or is_glob):
        what = f"{len(paths)} items need" if len(paths) > 1 else "A glob needs"
        how = "is a file" if os.path.lexists(cwd / dest) else "does not exist: make it first"
        raise WrongUsage(reason=f"{what} a destination folder, but {dest!r} {how}.")
    folder, name = resolve_destination(dest, "", cwd)
    return folder, name or None


def _is_item(word: str) -> bool:
    """Whether a word is an item; a local path with a colon can be written with a slash before the colon."""
    peer, colon, _ = word.partition(":")
    return bool(colon) and "/" not in peer


def _parse_remote(item: str, which_file: str) -> tuple[str, RemotePath]:
    peer, path = parse_where(item)
    if not path:
        hint = which_file.format(peer=peer)
        raise WrongUsage(reason=f"{item!r} does not say which file: {hint}.")
    return peer, path
