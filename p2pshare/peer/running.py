"""The things that the parts of a running peer share, and the shape of a part.

A part adds actions to the control socket, and maybe routes to the peer's page. `peer.service` makes the parts that
`peer.parts` lists as soon as the data folder is open, and starts and stops them with the peer.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from p2pshare.errors import P2pshareError
from p2pshare.net.sockets import IPeerReactor
from p2pshare.peer.browse.service import Browsing
from p2pshare.peer.control import Action, Fields
from p2pshare.peer.events import EventHub
from p2pshare.peer.find.directory import Directory
from p2pshare.peer.find.lookup import PeerFinder
from p2pshare.peer.lan.admission import LanAdmission
from p2pshare.peer.offers.service import OffersService
from p2pshare.peer.reach.dialler import Dialler
from p2pshare.peer.reach.network import OwnNetwork
from p2pshare.peer.reach.own_ports import OwnPorts
from p2pshare.peer.share.live_shares import LiveShares
from p2pshare.peer.share.service import SessionSharer
from p2pshare.storage.identity.data_folder import PeerPlace
from p2pshare.storage.settings import Settings
from p2pshare.web.exchange import Route
from p2pshare.wire.keys import SigningKey


@dataclass(slots=True)
class RunningPeer:
    """What parts may use of a peer whose data folder is open."""

    reactor: IPeerReactor
    rng: random.Random
    """Draws IDs and jitter; secrets come from `secrets`."""
    wall: Callable[[], float]
    """The Unix time in s."""
    settings: Settings
    """Those that are in use now: the user may change some while the peer runs. Read them where they are used."""
    place: PeerPlace
    folder: Path
    """The data folder, which stays locked as long as the peer runs."""
    key: Callable[[], SigningKey]
    """Returns the present key."""
    directory: Directory
    """Where people are looked up."""
    finders: Callable[..., PeerFinder]
    """Makes a finder of people; `pins_new_keys` is its only argument, by keyword."""
    dialler: Dialler
    """Opens sessions."""
    browsing: Browsing
    """Lists folders of others, over sessions that stay open."""
    sessions: SessionSharer
    """Accepts sessions and serves them."""
    live_shares: LiveShares
    offers: OffersService
    network: OwnNetwork
    ports: OwnPorts
    lan_admission: LanAdmission | None
    """Who is let in where there is no registry."""
    events: EventHub
    status: Callable[[], Awaitable[Fields]]
    """Returns the reply to the action `status`."""
    standing: Callable[[], Fields]
    """Returns the part of it that is known at once: the name, the registry and the addresses."""
    trouble: Callable[[], P2pshareError | None]
    """Returns why the registry, or the local network, does not do what it should."""
    is_lasting: bool
    """Whether the peer runs on, and not for one command."""
    on_settings: list[Callable[[Settings], object]] = field(default_factory=list)
    """Called with the settings when the user has changed some."""


class Part(Protocol):
    """A part of a peer."""

    @property
    def actions(self) -> Mapping[str, Action]:
        """What other programs may ask for over the control socket."""
        ...

    def table(self) -> Mapping[bytes, Route]:
        """Return the routes for the peer's page by path; a path that ends with a slash stands for all below it."""
        ...

    async def start(self) -> None:
        """Start, after sessions and offers."""

    async def stop(self) -> None:
        """Stop. May be called at any time, and before `start`."""
