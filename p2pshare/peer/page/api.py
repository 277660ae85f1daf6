"""The routes of the page's server that need no part: sessions, actions and events."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from twisted.internet.defer import Deferred

from p2pshare.errors import ControlRefused, RemoteProtocolError
from p2pshare.peer.control import REPLY_MAX, TOO_LONG, Fields
from p2pshare.peer.page.access import SESSION_PATH, Access
from p2pshare.peer.page.events import EventStreams
from p2pshare.peer.page.replies import PageError, json_reply, problem
from p2pshare.peer.page.sessions import csrf_token
from p2pshare.web.exchange import Answer, Query, Reply, Route
from p2pshare.wire import strict_json

DO = b"api/v1/do/"
EVENTS = b"api/v1/events"
SECRET_TEXT_MAX = 256  # characters of a token or a password
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
            access: checks requests, and has the sessions.
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
        methods: dict[bytes, Answer] = {
            b"GET": self._session,
            b"POST": self._sign_in,
            b"DELETE": self._sign_out,
        }
        return {SESSION_PATH: Route("session", methods)}

    def private(self) -> Mapping[bytes, Route]:
        """Return the others."""
        return {
            DO: Route("do", {b"POST": self._do}),
            EVENTS: Route("events", {b"GET": self._streams.answer}),
        }

    def _session(self, query: Query) -> Reply:
        return self._signed_in(self._access.session(query))

    def _sign_in(self, query: Query) -> Reply:
        """Begin a session for a token, which is for browsers of this user, or for the password."""
        fields, sessions = dict(_body(query)), self._access.sessions
        try:
            if "password" in fields:
                password = strict_json.text(fields, "password", SECRET_TEXT_MAX)
                secret = sessions.try_password(password, self._access.client(query))
            else:
                self._access.check_user(query)
                secret = sessions.exchange(strict_json.text(fields, "token", SECRET_TEXT_MAX))
        except RemoteProtocolError as error:
            raise PageError("malformed", str(error)) from error
        reply = self._signed_in(secret)
        return replace(reply, headers=(self._access.cookie(query, secret),))

    def _sign_out(self, query: Query) -> Reply:
        self._access.sessions.end(self._access.session(query))
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
        reply = json_reply({key: value for key, value in (await answer).items() if key != "ok"})
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
