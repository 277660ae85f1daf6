"""The effects of the dialog: the user's own peer, the registry, visits at other peers, and the order of stopping."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

from p2pshare.core.sharer_transfers import Outcome
from p2pshare.errors import ControlRefused, NoSuchOffer, P2pshareError, WrongUsage
from p2pshare.names import is_name, read_name
from p2pshare.peer.fetch.job import FetchJob
from p2pshare.peer.fetch.link_change import LinkChange, LinkState
from p2pshare.peer.fetch.plan import JobItem
from p2pshare.peer.fetch.remote import RemotePeer
from p2pshare.peer.fetch.remote_faults import omission_errors
from p2pshare.peer.find.directory import Directory
from p2pshare.peer.find.lookup import FoundPeer
from p2pshare.peer.find.own_identity import OwnIdentity
from p2pshare.peer.registration import LOCAL_ONLY
from p2pshare.peer.service import OPEN_FILES, OPEN_FILES_MIN, PeerService, classic_shares, shares_of
from p2pshare.peer.share import upload_log as uploads
from p2pshare.storage.incoming.destination import is_folder, make_folder
from p2pshare.storage.open_file_limit import allow_open_files
from p2pshare.storage.settings import Settings
from p2pshare.storage.shares.arguments import SharedPath, allowed_text
from p2pshare.ui.dialog.console import GOOD, HINT, Console, Line
from p2pshare.ui.dialog.offers import ACCEPT, DialogOffers
from p2pshare.ui.dialog.remote_folder import ENTRIES_SHOWN
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.verbs.connection import announce, connection, finder_of
from p2pshare.ui.verbs.fetching.recording import record
from p2pshare.ui.verbs.job import Results, WatchedJob, destinations
from p2pshare.ui.verbs.own_peer import OwnPeer
from p2pshare.ui.verbs.preview import maker_with_picture
from p2pshare.wire.addresses import LAN, PeerAddress, is_loopback
from p2pshare.wire.offers.messages import MOUNT
from p2pshare.wire.paths import RemotePath, format_path
from p2pshare.wire.quantities import size_text
from p2pshare.wire.transfer_messages import Listing

SHARING_NOTHING = "You share nothing: start again with --share FOLDER, or where there is a my_file.txt or my_file.jpg."
IN_THE_CLEAR = "With --classic, anyone who asks in the classic protocol gets a text and a picture of that, unencrypted."
SHARES_SHOWN = 10  # names
USERS_COUNTED = 1000  # names; of more, nobody needs the number
KEPT = "The verified part is kept. Get it here again to resume."
HOW_TO_END = (
    'Ctrl+C or "quit" ends the dialog, "help" lists the commands, an empty line lists the users.'
)


class Actions:
    """The effects of one dialog: what it does on the network and on the disk.

    All methods but `serve_during` may be called only while that runs, and may raise a `P2pshareError`.
    """

    def __init__(self, invocation: Invocation, console: Console) -> None:
        self._invocation = invocation
        self._console = console
        self._peer: PeerService | None = None
        self._talking: Deferred[None] | None = None
        self._lost: P2pshareError | None = None
        self._registry: Directory
        self._is_original = False
        self._name = ""
        self._destination = invocation.cwd
        self._offers: DialogOffers | None = None

    async def serve_during(self, talk: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Await the dialog, and stop the user's peer after it.

        The terminal is restored first, since the peer may need all the time that a process has after a signal.

        Raises:
            P2pshareError: what the dialog raises, or the reason why the peer cannot go on.
        """
        try:
            try:
                self._talking = Deferred.fromCoroutine(self._with_registry(talk))
                await self._talking
            finally:
                self._console.close()
        except CancelledError:
            if self._lost is not None:
                raise self._lost from None
            raise
        finally:
            if self._offers is not None:
                self._offers.stop()
            if self._peer is not None:
                await _to_its_end(self._peer.stopService())

    async def _with_registry(self, talk: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async with self._invocation.registry() as self._registry:
            with uploads_shown(lambda text: self._console.line(text, HINT)):
                await talk()

    async def find_registry(self) -> None:
        """Check that the registry answers, and which kind it is."""
        self._is_original = await self._registry.info() is None
        if self._is_original:
            await self._registry.list_names()  # fails if this is no registry at all

    async def join(self, name: str, invitation: str | None) -> Sequence[Line]:
        """Start a peer with this name; return what the user should know of it."""
        invocation = self._invocation
        settings = replace(invocation.settings, name=name)
        if invitation is not None:
            settings = replace(settings, invitation=invitation)
        shares = shares_of(settings, invocation.cwd)
        allow_open_files(OPEN_FILES, OPEN_FILES_MIN)
        peer = self._peer = PeerService(
            invocation.reactor,
            invocation.rng,
            settings,
            shares,
            wall=invocation.wall,
            patient=False,
            on_notice=lambda sentence: self._console.line(sentence, HINT),
        )
        peer.startService()
        try:
            address = await peer.ready
        except P2pshareError:
            self._peer = None
            await peer.stopService()
            raise
        peer.lost.addErrback(self._ended_by)
        self._name = name
        own = OwnPeer(invocation.with_settings(name=name), name, None)
        offers = self._offers = DialogOffers(
            invocation, own, self._console.line, lambda: self._destination
        )
        peer.events.subscribe(offers.event, lambda: False)
        left_out = [
            (f"Not shared of {share}: {text}.", HINT) for share, text in peer.left_out().items()
        ]
        return [
            *_reached(name, address, is_private=settings.private),
            *_sharing(peer.shares, settings),
            *left_out,
            *await offers.waiting(),
            (HOW_TO_END, HINT),
        ]

    async def users(self) -> Iterable[str]:
        """Return who is online; with more than `USERS_COUNTED` of them, not all."""
        if self._is_original:
            return await self._registry.list_names()
        names: list[str] = []
        async for peer in self._registry.peers(online=True):
            names.append(peer.label)
            if len(names) > USERS_COUNTED:
                break
        seen_names = list(filter(is_name, names))  # without those that a mark belongs to
        await self._invocation.remember(self._name, lambda seen: seen.saw_names(seen_names))
        return names

    @asynccontextmanager
    async def visit(self, name: str) -> AsyncIterator[Visit]:
        """Look a peer up; its session lasts as long as the context.

        Raises:
            P2pshareError: the peer cannot be found, or speaks the classic protocol only, which is not enabled.
        """
        invocation = self._invocation
        finder = finder_of(invocation, self._registry, self._name)
        found = await finder.find(name)
        visit = Visit(invocation, self._name, found, lambda: self._destination)
        if not visit.is_classic or not invocation.settings.classic:
            found.expect_sessions()
            announce(invocation, found)
        assert self._peer is not None, "the user has joined"
        me, limit = OwnIdentity(self._name, self._peer.key), invocation.settings.limit
        async with connection(
            invocation, me, finder, found, visit.link, limit=limit
        ) as visit.remote:
            yield visit

    async def obey_offers(self, word: str, rest: str) -> Sequence[Line]:
        """Obey a command for offers; return lines for the user.

        Without a registry, `accept NAME [KEY]` lets a peer see the user's shares. An ID of an offer comes first.

        Raises:
            P2pshareError: as for `DialogOffers.obey` and `PeerService.accept`.
        """
        assert self._peer is not None and self._offers is not None, "the user has joined"
        try:
            return await self._offers.obey(word, rest)
        except (NoSuchOffer, ControlRefused):
            if word != ACCEPT or self._invocation.settings.registry != LAN:
                raise
        name, _, part = rest.partition(" ")
        key = await self._peer.accept(read_name(name), part)
        return [(f"Accepted. The key is {key.grouped}.", GOOD)]

    async def set_destination(self, folder: str) -> Path:
        """Save files in another folder from now on; one with a slash at its end is made.

        Raises:
            WrongUsage: there is no such folder.
            CannotSave: it cannot be made.
        """
        path = os.path.expanduser(folder)
        if "\0" in path or not is_folder(path, self._destination):
            reason = f"There is no folder {folder!r}. To make it, type a slash at its end."
            raise WrongUsage(reason=reason)
        self._destination = self._destination / path
        make_folder(self._destination)
        return self._destination

    def _ended_by(self, failure: Failure) -> None:
        """End the dialog: the peer has lost its name, or cannot go on for another reason."""
        failure.trap(P2pshareError)
        assert isinstance(failure.value, P2pshareError) and self._talking is not None
        self._lost = failure.value
        self._talking.cancel()


class Visit:
    """Lists folders of a peer, and fetches from it."""

    remote: RemotePeer
    """The connection, which is made at the first use."""

    def __init__(
        self,
        invocation: Invocation,
        own_name: str,
        found: FoundPeer,
        destination: Callable[[], Path],
    ) -> None:
        """Visit a peer; `destination` is where files are saved."""
        self.is_classic = not found.takes_sessions and found.speaks_classic
        """Whether the peer speaks the classic protocol only."""
        self._invocation = invocation
        self._own_name = own_name
        self._found = found
        self._destination = destination
        self._watched: WatchedJob | None = None
        self._link: LinkChange | None = None
        self._is_listing = False
        self._said = ""  # the last reason why there is no session

    async def page(self, path: RemotePath, after: RemotePath) -> Listing:
        """Return the entries of a folder that follow `after`; what the peer leaves out is shown as errors.

        Raises:
            P2pshareError: the folder cannot be listed.
        """
        peer, output = self._found.name, self._invocation.output
        self._is_listing = True
        try:
            listing = await self.remote.list(path, after, ENTRIES_SHOWN)
        finally:
            self._is_listing = False
        whole, now = not after and not listing.more, int(self._invocation.wall())
        await self._invocation.remember(
            self._own_name,
            lambda seen: seen.saw_entries(peer, path, listing.children, whole=whole, at=now),
        )
        for left_out, why in omission_errors(peer, path, listing):
            output.failed(f"{peer}:{format_path(left_out)}", why)
        output.end_failures()
        return listing

    async def fetch(self, path: RemotePath) -> int:
        """Fetch a file, a folder or a glob, and show the progress, and a picture; return the exit code.

        A file that cannot be had is reported, and the others are fetched.

        Raises:
            P2pshareError: nothing more can be had.
        """
        results = Results(self._invocation)
        try:
            async with destinations(self._invocation) as open_folder:
                items = [JobItem(path, self._destination())]
                make_job, draw = await maker_with_picture(
                    self._invocation, items, partial(FetchJob, open_folder=open_folder)
                )
                watched = WatchedJob(
                    self._invocation, self._found.name, results, make_job=make_job, draw=draw
                )
                self._watched = watched
                if self._link is not None:
                    watched.link(self._link)
                progress = await watched.run(self.remote, items)
                await record(
                    self._invocation.with_settings(name=self._own_name),
                    self._found,
                    items,
                    progress,
                    is_over=True,
                )
        except CancelledError:
            self._invocation.output.remark(KEPT)
            raise
        except P2pshareError as error:
            results.failed(error)
            raise
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

    def link(self, change: LinkChange) -> None:
        """Show a change of the session while the user waits for it."""
        self._link = change
        if self._watched is not None:
            self._watched.link(change)
        elif self._is_listing and change.state is LinkState.BROKEN:
            if change.reason != self._said:
                self._invocation.output.remark(f"{change}.")
            self._said = change.reason


async def _to_its_end(stopping: Deferred[None]) -> None:
    """Await the end of the peer even if the waiting is cancelled, and raise the cancellation afterwards.

    The end of the input is often followed by the SIGHUP of the terminal that was closed.
    """
    waiting: Deferred[None] = Deferred()
    stopping.addBoth(waiting.callback)
    try:
        await waiting
    except CancelledError:
        await stopping
        raise


def _reached(name: str, address: PeerAddress, *, is_private: bool = False) -> list[Line]:
    """Return the lines that tell the user's name and address."""
    if is_private:
        return [(f"You are {name}, and your address is not published.", GOOD)]
    lines = [(f"You are {name}, and others reach you at {address}.", GOOD)]
    return [*lines, (LOCAL_ONLY, HINT)] if is_loopback(address.ip) else lines


def _sharing(shares: Sequence[SharedPath], settings: Settings) -> list[Line]:
    """Return the lines that tell what is shared, and with whom."""
    if not shares:
        return [(SHARING_NOTHING, HINT)]
    with_whom: dict[str, list[str]] = {}
    for each in shares:
        whom = allowed_text(each.allow, is_lan=settings.registry == LAN)
        with_whom.setdefault(whom, []).append(each.name)
    lines = []
    for whom, names in with_whom.items():
        shown = names[:SHARES_SHOWN]
        if len(names) > len(shown):
            shown.append(f"{len(names) - len(shown)} more")
        lines.append((f"You share {_joined(shown)}, with {whom}.", ""))
    if settings.classic and classic_shares(shares, settings):
        lines.append((IN_THE_CLEAR, HINT))
    return lines


def _joined(words: Sequence[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last


def _upload_text(event: LogEvent) -> str:
    """Return an event of the upload log as a sentence."""
    peer, size = event["peer"], size_text(event.get("bytes", 0))
    if "path" in event:
        is_done = event["outcome"] == Outcome.CONFIRMED.name.lower()
        how = "fetched" if is_done else f"did not get ({event['outcome']})"
        return f"{peer} {how} {event['path']}: {size}."
    if "files" in event:
        files = event["files"]
        how = (
            "is done:" if "s" in event else "fetched"
        )  # at the end of a session, or of an interval
        return f"{peer} {how} {files} file{'' if files == 1 else 's'}, {size}."
    return f"{peer} begins to fetch."


@contextmanager
def uploads_shown(show: Callable[[str], object]) -> Iterator[None]:
    """Show the events of the upload log, as long as the context lasts."""

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        is_debug = event.get("log_level") is LogLevel.debug
        is_offer = str(event.get("path", "")).startswith(MOUNT)  # its own events say more
        if event.get("log_namespace") == uploads.__name__ and not is_debug and not is_offer:
            show(_upload_text(event))

    globalLogPublisher.addObserver(observe)
    try:
        yield
    finally:
        globalLogPublisher.removeObserver(observe)
