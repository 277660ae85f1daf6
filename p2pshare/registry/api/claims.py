"""Claims, releases and heartbeats: the requests by which peers change what the registry knows."""

# A claim from request to answer.
#
# The checks of `_claim` stand in the order of their cost for the registry, and each protects the ones below it:
#
#  1. The form of the body and of the record, its name, audience and times, and the digest of the location. This takes
#     microseconds and reads no state. There is no limit on it.
#  2. The limit of the client's address. It bounds the verifications that a client can cause. Each takes 0.12 ms of CPU
#     on the reactor's thread; in a thread it would be 0.27 ms, as the hand-over costs more than the signature.
#  3. The signature of the record, and the rotation with its signature. From here the key has proven itself.
#  4. The limit of the key. It must come after the signature: otherwise a stranger could use up the limit of another's
#     key by forged claims. For the same reason the token is given back if the store answers `stale` or `taken`:
#     anybody can replay a claim that was recorded.
#  5. The store, in one atomic step, or in two: a new name costs an invitation or a token of the network's limit, but
#     only the store knows whether the name is new. `_take` therefore asks first with `may_be_new` false, unless a
#     token is at hand, or a receipt shows that an owner returns.
#
# A name is announced to `NameList` before the reply is sent, so that a peer that has its answer is in the list.

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus

from twisted.logger import Logger

from p2pshare.errors import RemoteProtocolError, StoreUnavailable
from p2pshare.registry.api.authority import Authority
from p2pshare.registry.api.listing import NameList
from p2pshare.registry.api.queries import name_in
from p2pshare.registry.api.rate_limits import Limiter
from p2pshare.registry.api.verification import (
    check_signature,
    check_statement,
    read_location,
    read_rotation,
)
from p2pshare.registry.store import NameStore, OwnerClaim, OwnerOutcome, Ownership
from p2pshare.web.client_addresses import Origin
from p2pshare.web.exchange import Query, Reply
from p2pshare.web.problems import RequestError, answer_to
from p2pshare.wire.heartbeats import Heartbeat
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.registry_answers import (
    PRESENCE_LEASE,
    RECORD_LIFE,
    ClaimBody,
    Granted,
    ReleaseBody,
)
from p2pshare.wire.statements import CAP_CLASSIC, Record, Release, Rotation

NO_STORE = ((b"Cache-Control", b"no-store"),)
ALIVE = Reply(HTTPStatus.OK, (b'{"lease": %d}' % PRESENCE_LEASE,), headers=NO_STORE)
RELEASED = Reply(HTTPStatus.NO_CONTENT)


