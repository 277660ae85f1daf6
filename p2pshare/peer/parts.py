"""The list of the parts of a peer besides those that `peer.service` puts together itself."""

from __future__ import annotations

from collections.abc import Sequence

from p2pshare.peer.health import Health
from p2pshare.peer.local_folders import LocalFolders
from p2pshare.peer.own_settings import OwnSettings
from p2pshare.peer.page.drafts import DraftRoutes
from p2pshare.peer.page.received_files import ReceivedFiles
from p2pshare.peer.page.remote_files import RemoteFiles
from p2pshare.peer.people.service import People
from p2pshare.peer.running import Part, RunningPeer
from p2pshare.peer.transfers.service import Transfers


def parts_of(peer: RunningPeer) -> Sequence[Part]:
    """Return the parts of a peer, in the order in which they start."""
    # fmt: off
    return (
        # bytes of others: listings, files, previews, archives
        RemoteFiles(peer.browsing),

        # jobs: downloads, uploads, traffic
        Transfers(peer),

        # people, trust, settings, health
        People(peer),
        OwnSettings(peer),
        Health(peer),

        # sending: drafts, local folders, who fetched what
        DraftRoutes(peer),
        ReceivedFiles(peer),
        LocalFolders(peer),

    )
    # fmt: on
