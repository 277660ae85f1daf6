"""The verbs `whoami`, `release` and `key rotate`: the running peer does them, or the verb itself if no peer runs."""

from __future__ import annotations

import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

from colorama import Fore
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime

from p2pshare.errors import ClockWrong, NoSuchPeer, Refused, RegistryHasNoOwners, Unreachable
from p2pshare.net.threads import run_in_thread
from p2pshare.peer.control import ControlClient, running_peer
from p2pshare.peer.find.directory import Directory
from p2pshare.peer.ownership import Owner
from p2pshare.peer.registration import LOCAL_ONLY, Elsewhere, elsewhere_text
from p2pshare.storage.identity import key_file
from p2pshare.storage.identity.adoption import move_in
from p2pshare.storage.identity.data_folder import DataFolder, PeerPlace
from p2pshare.storage.identity.identity import KEY_NAME, Identity
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.output import Output
from p2pshare.ui.verbs.key import name_of, no_key
from p2pshare.wire.addresses import LAN
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.registry_answers import PRESENCE_LEASE, NameKind

LABEL_WIDTH = 10  # columns
STATE_TIMEOUT = 2.0  # seconds for the answer of the registry

_STATES = {
    "online": "online: others see you and can reach your peer",
    "local": f"online: others see you. {LOCAL_ONLY}",
    "elsewhere": "online: others see you, but reach another peer with a copy of your key",
    "listed": f"listed as online for up to {PRESENCE_LEASE} s more, but no peer of yours runs here",
    "offline": "offline: the name is yours, but no peer of yours is there",
    "taken": "taken: another key owns the name",
    "classic": "taken: a classic peer, without a key, has the name",
    "here": "on this network: others see you and can reach your peer",
    "away": "not on this network: no peer of yours is there",
    "unclaimed": "not claimed yet: start your peer to claim it",
    "claiming": "not claimed yet: your peer is running and tries to",
    "unowned": "unknown: this registry has no owned names",
    "unknown": "unknown: the registry does not answer",
    "clock_wrong": "unknown: the clocks differ",
}


async def whoami(invocation: Invocation) -> int:
    """Show the identity of the user; return the exit code.

    The content of the data folder is shown at once, and the state of the name if the registry answers within
    `STATE_TIMEOUT`.

    Raises:
        WrongUsage: the settings have no name.
        KeyUnusable: the key cannot be read.
        PeerNotAnswering: a peer runs, but does not answer.
    """
    settings = invocation.settings
    name = name_of(settings)
    folder = await data_folder(invocation, name)
    status: dict[str, Any] = {}
    async with running(invocation, folder) as peer:
        if peer is not None:
            status = await peer.ask("status")
    key = key_file.load(folder / KEY_NAME)
    public = None if key is None else key.public
    elsewhere = Elsewhere(**status["elsewhere"]) if status.get("elsewhere") else None
    runs = "is not running"
    if peer is not None:
        address = status.get("address")
        is_private = status.get("private")
        where = "publishes no address" if is_private else f"reached at {address}"
        if address is None:
            waits = elsewhere is not None and elsewhere.waits
            where = "but is not registered" if waits else "but is not registered yet"
        runs = f"runs as process {status.get('pid')}, {where}"
    show_facts(
        invocation.output,
        {
            "name": name,
            "key": "none yet: the first start of your peer creates it"
            if public is None
            else public.grouped,
            "registry": "none: the local network"
            if settings.registry == LAN
            else settings.registry,
            "folder": str(folder),
            "peer": runs,
        }.items(),
    )
    is_lan = settings.registry == LAN
    if is_lan:  # nobody keeps the name
        state, reason = "online" if status.get("registered") else "offline", None
    else:
        async with invocation.registry() as registry:
            state, reason = await _state(invocation.reactor, registry, name, public)
    told = state
    if is_lan:
        told = "here" if state == "online" else "away"
    elif state == "online":
        told = "listed" if peer is None else "local" if status.get("loopback") else state
        told = "elsewhere" if elsewhere is not None and elsewhere.waits else told
    elif state == "unclaimed" and peer is not None:
        told = "claiming"
    facts = {"state": _STATES[told] + (f" ({reason})" if reason else "")}
    if elsewhere is not None:
        facts["warning"] = elsewhere_text(elsewhere)
    if trouble := status.get("trouble"):
        facts["problem"] = trouble
    show_facts(invocation.output, facts.items())
    invocation.output.event(
        "whoami",
        name=name,
        key=None if public is None else str(public),
        registry=settings.registry,
        folder=folder,
        running=peer is not None,
        pid=status.get("pid"),
        address=status.get("address"),
        loopback=bool(status.get("loopback")),
        elsewhere=status.get("elsewhere"),
        trouble=status.get("trouble"),
        state=state,
    )
    return 0


