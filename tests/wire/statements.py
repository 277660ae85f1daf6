"""Hypothesis strategies for keys and statements."""

from __future__ import annotations

from hypothesis import strategies as st

from p2pshare.names import is_name
from p2pshare.wire.keys import PublicKey, SigningKey
from p2pshare.wire.statements import (
    Invitation,
    Location,
    Proof,
    Receipt,
    Record,
    Release,
    Rotation,
    Statement,
    digest_of,
)

NAMES = st.from_regex(r"[a-z0-9]([a-z0-9._-]{0,30}[a-z0-9])?", fullmatch=True).filter(is_name)
SIGNING_KEYS = st.binary(min_size=32, max_size=32).map(SigningKey)
NUMBERS = st.integers(1, 2**53 - 1)
ADDRESSES = st.lists(
    st.one_of(
        st.builds(
            "{}:{}".format, st.ip_addresses(v=4, network="10.0.0.0/8"), st.integers(1, 65535)
        ),
        st.builds(
            "[{}]:{}".format, st.ip_addresses(v=6, network="2001:db8::/32"), st.integers(1, 65535)
        ),
    ),
    min_size=1,
    max_size=8,
    unique=True,
).map(tuple)
LOCATIONS = st.builds(Location, st.from_regex(r"[A-Za-z0-9_-]{16,64}", fullmatch=True), ADDRESSES)
CAPS = st.lists(st.from_regex(r"[a-z0-9][a-z0-9._/-]{0,31}", fullmatch=True), max_size=16).map(
    tuple
)


@st.composite
def signed(draw: st.DrawFn) -> tuple[Statement, SigningKey]:
    """A statement of any kind, and the key that has to sign it."""
    key = draw(SIGNING_KEYS)
    name, public = draw(NAMES), key.public
    kind = draw(st.sampled_from([Record, Release, Rotation, Receipt, Invitation, Proof]))
    if kind is Record:
        times = draw(NUMBERS), draw(NUMBERS), draw(NUMBERS)
        location = draw(st.just("") | LOCATIONS.map(Location.to_text).map(digest_of))
        return Record(name, public, *times, draw(SIGNING_KEYS).public, location, draw(CAPS)), key
    if kind is Release:
        return Release(name, public, draw(NUMBERS), draw(NUMBERS), draw(SIGNING_KEYS).public), key
    if kind is Rotation:
        new: PublicKey = draw(SIGNING_KEYS).public
        return Rotation(name, public, new, draw(NUMBERS), draw(SIGNING_KEYS).public), key
    if kind is Receipt:
        return Receipt(name, draw(SIGNING_KEYS).public, draw(NUMBERS), draw(NUMBERS)), key
    drawn = draw(st.from_regex(r"[A-Za-z0-9_-]{16,64}", fullmatch=True))
    if kind is Proof:
        return Proof(public, drawn, draw(NUMBERS)), key
    return Invitation(drawn, 1, 2), key
