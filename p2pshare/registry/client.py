"""The client of a registry: what peers and commands ask, and whether the answer is to be believed."""

from __future__ import annotations

import random
import secrets
from collections.abc import AsyncIterator, Callable, Sequence, Set
from typing import TypeVar
from urllib.parse import quote, urlencode

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.web.iweb import IAgent

from p2pshare import errors
from p2pshare.classic.registration import Registration, parse_address, parse_names
from p2pshare.errors import P2pshareError, RemoteProtocolError
from p2pshare.registry.event_client import EventFollower, OnLink
from p2pshare.web.client import TIMEOUT, HttpClient, Reply, pooled_agent
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.heartbeats import Heartbeat
from p2pshare.wire.keys import PublicKey, SigningKey, to_base64url
from p2pshare.wire.quantities import difference_text
from p2pshare.wire.reach.access import Access, Use
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

__all__ = ["TIMEOUT", "RegistryClient", "pooled_agent"]

LIST_TIMEOUT = 30.0  # seconds for the list of all names
LIST_MAX = 64 * 1024 * 1024  # bytes of the list of all names
PAGE_BYTES_MAX = 256 * 1024  # bytes of a page of peers, or of one peer with its rotations
NAMES_MAX = 1_000_000  # in all pages of a list of peers
CHALLENGE_SIZE = 16  # random bytes that a registry signs to prove its key
PAGES_MAX = 2 * NAMES_MAX // PAGE_MAX  # of a list of peers, as some pages may not be full
RETRY_AFTER_DEFAULT = 5  # seconds, for a registry that is busy and sends no `Retry-After`
RECOVERING_DEFAULT = 90  # seconds, for one that recovers its names and sends none

T = TypeVar("T")

NOT_A_REGISTRY = "it does not answer like a registry"
NO_PROOF = "it does not prove its key"

_OF_STATEMENT = {"wrong-signature", "wrong-audience", "wrong-name", "wrong-time", "stale"}
_OF_CLAIM = _OF_STATEMENT | {"taken", "invitation-needed", "invitation-refused"}
_OF_RELEASE = _OF_STATEMENT | {"not-owner", "not-found"}
_OF_LOOK_UP = frozenset({"not-found"})
OF_ACCESS = (_OF_STATEMENT | {"not-owner", "replayed", "unauthorized"}) - {"stale"}
"""Problems of the routes that need an access statement."""
OF_SIGNAL = OF_ACCESS | {"not-accepted", "not-listening"}
"""Problems of the route for signals."""
_OF_ONE_ROUTE = (_OF_CLAIM | _OF_RELEASE | OF_SIGNAL | {"unknown-session"}) - {
    "not-found",
    "unauthorized",
}
"""Problems that only some routes have; from any other route they show that the server is not a registry."""


