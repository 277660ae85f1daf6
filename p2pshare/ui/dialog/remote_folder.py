"""A folder of a peer in the dialog: the lines that show it, and what an answer means in it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from p2pshare.errors import RemoteProtocolError, WrongUsage
from p2pshare.wire.paths import RemotePath, format_path, parse_path
from p2pshare.wire.quantities import size_text
from p2pshare.wire.transfer_messages import Entry, EntryKind

ENTRIES_SHOWN = 40  # entries of a page
ENTRIES_KEPT = 4000  # entries that have numbers; the others are reached by name

MORE = "more"
GET = "get"
LIST = "ls"
_GLOB = re.compile(r"[*?[]")
_NUMBER = re.compile(r"[0-9]{1,4}")


@dataclass(frozen=True, slots=True)
class Open:
    """List a folder. The path may turn out to be a file."""

    path: RemotePath
    after: RemotePath = ()
    """The last entry of the page before; empty for the first page."""
    may_fetch: bool = True
    """Whether a file at this path is fetched."""


@dataclass(frozen=True, slots=True)
class Fetch:
    """Fetch a file, a folder, or the matches of a glob."""

    path: RemotePath


Meaning = Open | Fetch | None
"""The meaning of an answer; None if the user leaves the peer."""


class RemoteFolder:
    """One folder. Its lines contain text from outside."""

    def __init__(self, peer: str, path: RemotePath) -> None:
        """Begin with no entries of the folder `path` of `peer`; an empty path is the top, where the shares are."""
        self.peer = peer
        self.path = path
        self._entries: list[Entry] = []
        self._last: RemotePath = ()
        self._more = False

    def add(self, entries: Sequence[Entry], more: bool) -> list[str]:
        """Add a page; return the lines that show it."""
        first = not self._last
        numbered = len(self._entries)
        self._entries += entries[: ENTRIES_KEPT - numbered]
        self._more = more and bool(entries)
        if entries:
            self._last = entries[-1].path
        lines = [f"{self.name}:"] if first else []
        if first and not entries:
            nothing = (
                "The folder is empty." if self.path else f"{self.peer} shares nothing with you."
            )
            return [*lines, nothing]
        for number, entry in enumerate(entries, numbered + 1):
            shown = f"{number:>4}" if number <= ENTRIES_KEPT else "    "
            lines.append(f"{shown}  {_line(entry)}")
        if self._more:
            lines.append(f'There are more entries: type "{MORE}".')
        return lines

    def read(self, answer: str) -> Meaning:
        """Return what an answer means; it may be any text.

        A number is that of an entry. A path is relative to this folder, or to the top if it begins with a slash.
        A folder is opened, and a file is fetched. "get" fetches its argument in any case, and "ls" lists it. An entry
        that is called like a command is reached with "./" before it.

        Raises:
            WrongUsage: the answer means nothing here.
        """
        word, _, rest = answer.partition(" ")
        command, text = word.casefold(), rest.strip()
        if command == GET:
            if not text:
                reason = 'Type what to get: "get 2", "get NAME", or "get ." for this whole folder.'
                raise WrongUsage(reason=reason)
            return self._read_path(text, wants=True)
        if command == LIST:
            meaning = self._read_path(text) if text else Open(self.path)
            if isinstance(meaning, Fetch):
                raise WrongUsage(reason=f'{text!r} is not a folder. To get it, type "get {text}".')
            return Open(meaning.path, may_fetch=False)
        if answer.casefold() == MORE and self._more:
            return Open(self.path, self._last)
        if answer == ".." and not self.path:
            return None
        return self._read_path(answer)

    def _read_path(self, text: str, *, wants: bool = False) -> Open | Fetch:
        """Return what a number or a path means; `wants` if it is to be fetched, whatever it is."""
        if _NUMBER.fullmatch(text):
            number = int(text)
            if not 0 < number <= len(self._entries):
                reason = f"There is no number {text} here. A file that is called {text} is ./{text}"
                raise WrongUsage(reason=reason)
            entry = self._entries[number - 1]
            return _meant(self.path + entry.path, entry.kind, wants)
        own = f"{self.peer}:"
        if text.startswith(own):  # as on the command line: the path from the top
            text = "/" + text.removeprefix(own)
        try:
            path = self._resolve(text)
        except RemoteProtocolError as error:
            reason = str(error.fields["reason"]).replace("a component of the path", "a part of it")
            raise WrongUsage(reason=f"That cannot be a path: {reason}.") from error
        known = {self.path + entry.path: entry.kind for entry in self._entries}
        if path not in known and any(map(_GLOB.search, path)):
            return Fetch(path)
        return _meant(path, known.get(path, EntryKind.FOLDER), wants)

    def _resolve(self, text: str) -> RemotePath:
        """Return the path that a text means in this folder.

        Raises:
            RemoteProtocolError: the text is not a path.
        """
        path = [] if text.startswith("/") else list(self.path)
        for component in text.split("/"):
            if component == "..":
                del path[-1:]
            elif component not in ("", "."):
                path += parse_path(component)
        return parse_path(format_path(tuple(path)))

    @property
    def name(self) -> str:
        """`PEER` or `PEER:PATH`."""
        return f"{self.peer}:{format_path(self.path)}" if self.path else self.peer


def _meant(path: RemotePath, kind: EntryKind, wants: bool) -> Open | Fetch:
    if wants and not path:
        return Fetch(("*",))  # all shares: the top itself is no folder that one can get
    return Fetch(path) if wants or kind is EntryKind.FILE else Open(path)


def _line(entry: Entry) -> str:
    name = format_path(entry.path)
    return f"{name}/" if entry.kind is EntryKind.FOLDER else f"{name}  {size_text(entry.size)}"
