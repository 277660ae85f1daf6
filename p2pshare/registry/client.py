"""What a peer asks of a registry."""

from __future__ import annotations

import random
import secrets
from collections.abc import AsyncIterator, Callable, Sequence, Set
from typing import TypeVar
from urllib.parse import quote, urlencode

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.web.iweb import IAgent

from p2pshare.classic.registration import Registration, parse_address, parse_names
from p2pshare.errors import (
    AudienceRefused,
    ClockWrong,
    InvitationNeeded,
    InvitationRefused,
    NameTaken,
    NoSuchPeer,
    NotOwner,
    P2pshareError,
    RegistryBusy,
    RegistryChanged,
    RegistryDowngraded,
    RegistryHasNoOwners,
    RegistryNotBelieved,
    RegistryRecovering,
    RegistryRefused,
    RegistryUnavailable,
    RegistryUnreachable,
    RemoteProtocolError,
    StaleRecord,
)
from p2pshare.names import NAME_MAX
from p2pshare.registry.event_client import EventFollower
from p2pshare.web.client import TIMEOUT, HttpClient, Reply, pooled_agent
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.heartbeats import Heartbeat
from p2pshare.wire.keys import PublicKey, to_base64url
from p2pshare.wire.quantities import difference_text
from p2pshare.wire.registry_answers import (
    CLOCK_SKEW_MAX,
    PAGE_MAX,
    PROBLEM_PREFIX,
    ClaimBody,
    Granted,
    NameKind,
    PeerPage,
    PeerSummary,
    PeerView,
    Problem,
    RegistryInfo,
    ReleaseBody,
)
from p2pshare.wire.statements import Location, Record, digest_of
from p2pshare.wire.strict_json import parse_object, text

__all__ = ["TIMEOUT", "RegistryClient", "pooled_agent"]

LIST_TIMEOUT = 30.0  # seconds for the list of all names
LIST_MAX = 64 * 1024 * 1024  # bytes of the list of all names
PAGE_BYTES_MAX = 256 * 1024  # bytes of a page of peers, or of one peer with its rotations
NAMES_MAX = 1_000_000  # that a list of peers, page by page, may have
CHALLENGE_SIZE = 16  # random bytes that a registry signs to prove its key
PAGES_MAX = 2 * NAMES_MAX // PAGE_MAX  # of them, should some not be full
RETRY_AFTER_DEFAULT = 5  # seconds, if a registry that wants us to wait does not say how long
RECOVERING_DEFAULT = 90  # seconds, likewise

T = TypeVar("T")

_NO_REGISTRY = "it does not answer like a registry"
_TIME_AND_PLACE = {"wrong-signature", "wrong-audience", "wrong-name", "wrong-time", "stale"}
_OF_CLAIM = _TIME_AND_PLACE | {"taken", "invitation-needed", "invitation-refused"}
_OF_RELEASE = _TIME_AND_PLACE | {"not-owner", "not-found"}
_OF_LOOK_UP = frozenset({"not-found"})
_OF_ONE_ROUTE = (_OF_CLAIM | _OF_RELEASE | {"unknown-session"}) - {"not-found"}
"""Problems that are nonsense where nobody can have them."""
_REFUSALS = {"wrong-signature": "a signature is wrong"}


