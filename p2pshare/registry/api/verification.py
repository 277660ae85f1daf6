"""The checks of signed statements: their name, registry, time, and last their signature, which costs the most."""

from __future__ import annotations

from p2pshare.errors import RemoteProtocolError
from p2pshare.web.problems import RequestError
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.reach.access import Access
from p2pshare.wire.registry_answers import CLOCK_SKEW_MAX, RECORD_LIFE
from p2pshare.wire.statements import Location, Record, Release, Rotation, Unverified, digest_of


def check_statement(
    statement: Record | Release | Access, name: str, registry: PublicKey, now: float
) -> None:
    """Check all of a statement but its signature.

    Args:
        statement: a peer's.
        name: the one in the path of the request.
        registry: the key of this registry.
        now: Unix time in s.

    Raises:
        RequestError: it is for another name, for another registry, or expired, or its time is wrong.
    """
    _check_subject(statement, name, registry)
    if abs(now - statement.iat) > CLOCK_SKEW_MAX:
        raise _wrong_time("iat differs too much from the registry's clock", now)
    if isinstance(statement, Record) and not now < statement.exp <= statement.iat + RECORD_LIFE:
        raise _wrong_time(f"exp must be in the future, and at most {RECORD_LIFE} s after iat", now)


def read_location(text: str, record: Record) -> Location:
    """Read the location beside a record; raises `RemoteProtocolError` if it is not the one in the record."""
    if record.location != digest_of(text):
        raise RemoteProtocolError(reason="the location does not match the digest in the record")
    return Location.parse(text)


def read_rotation(
    text: str, record: Record, registry: PublicKey, now: float
) -> Unverified[Rotation]:
    """Read the rotation beside a record.

    Raises:
        RequestError, RemoteProtocolError: it does not lead to the key of this record.
    """
    unverified = Rotation.parse(text)
    rotation = unverified.statement
    _check_subject(rotation, record.name, registry)
    if rotation.iat > now + CLOCK_SKEW_MAX:
        raise _wrong_time("the iat of the rotation is in the future", now)
    if rotation.key == rotation.new:
        raise RemoteProtocolError(reason="the rotation leads from a key to itself")
    if rotation.new != record.key:
        raise RemoteProtocolError(reason="the rotation does not lead to the record's key")
    return unverified


def check_signature(
    unverified: Unverified[Record]
    | Unverified[Release]
    | Unverified[Rotation]
    | Unverified[Access],
) -> PublicKey:
    """Return the key that signed a statement; raises `RequestError` if it is not the key in the statement."""
    statement = unverified.statement
    if not unverified.is_signed_by(statement.key):
        raise RequestError("wrong-signature", f"the {statement.KIND} is not signed by its key")
    return statement.key


def _check_subject(
    statement: Record | Release | Rotation | Access, name: str, registry: PublicKey
) -> None:
    if statement.name != name:
        raise RequestError("wrong-name", f"the {statement.KIND} is for {statement.name}")
    if statement.aud != registry:
        raise RequestError("wrong-audience", f"the key of this registry is {registry}")


def _wrong_time(detail: str, now: float) -> RequestError:
    return RequestError("wrong-time", detail, time=int(now))
