"""The session of the dialog with one peer; it lasts as long as the user looks around there."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from twisted.internet.defer import CancelledError

from p2pshare.errors import P2pshareError
from p2pshare.peer.fetch.job import FetchJob
from p2pshare.peer.fetch.link_change import LinkChange, LinkState
from p2pshare.peer.fetch.plan import JobItem
from p2pshare.peer.fetch.remote import LinkLimits, RemotePeer
from p2pshare.peer.fetch.remote_faults import omission_errors
from p2pshare.peer.find.lookup import FoundPeer, PeerFinder
from p2pshare.ui.completion.memory import remember_entries
from p2pshare.ui.dialog.remote_folder import ENTRIES_SHOWN
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.verbs.job import Results, WatchedJob, destinations
from p2pshare.wire.keys import SigningKey
from p2pshare.wire.paths import RemotePath, format_path
from p2pshare.wire.transfer_messages import Listing

KEPT = "The verified part is kept. Get it here again to resume."


class Visit:
    """Lists folders of a peer and fetches from it. The session is opened at the first use; call `leave` in the end."""

    def __init__(
        self,
        invocation: Invocation,
        own_name: str,
        key: SigningKey,
        finder: PeerFinder,
        found: FoundPeer,
        destination: Callable[[], Path],
    ) -> None:
        """Visit the peer `found` as the owner of `key`; `destination` is where files are saved."""
        self.is_classic = not found.takes_sessions and found.speaks_classic
        self._invocation = invocation
        self._own_name = own_name
        self._found = found
        self._destination = destination
        self._watched: WatchedJob | None = None
        self._link: LinkChange | None = None
        self._is_listing = False
        self._remote = RemotePeer(
            invocation.reactor,
            invocation.rng,
            key,
            found.name,
            finder.target(found.name, found),
            LinkLimits(silence=invocation.settings.timeout, rate=invocation.settings.limit),
            on_link=self._linked,
        )

    async def page(self, path: RemotePath, after: RemotePath) -> Listing:
        """Return the entries of a folder that follow `after`; what the peer leaves out is shown as errors.

        Raises:
            P2pshareError: the folder cannot be listed.
        """
        self._is_listing = True
        try:
            listing = await self._remote.list(path, after, ENTRIES_SHOWN)
        except P2pshareError as error:
            raise self._found.explained(error) from error
        finally:
            self._is_listing = False
        whole = not after and not listing.more
        await remember_entries(
            self._invocation, self._own_name, self._found.name, path, listing.entries, whole=whole
        )
        output = self._invocation.output
        for left_out, why in omission_errors(self._found.name, path, listing):
            output.failed(f"{self._found.name}:{format_path(left_out)}", why)
        output.end_failures()
        return listing

    async def fetch(self, path: RemotePath) -> int:
        """Fetch a file, a folder or a glob, and show the progress; return the exit code.

        A file that cannot be had is reported, and the others are fetched.

        Raises:
            P2pshareError: nothing more can be had.
        """
        results = Results(self._invocation)
        try:
            async with destinations(self._invocation) as open_folder:
                make_job = partial(FetchJob, open_folder=open_folder)
                watched = WatchedJob(self._invocation, self._found.name, results, make_job=make_job)
                self._watched = watched
                if self._link is not None:
                    watched.link(self._link)
                await watched.run(self._remote, [JobItem(path, self._destination())])
        except CancelledError:
            self._invocation.output.remark(KEPT)
            raise
        except P2pshareError as error:
            results.failed(error)
            raise self._found.explained(error) from error
        finally:
            self._watched = None
            results.summarize()
        return results.exit_code

    async def fetch_classic(self, path: RemotePath) -> int:
        """Fetch a file in the classic protocol, and show the progress; return the exit code.

        Raises:
            P2pshareError: the peer does not answer, or nothing can be written.
        """
        from p2pshare.ui.verbs.classic import fetch_classic

        results = Results(self._invocation)
        items = [JobItem(path, self._destination())]
        await fetch_classic(self._invocation, self._found, items, results)
        return results.exit_code

    async def leave(self) -> None:
        """End the session."""
        await self._remote.close()

    def _linked(self, change: LinkChange) -> None:
        """Show a change of the session while the user waits for it."""
        self._link = change
        if self._watched is not None:
            self._watched.link(change)
        elif self._is_listing and change.state is LinkState.BROKEN:
            self._invocation.output.remark(f"{change}.")
