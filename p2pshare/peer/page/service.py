"""The peer's page as a part of the peer: its port, and what answers there."""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any
from urllib.parse import quote

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger

from p2pshare import __version__
from p2pshare.errors import CannotStart, P2pshareError
from p2pshare.net.shared_answer import SharedAnswer
from p2pshare.net.socket_owner import is_told, owner_of
from p2pshare.net.threads import run_in_thread
from p2pshare.peer.control import CONTROL_VERSION, Action, Fields
from p2pshare.peer.page.access import Access
from p2pshare.peer.page.api import ApiRoutes, Perform
from p2pshare.peer.page.events import EventStreams
from p2pshare.peer.page.listening import DEFAULT, PageReactor, place_of
from p2pshare.peer.page.replies import HEADERS
from p2pshare.peer.page.routes import PageRoutes
from p2pshare.peer.page.sessions import Sessions
from p2pshare.peer.running import Part, RunningPeer
from p2pshare.storage.identity.page_sessions import read_password
from p2pshare.storage.open_file_limit import open_files_allowed
from p2pshare.storage.settings import Settings, Source
from p2pshare.web.assets import Assets
from p2pshare.web.exchange import Route
from p2pshare.web.limits import Limits
from p2pshare.web.site import Site
from p2pshare.wire.strict_json import text

PLACE_MAX = (
    16 * 1024
)  # characters of the view that a link opens; a path of 4096 bytes takes up to 12 288
BOOT_SIZE = 8  # random bytes of the ID of a run
LIMITS = Limits(
    body_max=64 * 1024,
    reply_timeout=660.0,  # more than the longest action may take
    connections_max=256,
    connections_per_address_max=256,  # all browsers have one address
    long_replies_max=64,
    long_replies_per_address_max=64,
    long_reply_stalled_max=120.0,  # a video that is paused does not read
)


