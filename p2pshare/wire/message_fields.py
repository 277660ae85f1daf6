"""Control messages of a session: JSON objects whose member `m` says what they are. Here is what all of them share."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar, Self, TypeVar

from p2pshare.errors import RemoteProtocolError
from p2pshare.wire.blocks import DIGEST_SIZE
from p2pshare.wire.frames import TRANSFER_MAX
from p2pshare.wire.paths import PATH_MAX, RemotePath, parse_path
from p2pshare.wire.strict_json import integer, text

E = TypeVar("E", bound=Enum)


@dataclass(frozen=True, slots=True)
class Message:
    """Any control message."""

    WORD: ClassVar[str]

    def to_json(self) -> bytes:
        """The message as it is sent."""
        fields = {"m": self.WORD, **self._fields()}
        return json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()

    def _fields(self) -> dict[str, object]:
        return {}

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Self:
        """Read the members.

        Raises:
            RemoteProtocolError: one is missing, or is not what it must be.
        """
        return cls()


def is_id(value: object) -> bool:
    """Whether it can be the number of something that was asked for."""
    return type(value) is int and 0 <= value <= TRANSFER_MAX


def id_of(fields: dict[str, Any]) -> int:
    """The `id`.

    Raises:
        RemoteProtocolError: there is none.
    """
    return integer(fields, "id", 0, TRANSFER_MAX)


def path_of(fields: dict[str, Any], key: str) -> RemotePath:
    """The path under `key`.

    Raises:
        RemoteProtocolError: there is none.
    """
    return parse_path(text(fields, key, PATH_MAX))


def digest_field(fields: dict[str, Any], key: str) -> bytes:
    """The `DIGEST_SIZE` bytes under `key`.

    Raises:
        RemoteProtocolError: they are not there, in hexadecimal.
    """
    value = text(fields, key, 2 * DIGEST_SIZE)
    try:
        digest = bytes.fromhex(value)
    except ValueError:
        digest = b""
    if len(digest) != DIGEST_SIZE or digest.hex() != value:
        raise RemoteProtocolError(
            reason=f"the {key} is not {2 * DIGEST_SIZE} digits of 0-9 and a-f"
        )
    return digest


def enum_of(kind: type[E], fields: dict[str, Any], key: str) -> E:
    """The member of `kind` under `key`.

    Raises:
        RemoteProtocolError: there is none.
    """
    value = text(fields, key, 32)
    try:
        return kind(value)
    except ValueError:
        raise RemoteProtocolError(reason=f"the {key} is none that is known") from None