async def release(invocation: Invocation) -> int:
    """Release the name for good, after the user has agreed; return the exit code.

    Raises:
        P2pshareError: the name cannot be released.
    """
    settings, output, name = invocation.settings, invocation.output, name_of(invocation.settings)
    await _act(invocation, name, "release", Owner.release)
    output.event("released", name=name, registry=settings.registry)
    output.line(f"{name} is released in {settings.registry}.", Fore.GREEN)
    output.line(
        "Anyone may claim it now. The next start of your peer claims it again if it is free."
    )
    return 0


async def rotate(invocation: Invocation) -> int:
    """Replace the key by a new one, signed by the old one; return the exit code.

    Raises:
        P2pshareError: the key cannot be replaced; it stays in use.
    """
    name = name_of(invocation.settings)
    folder = await data_folder(invocation, name)
    before = key_file.load(folder / KEY_NAME)
    await _act(invocation, name, "rotate", lambda owner: owner.rotate(None))
    after = key_file.load(folder / KEY_NAME)
    assert before is not None and after is not None, "a peer that rotates its key has one"
    output = invocation.output
    output.event("rotated", name=name, old=str(before.public), key=str(after.public))
    output.line(f"{name} has a new key, signed by the old one:", Fore.GREEN)
    output.line(f"  {after.public.grouped}")
    output.line(
        "Peers that know the old key accept the new one. Copies of the old key are useless now. Make a new copy:"
    )
    output.line("  p2pshare key export FILE")
    return 0


async def _act(
    invocation: Invocation,
    name: str,
    request: str,
    act: Callable[[Owner], Awaitable[object]],
) -> None:
    """Send a request to the running peer; if no peer runs, call `act` with the data folder locked."""
    folder = await data_folder(invocation, name)
    async with running(invocation, folder) as peer:
        if peer is not None:
            await peer.ask(request)
            return
    if key_file.load(folder / KEY_NAME) is None:
        raise no_key(name, folder)
    with closing(DataFolder.open(folder, name)) as data:
        identity = Identity.open(data, invocation.settings.registry, name)
        async with invocation.registry() as registry:
            if await registry.info() is None:
                reason = f"The registry {registry.url} has no owned names, so nothing was changed."
                raise Refused(reason=reason)
            await act(Owner(registry, identity, invocation.wall))


async def data_folder(invocation: Invocation, name: str) -> Path:
    """Return the data folder of the user; ask an unknown registry for its key if no folder goes by its URL."""
    place = PeerPlace.of(invocation.settings, name)
    if place.data is None and place.key is None and not place.path.is_dir():
        with suppress(Unreachable, RegistryHasNoOwners):
            async with invocation.registry() as registry:
                key = await registry.prove()
                if place.by_key(str(key)).is_dir():
                    return await run_in_thread(invocation.reactor, move_in, place, key)
    return place.path


@asynccontextmanager
async def running(invocation: Invocation, folder: Path) -> AsyncIterator[ControlClient | None]:
    """Connect to the peer that runs on a data folder; None if no peer runs."""
    peer = await running_peer(invocation.reactor, folder)
    try:
        yield peer
    finally:
        if peer is not None:
            peer.close()


async def _state(
    clock: IReactorTime, registry: Directory, name: str, key: PublicKey | None
) -> tuple[str, str | None]:
    """Return the state of the name at the registry, a key of `_STATES`, and why it is unknown."""

    async def ask() -> str:
        if await registry.info() is None:
            return "unowned"
        view = await registry.look_up_peer(name)
        if view.summary.kind is NameKind.CLASSIC:
            return "classic"
        return view.summary.presence.value if view.key == key else "taken"

    try:
        return await Deferred.fromCoroutine(ask()).addTimeout(STATE_TIMEOUT, clock), None
    except TimeoutError:
        return "unknown", f"no answer within {STATE_TIMEOUT:.0f} s"
    except NoSuchPeer:
        return "unclaimed", None
    except ClockWrong as error:
        return "clock_wrong", str(error)
    except Unreachable as error:
        return "unknown", str(error.fields.get("reason") or "it is not available now")


def show_facts(
    output: Output, facts: Iterable[tuple[str, str]], label_width: int = LABEL_WIDTH
) -> None:
    """Show facts with their labels, which are `label_width` columns wide; long facts are wrapped."""
    screen = output.screen()
    for label, fact in facts:
        lines = [fact]
        if screen is not None:
            width = max(20, screen.columns - label_width)
            lines = textwrap.wrap(fact, width, break_long_words=False, break_on_hyphens=False)
        for head, line in zip([label, *[""] * len(lines)], lines, strict=False):
            output.result(f"{head:{label_width}}{line}")