class PageService:
    """Serves the page, from `start` or the first `page_open` until `stop`."""

    _log = Logger()

    def __init__(self, peer: RunningPeer, perform: Perform, parts: Sequence[Part]) -> None:
        """Prepare it.

        Args:
            peer: whose page it is.
            perform: performs an action of the control socket.
            parts: the parts of the peer, which may have routes.
        """
        self._peer = peer
        self._perform = perform
        self._parts = parts
        self._boot = secrets.token_hex(BOOT_SIZE)
        self._sessions: Sessions | None = None
        self._access: Access | None = None
        self._streams: EventStreams | None = None
        self._assets: Assets | None = None
        self._port: Any = None
        self._url = ""
        self._is_stopped = False
        self._opening: SharedAnswer[None] | None = None

    @property
    def actions(self) -> Mapping[str, Action]:
        """What verbs may ask for."""
        return {"page_open": self._open_wanted}

    def table(self) -> Mapping[bytes, Route]:
        """Return no routes: they are made when the page opens."""
        return {}

    async def start(self) -> None:
        """Open the page if the settings say so, or if it was open before.

        Raises:
            P2pshareError: the settings say so, and it cannot be opened.
        """
        if not self._peer.is_lasting:
            return  # it ends with its command
        if self._peer.settings.page is not None:
            await self._open()
            return
        try:
            kept = self._own_sessions().kept
            if kept.is_open and kept.sessions:
                await self._open()
        except P2pshareError as error:
            self._log.warn("page not opened: reason={error}", error=str(error))

    async def stop(self) -> None:
        """Close the port and the streams."""
        self._is_stopped = True
        if self._streams is not None:
            self._streams.stop()
        port, self._port = self._port, None
        if port is not None:
            await maybeDeferred(port.stopListening)

    async def _open_wanted(self, request: Fields) -> Fields:
        """Open the page if it is not, and return a link that signs a browser in."""
        place = text({"to": "/people", **request}, "to", PLACE_MAX)
        await self._open()
        sessions = self._own_sessions()
        if not sessions.kept.is_open:
            sessions.kept.is_open = True
            sessions.save()
        return {"url": f"{self._url}/#open={sessions.token()}&to={quote(place, safe='/')}"}

    async def _open(self) -> None:
        """Open the page once; others wait for that.

        Raises:
            P2pshareError: it cannot be opened.
        """
        if self._port is not None:
            return
        if self._opening is None or not self._opening.is_open:
            self._opening = SharedAnswer(Deferred.fromCoroutine(self._listen()))
        await self._opening.wait()

    async def _listen(self) -> None:
        peer, sessions = self._peer, self._own_sessions()
        kept = sessions.kept
        on = PageReactor(
            peer.reactor, kept.port, has_password=peer.settings.page_password_file is not None
        )
        place = place_of(on, peer.settings.page or DEFAULT)
        if self._assets is None:
            self._assets = await run_in_thread(peer.reactor, _read_assets)
        if self._is_stopped:  # meanwhile
            raise CannotStart(what="The page", reason="the peer is ending")
        self._access = access = Access(sessions, peer.folder, owner_of if is_told() else None)
        streams = EventStreams(peer.reactor, peer.events, access, self._hello)
        sessions.on_end = streams.end_sessions
        api = ApiRoutes(access, streams, self._perform, self._greeting)
        private = dict(api.private())
        for part in self._parts:
            private.update(part.table())
        routes = PageRoutes(access, {**self._assets.table(), **api.public()}, private)
        site = Site(
            routes,
            peer.reactor,
            LIMITS.within(open_files_allowed()),
            wall=peer.wall,
            streams=routes.streams,
            admits=self._admits,
            headers=HEADERS,
        )
        try:
            self._port = place.listen(site)
        except P2pshareError:
            streams.stop()
            raise
        self._streams, access.hosts = streams, on.hosts
        number = self._port.getHost().port
        if number != kept.port:
            kept.port = number
            sessions.save()
        self._url = on.url(number)
        self._log.info("page open: url={url}", url=self._url)
        if not is_told() and not on.hosts.any_address:
            self._log.warn(
                "page open to other users: reason=the system does not tell whose a connection is"
            )

    def _admits(self, address: Any) -> bool:
        """Whether a client may connect: of this user, if the page is for this machine alone."""
        assert self._access is not None
        if self._access.hosts.any_address:
            return True
        own = self._port.getHost()
        return self._access.is_own((address.host, address.port), (own.host, own.port))

    def _own_sessions(self) -> Sessions:
        """Return the sessions, which are read at first use.

        Raises:
            SettingsUnreadable: the file with the password cannot be used.
        """
        if self._sessions is None:
            peer, password = self._peer, None
            if peer.settings.page_password_file is not None:
                password = read_password(peer.settings.page_password_file)
            draw = secrets.token_bytes
            self._sessions = Sessions(peer.reactor, peer.wall, peer.folder, draw, password)
        return self._sessions

    def _greeting(self) -> Fields:
        """Return what the page needs to know at its start."""
        assert self._assets is not None
        return {
            "name": self._peer.place.name,
            "program": __version__,
            "control": CONTROL_VERSION,
            "assets": self._assets.hash,
            "boot": self._boot,
            "command": open_command(self._peer.settings),
        }

    async def _hello(self) -> Fields:
        """Return the first event of a stream."""
        return {**await self._perform("version", {}), **self._greeting()}


def open_command(settings: Settings) -> str:
    """Return the command that opens the page of this peer again, with the flags that the peer was given."""
    sources = {} if settings.origin is None else settings.origin.sources
    words = ["p2pshare", "open"]
    for setting in ("name", "registry", "data"):
        if sources.get(setting) is Source.FLAG:
            words += [f"--{setting}", str(getattr(settings, setting))]
    return shlex.join(words)


def _read_assets() -> Assets:
    own = files("p2pshare.peer.page").joinpath("assets")
    return Assets((files("p2pshare.web").joinpath("assets"), own))
