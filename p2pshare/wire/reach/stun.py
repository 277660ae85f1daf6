"""STUN Binding messages (RFC 8489): how a peer learns its mapped address, and how two peers check a path.

Only what these two uses need is read and written: the method Binding, one address, short-term credentials with
MESSAGE-INTEGRITY-SHA256 under a random secret, FINGERPRINT, and from other documents USE-CANDIDATE (RFC 8445) and
PADDING (RFC 5780). There are no passwords, so neither SASLprep nor the older MESSAGE-INTEGRITY.

Anybody can send these bytes. `parse` returns None for all that is not such a message: a reader of datagrams has nobody
to complain to. It answers nothing, allocates no more than the datagram, and never raises.

No answer is longer than its request, so that a forged source address gains nothing by it: a request to a registry has
PADDING up to the size of the longest answer, and `answer_to` returns None for a shorter one.
"""

from __future__ import annotations

import hmac
import ipaddress
import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum

from p2pshare.wire.addresses import PeerAddress

TRANSACTION_SIZE = 12  # bytes
MESSAGE_MAX = 548  # bytes that are read: RFC 8489, section 6.1, for a path of unknown MTU
USERNAME_MAX = 96  # bytes: an attempt and a role
ANSWER_MAX = 52  # bytes of a registry's answer: the header, an IPv6 address and the fingerprint

_MAGIC = 0x2112A442
_MAGIC_BYTES = _MAGIC.to_bytes(4)
_HEADER = struct.Struct("!HHI")
_HEADER_SIZE = 20
_ATTRIBUTE = struct.Struct("!HH")
_FINGERPRINT_XOR = 0x5354554E
_DIGEST_SIZE = 32
_REQUIRED_BELOW = 0x8000  # attributes whose meaning a reader has to know

_MAPPED_ADDRESS = 0x0001
_USERNAME = 0x0006
_OLD_INTEGRITY = 0x0008  # is ignored: nothing here has the password of such a message
_ERROR_CODE = 0x0009
_UNKNOWN_ATTRIBUTES = 0x000A
_INTEGRITY = 0x001C
_XOR_MAPPED_ADDRESS = 0x0020
_PRIORITY = 0x0024
_USE_CANDIDATE = 0x0025
_PADDING = 0x0026
_FINGERPRINT = 0x8028
_KNOWN = {
    *(_MAPPED_ADDRESS, _USERNAME, _OLD_INTEGRITY, _ERROR_CODE, _UNKNOWN_ATTRIBUTES, _INTEGRITY),
    *(_XOR_MAPPED_ADDRESS, _PRIORITY, _USE_CANDIDATE, _PADDING),
}
_FAMILIES = {1: 4, 2: 16}
"""Bytes of an address by its family."""


class BindingKind(IntEnum):
    """The class of a Binding message, as its first two bytes say it."""

    REQUEST = 0x0001
    SUCCESS = 0x0101
    ERROR = 0x0111


_KINDS = {int(each): each for each in BindingKind}


@dataclass(frozen=True, slots=True)
class Binding:
    """A Binding message."""

    kind: BindingKind
    transaction: bytes
    """`TRANSACTION_SIZE` random bytes of the request, which its answer repeats."""
    username: str = ""
    """The attempt of a check; empty in messages to and from a registry."""
    mapped: PeerAddress | None = None
    """The address from which the request came, in an answer."""
    error: int = 0
    """300 to 699 in an error; otherwise 0."""
    use_candidate: bool = False
    """Whether the session's opener has chosen this path."""
    padding: int = 0
    """Bytes of padding, a multiple of 4."""

    def serialize(self, secret: bytes | None = None) -> bytes:
        """Return the datagram, with the message's integrity under `secret` if there is one."""
        parts: list[bytes] = []
        if self.username:
            parts.append(_attribute(_USERNAME, self.username.encode("ascii")))
        if self.mapped is not None:
            mapped = _xor_mapped(self.mapped, self.transaction)
            parts.append(_attribute(_XOR_MAPPED_ADDRESS, mapped))
        if self.error:
            code = struct.pack("!HBB", 0, *divmod(self.error, 100))
            parts.append(_attribute(_ERROR_CODE, code))
        if self.use_candidate:
            parts.append(_attribute(_USE_CANDIDATE, b""))
        if self.padding:
            parts.append(_attribute(_PADDING, bytes(self.padding)))
        body = b"".join(parts)
        if secret is not None:
            covered = self._header(len(body) + _ATTRIBUTE.size + _DIGEST_SIZE) + body
            body += _attribute(_INTEGRITY, hmac.digest(secret, covered, "sha256"))
        covered = self._header(len(body) + _ATTRIBUTE.size + 4) + body
        return covered + _attribute(_FINGERPRINT, _fingerprint(covered))

    def _header(self, length: int) -> bytes:
        return _HEADER.pack(self.kind, length, _MAGIC) + self.transaction


def is_stun(data: bytes | memoryview) -> bool:
    """Whether a datagram is one of STUN, rather than one of another protocol at the same port. RFC 7983."""
    return len(data) >= _HEADER_SIZE and data[0] <= 3 and data[4:8] == _MAGIC_BYTES


