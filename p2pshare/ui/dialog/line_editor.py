"""A line editor: keys in, lines out. The keys are those of readline's default mode."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from rich.cells import cell_len

from p2pshare.wire.display import display

LINE_MAX = 8192  # characters, as many as a link for joining may have; further ones are ignored
CELL_CHARACTERS = 4  # characters in one column that are shown, with marks that combine
HISTORY_MAX = 100  # lines
ESCAPE_MAX = 16  # characters of an escape sequence; a longer one is dropped

_KEY = re.compile(r"\x1b\[[0-9;]*[@-~]|\x1bO.|\x1b[^\[O]|[^\x1b]", re.DOTALL)

_RECALLS = {"\x10": -1, "\x1b[A": -1, "\x0e": 1, "\x1b[B": 1}
"""Keys that show another line of the history: Ctrl+P and up, Ctrl+N and down."""

Edit = Callable[[str, str], tuple[str, str]]
_EDITS: dict[str, Edit] = {
    "\x01": lambda before, behind: ("", before + behind),  # Ctrl+A: to the start
    "\x02": lambda before, behind: (before[:-1], before[-1:] + behind),  # Ctrl+B: to the left
    "\x04": lambda before, behind: (before, behind[1:]),  # Ctrl+D: delete
    "\x05": lambda before, behind: (before + behind, ""),  # Ctrl+E: to the end
    "\x06": lambda before, behind: (before + behind[:1], behind[1:]),  # Ctrl+F: to the right
    "\x08": lambda before, behind: (before[:-1], behind),  # Ctrl+H: erase
    "\x0b": lambda before, behind: (before, ""),  # Ctrl+K: erase to the end
    "\x15": lambda before, behind: ("", behind),  # Ctrl+U: erase to the start
    # Ctrl+W: erase a word
    "\x17": lambda before, behind: (before[: before.rstrip().rfind(" ") + 1], behind),
}
"""Keys that move the cursor or erase: the text before and behind the cursor becomes other text."""
for _like, _keys in {
    "\x01": ("\x1b[H", "\x1b[1~"),  # Home
    "\x05": ("\x1b[F", "\x1b[4~"),  # End
    "\x02": ("\x1b[D",),  # left
    "\x06": ("\x1b[C",),  # right
    "\x08": ("\x7f",),  # Backspace
    "\x04": ("\x1b[3~",),  # Delete
}.items():
    _EDITS |= dict.fromkeys(_keys, _EDITS[_like])


@dataclass(frozen=True, slots=True)
class LineEntered:
    """Enter was pressed."""

    text: str


@dataclass(frozen=True, slots=True)
class InputEnded:
    """Ctrl+D was pressed on an empty line."""


class LineEditor:
    """Takes keys with `receive`, and returns lines with `next_event`."""

    def __init__(self) -> None:
        self.text = ""
        """The line so far."""
        self.cursor = 0
        """The number of characters before the cursor."""
        self._keys = ""
        self._after_return = False
        self._history: list[str] = []
        self._place = 0  # index in the history

    def receive(self, keys: str) -> None:
        """Add keys; an escape sequence may come in parts."""
        self._keys += keys

    def next_event(self) -> LineEntered | InputEnded | None:
        """Apply keys until one ends the line; return None if none does."""
        while match := _KEY.match(self._keys):
            self._keys = self._keys[match.end() :]
            if event := self._pressed(match[0]):
                return event
        if len(self._keys) > ESCAPE_MAX:
            self._keys = ""
        return None

    def finish(self) -> LineEntered | None:
        """Return the unfinished line, if there is one: no more keys will come."""
        return self._enter() if self.text else None

    def visible(self, columns: int) -> tuple[str, str]:
        """Return the text around the cursor that fits into `columns`, one of which is for the cursor itself."""
        most = CELL_CHARACTERS * columns
        before = self.text[max(0, self.cursor - most) : self.cursor]
        behind = self.text[self.cursor : self.cursor + most]
        while before and cell_len(before) >= columns:
            before = before[1:]
        while behind and cell_len(before + behind) >= columns:
            behind = behind[:-1]
        return before, behind

    def _pressed(self, key: str) -> LineEntered | InputEnded | None:
        is_rest = key == "\n" and self._after_return  # CR LF ends one line, not two
        self._after_return = key == "\r"
        if key in "\r\n":
            return None if is_rest else self._enter()
        if key == "\x04" and not self.text:
            return InputEnded()
        key = re.sub("^\x1bO", "\x1b[", key)  # a cursor key in application mode
        before, behind = self.text[: self.cursor], self.text[self.cursor :]
        if key in _RECALLS:
            self._recall(_RECALLS[key])
        elif key in _EDITS:
            before, behind = _EDITS[key](before, behind)
            self.text, self.cursor = before + behind, len(before)
        elif display(key) == key and len(self.text) < LINE_MAX:
            self.text, self.cursor = before + key + behind, self.cursor + 1
        return None

    def _enter(self) -> LineEntered:
        entered = LineEntered(self.text)
        if self.text.strip() and self.text not in self._history[-1:]:
            self._history = [*self._history, self.text][-HISTORY_MAX:]
        self._show("")
        self._place = len(self._history)
        return entered

    def _show(self, text: str) -> None:
        self.text = text
        self.cursor = len(text)

    def _recall(self, step: int) -> None:
        place = self._place + step
        if 0 <= place <= len(self._history):
            self._place = place
            self._show("".join(self._history[place : place + 1]))
