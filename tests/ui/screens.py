"""Terminals for tests: a simulated screen, and pseudo-terminals of any width."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

COLOURFUL = {"TERM": "xterm-256color", "COLORTERM": "truecolor"}

_END = "\0"
_TOKEN = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])|(.)", re.DOTALL)


class FakeTty(io.StringIO):
    """A stream that claims to be a terminal, of unknown size, which counts as 80 x 24."""

    def isatty(self) -> bool:
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"


class Screen:
    """A simulated screen of a given width. It knows the few expected escape sequences, and fails at others."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.rows = [""]
        self.cursor_hidden = False
        self.wrapped = False
        self._row = self._column = 0
        self._cuts = False

    def feed(self, text: str) -> None:
        for match in _TOKEN.finditer(text):
            if match[3] is None:
                self._obey(match[1], match[2])
            elif match[3] == "\n":
                self._row += 1
                self._column = 0
                self.rows += [""] * (self._row + 1 - len(self.rows))
            elif match[3] == "\r":
                self._column = 0
            else:
                self._put(match[3])

    def resize(self, columns: int) -> None:
        """Break rows that are too long, as most terminals do; the cursor stays in its cell."""
        rows: list[str] = []
        cursor = self._row, self._column
        columns = columns or 80  # a terminal that does not know
        for number, row in enumerate(map(str.rstrip, self.rows)):
            if number == self._row:
                cursor = len(rows) + self._column // columns, self._column % columns
            rows += [row[at : at + columns] for at in range(0, len(row), columns)] or [""]
        rows += [""] * (cursor[0] + 1 - len(rows))
        self._row, self._column = cursor
        self.rows, self.columns = rows, columns

    def shown(self) -> list[str]:
        """Return the lines, without trailing blanks and without trailing empty lines."""
        return "\n".join(row.rstrip() for row in self.rows).rstrip().split("\n")

    def _put(self, character: str) -> None:
        if not character.isprintable():
            raise AssertionError(f"unexpected {character!r}")
        self.wrapped |= self._column >= self.columns
        row = self.rows[self._row].ljust(self._column)
        self.rows[self._row] = row[: self._column] + character + row[self._column + 1 :]
        self._column += 1

    def _obey(self, parameters: str, command: str) -> None:
        if command == "A":
            self._row = max(0, self._row - int(parameters or 1))
        elif command == "K" and parameters == "2":
            self.rows[self._row] = ""
        elif command == "J" and not parameters:
            self.rows[self._row] = self.rows[self._row][: self._column]
            del self.rows[self._row + 1 :]
        elif parameters == "?25" and command in "hl":
            self.cursor_hidden = command == "l"
        elif parameters == "?7" and command in "hl":
            self._cuts = command == "l"
        elif command != "m":
            raise AssertionError(f"unexpected escape {parameters}{command}")


class RealTerminal:
    """One end of a pseudo-terminal as a stream, and its screen."""

    def __init__(self, master: int, stream: TextIO, columns: int) -> None:
        self._master = master
        self.stream = stream
        self.screen = Screen(columns)

    def resize(self, columns: int) -> None:
        size = struct.pack("HHHH", 24, columns, 0, 0)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)
        self.screen.resize(columns)

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._master, keys.encode())

    def type_ahead(self, keys: str) -> None:
        """Press keys before anybody reads them, and wait until the kernel has handed them over and shown them."""
        self.type(keys)
        shown = b""
        while shown != keys.replace("\n", "\r\n").encode():
            shown += self.written()

    def written(self) -> bytes:
        """Read the output since the last call without showing it; there must be some."""
        return os.read(self._master, 1 << 16)

    def show(self) -> list[str]:
        """Read the output since the last call, which must fit into the buffer of a terminal; return the screen."""
        self.stream.write(_END)  # the kernel hands text over when it likes: wait for the end of it
        self.stream.flush()
        written = b""
        while not written.endswith(_END.encode()):
            written += os.read(self._master, 1 << 16)
        self.screen.feed(written.decode().removesuffix(_END))
        return self.screen.shown()


@contextmanager
def real_terminal(columns: int) -> Iterator[RealTerminal]:
    master, slave = pty.openpty()
    with open(slave, "w", encoding="utf-8") as stream:
        terminal = RealTerminal(master, stream, columns)
        terminal.resize(columns)
        try:
            yield terminal
        finally:
            os.close(master)