def parse(data: bytes) -> Binding | None:
    """Read a datagram; return None if it is no Binding message, or has an attribute that has to be known and is not."""
    attributes = _attributes_of(data)
    if attributes is None:
        return None
    kind = _KINDS.get(int.from_bytes(data[:2]))
    if kind is None:
        return None
    found: dict[int, bytes] = {}
    for number, place, size in attributes:
        if number < _REQUIRED_BELOW and number not in _KNOWN:
            return None
        found.setdefault(number, data[place : place + size])
        if number == _INTEGRITY:  # what follows is not covered; RFC 8489, section 14.6
            break
    try:
        return _binding(kind, data[8:_HEADER_SIZE], found)
    except ValueError:
        return None


def is_authentic(data: bytes, secret: bytes) -> bool:
    """Whether a datagram is a message of STUN whose integrity was made with `secret`."""
    for number, place, size in _attributes_of(data) or ():
        if number == _INTEGRITY:
            start = place - _ATTRIBUTE.size
            length = place + _DIGEST_SIZE - _HEADER_SIZE
            covered = data[:2] + length.to_bytes(2) + data[4:start]
            digest = hmac.digest(secret, covered, "sha256")
            return size == _DIGEST_SIZE and hmac.compare_digest(digest, data[place : place + size])
    return False


def padded_request(transaction: bytes) -> bytes:
    """Return a request for a registry, no shorter than its answer."""
    padding = ANSWER_MAX - _HEADER_SIZE - 2 * _ATTRIBUTE.size - 4
    return Binding(BindingKind.REQUEST, transaction, padding=padding).serialize()


def answer_to(data: bytes, source: PeerAddress) -> bytes | None:
    """Return a registry's answer to a datagram, which is never longer.

    Args:
        data: the datagram.
        source: where it came from.

    Returns:
        None if it is no request, or is shorter than the answer.
    """
    request = parse(data)
    if request is None or request.kind is not BindingKind.REQUEST:
        return None
    answer = Binding(BindingKind.SUCCESS, request.transaction, mapped=source).serialize()
    return answer if len(answer) <= len(data) else None


def _attributes_of(data: bytes) -> list[tuple[int, int, int]] | None:
    """Return number, place and size of each attribute; None if this is no message, or its fingerprint is wrong."""
    if not is_stun(data) or len(data) > MESSAGE_MAX or len(data) % 4:
        return None
    if int.from_bytes(data[2:4]) != len(data) - _HEADER_SIZE:
        return None
    found = []
    start = _HEADER_SIZE
    while start < len(data):
        number, size = _ATTRIBUTE.unpack_from(data, start)
        place = start + _ATTRIBUTE.size
        following = place + size + -size % 4
        if following > len(data):
            return None
        if number == _FINGERPRINT and (
            following != len(data) or data[place:following] != _fingerprint(data[:start])
        ):
            return None
        found.append((number, place, size))
        start = following
    return found


def _binding(kind: BindingKind, transaction: bytes, found: dict[int, bytes]) -> Binding | None:
    """Return the message with these attributes; it may raise `ValueError`."""
    username = found.get(_USERNAME, b"")
    if len(username) > USERNAME_MAX:
        return None
    mapped = None
    if _XOR_MAPPED_ADDRESS in found:
        mapped = _mapped(found[_XOR_MAPPED_ADDRESS], transaction)
    error = 0
    if kind is BindingKind.ERROR:
        _, hundreds, rest = struct.unpack_from("!HBB", found.get(_ERROR_CODE, b"").ljust(4, b"\0"))
        error = 100 * (hundreds % 8) + rest
        if not 300 <= error <= 699 or rest > 99:
            return None
    elif kind is BindingKind.SUCCESS and mapped is None:
        return None
    return Binding(
        kind,
        transaction,
        username.decode("ascii"),
        mapped,
        error,
        _USE_CANDIDATE in found,
        len(found.get(_PADDING, b"")),
    )


def _attribute(number: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(number, len(value)) + value + bytes(-len(value) % 4)


def _fingerprint(covered: bytes) -> bytes:
    return (zlib.crc32(covered) ^ _FINGERPRINT_XOR).to_bytes(4)


def _xor_mapped(address: PeerAddress, transaction: bytes) -> bytes:
    packed = ipaddress.ip_address(address.ip).packed
    family = 1 if len(packed) == 4 else 2
    port = address.port ^ _MAGIC >> 16
    return struct.pack("!xBH", family, port) + _xored(packed, transaction)


def _mapped(value: bytes, transaction: bytes) -> PeerAddress:
    """Read an address; raises `ValueError` if it is none."""
    size = _FAMILIES.get(value[1], 0) if len(value) > 4 else 0
    if len(value) != 4 + size or not size:
        raise ValueError(value)
    port = int.from_bytes(value[2:4]) ^ _MAGIC >> 16
    if port == 0:
        raise ValueError(port)
    return PeerAddress(str(ipaddress.ip_address(_xored(value[4:], transaction))), port)


def _xored(packed: bytes, transaction: bytes) -> bytes:
    pattern = _MAGIC_BYTES + transaction
    return bytes(one ^ other for one, other in zip(packed, pattern, strict=False))
