"""Who claims a name, who gives one up, and who says that it is still there.

What costs nothing is judged first, and a signature only for a client that has not used its share up. What counts
against a key is counted once the key has proven itself, and not if it comes to nothing, as what was recorded and sent
again does: strangers cannot use up another's share.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus

from twisted.logger import Logger

from p2pshare.errors import RemoteProtocolError, StoreUnavailable
from p2pshare.registry.api.authority import Authority
from p2pshare.registry.api.listing import NameList
from p2pshare.registry.api.rate_limits import Limiter
from p2pshare.registry.api.verification import Judge, verify
from p2pshare.registry.configuration import RegistrySettings
from p2pshare.registry.store import NameStore, OwnerClaim, OwnerOutcome, Ownership
from p2pshare.web.client_addresses import Origin
from p2pshare.web.exchange import Query, Reply
from p2pshare.web.problems import RequestError, word_of
from p2pshare.wire.heartbeats import Heartbeat
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.registry_answers import PRESENCE_LEASE, ClaimBody, Granted, ReleaseBody
from p2pshare.wire.statements import CAP_CLASSIC, Location, Record, Release, Rotation

NO_STORE = ((b"Cache-Control", b"no-store"),)
ALIVE = Reply(HTTPStatus.OK, (b'{"lease": %d}' % PRESENCE_LEASE,), headers=NO_STORE)
RELEASED = Reply(HTTPStatus.NO_CONTENT)


class Claims:
    """Answers `PUT` and `DELETE` of a peer, and its heartbeats.

    Each may raise `RequestError`, `RemoteProtocolError` or `StoreUnavailable`.
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
        settings: RegistrySettings,
        count: Callable[[str], None],
    ) -> None:
        self._store = store
        self._names = names
        self._limiter = limiter
        self._judge = Judge(wall, authority.public)
        self._wall = wall
        self._authority = authority
        self._invite_only = settings.invite_only
        self._count = count

    async def claim(self, query: Query, name: str) -> Reply:
        """`PUT`: the holder of a key takes or renews a name."""
        try:
            reply = await self._claim(query, name)
        except (RequestError, RemoteProtocolError, StoreUnavailable) as error:
            self._count(word_of(error))
            raise
        is_new = reply.status == HTTPStatus.CREATED
        self._count((Ownership.CLAIMED if is_new else Ownership.RENEWED).value)
        return reply

    async def _claim(self, query: Query, name: str) -> Reply:
        body = ClaimBody.parse(query.body)
        unverified = Record.parse(body.record)
        record = unverified.statement
        self._judge.judge(record, name)
        told = body.location
        location = None if told is None else self._judge.judge_location(told, record)
        origin = self._limiter.origin(query)
        await self._limiter.admit("claims", origin, origin.host)
        verify(unverified)
        wanted, mac_key = self._wanted(record, location, body)
        await self._limiter.admit("key", origin, wanted.key)
        outcome = await self._take(wanted, body.invitation, origin)
        if outcome.ownership not in (Ownership.CLAIMED, Ownership.RENEWED):
            self._limiter.give_back(
                "key", origin, wanted.key
            )  # maybe it is not the key's own doing
            raise _stale(outcome) if outcome.ownership is Ownership.STALE else RequestError("taken")
        if outcome.ownership is Ownership.CLAIMED or wanted.rotation is not None:
            self._log.info("{name} is {key}'s now", name=name, key=wanted.key)
        if wanted.address is not None:
            self._names.changed()
        granted = Granted(
            outcome.ownership.value,
            wanted.session,
            mac_key,
            self._authority.receipt(name, record.key, outcome.claim),
            origin.ip,
        )
        is_new = outcome.ownership is Ownership.CLAIMED
        status = HTTPStatus.CREATED if is_new else HTTPStatus.OK
        return Reply(status, (granted.to_json(),), headers=NO_STORE)

    async def release(self, query: Query, name: str) -> Reply:
        """`DELETE`: the owner gives a name up."""
        unverified = Release.parse(ReleaseBody.parse(query.body).release)
        self._judge.judge(unverified.statement, name)
        origin = self._limiter.origin(query)
        await self._limiter.admit("claims", origin, origin.host)
        key = str(verify(unverified))
        await self._limiter.admit("key", origin, key)
        outcome = await self._store.release_owned(name, key, unverified.statement.seq)
        self._count(f"release-{outcome.ownership.value}")
        if outcome.ownership is not Ownership.RELEASED:
            self._limiter.give_back("key", origin, key)
        if outcome.ownership is Ownership.TAKEN:
            raise RequestError("not-owner")
        if outcome.ownership is Ownership.FREE:
            raise RequestError("not-found", "nobody owns this name")
        if outcome.ownership is Ownership.STALE:
            raise _stale(outcome)
        self._log.info("{name} was given up by {key}", name=name, key=key)
        self._names.changed()
        return RELEASED

    async def beat(self, query: Query, name: str) -> Reply:
        """`POST` to presence: a sign of life, or the last one."""
        beat = Heartbeat.parse(name, query.body)
        mac_key = self._authority.mac_key(name, beat.session)
        if mac_key is None:
            raise RequestError("unknown-session", "the session has expired, or is none")
        if not beat.is_authentic(mac_key):
            raise RequestError("wrong-signature", "the MAC is wrong")
        origin = self._limiter.origin(query)
        await self._limiter.admit("key", origin, name)
        if not await self._store.beat(name, beat.session, beat.beat, online=beat.online):
            self._limiter.give_back("key", origin, name)
            raise RequestError(
                "unknown-session", "the session is over, or its beat is not greater than the last"
            )
        if not beat.online:
            self._names.changed()
        return ALIVE

    def _wanted(
        self, record: Record, location: Location | None, body: ClaimBody
    ) -> tuple[OwnerClaim, bytes]:
        """What to ask of the store, and the MAC key of the session that begins."""
        rotation = self._rotation(body.rotation, record)
        old_key = None if rotation is None else rotation.key
        session, mac_key = self._authority.new_session(record.name)
        wanted = OwnerClaim(
            record.name,
            str(record.key),
            record.seq,
            body.record,
            session,
            location.ipv4_address if location and CAP_CLASSIC in record.caps else None,
            None if old_key is None else str(old_key),
            None if rotation is None else body.rotation,
            0 if rotation is None else rotation.iat,
            self._receipt(body.receipt, record, old_key),
            location=body.location or "",
        )
        return wanted, mac_key

    def _rotation(self, text: str | None, record: Record) -> Rotation | None:
        """What a rotation says that came with a record; None if it is too old to count."""
        if text is None:
            return None
        unverified = self._judge.judge_rotation(text, record)
        if self._judge.is_too_old(unverified.statement):
            self._log.debug("a rotation of {name} that is too old", name=record.name)
            return None
        verify(unverified)
        return unverified.statement

    def _receipt(self, text: str | None, record: Record, old_key: PublicKey | None) -> int | None:
        """The number of the claim that a receipt of the owner, or of the one before, proves."""
        if text is None:
            return None
        claim = self._authority.read_receipt(text, record.name, record.key)
        if claim is None and old_key is not None:
            claim = self._authority.read_receipt(text, record.name, old_key)
        if claim is None:
            self._log.debug("a receipt for {name} that is not valid here", name=record.name)
        return claim

    async def _take(
        self, wanted: OwnerClaim, invitation: str | None, origin: Origin
    ) -> OwnerOutcome:
        """Claim; what a new name costs, an invitation or a token, is asked for once it is known to be one.

        Unless the token is at hand, or an owner comes back with a receipt.
        """
        is_owners = wanted.receipt is not None
        if is_owners or self._invite_only:
            outcome = await self._store.claim_owned(replace(wanted, may_be_new=is_owners))
        else:
            outcome = await self._take_at_hand(wanted, origin)
        if outcome.ownership is not Ownership.FREE:
            return outcome
        if self._invite_only and invitation is None:
            raise RequestError("invitation-needed")
        await self._limiter.admit("names", origin, origin.network)
        if self._invite_only and invitation is not None:
            await self._use(invitation, f"{wanted.name} {wanted.key}")
        return await self._store.claim_owned(wanted)

    async def _take_at_hand(self, wanted: OwnerClaim, origin: Origin) -> OwnerOutcome:
        """Claim, also a new name if there is a token for one at hand; it is given back if it was not needed."""
        names = ("names", origin, origin.network)
        at_hand = self._limiter.at_hand(*names) and self._limiter.take(*names) == 0
        is_new = False
        try:
            outcome = await self._store.claim_owned(replace(wanted, may_be_new=at_hand))
            is_new = outcome.ownership is Ownership.CLAIMED
        finally:
            if at_hand and not is_new:
                self._limiter.give_back(*names)
        return outcome

    async def _use(self, text: str, holder: str) -> None:
        """Use an invitation up; raises `RequestError` if it cannot be used."""
        try:
            invitation = self._authority.read_invitation(text)
        except RemoteProtocolError as error:
            raise RequestError("invitation-refused", str(error.fields["reason"])) from error
        life = int(invitation.exp - self._wall()) + 1
        if not await self._store.use_invitation(invitation.id, holder, life, invitation.iat):
            raise RequestError("invitation-refused", "it was used before, or the store was lost")


def _stale(outcome: OwnerOutcome) -> RequestError:
    return RequestError("stale", "use a greater seq", seq=outcome.seq)
