"""The routes of the page's server that need no part: sessions, actions and events."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from twisted.internet.defer import Deferred

from p2pshare.errors import ControlRefused, RemoteProtocolError
from p2pshare.peer.control import REPLY_MAX, TOO_LONG, Fields
from p2pshare.peer.page.access import Access, csrf_token
from p2pshare.peer.page.events import EventStreams
from p2pshare.peer.page.replies import PageError, json_reply, problem
from p2pshare.web.exchange import Query, Reply, Route
from p2pshare.wire import strict_json

SESSION = b"api/v1/session"
DO = b"api/v1/do/"
EVENTS = b"api/v1/events"
SECRET_TEXT_MAX = 128  # characters of a token
NOT_FOR_PAGES = frozenset({"follow", "release", "rotate", "history_add", "complete", "page_open"})
"""Actions that the page does not ask for; some give up or replace the key."""

Perform = Callable[[str, Fields], Deferred[Fields]]


class ApiRoutes:
    """Sessions, actions and events."""

    def __init__(
        self,
        access: Access,
        streams: EventStreams,
        perform: Perform,
        greeting: Callable[[], Fields],
    ) -> None:
        """Answer.

        Args:
            access: tokens and sessions.
            streams: the event streams.
            perform: performs an action, and fails with `P2pshareError` alone.
            greeting: returns what the page needs to know at its start.
        """
        self._access = access
        self._streams = streams
        self._perform = perform
        self._greeting = greeting

    def public(self) -> Mapping[bytes, Route]:
        """Return the routes that need no session."""
        methods = {b"GET": self._session, b"POST": self._sign_in, b"DELETE": self._sign_out}
        return {SESSION: Route("session", methods)}

    def private(self) -> Mapping[bytes, Route]:
        """Return the others."""
        return {
            DO: Route("do", {b"POST": self._do}),
            EVENTS: Route("events", {b"GET": self._streams.answer}),
        }

    def _session(self, query: Query) -> Reply:
        return self._signed_in(self._access.session(query))

    def _sign_in(self, query: Query) -> Reply:
        token = strict_json.text(dict(_body(query)), "token", SECRET_TEXT_MAX)
        secret = self._access.exchange(token)
        reply = self._signed_in(secret)
        return replace(reply, headers=(self._access.cookie(query, secret),))

    def _sign_out(self, query: Query) -> Reply:
        self._access.sign_out(query)
        self._streams.end_session(self._access.is_valid)
        return replace(json_reply({}), headers=(self._access.cookie(query, ""),))

    def _signed_in(self, secret: str) -> Reply:
        return json_reply({"csrf": csrf_token(secret), **self._greeting()})

    async def _do(self, query: Query) -> Reply:
        action = query.path.removeprefix(DO).decode("latin-1")
        if action in NOT_FOR_PAGES:
            return problem("not-found", "The page cannot ask for this action.")
        performing = self._perform(action, _body(query))
        answer: Deferred[Fields] = Deferred()  # an action goes on if the browser leaves
        performing.addCallbacks(answer.callback, answer.errback)
        fields = dict(await answer)
        fields.pop("ok", None)
        reply = json_reply(fields)
        if sum(map(len, reply.body)) > REPLY_MAX:
            raise ControlRefused(reason=TOO_LONG)
        return reply


def _body(query: Query) -> Fields:
    """Return the object in a body.

    Raises:
        PageError: it is not JSON.
    """
    kind = query.header(b"Content-Type").partition(";")[0].strip().lower()
    if kind != "application/json":  # a form of another page cannot send this type
        raise PageError("wrong-content-type")
    try:
        return strict_json.parse_object(query.body, "the body")
    except RemoteProtocolError as error:
        raise PageError("malformed", str(error)) from error
