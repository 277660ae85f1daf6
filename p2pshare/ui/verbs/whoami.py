"""The verbs `whoami`, `release` and `key rotate`: through the running peer, or alone while none runs."""

from __future__ import annotations

import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

from colorama import Fore
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime

from p2pshare.errors import ClockWrong, NoSuchPeer, Refused, RegistryHasNoOwners, Unreachable
from p2pshare.peer.control import ControlClient, running_peer
from p2pshare.peer.ownership import Owner
from p2pshare.peer.registration import LOCAL_ONLY, Elsewhere, elsewhere_text
from p2pshare.registry.client import RegistryClient
from p2pshare.storage.identity import key_file
from p2pshare.storage.identity.data_folder import DataFolder, PeerPlace
from p2pshare.storage.identity.identity import KEY_NAME, Identity
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.verbs.key import name_of, no_key
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.registry_answers import PRESENCE_LEASE, NameKind, PeerView

LABEL_WIDTH = 10  # columns
STATE_TIMEOUT = 2.0  # seconds for the registry to say how it stands with a name

_STATES = {
    "online": "online: others see you, and reach your peer",
    "local": f"online: others see you. {LOCAL_ONLY}",
    "elsewhere": "online: others see you, but reach another peer with a copy of your key",
    "listed": f"listed as online for up to {PRESENCE_LEASE} s more, but no peer of yours runs here",
    "offline": "offline: the name is yours, but no peer of yours is there",
    "taken": "taken: the name is another key's",
    "classic": "taken: a classic peer has the name, which no key owns",
    "unclaimed": "not claimed yet: starting your peer does that",
    "claiming": "not claimed yet: your peer runs, and tries to",
    "unowned": "unknown: this registry knows nothing of owners",
    "unknown": "unknown: the registry is away",
    "clock_wrong": "unknown: the clocks differ",
}


async def whoami(invocation: Invocation) -> int:
    """Show who the user is; returns the exit code.

    What the data folder says is shown at once, and what the registry says if that comes within `STATE_TIMEOUT`.

    Raises:
        WrongUsage: there is no name.
        KeyUnusable: the key cannot be read.
        PeerNotAnswering: a peer runs, but says nothing.
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
        where = f"reached at {address}"
        if address is None:
            waits = elsewhere is not None and elsewhere.waits
            where = "but is not registered" if waits else "but is not registered yet"
        runs = f"runs as process {status.get('pid')}, {where}"
    _show(
        invocation,
        {
            "name": name,
            "key": "none yet: the first start of your peer makes it"
            if public is None
            else public.grouped,
            "registry": settings.registry,
            "folder": str(folder),
            "peer": runs,
        },
    )
    async with invocation.registry() as registry:
        state, reason = await _state(invocation.reactor, registry, name, public)
    told = state
    if state == "online":
        told = "listed" if peer is None else "local" if status.get("loopback") else state
        told = "elsewhere" if elsewhere is not None and elsewhere.waits else told
    elif state == "unclaimed" and peer is not None:
        told = "claiming"
    facts = {"state": _STATES[told] + (f" ({reason})" if reason else "")}
    if elsewhere is not None:
        facts["warning"] = elsewhere_text(elsewhere)
    if trouble := status.get("trouble"):
        facts["problem"] = trouble
    _show(invocation, facts)
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
    """Give the name up for good; the user has said yes already. Returns the exit code.

    Raises:
        P2pshareError: that was not possible.
    """
    name = name_of(invocation.settings)
    async with running(invocation, await data_folder(invocation, name)) as peer:
        if peer is not None:
            await peer.ask("release")
        else:
            async with _alone(invocation, name) as owner:
                await owner.release()
    output = invocation.output
    output.event("released", name=name, registry=invocation.settings.registry)
    output.line(f"{name} is given up in {invocation.settings.registry}.", Fore.GREEN)
    output.line("Whoever asks first gets it now; the next start of your peer asks for it, too.")
    return 0


async def rotate(invocation: Invocation) -> int:
    """Let a new key follow the present one; returns the exit code.

    Raises:
        P2pshareError: that was not possible; the present key stays.
    """
    name = name_of(invocation.settings)
    folder = await data_folder(invocation, name)
    before = key_file.load(folder / KEY_NAME)
    async with running(invocation, folder) as peer:
        if peer is not None:
            await peer.ask("rotate")
        else:
            async with _alone(invocation, name) as owner:
                await owner.rotate(None)
    after = key_file.load(folder / KEY_NAME)
    assert before is not None and after is not None, "who rotates has a key"
    output = invocation.output
    output.event("rotated", name=name, old=str(before.public), key=str(after.public))
    output.line(f"{name} has a new key, which the old one has signed:", Fore.GREEN)
    output.line(f"  {after.public.grouped}")
    output.line(
        "Who knew the old one follows by itself. Copies of it open nothing now: make a new one with"
    )
    output.line("  p2pshare key export FILE")
    return 0


async def data_folder(invocation: Invocation, name: str) -> Path:
    """The user's data folder; only if there is none, a registry that was never met is asked which one it is."""
    place = PeerPlace.of(invocation.settings, name)
    if place.data is None and place.key is None and not place.path.is_dir():
        with suppress(Unreachable, RegistryHasNoOwners):
            async with invocation.registry() as registry:
                if place.by_key(str(await registry.prove())).is_dir():
                    return await invocation.folder(registry, name)
    return place.path


