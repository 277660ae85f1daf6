"""The user as the guest of one peer, in the dialog: a session that lasts as long as they look around there."""

from __future__ import annotations

from functools import partial
from typing import Self

from twisted.internet.defer import CancelledError

from p2pshare.errors import P2pshareError
from p2pshare.net.threads import run_in_thread
from p2pshare.peer.fetch.job import FetchJob
from p2pshare.peer.fetch.link_change import LinkChange, LinkState
from p2pshare.peer.fetch.plan import JobItem
from p2pshare.peer.fetch.remote import RemotePeer
from p2pshare.peer.fetch.remote_faults import omission_errors
from p2pshare.storage.identity import key_file
from p2pshare.storage.identity.data_folder import peer_folder
from p2pshare.storage.identity.identity import KEY_NAME
from p2pshare.ui.completion.memory import remember_entries
from p2pshare.ui.dialog.remote_folder import ENTRIES_SHOWN
from p2pshare.ui.dialog.steps import Page
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.meeting import Meetings, Met
from p2pshare.ui.verbs.job import Errand, Outcome, destinations
from p2pshare.ui.verbs.key import no_key
from p2pshare.wire.keys import SigningKey
from p2pshare.wire.paths import RemotePath, format_path

KEPT = "What was verified is kept: get it here again, and it goes on from there."


class Guest:
    """Looks around at a peer, and fetches."""

    def __init__(
        self, invocation: Invocation, own_name: str, key: SigningKey, meetings: Meetings, met: Met
    ) -> None:
        """Begin; the session is opened at first use. `leave` in the end."""
        self._invocation = invocation
        self._own_name = own_name
        self._met = met
        self.destination = invocation.cwd
        """The folder in which files are saved."""
        self._errand: Errand | None = None
        self._link: LinkChange | None = None
        self._is_asking = False
        self._remote = RemotePeer(
            invocation.reactor,
            invocation.rng,
            key,
            met.name,
            meetings.finder(met),
            silence=invocation.settings.timeout,
            limit=invocation.settings.limit,
            on_link=self._linked,
        )

    @classmethod
    async def at(cls, invocation: Invocation, own_name: str, meetings: Meetings, met: Met) -> Self:
        """The user, whose peer runs, as the guest of who was met."""
        folder = peer_folder(invocation.settings, own_name)
        key = await run_in_thread(invocation.reactor, key_file.load, folder / KEY_NAME)
        if key is None:
            raise no_key(own_name, folder)
        return cls(invocation, own_name, key, meetings, met)

    async def page(self, path: RemotePath, after: RemotePath) -> Page:
        """Some of what is in a folder.

        Raises:
            P2pshareError: it cannot be listed.
        """
        self._is_asking = True
        try:
            listing = await self._remote.list(path, after, ENTRIES_SHOWN)
        except P2pshareError as error:
            raise self._met.retold(error) from error
        finally:
            self._is_asking = False
        whole = not after and not listing.more
        await remember_entries(
            self._invocation, self._own_name, self._met.name, path, listing.entries, whole=whole
        )
        output = self._invocation.output
        for left_out, why in omission_errors(self._met.name, path, listing):
            output.failed(f"{self._met.name}:{format_path(left_out)}", why)
        output.end_failures()
        return Page(listing.entries, listing.more)

    async def fetch(self, path: RemotePath) -> int:
        """Fetch a file, a folder or a glob into the destination, and show how it goes; returns the exit code.

        What cannot be had of it is said, and the rest is fetched.

        Raises:
            P2pshareError: nothing more can be had.
        """
        outcome = Outcome(self._invocation)
        try:
            async with destinations(self._invocation) as open_folder:
                make_job = partial(FetchJob, open_folder=open_folder)
                errand = Errand(self._invocation, self._met.name, outcome, make_job=make_job)
                self._errand = errand
                if self._link is not None:
                    errand.link(self._link)
                await errand.run(self._remote, [JobItem(path, self.destination)])
        except CancelledError:
            self._invocation.output.remark(KEPT)
            raise
        except P2pshareError as error:
            outcome.failed(error)
            raise self._met.retold(error) from error
        finally:
            self._errand = None
            outcome.say()
        return outcome.exit_code

    async def leave(self) -> None:
        """End the session."""
        await self._remote.close()

    def _linked(self, change: LinkChange) -> None:
        """How it stands with the session matters only while somebody waits for it."""
        self._link = change
        if self._errand is not None:
            self._errand.link(change)
        elif self._is_asking and change.state is LinkState.BROKEN:
            self._invocation.output.remark(f"{change}.")
