"""The table of the routes of the peer's page: who may ask, what answers, and every error as a reply."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pshare.errors import P2pshareError
from p2pshare.peer.page.access import Access
from p2pshare.peer.page.replies import PageError, failed_action, problem, with_headers
from p2pshare.web.exchange import Query, Reply, Route

REQUESTS_MAX = 64  # that are being answered at a time


class PageRoutes:
    """Answers queries; a `web.exchange.Answers`.

    Every query is checked by `Access.check`. Only the routes of `public` answer without a session.
    """

    _log = Logger()

    def __init__(
        self, access: Access, public: Mapping[bytes, Route], private: Mapping[bytes, Route]
    ) -> None:
        self._access = access
        self._public = public
        self._private = private
        self._answering = 0

    def answer(self, query: Query) -> Deferred[Reply]:
        """Return the reply to a query; this never fails."""
        if self._answering >= REQUESTS_MAX:
            detail = "Too many requests are being answered."
            return succeed(with_headers(problem("unavailable", detail, retry_after=1)))
        self._answering += 1
        answering = Deferred.fromCoroutine(self._answer(query))
        query.when_gone(answering.cancel)
        return answering.addErrback(self._failed).addCallback(self._done)

    def streams(self, method: bytes, path: bytes) -> bool:
        """Whether the body of a request is passed on as it arrives."""
        route = _find(self._private, path)
        return route is not None and route.streams and method in route.methods

    async def _answer(self, query: Query) -> Reply:
        self._access.check(query)
        route = _find(self._public, query.path)
        if route is None:
            self._access.session(query)
            route = _find(self._private, query.path)
        if route is None:
            return problem("not-found")
        answer = route.methods.get(query.method)
        if answer is None:
            allowed = ((b"Allow", route.allowed.encode()),)
            return replace(problem("method-not-allowed"), headers=allowed)
        reply = answer(query)
        return reply if isinstance(reply, Reply) else await reply

    def _done(self, reply: Reply) -> Reply:
        self._answering -= 1
        return with_headers(reply)

    def _failed(self, failure: Failure) -> Reply:
        """Return the reply for an error."""
        error = failure.value
        if isinstance(error, PageError):
            return error.reply
        if isinstance(error, P2pshareError):
            return failed_action(error)
        if not failure.check(CancelledError):  # else the browser has left
            self._log.failure("request of the page failed", failure)
        return problem("internal")


def _find(table: Mapping[bytes, Route], path: bytes) -> Route | None:
    """Return the route of a path, or of the longest prefix of it that ends with a slash."""
    return next((table[each] for each in (path, *_prefixes(path)) if each in table), None)


def _prefixes(path: bytes) -> Iterator[bytes]:
    at = path.rfind(b"/")
    while at >= 0:
        yield path[: at + 1]
        at = path.rfind(b"/", 0, at)
