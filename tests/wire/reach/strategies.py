"""Hypothesis strategies for signals and access statements."""

from __future__ import annotations

from hypothesis import strategies as st

from p2pshare.wire.keys import PublicKey, SigningKey
from p2pshare.wire.reach.access import Access, Use
from p2pshare.wire.reach.signals import BACK_MAX, WHY_MAX, Signal, Step
from tests.wire.statements import (
    ADDRESSES,
    CANDIDATES,
    DRAWN,
    MAPPINGS,
    NAMES,
    NUMBERS,
    RAW_KEYS,
    SIGNING_KEYS,
)

KEYS = SIGNING_KEYS.map(lambda key: key.public)


def signals(sender: SigningKey, to: PublicKey, aud: PublicKey) -> st.SearchStrategy[Signal]:
    """Signals of a sender to a peer, over a registry."""
    return st.builds(
        Signal,
        attempt=DRAWN,
        step=st.sampled_from(Step),
        name=NAMES,
        key=st.just(sender.public),
        to=st.just(to),
        aud=st.just(aud),
        iat=NUMBERS,
        inbox=st.just("main") | DRAWN,
        seal=RAW_KEYS,
        candidates=CANDIDATES,
        mapping=MAPPINGS,
        secret=st.just("") | RAW_KEYS,
        room=st.just("") | DRAWN,
        back=st.lists(ADDRESSES, max_size=BACK_MAX, unique=True).map(tuple),
        why=st.text(st.characters(exclude_categories=["Cs"]), max_size=WHY_MAX),
    )


def accesses(owner: SigningKey) -> st.SearchStrategy[Access]:
    """Access statements of an owner."""
    return st.builds(
        Access,
        name=NAMES,
        key=st.just(owner.public),
        aud=KEYS,
        iat=NUMBERS,
        nonce=DRAWN,
        use=st.sampled_from(Use),
        detail=st.text(st.characters(exclude_categories=["Cs"]), max_size=256),
    )
