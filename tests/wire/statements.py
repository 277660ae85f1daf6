"""Hypothesis strategies for keys and statements."""

from __future__ import annotations

from string import ascii_letters, ascii_lowercase, digits

from hypothesis import strategies as st

from p2pshare.names import is_name
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.keys import PublicKey, SigningKey, to_base64url
from p2pshare.wire.offers.receipts import OfferReceipt
from p2pshare.wire.reach.candidates import Candidate, CandidateKind, Mapping
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

WORDS = ascii_lowercase + digits
ENDS = st.text(WORDS, min_size=1, max_size=1)
NAMES = st.one_of(
    ENDS, st.tuples(ENDS, st.text(WORDS + "._-", max_size=30), ENDS).map("".join).filter(is_name)
)
SIGNING_KEYS = st.binary(min_size=32, max_size=32).map(SigningKey)
NUMBERS = st.integers(1, 2**53 - 1)
IPS = st.ip_addresses(v=4, network="10.0.0.0/8") | st.ip_addresses(v=6, network="2001:db8::/32")
ADDRESSES = st.builds(PeerAddress, IPS.map(str), st.integers(1, 65535))
CANDIDATES = st.lists(
    st.builds(Candidate, st.sampled_from(CandidateKind), ADDRESSES), max_size=8, unique=True
).map(tuple)
MAPPINGS = st.sampled_from(Mapping)
DRAWN = st.text(ascii_letters + digits + "_-", min_size=16, max_size=64)
LOCATIONS = st.builds(Location, DRAWN, CANDIDATES, MAPPINGS)
RAW_KEYS = st.binary(min_size=32, max_size=32).map(to_base64url)
CAPS = st.lists(
    st.tuples(ENDS, st.text(WORDS + "._/-", max_size=31)).map("".join), max_size=16
).map(tuple)


def location_of(*addresses: str, salt: str = "s" * 22) -> Location:
    """Return the location of a peer whose interfaces have these `IP:PORT`s."""
    return Location(salt, tuple(Candidate.parse(f"host/{each}") for each in addresses))


KINDS: list[type[Statement]] = [Record, Release, Rotation, Receipt, Invitation, Proof, OfferReceipt]


@st.composite
def signed(draw: st.DrawFn) -> tuple[Statement, SigningKey]:
    """A statement of any kind, and the key that has to sign it."""
    key = draw(SIGNING_KEYS)
    name, public = draw(NAMES), key.public
    kind = draw(st.sampled_from(KINDS))
    if kind is Record:
        times = draw(NUMBERS), draw(NUMBERS), draw(NUMBERS)
        location = draw(st.just("") | LOCATIONS.map(Location.to_text).map(digest_of))
        aud, seal = draw(SIGNING_KEYS).public, draw(st.just("") | RAW_KEYS)
        return Record(name, public, *times, aud, location, draw(CAPS), seal), key
    if kind is Release:
        return Release(name, public, draw(NUMBERS), draw(NUMBERS), draw(SIGNING_KEYS).public), key
    if kind is Rotation:
        new: PublicKey = draw(SIGNING_KEYS).public
        return Rotation(name, public, new, draw(NUMBERS), draw(SIGNING_KEYS).public), key
    if kind is Receipt:
        return Receipt(name, draw(SIGNING_KEYS).public, draw(NUMBERS), draw(NUMBERS)), key
    if kind is OfferReceipt:
        numbers, root = [draw(NUMBERS) for _ in range(3)], draw(st.binary(min_size=32, max_size=32))
        files, size, time = numbers
        offer = draw(st.text("abcdefghijklmnopqrstuvwxyz234567", min_size=16, max_size=16))
        sender = draw(SIGNING_KEYS).public
        return OfferReceipt(offer, sender, public, files, size, root, time), key
    drawn = draw(DRAWN)
    if kind is Proof:
        return Proof(public, drawn, draw(NUMBERS)), key
    return Invitation(drawn, 1, 2), key
