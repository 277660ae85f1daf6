"""The forms in which terminals show pictures."""

from __future__ import annotations

import enum
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field


class PictureForm(enum.StrEnum):
    """A form in which pictures are shown."""

    KITTY = "kitty"
    SIXEL = "sixel"
    BLOCKS = "blocks"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Graphics:
    """How one terminal shows pictures."""

    form: PictureForm = PictureForm.BLOCKS
    cell: tuple[int, int] | None = None
    """The width and height of a character cell in pixels."""
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1), compare=False)
    """The numbers of pictures in kitty's protocol."""
