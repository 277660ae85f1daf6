"""The verbs `peers` and `registries`: the keys of peers and registries that the user knows, compares or accepts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from colorama import Fore
from rich.cells import cell_len

from p2pshare.errors import (
    KeyChanged,
    NamesProven,
    NoSuchPeer,
    NotFound,
    RemoteProtocolError,
    Unreachable,
    WrongUsage,
)
from p2pshare.names import did_you_mean, read_name
from p2pshare.net.threads import run_in_thread
from p2pshare.peer.find.pins import Pins
from p2pshare.peer.lan.admission import AcceptedPeers, chosen_key
from p2pshare.storage.identity import key_file
from p2pshare.storage.identity.data_folder import PeerPlace
from p2pshare.storage.identity.identity import KEY_NAME
from p2pshare.storage.identity.known_peers import KnownPeers
from p2pshare.storage.settings import Settings
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.output import Output
from p2pshare.ui.terminal.qr_code import qr_lines
from p2pshare.ui.verbs.key import name_of
from p2pshare.ui.verbs.whoami import running
from p2pshare.wire.addresses import LAN, registry_url
from p2pshare.wire.comparison import comparison_code, comparison_text
from p2pshare.wire.keys import PublicKey

GAP = "  "
COMPARED = "compared"

WAITING = (
    "These wait until you accept them: compare the key, then run `p2pshare peers accept NAME`."
)
NOBODY_HERE = "You know nobody on this network yet: `p2pshare users` shows who is here."
YOURSELF = "That is you: compare your key with that of somebody else."
NO_KEY = "You have no key yet: `p2pshare users` with your --name makes one."
NOBODY = "You know no peer of {registry} yet: `p2pshare users` lists its users."


async def peers(invocation: Invocation) -> int:
    """Show the known peers with their keys, and those that wait to be accepted; return the exit code.

    Raises:
        WrongUsage: the settings have no name.
        KnownPeersUnusable: the list cannot be read.
        PeerNotAnswering: a peer runs, but does not answer.
    """
    settings, output = invocation.settings, invocation.output
    known = _known_peers(settings).pins()
    _show(
        output,
        "peer",
        "name",
        [(name, known[name].key) for name in sorted(known)],
        {name for name, pin in known.items() if pin.compared},
    )
    waiting = await _waiting(invocation)
    if waiting:
        output.remark(WAITING)
        _show(output, "waiting", "name", waiting)
    elif not known:
        is_lan = settings.registry == LAN
        output.remark(NOBODY_HERE if is_lan else NOBODY.format(registry=settings.registry))
    return 0


async def accept(invocation: Invocation, peer: str, key: Sequence[str]) -> int:
    """Let a peer see what the user shares, without a registry; return the exit code.

    Args:
        invocation: the run of the command line.
        peer: the name that the peer has from now on.
        key: its key, or the beginning of one that waits, in any groups; empty for the only one that waits.

    Raises:
        NamesProven: there is a registry.
        NotFound: no such key waits, or several do.
        KeyChanged: another key is known for the name.
        P2pshareError: the running peer does not answer, or the list cannot be written.
    """
    settings, output, name = invocation.settings, invocation.output, read_name(peer)
    place = PeerPlace.of(settings, name_of(settings))
    if not place.is_lan:
        raise NamesProven(registry=settings.registry)
    part = "".join(key)
    async with running(invocation, place.path) as own:
        if own is not None:
            told = await own.ask("accept", name=name, key=part)
            accepted = PublicKey.parse(str(told["key"]))
        else:
            lists = AcceptedPeers(place.path)
            accepted = chosen_key(name, part, lists.pins.key(name), ())
            lists.accept(name, accepted)
    output.event("accepted", name=name, key=str(accepted))
    output.line(f"{name} may see what you share with everyone whom you have accepted.", Fore.GREEN)
    output.line(f"The key is {accepted.grouped}.")
    return 0


async def compare(invocation: Invocation, peer: str, *, done: bool) -> int:
    """Show the comparison code for a peer, or mark its key as compared; return the exit code.

    Args:
        invocation: the run of the command line.
        peer: its name.
        done: whether the user says that the codes were the same.

    Raises:
        WrongUsage: the settings have no name, or it is that of the peer, or one of the two has no key.
        NoSuchPeer: nobody has this name.
        KeyChanged: the registry shows another key than the one that is known.
        Unreachable: no key is known, and the registry does not answer.
        KnownPeersUnusable: the list cannot be read or written.
    """
    own_name, name = name_of(invocation.settings), read_name(peer)
    if name == own_name:
        raise WrongUsage(reason=YOURSELF)
    place = PeerPlace.of(invocation.settings, own_name)
    own = key_file.load(place.path / KEY_NAME)
    if own is None:
        raise WrongUsage(reason=NO_KEY)
    key = await _key_of(invocation, place, name)
    known = KnownPeers(place.path, place.slot, wall=invocation.wall)
    if done:
        known.compared(name, key)
    pin = known.pins().get(name)
    is_compared = pin is not None and pin.key == key and pin.compared > 0
    code = await run_in_thread(invocation.reactor, comparison_code, own.public, key)
    _show_code(invocation.output, (own_name, name), key, code, is_compared=is_compared, done=done)
    return 0


async def _key_of(invocation: Invocation, place: PeerPlace, name: str) -> PublicKey:
    """Return the key of a peer, as the registry shows it and the pin allows it, or the pinned one.

    It is pinned now, so that nobody can show another one between the comparison and its mark.
    """
    async with invocation.registry() as registry:
        try:
            await registry.prove()
            view = await registry.look_up_peer(name, by_registry_clock=True)
        except (Unreachable, NoSuchPeer):
            known = KnownPeers(place.path, place.slot).key(name)
            if known is None:
                raise
            return known
        known_peers = KnownPeers(place.path, place.slot, wall=invocation.wall)
        pins = Pins(invocation.reactor, known_peers, registry)
        pinned = await pins.check(name, view)
        if view.key is None:
            raise WrongUsage(reason=f"{name!r} has no key, so there is nothing to compare.")
        if view.key != pinned:
            await pins.remember(name, view.key, pinned)
        return view.key


def pin(settings: Settings, output: Output, peer: str, key: Sequence[str]) -> int:
    """Remember the key of a peer that the user was told by other means; return the exit code.

    Args:
        settings: the settings, with a name.
        output: where to report the result.
        peer: its name.
        key: its key, in any groups.

    Raises:
        WrongUsage: that is no key.
        KeyChanged: another key is known for the name.
        KnownPeersUnusable: the list cannot be read or written, or is full.
    """
    name, text = read_name(peer), "".join(key).lower()
    try:
        told = PublicKey.parse(text)
    except RemoteProtocolError as error:
        raise WrongUsage(reason=f"{text!r} is no key: {error.fields['reason']}.") from None
    known = _known_peers(settings).pin(name, told, None)
    if known != told:
        raise KeyChanged(name=name, known=known.grouped, now=told.grouped)
    output.event("peer", name=name, key=str(told), compared=False)
    output.line(f"The key of {name} is {told.grouped} from now on.", Fore.GREEN)
    return 0


def forget(settings: Settings, output: Output, peer: str) -> int:
    """Forget the key of a peer, so that its next key is accepted; return the exit code.

    Raises:
        NotFound: no key of the peer is known.
        KnownPeersUnusable: the list cannot be read or written.
    """
    peer = read_name(peer)
    place = PeerPlace.of(settings, name_of(settings))
    known = _known_peers(settings)
    key = AcceptedPeers(place.path).forget(peer) if place.is_lan else known.forget(peer)
    if key is None:
        meant = did_you_mean(peer, known.all())
        hint = f" Did you mean {meant!r}?" if meant else ""
        raise NotFound(reason=f"No key of {peer!r} is known in {settings.registry}.{hint}")
    output.event("forgotten", name=peer, key=str(key))
    return _forgotten(output, peer, key)


async def _waiting(invocation: Invocation) -> list[tuple[str, PublicKey]]:
    """Return the keys that wait to be accepted by the running peer, each with what it calls itself."""
    place = PeerPlace.of(invocation.settings, name_of(invocation.settings))
    if not place.is_lan:
        return []
    async with running(invocation, place.path) as own:
        if own is None:
            return []
        told = (await own.ask("status")).get("waiting", [])
    return [(str(each["name"]), PublicKey.parse(str(each["key"]))) for each in told]


def registries(settings: Settings, output: Output) -> int:
    """Show the known registries with their keys; return the exit code.

    Raises:
        KnownRegistriesUnusable: the list cannot be read.
    """
    known = _place(settings).registries.all()
    keys = {url: PublicKey.parse(key) for url, key in known.items()}
    _show(output, "registry", "url", keys.items())
    if not known:
        output.remark("You know no registry yet.")
    return 0


def forget_registry(settings: Settings, output: Output, url: str) -> int:
    """Forget the key of a registry, so that its next key is accepted; return the exit code.

    Raises:
        WrongUsage: `url` is not the URL of a registry.
        NotFound: no key of the registry is known.
        KnownRegistriesUnusable: the list cannot be read or written.
    """
    try:
        registry = registry_url(url)
    except ValueError:
        raise WrongUsage(reason=f"{url!r} is not the URL of a registry.") from None
    key = _place(settings).registries.forget(registry)
    if key is None:
        raise NotFound(reason=f"No key of the registry {registry} is known.")
    output.event("forgotten", url=registry, key=key)
    return _forgotten(output, f"the registry {registry}", PublicKey.parse(key))


def _show(
    output: Output,
    kind: str,
    label: str,
    keys: Iterable[tuple[str, PublicKey]],
    compared: Collection[str] | None = None,
) -> None:
    """Show owners and keys: as events, as cells, or for people with the key beside or below its owner.

    Those whose key was `compared` have a mark; it is None where keys cannot be.
    """
    shown = list(keys)
    width = max((len(owner) for owner, _ in shown), default=0)
    screen = output.screen()
    for owner, key in shown:
        is_compared = compared is not None and owner in compared
        marks = {} if compared is None else {"compared": is_compared}
        output.event(kind, **{label: owner}, key=str(key), **marks)
        mark = f"{GAP}{COMPARED}" if is_compared else ""
        if output.is_quiet:
            output.rows([[owner]])
        elif screen is None:
            output.rows([[owner, str(key), *([COMPARED] if is_compared else [])]])
        elif width + len(GAP) + cell_len(key.grouped) + len(mark) <= screen.columns:
            output.result(f"{owner:{width}}{GAP}{key.grouped}{mark}")
        else:
            output.result(f"{owner}{mark}")
            output.result(f"{GAP}{key.grouped}")


def _show_code(
    output: Output,
    names: tuple[str, str],
    key: PublicKey,
    code: str,
    *,
    is_compared: bool,
    done: bool,
) -> None:
    own_name, name = names
    output.event("comparison", name=name, key=str(key), code=code, compared=is_compared)
    if done:
        output.line(f"The key of {name} is marked as compared: {key.grouped}.", Fore.GREEN)
        return
    screen = output.screen()
    if screen is not None and not output.is_quiet:
        for line in qr_lines(comparison_text(names, code), screen):
            screen.stream.write(f"{line}\n")
    output.result(code)
    output.remark(
        f"{name} sees the same code with `p2pshare peers compare {own_name}`, or on the page under People. Read it to"
        " each other, or scan the QR code with a phone."
    )
    if is_compared:
        output.remark("You have compared this key before.")
    else:
        output.remark(f"If the codes are the same, run `p2pshare peers compare {name} --done`.")


def _forgotten(output: Output, owner: str, key: PublicKey) -> int:
    output.line(f"The key of {owner} is forgotten: its next key will be accepted.", Fore.GREEN)
    output.line(f"It was {key.grouped}.")
    return 0


def _known_peers(settings: Settings) -> KnownPeers:
    place = PeerPlace.of(settings, name_of(settings))
    return KnownPeers(place.path, place.slot)


def _place(settings: Settings) -> PeerPlace:
    return PeerPlace.of(settings, settings.name or "")
