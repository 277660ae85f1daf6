"""The peer's page as a part of the peer: its port, and what answers there."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any
from urllib.parse import quote

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.logger import Logger

from p2pshare import __version__
from p2pshare.errors import CannotStart
from p2pshare.net.shared_answer import SharedAnswer
from p2pshare.net.threads import run_in_thread
from p2pshare.peer.control import CONTROL_VERSION, Action, Fields
from p2pshare.peer.page.access import Access
from p2pshare.peer.page.api import ApiRoutes, Perform
from p2pshare.peer.page.events import EventStreams
from p2pshare.peer.page.routes import PageRoutes
from p2pshare.peer.running import Part, RunningPeer
from p2pshare.storage.os_errors import plain_reason
from p2pshare.web.assets import Assets
from p2pshare.web.exchange import Route
from p2pshare.web.limits import Limits
from p2pshare.web.site import Site
from p2pshare.wire.strict_json import text

LOOPBACK = "127.0.0.1"
PLACE_MAX = 4096  # characters of the view that a link opens
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
        self._access = Access(peer.reactor, peer.wall, peer.folder, secrets.token_bytes)
        self._streams: EventStreams | None = None
        self._assets: Assets | None = None
        self._port: Any = None
        self._opening: SharedAnswer[None] | None = None

    @property
    def actions(self) -> Mapping[str, Action]:
        """What verbs may ask for."""
        return {"page_open": self._open_wanted}

    def table(self) -> Mapping[bytes, Route]:
        """Return no routes: they are made when the page opens."""
        return {}

    async def start(self) -> None:
        """Open the page if the settings say so, or if it was open before."""
        if self._access.kept.is_open and self._access.kept.sessions and self._peer.is_lasting:
            try:
                await self._open()
            except CannotStart as error:
                self._log.warn("page not opened: reason={error}", error=str(error))

    async def stop(self) -> None:
        """Close the port and the streams."""
        if self._streams is not None:
            self._streams.stop()
        port, self._port = self._port, None
        if port is not None:
            await maybeDeferred(port.stopListening)

    async def _open_wanted(self, request: Fields) -> Fields:
        """Open the page if it is not, and return a link that signs a browser in."""
        place = text({"to": "/people", **request}, "to", PLACE_MAX)
        await self._open()
        if not self._access.kept.is_open:
            self._access.kept.is_open = True
            self._access.save()
        port = self._port.getHost().port
        to = quote(place, safe="/")
        url = f"http://{LOOPBACK}:{port}/#open={self._access.token()}&to={to}"
        return {"url": url}

    async def _open(self) -> None:
        """Open the page once; others wait for that.

        Raises:
            CannotStart: it has no port.
        """
        if self._port is not None:
            return
        if self._opening is None:
            self._opening = SharedAnswer(Deferred.fromCoroutine(self._listen()))
        try:
            await self._opening.wait()
        finally:
            self._opening = None

    async def _listen(self) -> None:
        if self._assets is None:
            self._assets = await run_in_thread(self._peer.reactor, _read_assets)
        streams = self._streams = EventStreams(
            self._peer.reactor, self._peer.events, self._access, self._hello
        )
        api = ApiRoutes(self._access, streams, self._perform, self._greeting)
        private = dict(api.private())
        for part in self._parts:
            private.update(part.table())
        public = {**self._assets.table(), **api.public()}
        routes = PageRoutes(self._access, public, private)
        reactor, wall = self._peer.reactor, self._peer.wall
        site = Site(routes, reactor, LIMITS, wall=wall, streams=routes.streams)
        kept = self._access.kept
        try:
            self._port = self._listen_on(kept.port, site)
        except CannotListenError as error:
            streams.stop()
            reason = f"it cannot listen on {LOOPBACK}: {plain_reason(error.socketError)}"
            raise CannotStart(what="The page", reason=reason) from error
        number = self._port.getHost().port
        if number != kept.port:
            kept.port = number
            self._access.save()
        self._log.info("page open: address={host}:{port}", host=LOOPBACK, port=number)

    def _listen_on(self, number: int, site: Site) -> Any:
        """Listen on the port that the page had before, or on any other if another program has that now."""
        reactor: Any = self._peer.reactor
        try:
            return reactor.listenTCP(number, site, interface=LOOPBACK)
        except CannotListenError:
            if not number:
                raise
            return reactor.listenTCP(0, site, interface=LOOPBACK)

    def _greeting(self) -> Fields:
        """Return what the page needs to know at its start."""
        assert self._assets is not None
        return {
            "name": self._peer.place.name,
            "program": __version__,
            "control": CONTROL_VERSION,
            "assets": self._assets.hash,
            "boot": self._boot,
        }

    async def _hello(self) -> Fields:
        """Return the first event of a stream."""
        return {**await self._perform("version", {}), **self._greeting()}


def _read_assets() -> Assets:
    own = files("p2pshare.peer.page").joinpath("assets")
    return Assets((files("p2pshare.web").joinpath("assets"), own))