class RegistryClient:
    """Asks one registry.

    Every method fails with `RegistryUnavailable` if the registry says that it cannot work now, with `RegistryBusy` if
    it was asked too often, and with `RegistryUnreachable` if it does not answer in time, or answers what no registry
    would. The first two may have a field `retry_after`, in seconds.
    """

    _log = Logger()

    def __init__(
        self,
        agent: IAgent,
        url: str,
        clock: IReactorTime,
        *,
        timeout: float = TIMEOUT,
        wall: Callable[[], float] | None = None,
        known: PublicKey | None = None,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        """Ask the registry at `url`.

        Args:
            agent: sends the requests.
            url: of the registry.
            clock: measures how long they take.
            timeout: seconds for each.
            wall: the Unix time in s, by which records expire; None believes them without an end.
            known: the key that the registry at this URL has proven before; no other one is accepted.
            random_bytes: draws challenges.
        """
        self._http = HttpClient(agent, url, clock, timeout=timeout)
        self._wall = wall
        self.url = self._http.url
        self._random_bytes = random_bytes
        self.known = known
        """The key that it must have: what it proves first, if that is None."""
        self.key: PublicKey | None = None
        """The key that it has proven last."""
        self.ahead: float | None = None
        """Seconds by which the clock here was ahead of the registry's, when that told its time last."""

    async def info(self) -> RegistryInfo | None:
        """What the registry says of itself, with its key proven; None for an original one, which knows no owners.

        Raises:
            RegistryChanged: it has another key than `known`.
            RegistryDowngraded: it has no key any more.
        """
        challenge = to_base64url(self._random_bytes(CHALLENGE_SIZE))
        reply = await self._http.ask(b"GET", f"v1/?challenge={challenge}")
        if reply.status in (400, 404, 405, 501):
            if self.known is not None:
                raise RegistryDowngraded(registry=self.url)
            return None
        self._expect(reply, 200)
        info = self._read(RegistryInfo.parse, reply)
        if not info.proves(challenge):
            raise self._http.unreachable("it does not prove its key")
        if self.known is not None and info.key != self.known:
            known, now = self.known.grouped, info.key.grouped
            raise RegistryChanged(registry=self.url, known=known, now=now)
        self.key = self.known = info.key
        if self._wall is not None:
            self.ahead = self._wall() - info.time
        self._log.debug(
            "registry proven: url={url} key={key} clock_here_ahead_s={ahead}",
            url=self.url,
            key=info.key,
            ahead=None if self.ahead is None else round(self.ahead, 1),
        )
        return info

    async def prove(self) -> PublicKey:
        """The key of the registry, which it is asked to prove once.

        Raises:
            RegistryHasNoOwners: it is an original one.
            RegistryChanged, RegistryDowngraded: as for `info`.
        """
        if self.key is None and await self.info() is None:
            raise RegistryHasNoOwners(registry=self.url)
        assert self.key is not None
        return self.key

    async def claim(self, name: str, body: ClaimBody) -> Granted:
        """Claim a name, or renew the claim, and begin a session.

        Raises:
            NameTaken: it is another key's, or a live classic one.
            StaleRecord: `seq` was not greater than that of a record before; the error has that.
            ClockWrong: `iat` is too far from the registry's `time`, which the error has.
            InvitationNeeded: the registry takes no new names without one.
            InvitationRefused: it was used before, or is out of date.
            RegistryRecovering: the name can only be claimed with a receipt for `retry_after` seconds.
            RegistryRefused: for any other reason.
        """
        reply = await self._http.ask(b"PUT", _peer(name), body.to_json())
        self._expect(reply, 200, 201, name=name, problems=_OF_CLAIM)
        return self._read(Granted.parse, reply)

    async def release(self, name: str, body: ReleaseBody) -> None:
        """Give a name up.

        Raises:
            NotOwner: it is another key's.
            NoSuchPeer: it is nobody's.
            StaleRecord: as for `claim`.
            ClockWrong: as for `claim`.
            RegistryRefused: for any other reason.
        """
        reply = await self._http.ask(b"DELETE", _peer(name), body.to_json())
        self._expect(reply, 200, 204, name=name, problems=_OF_RELEASE)

    async def beat(self, heartbeat: Heartbeat, mac_key: bytes) -> bool:
        """Give a sign of life, or the last one; False if the session is over, so that the name is to be claimed again.

        Raises:
            RegistryRefused: for another reason.
        """
        path = f"{_peer(heartbeat.name)}/presence"
        reply = await self._http.ask(b"POST", path, heartbeat.to_json(mac_key))
        if reply.status == 401:
            return False
        self._expect(reply, 200, 204)
        return True

    async def look_up_peer(self, name: str, *, by_its_clock: bool = False) -> PeerView:
        """All that the registry says of a peer; record and location are verified, the chain of rotations is not.

        Args:
            name: of the peer.
            by_its_clock: as for `judge`.

        Raises:
            NoSuchPeer: nobody has this name.
            ClockWrong: as for `judge`.
        """
        reply = await self._http.ask(b"GET", _peer(name), limit=PAGE_BYTES_MAX)
        self._expect(reply, 200, name=name, problems=_OF_LOOK_UP)
        view = self._read(PeerView.parse, reply)
        if self._is_expired(view):  # by a clock that may be wrong
            await self.info()
        self.judge(name, view, by_its_clock=by_its_clock)
        return view

    def judge(self, name: str, view: PeerView, *, by_its_clock: bool = False) -> None:
        """Judge what the registry said of a peer; for another registry's record, once the key of this one is proven.

        Args:
            name: of the peer.
            view: what the registry said.
            by_its_clock: if the clock here is far from the registry's, let the registry's decide when a record expires.
                This is for callers that want to know which key owns a name, and for which the time adds nothing.

        Raises:
            RegistryNotBelieved: it is not to be believed.
            ClockWrong: the record has expired by the clock here, which is far from the registry's.
        """
        fault = self._fault(name, view)
        if not fault and self._is_expired(view):
            assert self._wall is not None
            ahead = self.ahead or 0.0
            is_far = abs(ahead) > CLOCK_SKEW_MAX
            if is_far and not by_its_clock:
                raise self._clock_wrong(int(self._wall() - ahead))
            if not is_far or self._is_expired(view, ahead):
                fault = "the record has expired"
        if fault:
            raise RegistryNotBelieved(registry=self.url, name=name, reason=fault)

    async def look_up_key(self, key: str) -> str | None:
        """The name that a key owns, if any."""
        reply = await self._http.ask(b"GET", f"v1/keys/{quote(key, safe='')}")
        if reply.status == 404:
            return None
        self._expect(reply, 200)
        return self._read(lambda body: text(parse_object(body), "name", NAME_MAX), reply)

    async def peers(self, prefix: str = "", online: bool = False) -> AsyncIterator[PeerSummary]:
        """All peers in the order of their names, page by page.

        Args:
            prefix: with which the names begin.
            online: only those that are there, or may be.

        Raises:
            RegistryUnreachable: also if there are more than `NAMES_MAX`, or no end of pages.
        """
        after, names = "", 0
        for _ in range(PAGES_MAX):
            query = {"prefix": prefix, "after": after, "limit": str(PAGE_MAX)}
            if online:
                query["online"] = "true"
            path = f"v1/peers?{urlencode({k: v for k, v in query.items() if v})}"
            reply = await self._http.ask(b"GET", path, limit=PAGE_BYTES_MAX)
            self._expect(reply, 200)
            page = self._read(PeerPage.parse, reply)
            names += len(page.peers)
            if names > NAMES_MAX:
                break
            for each in page.peers:
                yield each
            if page.next is None:
                return
            if page.next <= after:
                raise self._http.unreachable(_NO_REGISTRY)  # or there would be no end
            after = page.next
        raise self._http.unreachable(f"its list has no end: it goes on after {names} names")

    async def watch(
        self,
        names: Sequence[str],
        on_event: Callable[[PeerSummary], object],
        on_reset: Callable[[], object] = lambda: None,
        *,
        on_link: Callable[[bool], object] = lambda _: None,
        rng: random.Random | None = None,
    ) -> None:
        """Follow the changes of presence until cancelled; a connection that breaks is made again, with growing pauses.

        Args:
            names: of the peers; none for all.
            on_event: hears of each change.
            on_reset: hears that all is to be looked up afresh: when the stream first begins, and whenever
                changes may have been missed. Look up after it, not before, and nothing is missed.
            on_link: hears whether the registry is there, at each change and each try.
            rng: draws the jitter of the pauses.

        Raises:
            P2pshareError: the registry refuses for good: it is an original one, or the names are none.
        """
        query = f"?{urlencode({'names': ','.join(names)}, safe=',')}" if names else ""
        path = f"v1/events{query}"
        follower = EventFollower(
            self._http, path, rng or random.Random(), on_event, on_reset, on_link
        )
        await follower.run(self._refusal)

    async def register(self, registration: Registration) -> None:
        """Claim a name in the classic way, renew the claim or, with a lease of 0, give it up.

        Raises:
            NameTaken: somebody else has it.
        """
        reply = await self._http.ask(b"POST", "name", registration.to_json())
        if reply.status == 400:
            raise NameTaken(name=registration.name, registry=self.url)
        self._expect(reply, 200)

    async def look_up(self, name: str) -> PeerAddress:
        """Where the peer of a name is, in the classic way.

        Raises:
            NoSuchPeer: nobody has this name.
        """
        reply = await self._http.ask(b"GET", f"user/{quote(name, safe='')}")
        if reply.status == 400:
            raise NoSuchPeer(name=name)
        self._expect(reply, 200)
        return self._read(parse_address, reply)

    async def list_names(self) -> list[str]:
        """Every name that the classic list has."""
        timeout = max(LIST_TIMEOUT, self._http.timeout)
        reply = await self._http.ask(b"GET", "list", limit=LIST_MAX, timeout=timeout)
        self._expect(reply, 200)
        return self._read(parse_names, reply)

    def _fault(self, name: str, view: PeerView) -> str | None:
        """Why a view is not to be believed."""
        if view.summary.name != name:
            return "it is of another name"
        if view.summary.kind is NameKind.CLASSIC:
            return None
        if view.key is None or view.record is None:
            return "there is no record"
        try:
            record = Record.read(view.record, signer=view.key)
            told = view.location
            location = None if told is None else Location.parse(told)
        except RemoteProtocolError as error:
            return str(error.fields["reason"])
        if (record.name, record.key) != (name, view.key):
            return "the record is of another name or key"
        if self.key not in (None, record.aud):
            return "the record is for another registry"
        if told is not None and record.location != digest_of(told):
            return "the location is not that of the record"
        if view.addresses != (() if location is None else location.addresses):
            return "the addresses are not those of the location"
        return None

    def _is_expired(self, view: PeerView, ahead: float = 0.0) -> bool:
        """Whether a record has expired by a clock `ahead` s behind ours; `_fault` judges one that cannot be read."""
        if self._wall is None or view.record is None:
            return False
        try:
            return Record.parse(view.record).statement.exp <= self._wall() - ahead
        except RemoteProtocolError:
            return False

    def _clock_wrong(self, time: int | None) -> ClockWrong:
        """The error that the clock here is far from a registry whose Unix time in s is `time`, if it told that."""
        ahead = 0.0 if time is None or self._wall is None else self._wall() - time
        is_far = abs(ahead) > CLOCK_SKEW_MAX
        difference = difference_text(ahead) if is_far else "too far from"
        return ClockWrong(registry=self.url, time=time or 0, difference=difference)

    def _read(self, parse: Callable[[bytes], T], reply: Reply) -> T:
        try:
            return parse(reply.body)
        except RemoteProtocolError as error:
            raise self._http.unreachable(_NO_REGISTRY) from error

    def _expect(
        self,
        reply: Reply,
        *statuses: int,
        name: str = "",
        problems: Set[str] = frozenset(),
    ) -> None:
        if reply.status not in statuses:
            raise self._refusal(reply, name, problems)

    def _refusal(
        self, reply: Reply, name: str = "", problems: Set[str] = frozenset()
    ) -> P2pshareError:
        """The error that an answer other than the wanted one is.

        Args:
            reply: the answer.
            name: that was asked about.
            problems: which the question may have, of those that only some can have.
        """
        problem = Problem.parse(reply.status, reply.body)
        word = problem.word
        if word in _OF_ONE_ROUTE and word not in problems:
            return self._http.unreachable(_NO_REGISTRY)
        match word:
            case "recovering":
                wait = reply.retry_after or RECOVERING_DEFAULT
                return RegistryRecovering(registry=self.url, status=503, retry_after=wait)
            case "taken":
                return NameTaken(name=name, registry=self.url)
            case "stale":
                return StaleRecord(registry=self.url, name=name, seq=problem.number("seq") or 0)
            case "wrong-audience":
                return AudienceRefused(registry=self.url)
            case "wrong-time":
                return self._clock_wrong(problem.number("time"))
            case "invitation-needed":
                return InvitationNeeded(registry=self.url)
            case "invitation-refused":
                return InvitationRefused(registry=self.url)
            case "not-owner":
                return NotOwner(registry=self.url, name=name)
            case "not-found" if word in problems:
                return NoSuchPeer(name=name)
        return self._other_refusal(reply, problem)

    def _other_refusal(self, reply: Reply, problem: Problem) -> P2pshareError:
        if reply.status == 429:
            wait = reply.retry_after or RETRY_AFTER_DEFAULT
            return RegistryBusy(registry=self.url, retry_after=wait)
        if reply.status == 503:
            return RegistryUnavailable(
                registry=self.url, status=reply.status, retry_after=reply.retry_after
            )
        if problem.type.startswith(PROBLEM_PREFIX) and reply.status < 500:
            reason = _REFUSALS.get(problem.word) or repr(problem.detail or problem.title)
            return RegistryRefused(registry=self.url, reason=reason)
        return self._unexpected(reply.status)

    def _unexpected(self, status: int) -> RegistryUnreachable:
        return self._http.unreachable(f"it answered HTTP {status}, as no registry would")


def _peer(name: str) -> str:
    return f"v1/peers/{quote(name, safe='')}"
