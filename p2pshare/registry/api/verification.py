"""Whether a statement is meant for this registry and of this time, whoever has signed it."""

from __future__ import annotations

from collections.abc import Callable

from p2pshare.errors import RemoteProtocolError
from p2pshare.web.problems import RequestError
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.registry_answers import CLOCK_SKEW_MAX, RECORD_LIFE
from p2pshare.wire.statements import Location, Record, Release, Rotation, Unverified, digest_of


class Judge:
    """Judges all of a statement but its signature."""

    def __init__(self, wall: Callable[[], float], registry: PublicKey) -> None:
        """Judge for the registry with this key."""
        self._wall = wall
        self._registry = registry

    def judge(self, statement: Record | Release, name: str) -> None:
        """Judge a statement about a name.

        Raises:
            RequestError: it is about another name, for another registry, or of another time.
        """
        self._judge_whose(statement, name)
        now = self._wall()
        if abs(now - statement.iat) > CLOCK_SKEW_MAX:
            raise self._wrong_time("the iat is too far from the time here")
        if isinstance(statement, Record) and not now < statement.exp <= statement.iat + RECORD_LIFE:
            raise self._wrong_time(f"the exp is past, or more than {RECORD_LIFE} s after the iat")

    def judge_location(self, text: str, record: Record) -> Location:
        """Judge the location that came with a record.

        Raises:
            RemoteProtocolError: it is none for this record.
        """
        if record.location != digest_of(text):
            raise RemoteProtocolError(reason="the location is not that of the record")
        return Location.parse(text)

    def judge_rotation(self, text: str, record: Record) -> Unverified[Rotation]:
        """Judge the rotation that came with a record.

        Raises:
            RequestError, RemoteProtocolError: it is none for this record.
        """
        unverified = Rotation.parse(text)
        rotation = unverified.statement
        self._judge_whose(rotation, record.name)
        now = self._wall()
        if rotation.iat > now + CLOCK_SKEW_MAX:
            raise self._wrong_time("the rotation is of the future")
        if rotation.key == rotation.new:
            raise RemoteProtocolError(reason="the rotation leads from a key to itself")
        if rotation.new != record.key:
            raise RemoteProtocolError(reason="the rotation does not lead to the record's key")
        return unverified

    def is_too_old(self, rotation: Rotation) -> bool:
        """Whether a rotation replaces no key any more; a client may still send it with every claim."""
        return rotation.iat <= self._wall() - RECORD_LIFE

    def _judge_whose(self, statement: Record | Release | Rotation, name: str) -> None:
        if statement.name != name:
            raise RequestError("wrong-name", f"the {statement.KIND} is about {statement.name}")
        if statement.aud != self._registry:
            raise RequestError("wrong-audience", f"the key here is {self._registry}")

    def _wrong_time(self, detail: str) -> RequestError:
        return RequestError("wrong-time", detail, time=int(self._wall()))


def verify(
    unverified: Unverified[Record] | Unverified[Release] | Unverified[Rotation],
) -> PublicKey:
    """The key that has signed; raises `RequestError` if it is not the one that the statement names."""
    statement = unverified.statement
    if not unverified.is_signed_by(statement.key):
        raise RequestError("wrong-signature", f"the {statement.KIND} is not signed by its key")
    return statement.key
