"""The verbs `status` and `stop`, for the running peer of the user."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from twisted.internet.task import deferLater

from p2pshare.errors import PeerNotRunning, ServiceDoesNotEnd, WrongUsage
from p2pshare.names import ON_NETWORK
from p2pshare.peer.control import ControlClient
from p2pshare.peer.registration import LOCAL_ONLY, Elsewhere, elsewhere_text
from p2pshare.peer.share.service import left_out_text
from p2pshare.storage.locks import UNKNOWN, FolderLock, is_process
from p2pshare.storage.shares.arguments import allowed_text
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.verbs.whoami import data_folder, running
from p2pshare.wire.addresses import LAN
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.offers.messages import MOUNT
from p2pshare.wire.quantities import duration_text, rate_text, size_text

CURRENT_SHOWN = 3  # files of one session
ALLOWED_SHOWN = 10  # names
KINDS = {
    "given": "given by you",
    "forwarded": "forwarded by the router",
    "host": "of an interface",
    "seen": "seen by the registry",
    "mapped": "mapped by the NAT, UDP only",
}
"""How a peer knows an address, in words."""
MAPPINGS = {
    "none": "There is no NAT in front of this machine.",
    "independent": "A NAT in front of this machine maps the UDP port to one address for all others.",
    "dependent": "A NAT in front of this machine maps the UDP port to another address for each destination, so many"
    " others reach it through the relay only.",
    "blocked": "The registry does not answer over UDP: a firewall may block it.",
}
"""What is known of the NAT, in words."""
PRIVATE = "It publishes no address (--private): others reach it through the relay only."
STOP_MAX = 5.0  # seconds that `stop` waits; a peer ends within 2
EXIT_MAX = 1.0  # seconds more for a process that has released its folder
STOP_INTERVAL = 0.05  # seconds between two checks of the lock of the data folder


async def status(invocation: Invocation) -> int:
    """Show what the running peer shares and who fetches from it; return the exit code.

    Raises:
        WrongUsage: the settings have no name.
        PeerNotRunning: no peer runs.
        PeerNotAnswering: the peer does not answer.
    """
    async with _the_running_peer(invocation) as (peer, _folder):
        told = await peer.ask("status")
    invocation.output.event("status", **told)
    for line in lines(told):
        invocation.output.result(line)
    return 0


async def stop(invocation: Invocation) -> int:
    """Stop the running peer, and return when it is gone; return the exit code.

    Raises:
        WrongUsage: the settings have no name.
        PeerNotRunning: no peer runs.
        PeerNotAnswering: the peer does not answer.
        ServiceDoesNotEnd: the peer still runs after `STOP_MAX`.
    """
    async with _the_running_peer(invocation) as (peer, folder):
        told = await peer.ask("stop")
    name, pid = str(told["name"]), int(told["pid"])
    until = invocation.reactor.seconds() + STOP_MAX
    while FolderLock.holder(folder) in (str(pid), UNKNOWN):
        if invocation.reactor.seconds() > until:
            raise ServiceDoesNotEnd(pid=pid, seconds=f"{STOP_MAX:g}")
        await deferLater(invocation.reactor, STOP_INTERVAL)
    until = invocation.reactor.seconds() + EXIT_MAX
    while is_process(pid) and invocation.reactor.seconds() < until:
        await deferLater(invocation.reactor, STOP_INTERVAL)
    invocation.output.event("stopped", name=name, pid=pid)
    invocation.output.line(f"{name} is stopped (process {pid}).")
    return 0


@asynccontextmanager
async def _the_running_peer(invocation: Invocation) -> AsyncIterator[tuple[ControlClient, Path]]:
    """Connect to the running peer; return it and its data folder.

    Raises:
        WrongUsage: the settings have no name and no data folder.
        PeerNotRunning: no peer runs.
    """
    settings = invocation.settings
    if settings.name is None and settings.data is None:
        raise WrongUsage(
            reason="This needs the name of the peer: pass --name NAME, or set P2PSHARE_NAME."
        )
    folder = await data_folder(invocation, settings.name or "")
    async with running(invocation, folder) as peer:
        if peer is None:
            raise PeerNotRunning(path=folder)
        yield peer, folder


def lines(told: Mapping[str, Any]) -> Iterator[str]:
    """Return the status of a peer as lines for people; they contain text from outside."""
    name = told["name"]
    elsewhere = Elsewhere(**told["elsewhere"]) if told.get("elsewhere") else None
    if told["registered"]:
        place = "network" if told.get("registry") == LAN else "registry"
        state = "online" if told["online"] else f"cut off from the {place}"
        where = "" if told.get("private") else f", reached at {told['address']}"
        yield f"{name} is {state}{where} (process {told['pid']})."
    elif elsewhere is not None and elsewhere.waits:
        yield f"{name} is in use elsewhere (process {told['pid']})."
    else:
        yield f"{name} is not registered yet (process {told['pid']})."
    if elsewhere is not None:
        yield elsewhere_text(elsewhere)
    if told.get("trouble"):
        yield told["trouble"]
    if told.get("loopback"):
        yield LOCAL_ONLY
    yield from _reached(told)
    if "shares" not in told:  # the registry has not answered yet, so nothing is served
        return
    shares = told["shares"]
    if not shares:
        yield "It shares nothing."
    for share in shares:
        yield f"It shares {share['name']} ({share['path']}) with {_whom(share['allow'], told)}."
        if (left_out := share.get("left_out")) and (text := left_out_text(left_out)):
            yield f"Not shared of {share['name']}: {text}."
    if told.get("classic"):
        yield "It also speaks the classic protocol, unencrypted."
    for each in told.get("waiting", []):
        key = PublicKey.parse(each["key"]).grouped
        yield f"{each['name']} waits to be accepted: `p2pshare peers accept {each['name']}`. Key: {key}."
    visits = told.get("uploads", [])
    if not visits:
        yield "Nobody is connected."
    for visit in visits:
        yield _visit(visit)


def _reached(told: Mapping[str, Any]) -> Iterator[str]:
    """Return lines about where others try to reach the peer."""
    if told.get("private"):
        yield PRIVATE
        return
    shown = [
        f"{address} ({KINDS.get(kind, kind)})"
        for kind, _, address in (each.partition("/") for each in told.get("candidates", ()))
    ]
    if shown and told["registered"]:
        yield f"Others try: {', '.join(shown)}."
        if not told.get("loopback") and told.get("mapping") in MAPPINGS:
            yield MAPPINGS[told["mapping"]]


def _whom(allow: list[str] | None, told: Mapping[str, Any]) -> str:
    if allow is not None and len(allow) > ALLOWED_SHOWN and ON_NETWORK not in allow:
        return f"{', '.join(allow[:ALLOWED_SHOWN])}, {len(allow) - ALLOWED_SHOWN} more"
    return allowed_text(allow, is_lan=told.get("registry") == LAN)


def _visit(visit: Mapping[str, Any]) -> str:
    """Return a line about a connected peer, and what it fetches."""
    name, size, current = visit["name"], size_text(visit["bytes"]), visit["current"]
    via = f" (via {visit['via']}, {visit['address']})" if "via" in visit else ""
    if not current:
        if not visit["bytes"] and not visit["files"]:
            return f"{name} is connected{via}."
        return f"{name} is connected, and last fetched {_files(visit['files'])}, {size}{via}."
    shown = ", ".join(map(_offered, current[:CURRENT_SHOWN]))
    if len(current) > CURRENT_SHOWN:
        shown += ", …"
    parts = [_files(visit["files"])] if visit["files"] else []
    parts += [f"{size} so far", rate_text(visit["rate"])]
    return f"{name} fetches {shown}: {', '.join(parts)}{_left(visit)}{via}."


def _offered(path: str) -> str:
    """Return the path of a file that is fetched; one in an offer without the offer's folder."""
    folder, _, rest = path.partition("/")
    return rest if folder.startswith(MOUNT) else path


def _left(visit: Mapping[str, Any]) -> str:
    """Return what is left of a job, as far as it is known."""
    files, size, seconds = visit["files_left"], visit["bytes_left"], visit["left_s"]
    if not size:
        return ""
    is_only = files == 1 and not visit["files"]  # its name is in the line already
    told = size_text(size) if is_only or not files else f"{_files(files)}, {size_text(size)}"
    return f"; {told} left" if seconds is None else f"; {told} and {duration_text(seconds)} left"


def _files(count: int) -> str:
    return f"{count} file{'' if count == 1 else 's'}"
