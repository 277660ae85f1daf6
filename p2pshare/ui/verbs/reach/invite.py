"""The verb `invite`: one link with which somebody joins the registry, or invitations for its operator to hand out."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import platformdirs
from twisted.internet.defer import Deferred, gatherResults

from p2pshare.errors import (
    InvitationNeeded,
    KeyUnusable,
    NoRegistry,
    NotFound,
    P2pshareError,
    RegistryHasNoOwners,
    RemoteProtocolError,
    Unreachable,
    WrongUsage,
)
from p2pshare.net.reach.interfaces import read_network
from p2pshare.peer.find.directory import Directory
from p2pshare.peer.registration import LOCAL_ONLY
from p2pshare.registry.api.authority import Authority
from p2pshare.storage.identity import key_file
from p2pshare.storage.identity.private_file import REGISTRY_KEY
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.output import Output
from p2pshare.ui.terminal.qr_code import qr_lines
from p2pshare.ui.verbs.remote_arguments import parse_where
from p2pshare.ui.verbs.whoami import data_folder, running
from p2pshare.wire.addresses import DEFAULT_PORTS, LAN, registry_url
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.paths import format_path
from p2pshare.wire.reach.join_links import URLS_MAX, JoinLink
from p2pshare.wire.registry_answers import RegistryInfo
from p2pshare.wire.statements import Invitation

KEY_NAME = REGISTRY_KEY
OWN_REGISTRY = "http://127.0.0.1:8000"
"""The URL of a registry on this machine that was started without options."""
INVITATION_LIFE = 7 * 86400  # seconds
ADDRESSES_MAX = 16  # addresses of this machine that are tried
TRY_TIMEOUT = 2.0  # seconds for each of them

NOT_REACHABLE = (
    "Others cannot reach the registry at {url}, which is an address of this machine for itself, and it does not listen"
    " on another one. Start it with `--listen tcp:{port}`, or pass --url with a URL at which others reach it"
)


async def invite(
    invocation: Invocation,
    place: str | None,
    *,
    life: int | None,
    urls: Sequence[str],
    invitation: str | None,
) -> int:
    """Print the link with which somebody joins the registry; return the exit code.

    Without a registry in the settings, it is the one on this machine, if one was ever started here.

    Args:
        invocation: the run of the command line.
        place: `PEER` or `PEER:PATH`, where to go after joining; None for the user, if a peer of the user runs here.
        life: seconds until the link expires; None for the default.
        urls: URLs of the registry as others reach it; empty to find out.
        invitation: the flag, if there is one: then the settings have an invitation for the link.

    Raises:
        WrongUsage: `place`, a URL or the invitation is invalid.
        NoSuchPeer: nobody has the name in `place`.
        RegistryHasNoOwners: the registry is an original one.
        NoRegistry: the user has none.
        InvitationNeeded: the registry requires an invitation, and its key is not on this machine.
        Unreachable: the registry does not answer, or others cannot reach it.
    """
    output, wall = invocation.output, invocation.wall
    if invocation.settings.registry == LAN and (_registry_folder() / KEY_NAME).exists():
        invocation = invocation.with_settings(registry=OWN_REGISTRY)
    told = [_url(each) for each in urls][:URLS_MAX]
    if place is not None:
        peer, path = parse_where(place)
        place = f"{peer}:{format_path(path)}" if path else peer
    async with invocation.registry() as registry:
        if not registry.keeps_names:
            raise NoRegistry(reason="peers on one network find each other, and need no invitation")
        info = await registry.info()
        if info is None:
            raise RegistryHasNoOwners(registry=registry.url)
        if place is not None:
            await registry.look_up_peer(peer)
        expires = None if life is None else int(wall()) + life
        permission = None
        if info.invite_only:
            given = invocation.settings.invitation if invitation else None
            permission = _permission(registry, info.key, given, life or INVITATION_LIFE, wall)
            expires = Invitation.parse(permission).statement.exp
        found = told or [each async for each in _reachable(invocation, registry, info)]
    status = await _own_status(invocation)
    if status is not None:
        place = place or str(status["name"])
        if status.get("loopback") and place.partition(":")[0] == status["name"]:
            output.remark(LOCAL_ONLY)
    link = JoinLink(info.key, tuple(dict.fromkeys(found))[:URLS_MAX], permission, place, expires)
    _show(output, link)
    return 0


def invitations(
    output: Output, data: str | None, life: int | None, count: int, wall: Callable[[], float]
) -> int:
    """Print invitations, one per line; return the exit code.

    Args:
        output: where to print them.
        data: the registry's data folder; None for the default folder.
        life: seconds for which an invitation is valid; None for the default.
        count: the number of invitations.
        wall: returns the Unix time in s.

    Raises:
        NotFound: no registry has its key in the folder.
        KeyUnusable: the key cannot be read.
    """
    folder = Path(data).expanduser().absolute() if data else _registry_folder()
    key = key_file.load(folder / KEY_NAME)
    if key is None:
        raise NotFound(
            reason=f"No registry has its key in {folder}. Run this on the machine of a registry that was started, as"
            " its user, and name its data folder with --data."
        )
    authority = Authority(key, wall, os.urandom)
    life = life or INVITATION_LIFE
    expires = int(wall()) + life
    for _ in range(count):
        invitation = authority.invite(life)
        output.event("invitation", invitation=invitation, expires=expires)
        output.result(invitation)
    output.remark(
        f"Each invitation is for one new name, until {_date(expires)}. To use it, save it to a file and run"
        " `p2pshare --name NAME --invitation FILE`."
    )
    return 0


def _registry_folder() -> Path:
    return platformdirs.user_data_path("p2pshare") / "registry"


def _date(at: int) -> str:
    return f"{datetime.fromtimestamp(at).astimezone():%Y-%m-%d %H:%M %Z}"


def _url(text: str) -> str:
    try:
        return registry_url(text)
    except ValueError:
        raise WrongUsage(reason=f"--url is {text!r}, but must be the URL of a registry.") from None


def _permission(
    registry: Directory,
    key: PublicKey,
    given: str | None,
    life: int,
    wall: Callable[[], float],
) -> str:
    """Return an invitation: the given one, or a new one if the registry's key is on this machine."""
    if given is not None:
        try:
            Invitation.read(given, key)
        except RemoteProtocolError:
            reason = f"The invitation is not one of the registry {registry.url}."
            raise WrongUsage(reason=reason) from None
        return given
    own = None
    with suppress(KeyUnusable):
        own = key_file.load(_registry_folder() / KEY_NAME)
    if own is None or own.public != key:
        raise InvitationNeeded(registry=registry.url)
    return Authority(own, wall, os.urandom).invite(life)


