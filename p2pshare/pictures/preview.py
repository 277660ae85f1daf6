"""Previews of pictures on a terminal, while rows arrive: a character cell shows two pixels, one above the other."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt

from p2pshare.pictures.pixels import Pixels

SAMPLES_MAX = 8  # rows, and columns, of the picture that are averaged for one pixel of the preview

_RESET = "\x1b[0m"
_CUBE = np.array([0, 95, 135, 175, 215, 255])
"""The levels of the 6 x 6 x 6 colours of a 256-colour terminal; the first of them is colour 16."""


class Preview:
    """The map from a picture to the cells of a terminal: whole, with its aspect ratio, never enlarged.

    Args:
        width: of the picture, in pixels.
        height: of the picture, in pixels.
        columns: maximum width in character cells.
        lines: maximum height in character cells.
    """

    def __init__(self, width: int, height: int, columns: int, lines: int) -> None:
        scale = min(1.0, columns / width, 2 * lines / height)
        self.columns = max(1, min(columns, round(width * scale)))
        rows = max(1, min(2 * lines, round(height * scale)))
        self.lines = (rows + 1) // 2
        self._row_edges = _edges(height, rows)
        self._column_samples = _samples(_edges(width, self.columns))

    def is_ready(self, have: npt.NDArray[np.bool_], line: int) -> bool:
        """Whether rows for both halves of a line have arrived."""
        return all(have[top:bottom].any() for top, bottom in self._rows_of(line))

    def render_line(
        self, pixels: Pixels, have: npt.NDArray[np.bool_], line: int, *, true_colour: bool
    ) -> str:
        """Return a line of cells from the rows that have arrived; a half without rows is blank.

        Args:
            pixels: the picture, shape (height, width, 3).
            have: which of its rows have arrived, shape (height,).
            line: 0 is the topmost.
            true_colour: use 24-bit colours instead of the 256 indexed ones.
        """
        halves = [self._averages(pixels, have, *rows) for rows in self._rows_of(line)]
        upper, lower = halves if len(halves) == 2 else (halves[0], None)
        code = _true_code if true_colour else _indexed_code
        if upper is not None and lower is not None:
            return _cells("▀", [code(upper, 38), code(lower, 48)])
        if upper is not None:
            return _cells("▀", [code(upper, 38)])
        if lower is not None:
            return _cells("▄", [code(lower, 38)])
        return " " * self.columns

    def _rows_of(self, line: int) -> list[tuple[int, int]]:
        """Return the ranges of picture rows for the upper half of a line and, if it exists, the lower half."""
        edges = self._row_edges[2 * line : 2 * line + 3].tolist()
        return list(itertools.pairwise(edges))

    def _averages(
        self, pixels: Pixels, have: npt.NDArray[np.bool_], top: int, bottom: int
    ) -> npt.NDArray[np.int64] | None:
        """Return the mean colours of a row of boxes, shape (columns, 3); None if none of their rows has arrived."""
        rows = top + np.flatnonzero(have[top:bottom])
        if not len(rows):
            return None
        rows = rows[:: -(-len(rows) // SAMPLES_MAX)]
        boxes = pixels[rows[:, np.newaxis, np.newaxis], self._column_samples]
        means: npt.NDArray[np.float64] = boxes.mean(axis=(0, 2))
        return means.round().astype(np.int64)


def _edges(size: int, parts: int) -> npt.NDArray[np.int64]:
    """Return the bounds that cut `size` pixels into `parts` ranges, none of them empty."""
    return np.arange(parts + 1, dtype=np.int64) * size // parts


def _samples(edges: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return up to `SAMPLES_MAX` evenly spread indexes in each range, shape (ranges, samples)."""
    sizes = np.diff(edges)
    count = min(SAMPLES_MAX, int(sizes.max()))
    return edges[:-1, np.newaxis] + np.arange(count) * sizes[:, np.newaxis] // count


def _true_code(colours: npt.NDArray[np.int64], ground: int) -> list[str]:
    return [f"\x1b[{ground};2;{red};{green};{blue}m" for red, green, blue in colours.tolist()]


def _indexed_code(colours: npt.NDArray[np.int64], ground: int) -> list[str]:
    nearest = np.abs(colours[:, :, np.newaxis] - _CUBE).argmin(axis=2)
    return [f"\x1b[{ground};5;{index}m" for index in (16 + nearest @ [36, 6, 1]).tolist()]


def _cells(character: str, codes: list[list[str]]) -> str:
    """Return a character for each cell, with its colour codes if they differ from those of the cell before."""
    parts: list[str] = []
    last: tuple[str, ...] = ()
    for cell in zip(*codes, strict=True):
        if cell != last:
            parts.extend(cell)
            last = cell
        parts.append(character)
    return "".join(parts) + _RESET
