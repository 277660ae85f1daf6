"""A line editor: keys in, lines out. The keys are those of readline's default mode."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from rich.cells import cell_len

from p2pshare.wire.display import display

LINE_MAX = 200  # characters; further ones are ignored
HISTORY_MAX = 100  # lines
ESCAPE_MAX = 16  # characters of an escape sequence; a longer one is dropped

_KEY = re.compile(r"\x1b\[[0-9;]*[@-~]|\x1bO.|\x1b[^\[O]|[^\x1b]", re.DOTALL)


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
        self._actions: dict[str, Callable[[], None]] = {
            "\x01": self._home,
            "\x02": self._left,
            "\x05": self._end,
            "\x06": self._right,
            "\x08": self._backspace,
            "\x0b": self._erase_to_end,
            "\x0e": self._later,
            "\x10": self._earlier,
            "\x15": self._erase_to_start,
            "\x17": self._erase_word,
            "\x7f": self._backspace,
            "\x1b[3~": self._delete,
            "\x1b[1~": self._home,
            "\x1b[4~": self._end,
        }
        for letter, action in {
            "A": self._earlier,
            "B": self._later,
            "C": self._right,
            "D": self._left,
            "H": self._home,
            "F": self._end,
        }.items():
            self._actions[f"\x1b[{letter}"] = self._actions[f"\x1bO{letter}"] = action

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
        before, behind = self.text[: self.cursor], self.text[self.cursor :]
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
        if key == "\x04":
            if not self.text:
                return InputEnded()
            self._delete()
        elif key in self._actions:
            self._actions[key]()
        elif display(key) == key and len(self.text) < LINE_MAX:
            self._replace(self.cursor, self.cursor, key)
        return None

    def _enter(self) -> LineEntered:
        entered = LineEntered(self.text)
        if self.text.strip() and self.text not in self._history[-1:]:
            self._history = [*self._history, self.text][-HISTORY_MAX:]
        self._show("")
        self._place = len(self._history)
        return entered

    def _replace(self, start: int, stop: int, text: str = "") -> None:
        start = max(0, start)
        self.text = self.text[:start] + text + self.text[stop:]
        self.cursor = start + len(text)

    def _show(self, text: str) -> None:
        self.text = text
        self.cursor = len(text)

    def _home(self) -> None:
        self.cursor = 0

    def _end(self) -> None:
        self.cursor = len(self.text)

    def _left(self) -> None:
        self.cursor = max(0, self.cursor - 1)

    def _right(self) -> None:
        self.cursor = min(len(self.text), self.cursor + 1)

    def _backspace(self) -> None:
        self._replace(self.cursor - 1, self.cursor)

    def _delete(self) -> None:
        self._replace(self.cursor, self.cursor + 1)

    def _erase_to_end(self) -> None:
        self._replace(self.cursor, len(self.text))

    def _erase_to_start(self) -> None:
        self._replace(0, self.cursor)

    def _erase_word(self) -> None:
        kept = self.text[: self.cursor].rstrip()
        self._replace(kept.rfind(" ") + 1, self.cursor)

    def _earlier(self) -> None:
        if self._place > 0:
            self._place -= 1
            self._show(self._history[self._place])

    def _later(self) -> None:
        if self._place < len(self._history):
            self._place += 1
            self._show("".join(self._history[self._place : self._place + 1]))