class RegistryClient:
    """Asks one registry.

    Every method fails with `RegistryUnavailable` if the registry cannot work at the moment, and with `RegistryBusy` if
    a rate limit is reached. Both may have a field `retry_after`, in seconds. A method fails with `RegistryUnreachable`
    if there is no reply in time, or one that no registry sends.
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
            clock: measures timeouts.
            timeout: seconds for each request.
            wall: the Unix time in s, by which records expire; None if they do not.
            known: the key that the registry at this URL has proven before; any other key is rejected.
            random_bytes: draws challenges.
        """
        self.http = HttpClient(agent, url, clock, timeout=timeout)
        """For the clients of single services: `signal_client` and others."""
        self._wall = wall
        self.url = self.http.url
        self.keeps_names = True
        self.trouble: P2pshareError | None = None
        self._random_bytes = random_bytes
        self.known = known
        """The key that it must have; if it is None, the first key that the registry proves."""
        self.key: PublicKey | None = None
        """The key that it has proven in this process."""
        self.description: RegistryInfo | None = None
        """What it said of itself last."""
        self.clock_ahead_s: float | None = None
        """How far the clock here is ahead of the registry's; None before the registry has told its time."""

    async def info(self) -> RegistryInfo | None:
        """Return the registry's description, with its key proven; None for an original registry, which has no keys.

        Raises:
            RegistryChanged: it has another key than `known`.
            RegistryDowngraded: it does not prove a key any more.
        """
        challenge = to_base64url(self._random_bytes(CHALLENGE_SIZE))
        reply = await self.http.ask(b"GET", f"v1/?challenge={challenge}")
        if reply.status in (400, 404, 405, 501):
            if self.known is not None:
                raise errors.RegistryDowngraded(registry=self.url)
            return None
        self._expect(reply, 200)
        info = self._read(RegistryInfo.parse, reply)
        if not info.proves(challenge):
            raise self.http.unreachable(NO_PROOF)
        if self.known is not None and info.key != self.known:
            known, now = self.known.grouped, info.key.grouped
            raise errors.RegistryChanged(registry=self.url, known=known, now=now)
        self.key = self.known = info.key
        self.description = info
        if self._wall is not None:
            self.clock_ahead_s = self._wall() - info.time
        self._log.debug(
            "registry proven: url={url} key={key} clock_ahead_s={ahead}",
            url=self.url,
            key=info.key,
            ahead=None if self.clock_ahead_s is None else round(self.clock_ahead_s, 1),
        )
        return info

    async def prove(self) -> PublicKey:
        """Return the registry's key, and let the registry prove it if it has not done so yet.

        Raises:
            RegistryHasNoOwners: it is an original registry.
            RegistryChanged, RegistryDowngraded: see `info`.
        """
        if self.key is None and await self.info() is None:
            raise errors.RegistryHasNoOwners(registry=self.url)
        assert self.key is not None
        return self.key

    async def authorize(self, key: SigningKey, name: str, use: Use, detail: str) -> dict[str, str]:
        """Return the headers of one request that only the owner of a name may make; see `Access`.

        Raises:
            RegistryHasNoOwners, RegistryChanged, RegistryDowngraded: see `prove`.
        """
        aud = await self.prove()
        assert self._wall is not None, "a client that signs needs a clock"
        iat = int(self._wall() - (self.clock_ahead_s or 0.0))
        nonce = to_base64url(self._random_bytes(CHALLENGE_SIZE))
        access = Access(name, key.public, aud, iat, nonce, use, detail)
        return {"Authorization": access.to_header(key)}

    async def claim(self, name: str, body: ClaimBody) -> Granted:
        """Claim a name, or renew the claim, and begin a session.

        Raises:
            NameTaken: another key owns it, or an original peer has it.
            StaleRecord: `seq` is not greater than the last one, which the error has.
            ClockWrong: `iat` is too far from the registry's `time`, which the error has.
            InvitationNeeded: the registry takes no new names without an invitation.
            InvitationRefused: the invitation was used or has expired.
            RegistryRecovering: for `retry_after` seconds, a name can be claimed only with a receipt.
            RegistryRefused: for any other reason.
        """
        reply = await self.http.ask(b"PUT", _peer(name), body.to_json())
        self._expect(reply, 200, 201, name=name, problems=_OF_CLAIM)
        return self._read(Granted.parse, reply)

    async def release(self, name: str, body: ReleaseBody) -> None:
        """Release a name.

        Raises:
            NotOwner: another key owns it.
            NoSuchPeer: nobody owns it.
            StaleRecord, ClockWrong: see `claim`.
            RegistryRefused: for any other reason.
        """
        reply = await self.http.ask(b"DELETE", _peer(name), body.to_json())
        self._expect(reply, 200, 204, name=name, problems=_OF_RELEASE)

    async def beat(self, heartbeat: Heartbeat, mac_key: bytes) -> bool:
        """Send a heartbeat; False if the session has ended and the name has to be claimed again.

        Raises:
            RegistryRefused: for any other reason.
        """
        path = f"{_peer(heartbeat.name)}/presence"
        reply = await self.http.ask(b"POST", path, heartbeat.to_json(mac_key))
        if reply.status == 401:
            return False
        self._expect(reply, 200, 204)
        return True

    async def look_up_peer(self, name: str, *, by_registry_clock: bool = False) -> PeerView:
        """Return everything about a peer. Record and location are verified, the chain of rotations is not.

        Args:
            name: of the peer.
            by_registry_clock: see `check`.

        Raises:
            NoSuchPeer: nobody has this name.
            RegistryNotBelieved, ClockWrong: see `check`.
        """
        reply = await self.http.ask(b"GET", _peer(name), limit=PAGE_BYTES_MAX)
        self._expect(reply, 200, name=name, problems=_OF_LOOK_UP)
        view = self._read(PeerView.parse, reply)
        await self._check_with_clock(name, view, by_registry_clock)
        return view

    async def look_up_key(self, key: PublicKey) -> PeerView | None:
        """Return everything about the name that a key owns, verified as by `look_up_peer`; None if it owns none.

        The registry's clock decides whether the record has expired. The caller compares the key of the record: the
        registry may contradict itself.

        Raises:
            RegistryNotBelieved, ClockWrong: see `check`.
        """
        path = f"v1/keys/{quote(str(key), safe='')}"
        reply = await self.http.ask(b"GET", path, limit=PAGE_BYTES_MAX)
        if reply.status == 404:
            return None
        self._expect(reply, 200)
        view = self._read(PeerView.parse, reply)
        await self._check_with_clock(view.summary.name, view, True)
        return view

    async def _check_with_clock(self, name: str, view: PeerView, by_registry_clock: bool) -> None:
        """Check an answer; if its record has expired, ask the registry for its time first."""
        if self._is_expired(view):  # the clock here may be wrong: compare it
            await self.info()
        self.check(name, view, by_registry_clock=by_registry_clock)

    def check(self, name: str, view: PeerView, *, by_registry_clock: bool = False) -> None:
        """Check the registry's answer about a peer; that it is for this registry, once the key of that is proven.

        Args:
            name: of the peer.
            view: the answer.
            by_registry_clock: if the clock here is far from the registry's, let the registry's decide whether a record
                has expired. For callers that want to know only which key owns a name.

        Raises:
            RegistryNotBelieved: the answer is invalid.
            ClockWrong: the record has expired by the clock here, which is far from the registry's.
        """
        fault = self._fault(name, view)
        if not fault and self._is_expired(view):
            assert self._wall is not None
            ahead = self.clock_ahead_s or 0.0
            is_far = abs(ahead) > CLOCK_SKEW_MAX
            if is_far and not by_registry_clock:
                raise self._clock_wrong(int(self._wall() - ahead))
            if not is_far or self._is_expired(view, ahead):
                fault = "the record has expired"
        if fault:
            raise errors.RegistryNotBelieved(registry=self.url, name=name, reason=fault)

    async def peers(self, prefix: str = "", online: bool = False) -> AsyncIterator[PeerSummary]:
        """Iterate over all peers in the order of their names, page by page.

        Args:
            prefix: with which the names begin.
            online: only the peers that are online, or may be.

        Raises:
            RegistryUnreachable: also if there are more than `NAMES_MAX`, or no end of pages.
        """
        after, names = "", 0
        for _ in range(PAGES_MAX):
            query = {"prefix": prefix, "after": after, "limit": str(PAGE_MAX)}
            if online:
                query["online"] = "true"
            path = f"v1/peers?{urlencode({k: v for k, v in query.items() if v})}"
            reply = await self.http.ask(b"GET", path, limit=PAGE_BYTES_MAX)
            self._expect(reply, 200)
            page = self._read(PeerPage.parse, reply)
            names += len(page.peers)
            if names > NAMES_MAX:
                break
            for each in page.peers:
                yield each
            if page.next is None:
                return
            if page.next <= after:  # this would never end
                raise self.http.unreachable(NOT_A_REGISTRY)
            after = page.next
        raise self.http.unreachable(f"its list has no end: it goes on after {names} names")

    async def watch(
        self,
        names: Sequence[str],
        on_event: Callable[[PeerSummary], object],
        on_reset: Callable[[], object] = lambda: None,
        *,
        on_link: OnLink = lambda *_: None,
        rng: random.Random | None = None,
    ) -> None:
        """Follow changes of presence until cancelled, and reconnect with back-off; see `event_client`.

        Args:
            names: of the peers; none for all.
            on_event: called with each change; with names, also with the present state of each after every reset.
            on_reset: called when the stream begins, and whenever changes may have been missed. A caller that looks
                everything up after it, not before, misses nothing.
            on_link: called with whether the registry is connected, and if not, why, at each change and each try.
            rng: draws the jitter of the delays.

        Raises:
            P2pshareError: the registry refuses for good: it is an original one, or a name is invalid.
        """
        query = f"?{urlencode({'names': ','.join(names)}, safe=',')}" if names else ""
        follower = EventFollower(
            self.http, f"v1/events{query}", rng or random.Random(), on_event, on_reset, on_link
        )
        await follower.run(self.refusal)

    async def register(
        self, name: str, address: PeerAddress, token: str | None = None, lease: int | None = None
    ) -> None:
        """Claim a name in the classic protocol, renew the claim or, with a lease of 0, release it.

        Args:
            name: the name.
            address: where the peer is.
            token: the secret that proves the ownership of the name, to registries of ours.
            lease: seconds; None for the registry's default.

        Raises:
            NameTaken: another peer has it.
        """
        body = Registration(name, address, token, lease).to_json()
        reply = await self.http.ask(b"POST", "name", body)
        if reply.status == 400:
            raise errors.NameTaken(name=name, registry=self.url)
        self._expect(reply, 200)

    async def look_up(self, name: str) -> PeerAddress:
        """Return the address of a peer, in the classic protocol.

        Raises:
            NoSuchPeer: nobody has this name.
        """
        reply = await self.http.ask(b"GET", f"user/{quote(name, safe='')}")
        if reply.status == 400:
            raise errors.NoSuchPeer(name=name)
        self._expect(reply, 200)
        return self._read(parse_address, reply)

    async def list_names(self) -> list[str]:
        """Return every name in the list of the classic protocol."""
        timeout = max(LIST_TIMEOUT, self.http.timeout)
        reply = await self.http.ask(b"GET", "list", limit=LIST_MAX, timeout=timeout)
        self._expect(reply, 200)
        return self._read(parse_names, reply)

    def _fault(self, name: str, view: PeerView) -> str | None:
        """Return why an answer about a peer is invalid, if it is."""
        if view.summary.name != name:
            return "it is about another name"
        if view.summary.kind is NameKind.CLASSIC:
            return None
        if view.key is None or view.record is None:
            return "there is no record"
        try:
            record = Record.read(view.record, signer=view.key)
            location = None if view.location is None else Location.parse(view.location)
        except RemoteProtocolError as error:
            return str(error.fields["reason"])
        if (record.name, record.key) != (name, view.key):
            return "the record is of another name or key"
        if self.key not in (None, record.aud):
            return "the record is for another registry"
        if view.location is not None and record.location != digest_of(view.location):
            return "the location does not match the record"
        if view.addresses != (() if location is None else location.addresses):
            return "the addresses are not those of the location"
        return None

    def _is_expired(self, view: PeerView, ahead: float = 0.0) -> bool:
        """Whether a record has expired by a clock `ahead` s behind ours; False if it cannot be read."""
        if self._wall is None or view.record is None:
            return False
        try:
            return Record.parse(view.record).statement.exp <= self._wall() - ahead
        except RemoteProtocolError:
            return False

    def _clock_wrong(self, time: int | None) -> errors.ClockWrong:
        """Return the error for a clock here that is far from the registry's `time` (Unix time in s, if it is known)."""
        ahead = 0.0 if time is None or self._wall is None else self._wall() - time
        is_far = abs(ahead) > CLOCK_SKEW_MAX
        difference = difference_text(ahead) if is_far else "too far from"
        return errors.ClockWrong(registry=self.url, time=time or 0, difference=difference)

    def _read(self, parse: Callable[[bytes], T], reply: Reply) -> T:
        try:
            return parse(reply.body)
        except RemoteProtocolError as error:
            raise self.http.unreachable(NOT_A_REGISTRY) from error

    def _expect(
        self, reply: Reply, *statuses: int, name: str = "", problems: Set[str] = frozenset()
    ) -> None:
        if reply.status not in statuses:
            raise self.refusal(reply, name, problems)

    def refusal(
        self, reply: Reply, name: str = "", problems: Set[str] = frozenset()
    ) -> P2pshareError:
        """Return the error for a reply with an unexpected status.

        Args:
            reply: the reply.
            name: of the peer in the request.
            problems: those of `_OF_ONE_ROUTE` that the route can have.
        """
        problem = Problem.parse(reply.status, reply.body)
        word, registry = problem.word, self.url
        if word in _OF_ONE_ROUTE and word not in problems:
            return self.http.unreachable(NOT_A_REGISTRY)
        match word:
            case "recovering":
                wait = reply.retry_after or RECOVERING_DEFAULT
                return errors.RegistryRecovering(registry=registry, status=503, retry_after=wait)
            case "taken":
                return errors.NameTaken(name=name, registry=registry)
            case "stale":
                return errors.StaleRecord(
                    registry=registry, name=name, seq=problem.number("seq") or 0
                )
            case "wrong-audience":
                return errors.AudienceRefused(registry=registry)
            case "wrong-time":
                return self._clock_wrong(problem.number("time"))
            case "invitation-needed":
                return errors.InvitationNeeded(registry=registry)
            case "invitation-refused":
                return errors.InvitationRefused(registry=registry)
            case "not-owner":
                return errors.NotOwner(registry=registry, name=name)
            case "not-accepted":
                return errors.SignalNotAccepted(name=name)
            case "not-listening":
                return errors.PeerNotListening(name=name)
            case "not-found" if word in problems:
                return errors.NoSuchPeer(name=name)
        if reply.status == 429:
            wait = reply.retry_after or RETRY_AFTER_DEFAULT
            return errors.RegistryBusy(registry=registry, retry_after=wait)
        if reply.status == 503:
            return errors.RegistryUnavailable(
                registry=registry, status=reply.status, retry_after=reply.retry_after
            )
        if problem.type.startswith(PROBLEM_PREFIX) and reply.status < 500:
            reason = repr(problem.detail or problem.title)
            return errors.RegistryRefused(registry=registry, reason=reason)
        return self.http.unreachable(f"it answered HTTP {reply.status}, as no registry would")


def _peer(name: str) -> str:
    return f"v1/peers/{quote(name, safe='')}"