@asynccontextmanager
async def running(invocation: Invocation, folder: Path) -> AsyncIterator[ControlClient | None]:
    """The peer that runs on a data folder, if one does."""
    peer = await running_peer(invocation.reactor, folder)
    try:
        yield peer
    finally:
        if peer is not None:
            peer.close()


@asynccontextmanager
async def _alone(invocation: Invocation, name: str) -> AsyncIterator[Owner]:
    """Open the data folder as its owner, while no peer runs."""
    folder = await data_folder(invocation, name)
    if key_file.load(folder / KEY_NAME) is None:
        raise no_key(name, folder)
    with closing(DataFolder.open(folder, name)) as data:
        identity = Identity.open(data, invocation.settings.registry, name)
        async with invocation.registry() as registry:
            if await registry.info() is None:
                reason = (
                    f"The registry {registry.url} knows nothing of owners: nothing was changed."
                )
                raise Refused(reason=reason)
            yield Owner(registry, identity, invocation.wall)


async def _state(
    clock: IReactorTime, registry: RegistryClient, name: str, key: PublicKey | None
) -> tuple[str, str | None]:
    """What the registry says of the name, as one of `_STATES`, and why it says nothing."""

    async def ask() -> str:
        if await registry.info() is None:
            return "unowned"
        return _judged(await registry.look_up_peer(name), key)

    try:
        return await Deferred.fromCoroutine(ask()).addTimeout(STATE_TIMEOUT, clock), None
    except TimeoutError:
        return "unknown", f"no answer within {STATE_TIMEOUT:.0f} s"
    except NoSuchPeer:
        return "unclaimed", None
    except ClockWrong as error:
        return "clock_wrong", str(error)
    except Unreachable as error:
        return "unknown", str(error.fields.get("reason") or "it cannot work just now")


def _judged(view: PeerView, key: PublicKey | None) -> str:
    if view.summary.kind is NameKind.CLASSIC:
        return "classic"
    return view.summary.presence.value if view.key == key else "taken"


def _show(invocation: Invocation, facts: dict[str, str]) -> None:
    """Show facts with their labels, the longer ones on lines of their own below each other."""
    screen = invocation.output.screen()
    for label, fact in facts.items():
        lines = [fact]
        if screen is not None:
            width = max(20, screen.columns - LABEL_WIDTH)
            lines = textwrap.wrap(fact, width, break_long_words=False, break_on_hyphens=False)
        for head, line in zip([label, *[""] * len(lines)], lines, strict=False):
            invocation.output.result(f"{head:{LABEL_WIDTH}}{line}")
