"""A folder of somebody else, as it is looked at in the dialog: what is in it, and what an answer about it means."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from p2pshare.errors import RemoteProtocolError
from p2pshare.ui.numbers import size_text
from p2pshare.wire.paths import RemotePath, format_path, parse_path
from p2pshare.wire.transfer_messages import Entry, EntryKind

ENTRIES_SHOWN = 40  # at once
ENTRIES_KEPT = 4000  # that have numbers; of what lies behind, a name says what is meant

MORE = "more"
GET = "get"
LIST = "ls"
_GLOB = re.compile(r"[*?[]")
_NUMBER = re.compile(r"[0-9]{1,4}")


@dataclass(frozen=True, slots=True)
class Open:
    """A folder, or the next of its pages, is to be listed; or it is a file, and to be fetched."""

    path: RemotePath
    after: RemotePath = ()
    may_fetch: bool = True
    """Whether a file is to be fetched, if it is one."""


@dataclass(frozen=True, slots=True)
class Fetch:
    """A file, a folder, or what matches a glob is to be fetched."""

    path: RemotePath


@dataclass(frozen=True, slots=True)
class Away:
    """Enough of this peer."""


@dataclass(frozen=True, slots=True)
class Unclear:
    """Nothing of that kind; a sentence says what would do."""

    sentence: str


Meaning = Open | Fetch | Away | Unclear


class RemoteFolder:
    """One folder. Its lines and sentences hold text from outside."""

    def __init__(self, peer: str, path: RemotePath) -> None:
        """Know nothing yet of what is in the folder `path` of `peer`; nothing is the top, where the shares are."""
        self.peer = peer
        self.path = path
        self._entries: list[Entry] = []
        self._last: RemotePath = ()
        self._more = False

    def add(self, entries: Sequence[Entry], more: bool) -> list[str]:
        """Take one more page; returns the lines that show it."""
        first = not self._last
        numbered = len(self._entries)
        self._entries += entries[: ENTRIES_KEPT - numbered]
        self._more = more and bool(entries)
        if entries:
            self._last = entries[-1].path
        lines = [f"{self.name}:"] if first else []
        if first and not entries:
            nothing = "There is nothing in it." if self.path else "It shares nothing with you."
            return [*lines, nothing]
        for number, entry in enumerate(entries, numbered + 1):
            shown = f"{number:>4}" if number <= ENTRIES_KEPT else "    "
            lines.append(f"{shown}  {_line(entry)}")
        if self._more:
            lines.append(f'There is more: type "{MORE}".')
        return lines

    def read(self, answer: str) -> Meaning:
        """What an answer means; it may be anything.

        A number is that of an entry. A path leads on from this folder, or, with a slash before it, from the top;
        folders open, and files are fetched. What stands behind "get" is fetched in any case, and what stands behind
        "ls" is listed. A name that is such a word follows "./".
        """
        word, _, rest = answer.partition(" ")
        command, text = word.casefold(), rest.strip()
        if command == GET and not text:
            return Unclear('Say what to get: "get 2", "get NAME", or "get ." for all that is here.')
        if command == LIST:
            return self._listed(text)
        wants = command == GET
        if not wants:
            text = answer
            if answer.casefold() == MORE and self._more:
                return Open(self.path, self._last)
            if answer == ".." and not self.path:
                return Away()
        return self._read_path(text, wants)

    def _listed(self, text: str) -> Meaning:
        """What "ls" means with a text behind it."""
        meaning = self._read_path(text, False) if text else Open(self.path)
        match meaning:
            case Open(path=path):
                return Open(path, may_fetch=False)
            case Fetch():
                return Unclear(f'That is no folder: "get {text}" gets it.')
        return meaning

    def _read_path(self, text: str, wants: bool) -> Meaning:
        if _NUMBER.fullmatch(text):
            number = int(text)
            if not 0 < number <= len(self._entries):
                return Unclear(f"There is no number {text} here. A name that is one: ./{text}")
            entry = self._entries[number - 1]
            return self._meant(self.path + entry.path, entry.kind, wants)
        text = text.removeprefix(f"{self.peer}:") if ":" in text else text
        try:
            path = self._resolve(text)
        except RemoteProtocolError as error:
            reason = str(error.fields["reason"]).replace("a component of the path", "a part of it")
            return Unclear(f"That cannot be a path: {reason}.")
        known = {self.path + entry.path: entry.kind for entry in self._entries}
        if path in known:
            return self._meant(path, known[path], wants)
        if any(map(_GLOB.search, path)):
            return Fetch(path)
        return self._meant(path, EntryKind.FOLDER, wants)

    def _resolve(self, text: str) -> RemotePath:
        """The path that is meant from here.

        Raises:
            RemoteProtocolError: it cannot be one.
        """
        path = [] if text.startswith("/") else list(self.path)
        for component in text.split("/"):
            if component == "..":
                del path[-1:]
            elif component not in ("", "."):
                path += parse_path(component)
        return parse_path(format_path(tuple(path)))

    @staticmethod
    def _meant(path: RemotePath, kind: EntryKind, wants: bool) -> Meaning:
        if kind is EntryKind.FILE or (wants and path):
            return Fetch(path)
        if wants:
            return Fetch(("*",))
        return Open(path)

    @property
    def name(self) -> str:
        """How a user calls it: `PEER` or `PEER:PATH`."""
        return f"{self.peer}:{format_path(self.path)}" if self.path else self.peer


def _line(entry: Entry) -> str:
    name = format_path(entry.path)
    return f"{name}/" if entry.kind is EntryKind.FOLDER else f"{name}  {size_text(entry.size)}"
