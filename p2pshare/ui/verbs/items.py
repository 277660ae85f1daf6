"""What a user wants to get, and where it is to go: judged before anybody is asked for it."""

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


def parse_items(
    words: Sequence[str], own_name: str | None, cwd: Path, *, overwrite: bool
) -> dict[str, list[JobItem]]:
    """Read `PEER:PATH… [DEST]`; what is wanted of each peer, in the order of the words.

    Raises:
        WrongUsage: it cannot be understood, or not be done.
    """
    if "" in words:
        raise WrongUsage(reason="One of the words is empty: is a variable not set?")
    items, dest = split_words(words)
    parsed = [_parse_remote(item) for item in items]
    if any(peer == own_name for peer, _ in parsed):
        raise WrongUsage(reason=FROM_YOURSELF)
    folder, name = _destination(parsed, dest, cwd)
    jobs: dict[str, list[JobItem]] = {}
    for peer, path in parsed:
        jobs.setdefault(peer, []).append(JobItem(path, folder, name, overwrite))
    return jobs


def parse_where(word: str) -> tuple[str, RemotePath]:
    """Read `PEER`, `PEER:` or `PEER:PATH`; a slash at either end of the path says nothing.

    Raises:
        WrongUsage: it is none of these.
    """
    peer, colon, text = word.partition(":")
    if not colon:
        expect_no_slash(word)
    peer = read_name(peer)
    try:
        return peer, parse_path(text.strip("/"))
    except RemoteProtocolError as error:
        reason = str(error.fields["reason"]).replace("a component of the path", "a part of it")
        raise WrongUsage(reason=f"{text!r} cannot be a path at {peer}: {reason}.") from None


def expect_no_slash(word: str) -> None:
    """Make sure that a word without a colon is not `PEER/PATH`.

    Raises:
        WrongUsage: it is, and the sentence has it with a colon.
    """
    peer, slash, path = word.partition("/")
    if slash and is_name(canonical(peer)):
        raise WrongUsage(
            reason=f"{word!r} is no peer: a colon follows the name. Did you mean {f'{peer}:{path}'!r}?"
        )


def parse_at(text: str | None) -> PeerAddress | None:
    """Read the value of `--at`.

    Raises:
        WrongUsage: it is no IPv4 address with a port.
    """
    if text is None:
        return None
    try:
        address = PeerAddress.parse(text)
    except ValueError:
        address = None
    if address is None or address.is_ipv6 or not _may_be_named(address):
        raise WrongUsage(
            reason=f"--at is {text!r}, but must be an IPv4 address and a port, such as 192.0.2.7:50000."
        )
    return address


def _may_be_named(address: PeerAddress) -> bool:
    """Whether the user may name an address: a link-local one, too, since the user knows the link."""
    return address_fault(address.ip) is None or ipaddress.IPv4Address(address.ip).is_link_local


def _destination(
    parsed: Sequence[tuple[str, RemotePath]], dest: str | None, cwd: Path
) -> tuple[Path, str | None]:
    """The folder to which all goes, and what the only item is to be called there, if that was said."""
    if dest is not None and is_folder(dest, cwd):
        return cwd / dest, None
    if dest is not None and (len(parsed) > 1 or _is_glob(parsed[0][1])):
        what = f"{len(parsed)} items need" if len(parsed) > 1 else "A glob needs"
        how = "is a file" if os.path.lexists(cwd / dest) else "is none: make it first"
        raise WrongUsage(reason=f"{what} a folder to go to, and {dest!r} {how}.")
    folder, name = resolve_destination(dest, "", cwd)
    return folder, name or None


def _is_glob(path: RemotePath) -> bool:
    return any(character in component for component in path for character in "*?[")


def split_words(words: Sequence[str]) -> tuple[list[str], str | None]:
    """The items, and DEST."""
    items = list(words)
    if len(items) > 1 and not _is_item(items[-1]):
        return items[:-1], items[-1]
    return items, None


def _is_item(word: str) -> bool:
    """Whether a word is meant as PEER:FILE; a path with a colon can be written with a slash before it."""
    peer, colon, _ = word.partition(":")
    return bool(colon) and "/" not in peer


def _parse_remote(item: str) -> tuple[str, RemotePath]:
    peer, colon, _ = item.partition(":")
    if not colon:
        expect_no_slash(item)
        raise WrongUsage(
            reason=f"{item!r} does not say which file: write {item}:PATH, as `p2pshare ls {item}` shows them."
        )
    peer, path = parse_where(item)
    if not path:
        raise WrongUsage(
            reason=f"{item!r} does not say which file: `p2pshare ls {peer}` shows what there is, and '{peer}:*' is all"
            " of it."
        )
    return peer, path
