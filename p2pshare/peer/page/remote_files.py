"""Routes for the bytes of other people's files: whole or in ranges, as previews, and as zips.

**What a stranger's bytes may do in a browser: nothing.** They come from the page's own origin, so every reply here has
the policy `sandbox`: a document made of them has no origin and runs no script. In front of that, only the media types
of `media_types` are given, and `nosniff` keeps the browser from finding another one in the content. All else is a
download. Previews are checked to be small JPEGs.

A file is read block by block over the session, each verified before its first byte is passed on (`browse.reading`). The
site answers ranges. What the browser asks for is looked at here once more, so that the first blocks of that range come
with the header of the file: a jump in a film costs one round trip.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from urllib.parse import quote

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pshare.errors import IllegalName, P2pshareError, RemoteNoPreview, RemoteProtocolError
from p2pshare.names import read_name
from p2pshare.peer.browse.archive import PATHS_MAX, ReaderGone, Selection
from p2pshare.peer.browse.media_types import DOWNLOAD, media_type_of
from p2pshare.peer.browse.reading import Wanted
from p2pshare.peer.browse.service import Browsing
from p2pshare.peer.control import Action
from p2pshare.peer.page.paths import arguments, segments_of
from p2pshare.peer.page.replies import PageError
from p2pshare.storage.incoming.destination import safe_name
from p2pshare.web.exchange import Query, Reply, Route
from p2pshare.web.reply_bodies import Outlet
from p2pshare.wire.blocks import digest_of
from p2pshare.wire.paths import RemotePath, format_path, parse_path
from p2pshare.wire.transfer_messages import PREVIEW_EDGES, VERSION_MAX

FILE, PREVIEW, ARCHIVE = b"api/v1/file/", b"api/v1/preview/", b"api/v1/archive/"
TAG_SIZE = 16  # bytes of a version's digest in an entity tag
POLICY = b"sandbox; default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
KEEP = b"private, max-age=31536000, immutable"
"""For a reply that is the same for ever: its URL has the version of the file."""
ASK_AGAIN = b"private, no-cache"
"""For one that may be kept, and is asked for again with its entity tag."""

_RANGE = re.compile(rb"bytes=([0-9]{1,19})-([0-9]{0,19})")


class RemoteFiles:
    """The files of others on the page; a part of the peer."""

    _log = Logger()

    def __init__(self, browsing: Browsing) -> None:
        self._browsing = browsing

    @property
    def actions(self) -> Mapping[str, Action]:
        """Return none: those of `browsing` belong to the peer."""
        return {}

    def table(self) -> Mapping[bytes, Route]:
        """Return the three routes."""
        return {
            FILE: Route("file", {b"GET": self._file}),
            PREVIEW: Route("preview", {b"GET": self._preview}),
            ARCHIVE: Route("archive", {b"GET": self._archive}),
        }

    async def start(self) -> None:
        """Do nothing."""

    async def stop(self) -> None:
        """Do nothing: the peer stops `browsing`."""

    async def _file(self, query: Query) -> Reply:
        """Answer with a file, or a range of it."""
        peer, path = _target(query, FILE)
        given = arguments(query)
        reading = await self._browsing.readings.open(peer, path, _wanted(query))
        tag = entity_tag(reading.header.version)
        is_known = given.get("v") == [reading.header.version]
        media = DOWNLOAD if given.get("download") == ["1"] else media_type_of(path[-1])
        headers = (
            *_headers(KEEP if is_known else ASK_AGAIN),
            (b"ETag", tag),
            (b"Content-Disposition", disposition(path[-1], is_shown=media != DOWNLOAD)),
        )
        if query.has(tag):
            reading.close()
            return Reply(HTTPStatus.NOT_MODIFIED, headers=headers)
        return Reply(HTTPStatus.OK, content_type=media.encode(), headers=headers, source=reading)

    async def _preview(self, query: Query) -> Reply:
        """Answer with a preview of a picture; 404 if there is none."""
        peer, path = _target(query, PREVIEW)
        given = arguments(query)
        version, edge = given.get("v", [""])[0], given.get("edge", [""])[0]
        if edge not in map(str, PREVIEW_EDGES) or len(version) > VERSION_MAX:
            edges = ", ".join(map(str, PREVIEW_EDGES))
            raise PageError("malformed", f"The edge of a preview is one of {edges}.")
        try:
            picture = await self._browsing.pictures.preview(peer, path, int(edge), version)
        except RemoteNoPreview as error:
            raise PageError("not-found", str(error), error=type(error).__name__) from None
        tag = entity_tag(f"{edge} {picture.version}")
        headers = (
            *_headers(KEEP if picture.version == version else ASK_AGAIN),
            (b"ETag", tag),
            (b"Content-Disposition", b"inline"),
        )
        if query.has(tag):
            return Reply(HTTPStatus.NOT_MODIFIED, headers=headers)
        return Reply(HTTPStatus.OK, (picture.data,), b"image/jpeg", headers)

    async def _archive(self, query: Query) -> Reply:
        """Answer with a zip of files and folders."""
        peer = _name(segments_of(query, ARCHIVE))
        paths = [_path(each) for each in arguments(query).get("path", ())]
        if not 0 < len(paths) <= PATHS_MAX:
            raise PageError("malformed", f"An archive has 1 to {PATHS_MAX} paths.")
        selection = await self._browsing.archives.select(peer, paths)
        headers = (
            *_headers(b"no-store"),
            (b"Content-Disposition", disposition(f"{selection.title}.zip", is_shown=False)),
        )
        return Reply(
            HTTPStatus.OK,
            content_type=b"application/zip",
            headers=headers,
            stream=lambda outlet: self._write(selection, outlet),
        )

    def _write(self, selection: Selection, outlet: Outlet) -> None:
        """Write a zip to a browser. What it does not get the end of, it shows as a failed download."""

        def failed(failure: Failure) -> None:
            if failure.check(P2pshareError, CancelledError, TimeoutError, ReaderGone):
                self._log.debug("archive cut short: why={why!r}", why=failure.getErrorMessage())
            else:
                self._log.failure("archive not written: peer={peer}", failure, peer=selection.peer)
            outlet.drop()

        writing: Deferred[None] = self._browsing.archives.begin(selection, outlet)
        outlet.when_over(writing.cancel)
        writing.addCallbacks(lambda _: outlet.finish(), failed)


def entity_tag(version: str) -> bytes:
    """Return a strong entity tag for a text of a stranger."""
    digest = digest_of(version.encode(errors="backslashreplace"))
    return b'"%b"' % digest[:TAG_SIZE].hex().encode()


def disposition(name: str, *, is_shown: bool) -> bytes:
    """Return the value of `Content-Disposition` (RFC 6266, RFC 8187) for a name of a stranger.

    The name is made harmless first, as that of a file which is saved; the browser makes up its own mind, too.
    """
    name = safe_name(name)
    plain = re.sub(r"[^A-Za-z0-9 ._-]", "_", name)
    kind = "inline" if is_shown else "attachment"
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}".encode()


def _headers(cache: bytes) -> tuple[tuple[bytes, bytes], ...]:
    return (b"Content-Security-Policy", POLICY), (b"Cache-Control", cache)


def _target(query: Query, prefix: bytes) -> tuple[str, RemotePath]:
    """Return the peer and the file that a request names."""
    peer, *path = segments_of(query, prefix) or ("",)
    if not path:
        raise PageError("malformed", "The path of a file is missing.")
    return _name((peer,)), _path(format_path(tuple(path)))


def _name(segments: tuple[str, ...]) -> str:
    try:
        (name,) = segments
        return read_name(name)
    except (ValueError, IllegalName):
        raise PageError("malformed", "The name of a person is missing, or no name.") from None


def _path(text: str) -> RemotePath:
    try:
        return parse_path(text)
    except RemoteProtocolError as error:
        raise PageError("malformed", str(error)) from None


def _wanted(query: Query) -> Wanted | None:
    """Return what will be read, as far as `Range` says so before the size is known."""
    text = query.header(b"Range").encode()
    if not text:
        return 0, None
    match = _RANGE.fullmatch(text)
    if match is None:  # such as the last bytes
        return None
    first, last = int(match[1]), int(match[2] or -1)
    return first, None if last < first else last + 1
