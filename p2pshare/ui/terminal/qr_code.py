"""QR codes on a terminal: two modules in each character cell, by half blocks."""

from __future__ import annotations

from itertools import zip_longest

from p2pshare.ui.terminal.capabilities import Colours, Terminal

COLUMNS_MIN = 60  # narrower terminals show no code, since it would fill them
BORDER = 2  # light modules around the code; the standard wants 4, and phones need less

_BLOCKS = {(True, True): " ", (True, False): "▄", (False, True): "▀", (False, False): "█"}
"""The cell of an upper and a lower module, by whether each is dark. Light modules are drawn: terminals are dark."""
_WHITE_ON_BLACK = {Colours.BASIC: "\x1b[97;40m"}
_WHITE_ON_BLACK |= dict.fromkeys((Colours.INDEXED, Colours.TRUE), "\x1b[38;5;231;48;5;16m")
_RESET = "\x1b[0m"


def qr_lines(text: str, terminal: Terminal) -> list[str]:
    """Return the lines of the QR code of a text; none if the terminal cannot show it.

    Text without lower-case letters needs the least room. Colours are set where there are some, so that the code is
    dark on light also on a light terminal.
    """
    if not terminal.unicode or terminal.columns < COLUMNS_MIN:
        return []
    import segno  # slow to import

    try:
        code = segno.make(text, error="l", micro=False, boost_error=False)
    except segno.DataOverflowError:
        return []
    if code.symbol_size(border=BORDER)[0] > terminal.columns:
        return []
    rows = [tuple(map(bool, row)) for row in code.matrix_iter(border=BORDER)]
    colour = _WHITE_ON_BLACK.get(terminal.colours, "")
    end = _RESET if colour else ""
    light = (False,) * len(rows[0])
    return [
        colour + "".join(_BLOCKS[pair] for pair in zip(upper, lower, strict=True)) + end
        for upper, lower in zip_longest(rows[::2], rows[1::2], fillvalue=light)
    ]
