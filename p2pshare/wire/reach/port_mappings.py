"""Messages of NAT-PMP (RFC 6886) and PCP (RFC 6887), by which a router is asked to forward a port.

Only what a peer needs is read and written: NAT-PMP's external address and mappings, and PCP's MAP without options.
Anybody on the local network can send the answers, so `parse_…` returns None for all that is not one, and never raises.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from enum import IntEnum

PORT = 5351  # of both protocols
NONCE_SIZE = 12  # bytes of PCP
ANSWER_MAX = 1100  # bytes: RFC 6887, section 7
SUCCESS = 0
UNSUPPORTED_VERSION = 1  # in both protocols

_PMP, _PCP = 0, 2
_ANSWER = 128
_MAP = 1
_PMP_ADDRESS = struct.Struct("!BBHI4s")
_PMP_MAPPING_ASKED = struct.Struct("!BBxxHHI")
_PMP_MAPPING = struct.Struct("!BBHIHHI")
_PCP_ASKED = struct.Struct("!BBxxI16s12sBxxxHH16s")
_PCP_ANSWER = struct.Struct("!BBxBIIxxxxxxxxxxxx")
_PCP_MAPPED = struct.Struct("!12sBxxxHH16s")


class Transport(IntEnum):
    """What a mapping is for, by the numbers of IP."""

    TCP = 6
    UDP = 17


@dataclass(frozen=True, slots=True)
class Mapped:
    """A router's answer to the request for a mapping."""

    result: int
    """`SUCCESS`, or why not."""
    external_port: int = 0
    external_ip: str = ""
    """Empty in NAT-PMP, which has a request of its own for it."""
    lifetime_s: int = 0


def pmp_address_request() -> bytes:
    """Return the request for the router's external address."""
    return bytes(2)


def parse_pmp_address(data: bytes) -> tuple[int, str] | None:
    """Return the result and the external address in an answer."""
    if len(data) >= 4 and data[:2] == bytes((_PMP, _ANSWER)) and data[2:4] != bytes(2):
        return int.from_bytes(data[2:4]), ""
    if len(data) != _PMP_ADDRESS.size:
        return None
    version, operation, result, _epoch, packed = _PMP_ADDRESS.unpack(data)
    if (version, operation) != (_PMP, _ANSWER):
        return None
    return result, str(ipaddress.IPv4Address(packed))


def pmp_mapping_request(transport: Transport, port: int, wanted: int, lifetime_s: int) -> bytes:
    """Return the request to forward an external port, `wanted` if it is free, to `port`; lifetime 0 ends it."""
    operation = 1 if transport is Transport.UDP else 2
    return _PMP_MAPPING_ASKED.pack(_PMP, operation, port, wanted, lifetime_s)


def parse_pmp_mapping(data: bytes, transport: Transport, port: int) -> Mapped | None:
    """Return the answer about the mapping to `port`."""
    expected = (_PMP, _ANSWER + (1 if transport is Transport.UDP else 2))
    if len(data) < 4 or (data[0], data[1]) != expected:
        return None
    result = int.from_bytes(data[2:4])
    if result != SUCCESS:
        return Mapped(result)
    if len(data) != _PMP_MAPPING.size:
        return None
    _, _, _, _epoch, internal, external, lifetime = _PMP_MAPPING.unpack(data)
    return Mapped(SUCCESS, external, "", lifetime) if internal == port else None


def pcp_request(
    own_ip: str, nonce: bytes, transport: Transport, port: int, wanted: int, lifetime_s: int
) -> bytes:
    """Return PCP's request for a mapping; `own_ip` is the address from which it is sent."""
    own = _packed(own_ip)
    anything = _packed("::" if ":" in own_ip else "0.0.0.0")
    return _PCP_ASKED.pack(_PCP, _MAP, lifetime_s, own, nonce, transport, port, wanted, anything)


def parse_pcp(data: bytes, nonce: bytes, transport: Transport, port: int) -> Mapped | None:
    """Return the answer to the request with this nonce, or that of a router that knows another version only."""
    if 4 <= len(data) <= ANSWER_MAX and data[0] == _PMP and data[1] >= _ANSWER:
        return Mapped(UNSUPPORTED_VERSION)  # RFC 6887, section 9: a router with NAT-PMP answers so
    if not _PCP_ANSWER.size <= len(data) <= ANSWER_MAX or data[1] != _ANSWER + _MAP:
        return None
    _version, _, result, lifetime, _epoch = _PCP_ANSWER.unpack_from(data)
    if result == UNSUPPORTED_VERSION:
        return Mapped(result)
    if data[0] != _PCP or len(data) < _PCP_ANSWER.size + _PCP_MAPPED.size:
        return None
    told = _PCP_MAPPED.unpack_from(data, _PCP_ANSWER.size)
    if told[:3] != (nonce, transport, port):
        return None
    if result != SUCCESS:
        return Mapped(result)
    external = ipaddress.IPv6Address(told[4])
    return Mapped(result, told[3], str(external.ipv4_mapped or external), lifetime)


def _packed(ip: str) -> bytes:
    """Return the 16 bytes of an address, of IPv4 in its IPv4-mapped form."""
    address = ipaddress.ip_address(ip)
    return address.packed if address.version == 6 else bytes(10) + b"\xff\xff" + address.packed
