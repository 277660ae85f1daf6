"""Hypothesis strategies that several test modules use."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from p2pshare.classic.datagrams import Size, Word, row_wanted_datagram, size_datagram, sum8
from p2pshare.pictures.pixels import Pixels
from p2pshare.testing.links import Conditions

seeds = st.integers(0, 2**32)


@st.composite
def pictures(draw: st.DrawFn, *, rows_max: int = 48, width_max: int = 6) -> Pixels:
    """A small picture; what is in it follows from a seed."""
    height = draw(st.integers(1, rows_max))
    width = draw(st.integers(1, width_max))
    return np.random.default_rng(draw(seeds)).integers(0, 256, (height, width, 3), np.uint8)


@st.composite
def networks(draw: st.DrawFn, *, loss_max: float) -> Conditions:
    """A network that loses, repeats, delays and reorders."""
    return Conditions(
        loss=draw(st.floats(0, loss_max)),
        duplication=draw(st.sampled_from([0.0, 0.1, 0.5])),
        delay=draw(st.sampled_from([0.0001, 0.005, 0.1, 0.3])),
        reordering=1.0,
        reordering_delay=draw(st.sampled_from([0.0, 0.01, 0.2, 0.8])),
    )


@st.composite
def datagrams(draw: st.DrawFn) -> bytes:
    """Something that a datagram may hold: all that either side can say, true or not, and noise."""
    number = st.one_of(st.integers(0, 24), st.integers(0, 2**32 - 1))
    kind = draw(st.sampled_from(["word", "size", "row", "wanted", "noise"]))
    if kind == "word":
        return draw(st.sampled_from(list(Word))).value
    if kind == "size":
        return size_datagram(Size(draw(number), draw(number)))
    if kind == "wanted":
        return row_wanted_datagram(draw(number))
    if kind == "row":
        content = draw(number).to_bytes(4) + bytes(3 * draw(st.integers(0, 6)))
        return content + bytes([sum8(content)])
    return draw(st.binary(max_size=24))
