"""The route of drafts: a browser brings the files that its user has dropped, one by one.

`PUT /api/v1/draft/DRAFT/PATH` has a file as its body, and a path that ends with a slash makes a folder. A file is
refused before its first byte if it cannot be kept. The reply to that would be lost if the connection ended while the
browser still sends, so up to `SKIPPED_MAX` bytes are read and thrown away first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from p2pshare.errors import P2pshareError
from p2pshare.net.threads import run_in_thread
from p2pshare.peer.control import Action
from p2pshare.peer.page.paths import segments_of
from p2pshare.peer.page.replies import PageError, json_reply
from p2pshare.peer.running import RunningPeer
from p2pshare.storage.offers.drafts import DraftFile
from p2pshare.web.exchange import Query, Reply, Route
from p2pshare.web.request_bodies import ClientLeft, IncomingBody

DRAFT = b"api/v1/draft/"
SKIPPED_MAX = 64 * 1024 * 1024  # bytes of a file that cannot be kept


class DraftRoutes:
    """Fills the drafts of a peer."""

    def __init__(self, peer: RunningPeer) -> None:
        """Fill the drafts in the outbox of a peer."""
        self._reactor = peer.reactor
        self._drafts = peer.offers.outbox.drafts

    @property
    def actions(self) -> Mapping[str, Action]:
        """Return no actions: those of drafts belong to the outbox."""
        return {}

    def table(self) -> Mapping[bytes, Route]:
        """Return the route."""
        return {DRAFT: Route("draft", {b"PUT": self._put}, streams=True)}

    async def start(self) -> None:
        """Do nothing."""

    async def stop(self) -> None:
        """Do nothing."""

    async def _put(self, query: Query) -> Reply:
        body = query.incoming or _nothing()
        is_folder = query.path.endswith(b"/")
        draft_id, *path = segments_of(replace(query, path=query.path.rstrip(b"/")), DRAFT)
        if body.length is None:
            raise PageError("malformed", "The length of the file is missing.")
        try:
            if is_folder:
                await self._drafts.add_folder(draft_id, tuple(path))
            else:
                file = await self._drafts.begin_file(draft_id, tuple(path), body.length)
                await self._receive(file, body)
        except P2pshareError:
            await _skip(body)
            raise
        except ClientLeft:
            raise PageError("malformed", "The file is not complete.") from None
        return json_reply({"draft": draft_id, "bytes": body.length})

    async def _receive(self, file: DraftFile, body: IncomingBody) -> None:
        """Write a file as it arrives; remove it if it does not arrive."""
        try:
            while piece := await body.read():
                await run_in_thread(self._reactor, file.write, piece)
            await run_in_thread(self._reactor, file.finish)
        finally:
            await self._drafts.end_file(file)


def _nothing() -> IncomingBody:
    """Return the body of a request that has none: the file is empty."""
    body = IncomingBody(0, lambda _: None)
    body.complete()
    return body


async def _skip(body: IncomingBody) -> None:
    """Read the rest of a body that is not wanted, unless it is long."""
    if body.length is not None and body.length <= SKIPPED_MAX:
        try:
            while await body.read():
                pass
        except ClientLeft:
            return
