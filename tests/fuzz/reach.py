"""Targets for the ways by which peers find each other: what the network, a registry or an admitted peer can send."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from p2pshare.errors import (
    JoinLinkExpired,
    JoinLinkUnusable,
    PersonLinkUnusable,
    RemoteProtocolError,
)
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.keys import SigningKey, to_base64url
from p2pshare.wire.reach import join_links
from p2pshare.wire.reach.access import Access
from p2pshare.wire.reach.connect_back import PREAMBLE_MAX, split_preamble
from p2pshare.wire.reach.join_links import JoinLink
from p2pshare.wire.reach.person_links import PREFIX, PersonLink
from p2pshare.wire.reach.signals import Signal, seal, seal_of, unseal
from p2pshare.wire.reach.stun import MESSAGE_MAX, answer_to, is_authentic, parse
from p2pshare.wire.statements import Statement

ALICE, BOB = SigningKey(b"\2" * 32), SigningKey(b"\1" * 32)  # of the vectors
REGISTRY = SigningKey(bytes(range(32))).public
S = TypeVar("S", bound=Statement)

BOBS_SEAL = seal_of(BOB)
SOURCE = PeerAddress("2001:db8::6", 61234)


def stun_messages(data: bytes) -> None:
    """Any bytes are a message that is read again, or none; no answer is longer."""
    assert not is_authentic(data, b"no such secret")
    assert len(answer_to(data, SOURCE) or b"") <= len(data)
    message = parse(data)
    if message is not None:
        again = message.serialize()
        assert len(again) > MESSAGE_MAX or parse(again) == message


def signals(data: bytes) -> None:
    """Any payload of an admitted peer, and any bytes of a stranger, are a signal or an error."""
    with suppress(RemoteProtocolError):
        unseal(data, BOB, REGISTRY)
    for signal in _statements(Signal, data):
        sealed = seal(signal.sign(ALICE), BOBS_SEAL, BOB.public, REGISTRY)
        with suppress(RemoteProtocolError):
            assert unseal(sealed, BOB, REGISTRY) == signal


def access_statements(data: bytes) -> None:
    """Any header, and any payload, are an access statement or an error."""
    with suppress(RemoteProtocolError):
        Access.parse_header(data.decode("latin-1"))
    for access in _statements(Access, data):
        assert Access.parse_header(access.to_header(ALICE)).statement == access


def links(data: bytes) -> None:
    """Any text, and any fields behind a right checksum, are a link that is read again, or an error."""
    for text in (data.decode("latin-1"), join_links.SCHEME + data.decode("latin-1")):
        _link(text)
        with suppress(PersonLinkUnusable):
            person = PersonLink.parse(f"{PREFIX}{REGISTRY}/{text}")
            assert PersonLink.parse(str(person)) == person
    _link(join_links.framed(bytes([join_links.VERSION]) + data))


def preambles(data: bytes) -> None:
    """Any beginning of a connection back names an attempt, needs more bytes, or is an error."""
    with suppress(RemoteProtocolError):
        assert split_preamble(data) or len(data) < PREAMBLE_MAX


def _statements(kind: type[S], payload: bytes) -> list[S]:
    """Return the statement with this payload, if there is one."""
    with suppress(RemoteProtocolError):
        return [kind.parse(f"{to_base64url(payload)}.{'A' * 86}").statement]
    return []


def _link(text: str) -> None:
    with suppress(JoinLinkUnusable, JoinLinkExpired):
        link = JoinLink.parse(text, 0.0)
        assert JoinLink.parse(str(link), 0.0) == link


REACH_TARGETS: tuple[Callable[[bytes], None], ...] = (
    stun_messages,
    signals,
    access_statements,
    links,
    preambles,
)