async def _own_status(invocation: Invocation) -> Mapping[str, Any] | None:
    """Return the status of the user's peer, if it runs here."""
    name = invocation.settings.name
    if name is None:
        return None
    async with running(invocation, await data_folder(invocation, name)) as peer:
        return None if peer is None else await peer.ask("status")


async def _reachable(
    invocation: Invocation, registry: Directory, info: RegistryInfo
) -> AsyncIterator[str]:
    """Yield URLs of the registry that others can reach, the best first.

    They are the URL in the settings and those that the operator has set. If these lead to the machine that uses them,
    they are the addresses of this machine at which the registry answers.

    Raises:
        Unreachable: there is none.
    """
    is_found = False
    for text in (registry.url, *info.urls):
        with suppress(ValueError):
            url = registry_url(text)
            if not _is_loopback(url):
                is_found = True
                yield url
    if is_found:
        return
    parts = urlsplit(registry.url)
    port = parts.port or DEFAULT_PORTS[parts.scheme]
    hosts = [f"[{each}]" if ":" in each else each for each in _own_addresses()]
    tried = [registry_url(f"{parts.scheme}://{host}:{port}") for host in hosts]
    answers = await gatherResults(
        [Deferred.fromCoroutine(_answers(invocation, url, info.key)) for url in tried]
    )
    for url, does_answer in zip(tried, answers, strict=True):
        if does_answer:
            is_found = True
            yield url
    if not is_found:
        raise Unreachable(reason=NOT_REACHABLE.format(url=registry.url, port=port))


def _own_addresses() -> list[str]:
    """Return the addresses of this machine that last, those of the default route first."""
    found = [each.ip for each in read_network().addresses if not each.is_temporary]
    return found[:ADDRESSES_MAX]


async def _answers(invocation: Invocation, url: str, key: PublicKey) -> bool:
    """Whether the registry with this key answers at a URL."""
    at = invocation.with_settings(registry=url)
    async with at.registry(known=key, timeout=TRY_TIMEOUT) as registry:
        try:
            return await registry.info() is not None
        except P2pshareError:
            return False


def _is_loopback(url: str) -> bool:
    """Whether each machine reaches itself at a URL."""
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return False
    return ip.is_loopback or ip.is_unspecified


def _show(output: Output, link: JoinLink) -> None:
    """Print the link, on a terminal also as a QR code."""
    text = str(link)
    output.event(
        "invite",
        link=text,
        registry=str(link.key),
        urls=link.urls,
        place=link.place,
        expires=link.expires,
        has_invitation=link.invitation is not None,
    )
    screen = output.screen()
    if screen is not None and not output.is_quiet:
        for line in qr_lines(text.upper(), screen):
            screen.stream.write(f"{line}\n")
    output.result(text)
    if link.invitation is not None:
        assert link.expires is not None
        output.remark(
            f"The link is for one new name, until {_date(link.expires)}. It contains an invitation, so treat it as a"
            " secret. On the other machine, run `p2pshare join LINK`."
        )
    else:
        until = "" if link.expires is None else f" until {_date(link.expires)}"
        output.remark(f"On the other machine, run `p2pshare join LINK`{until}.")
