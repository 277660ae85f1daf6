"""A picture in a terminal, while its rows arrive: a character cell shows two pixels, one above the other."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt

from p2pshare.pictures.colours import Colours
from p2pshare.pictures.pixels import Pixels

SAMPLES_MAX = 8  # picture rows, and columns, that are looked at for one pixel of the preview

_RESET = "\x1b[0m"
_CUBE = np.array([0, 95, 135, 175, 215, 255])
"""The levels of the 6 x 6 x 6 colours in a 256-colour terminal, which start at colour 16."""


class Preview:
    """How a picture maps to the cells of a terminal: whole, in its shape, never larger than it is.

    Args:
        width: of the picture, in pixels.
        height: of the picture, in pixels.
        columns: character cells to use at most.
        lines: character cells to use at most.
    """

    def __init__(self, width: int, height: int, columns: int, lines: int) -> None:
        scale = min(1.0, columns / width, 2 * lines / height)
        self.columns = max(1, min(columns, round(width * scale)))
        rows = max(1, min(2 * lines, round(height * scale)))
        self.lines = (rows + 1) // 2
        self._row_edges = _edges(height, rows)
        self._column_samples = _samples(_edges(width, self.columns))

    def is_ready(self, have: npt.NDArray[np.bool_], line: int) -> bool:
        """Whether rows for all of a line have arrived."""
        return all(have[top:bottom].any() for top, bottom in self._rows_of(line))

    def render_line(
        self, pixels: Pixels, have: npt.NDArray[np.bool_], line: int, colours: Colours
    ) -> str:
        """Draw a line of cells from the rows that have arrived; where there are none yet, it is
        blank.

        Args:
            pixels: the picture, shape (height, width, 3).
            have: which of its rows have arrived, shape (height,).
            line: 0 is the topmost.
            colours: INDEXED or TRUE.
        """
        halves = [self._averages(pixels, have, *rows) for rows in self._rows_of(line)]
        upper, lower = halves if len(halves) == 2 else (halves[0], None)
        code = _true_code if colours is Colours.TRUE else _indexed_code
        if upper is not None and lower is not None:
            return _cells("▀", [code(upper, 38), code(lower, 48)])
        if upper is not None:
            return _cells("▀", [code(upper, 38)])
        if lower is not None:
            return _cells("▄", [code(lower, 38)])
        return " " * self.columns

    def _rows_of(self, line: int) -> list[tuple[int, int]]:
        """The ranges of picture rows for the upper and, if there is one, the lower half of a line."""
        edges = self._row_edges[2 * line : 2 * line + 3].tolist()
        return list(itertools.pairwise(edges))

    def _averages(
        self, pixels: Pixels, have: npt.NDArray[np.bool_], top: int, bottom: int
    ) -> npt.NDArray[np.int64] | None:
        """The mean colours of a row of boxes, shape (columns, 3), from the rows that are there."""
        rows = top + np.flatnonzero(have[top:bottom])
        if not len(rows):
            return None
        rows = rows[:: -(-len(rows) // SAMPLES_MAX)]
        boxes = pixels[rows[:, np.newaxis, np.newaxis], self._column_samples]
        means: npt.NDArray[np.float64] = boxes.mean(axis=(0, 2))
        return means.round().astype(np.int64)


def _edges(size: int, parts: int) -> npt.NDArray[np.int64]:
    """Where `size` pixels are cut into `parts` ranges, none of them empty."""
    return np.arange(parts + 1, dtype=np.int64) * size // parts


def _samples(edges: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Up to `SAMPLES_MAX` evenly spread indexes in each range, shape (ranges, samples)."""
    sizes = np.diff(edges)
    count = min(SAMPLES_MAX, int(sizes.max()))
    return edges[:-1, np.newaxis] + np.arange(count) * sizes[:, np.newaxis] // count


def _true_code(colours: npt.NDArray[np.int64], ground: int) -> list[str]:
    return [f"\x1b[{ground};2;{red};{green};{blue}m" for red, green, blue in colours.tolist()]


def _indexed_code(colours: npt.NDArray[np.int64], ground: int) -> list[str]:
    nearest = np.abs(colours[:, :, np.newaxis] - _CUBE).argmin(axis=2)
    return [f"\x1b[{ground};5;{index}m" for index in (16 + nearest @ [36, 6, 1]).tolist()]


def _cells(character: str, codes: list[list[str]]) -> str:
    """A character in each cell, with its colours where they differ from those of the cell before."""
    parts: list[str] = []
    last: tuple[str, ...] = ()
    for cell in zip(*codes, strict=True):
        if cell != last:
            parts.extend(cell)
            last = cell
        parts.append(character)
    return "".join(parts) + _RESET
