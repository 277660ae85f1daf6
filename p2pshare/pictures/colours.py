"""How many colours a terminal has."""

from __future__ import annotations

import enum


class Colours(enum.IntEnum):
    """How many colours a terminal has."""

    NONE = 0
    BASIC = 16
    INDEXED = 256
    TRUE = 1 << 24