class Claims:
    """Answers `PUT` and `DELETE` of a peer, and its heartbeats.

    Each method may raise `RequestError`, `RemoteProtocolError` or `StoreUnavailable`.
    """

    _log = Logger()

    def __init__(
        self,
        store: NameStore,
        names: NameList,
        limiter: Limiter,
        *,
        wall: Callable[[], float],
        authority: Authority,
        invite_only: bool,
        count: Callable[[str], None],
    ) -> None:
        """Decide for the registry with the key of `authority`; `count` is called with each outcome."""
        self._store = store
        self._names = names
        self._limiter = limiter
        self._wall = wall
        self._authority = authority
        self._invite_only = invite_only
        self._count = count

    async def claim(self, query: Query) -> Reply:
        """Answer `PUT`: the holder of a key claims or renews a name."""
        name = name_in(query)
        try:
            reply = await self._claim(query, name)
        except (RequestError, RemoteProtocolError, StoreUnavailable) as error:
            self._count(answer_to(error)[0])
            raise
        is_new = reply.status == HTTPStatus.CREATED
        self._count((Ownership.CLAIMED if is_new else Ownership.RENEWED).value)
        return reply

    async def _claim(self, query: Query, name: str) -> Reply:
        body = ClaimBody.parse(query.body)
        unverified = Record.parse(body.record)
        record = unverified.statement
        check_statement(record, name, self._authority.public, self._wall())
        location = None if body.location is None else read_location(body.location, record)

        origin = self._limiter.origin(query)
        await self._limiter.admit("claims", origin)
        check_signature(unverified)
        rotation = None if body.rotation is None else self._rotation(body.rotation, record)
        old_key = None if rotation is None else rotation.key
        key, receipt = str(record.key), self._receipt(body.receipt, record, old_key)
        await self._limiter.admit("key", origin, key)

        session, mac_key = self._authority.new_session(name)
        wanted = OwnerClaim(
            name,
            key,
            record.seq,
            body.record,
            session,
            location.ipv4_address if location and CAP_CLASSIC in record.caps else None,
            None if old_key is None else str(old_key),
            None if rotation is None else body.rotation,
            0 if rotation is None else rotation.iat,
            receipt,
            location=body.location or "",
        )
        outcome = await self._take(wanted, body.invitation, origin)
        if outcome.ownership not in (Ownership.CLAIMED, Ownership.RENEWED):
            self._limiter.give_back("key", origin, key)
            raise _stale(outcome) if outcome.ownership is Ownership.STALE else RequestError("taken")

        is_new = outcome.ownership is Ownership.CLAIMED
        if is_new or rotation is not None:
            self._log.info("name claimed: name={name} key={key}", name=name, key=key)
        if wanted.address is not None:
            self._names.changed()
        granted = Granted(
            outcome.ownership.value,
            session,
            mac_key,
            self._authority.receipt(name, record.key, outcome.claim),
            origin.ip,
        )
        status = HTTPStatus.CREATED if is_new else HTTPStatus.OK
        return Reply(status, (granted.to_json(),), headers=NO_STORE)

    def _rotation(self, text: str, record: Record) -> Rotation | None:
        """Return the verified rotation beside a record; None if it is too old to count."""
        unverified = read_rotation(text, record, self._authority.public, self._wall())
        if unverified.statement.iat <= self._wall() - RECORD_LIFE:
            # Not an error: a client may send its last rotation with every claim.
            self._log.debug("rotation ignored: name={name} reason=too-old", name=record.name)
            return None
        check_signature(unverified)
        return unverified.statement

    def _receipt(self, text: str | None, record: Record, old_key: PublicKey | None) -> int | None:
        """Return the claim number in a receipt for this key, or for the key before the rotation."""
        if text is None:
            return None
        claim = self._authority.read_receipt(text, record.name, record.key)
        if claim is None and old_key is not None:
            claim = self._authority.read_receipt(text, record.name, old_key)
        if claim is None:
            self._log.debug("receipt ignored: name={name} reason=invalid", name=record.name)
        return claim

    async def _take(
        self, wanted: OwnerClaim, invitation: str | None, origin: Origin
    ) -> OwnerOutcome:
        """Claim a name in the store; charge for a new name once the store says that it is one."""
        if wanted.receipt is not None or self._invite_only:
            may_be_new = wanted.receipt is not None
            outcome = await self._store.claim_owned(replace(wanted, may_be_new=may_be_new))
        else:
            outcome = await self._take_with_token(wanted, origin)
        if outcome.ownership is not Ownership.FREE:
            return outcome
        if self._invite_only and invitation is None:
            raise RequestError("invitation-needed")
        await self._limiter.admit("names", origin)
        if self._invite_only and invitation is not None:
            await self._use(invitation, f"{wanted.name} {wanted.key}")
        return await self._store.claim_owned(wanted)

    async def _take_with_token(self, wanted: OwnerClaim, origin: Origin) -> OwnerOutcome:
        """Claim a name, also a new one if a token for it is at hand; give the token back if it was not needed."""
        at_hand = self._limiter.take_at_hand("names", origin)
        is_new = False
        try:
            outcome = await self._store.claim_owned(replace(wanted, may_be_new=at_hand))
            is_new = outcome.ownership is Ownership.CLAIMED
        finally:
            if at_hand and not is_new:
                self._limiter.give_back("names", origin)
        return outcome

    async def _use(self, text: str, holder: str) -> None:
        """Use an invitation up; raises `RequestError` if it is not valid."""
        try:
            invitation = self._authority.read_invitation(text)
        except RemoteProtocolError as error:
            raise RequestError("invitation-refused", str(error.fields["reason"])) from error
        life = int(invitation.exp - self._wall()) + 1
        if not await self._store.use_invitation(invitation.id, holder, life, invitation.iat):
            detail = "it was used already, or is older than the loss of the store"
            raise RequestError("invitation-refused", detail)

    async def release(self, query: Query) -> Reply:
        """Answer `DELETE`: the owner releases a name."""
        name = name_in(query)
        unverified = Release.parse(ReleaseBody.parse(query.body).release)
        check_statement(unverified.statement, name, self._authority.public, self._wall())
        origin = self._limiter.origin(query)
        await self._limiter.admit("claims", origin)
        key = str(check_signature(unverified))
        await self._limiter.admit("key", origin, key)
        outcome = await self._store.release_owned(name, key, unverified.statement.seq)
        self._count(f"release-{outcome.ownership.value}")
        if outcome.ownership is not Ownership.RELEASED:
            self._limiter.give_back("key", origin, key)
        match outcome.ownership:
            case Ownership.TAKEN:
                raise RequestError("not-owner")
            case Ownership.FREE:
                raise RequestError("not-found", "nobody owns this name")
            case Ownership.STALE:
                raise _stale(outcome)
        self._log.info("name released: name={name} key={key}", name=name, key=key)
        self._names.changed()
        return RELEASED

    async def beat(self, query: Query) -> Reply:
        """Answer `POST` to presence: a heartbeat, or the last one of a peer that exits."""
        name = name_in(query)
        beat = Heartbeat.parse(name, query.body)
        mac_key = self._authority.mac_key(name, beat.session)
        if mac_key is None:
            raise RequestError("unknown-session", "the session has expired or never existed")
        if not beat.is_authentic(mac_key):
            raise RequestError("wrong-signature", "the MAC is wrong")
        origin = self._limiter.origin(query)
        await self._limiter.admit("key", origin, name)
        if not await self._store.beat(name, beat.session, beat.beat, online=beat.online):
            self._limiter.give_back("key", origin, name)
            detail = "the session has ended, or its beat is not greater than the last"
            raise RequestError("unknown-session", detail)
        if not beat.online:
            self._names.changed()
        return ALIVE


def _stale(outcome: OwnerOutcome) -> RequestError:
    return RequestError("stale", "use a greater seq", seq=outcome.seq)
