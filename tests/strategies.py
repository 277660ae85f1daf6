"""What Hypothesis draws for more than one test module."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from p2pshare.testing import Conditions
from p2pshare.wire.classic import Pixels

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
    delay_min = draw(st.sampled_from([0.0001, 0.005, 0.1, 0.3]))
    jitter = draw(st.sampled_from([0.0, 0.01, 0.2, 0.8]))
    return Conditions(
        loss=draw(st.floats(0, loss_max)),
        repeat=draw(st.sampled_from([0.0, 0.1, 0.5])),
        delay_min=delay_min,
        delay_max=delay_min + jitter,
    )
