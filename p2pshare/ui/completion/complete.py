"""`p2pshare complete`, which shells run to complete a word.

Time budget. A person waits for Tab, so the whole process may take a fraction of a second, most of which is the start
of Python. Therefore:

* Nothing here imports Twisted, `cryptography` or `argparse`; a test lists what is too slow. The client of the control
  socket in `sources.py` is therefore a second one, on a plain blocking socket, beside that of `peer/control.py`.
* Only the running peer is asked, never the registry or another peer, and it has 0.15 s for its answer. It asks the
  others, keeps what it hears for 5 s, and remembers it in `seen.json`. So an answer that comes too late for this Tab is
  there for the next one.
* Without an answer in time, the words come from `seen.json`, which verbs and the peer keep up to date. These two are
  the only memory: the peer's is fresh and short, the file is old and lasts. A third one, for answers of the last
  seconds in a file, saved no time, since the peer answers from memory in a millisecond.
* An error is not shown, since nobody reads it while typing: the words are missing then.

The output is the kind of the candidates, and one candidate per line. The kind is `words`, `paths`, `part` (the
beginning that all candidates share), or `files` or `folders`: local ones, which the shell itself completes.
No candidate has a character that a terminal obeys. zsh and fish quote what they insert, and for bash `shell_words.py`
does.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from io import TextIOWrapper
from itertools import islice

from p2pshare.errors import P2pshareError, RemoteProtocolError
from p2pshare.names import can_begin_name, is_name
from p2pshare.storage.settings import Settings, Via, default_config_path
from p2pshare.ui.commands.command import Argument
from p2pshare.ui.commands.table import DIALOG, commands_below
from p2pshare.ui.completion.shell_words import Typed, replacements, split_line
from p2pshare.ui.completion.sources import Lookup
from p2pshare.wire.display import display
from p2pshare.wire.paths import parse_path

WORDS, PATHS, PART, FILES, FOLDERS = "words", "paths", "part", "files", "folders"
CANDIDATES_MAX = 500
LOCAL_MAX = 2000  # entries of the current folder that are looked at

SOURCE = ("words", "PATH")
"""What `send` sends, and to whom: the attribute and the metavar of its words."""

NOTHING: tuple[str, list[str]] = (WORDS, [])


def main(words: Sequence[str]) -> int:
    """Print the candidates for the word at the cursor, and return the exit code.

    Args:
        words: "bash", the line up to the cursor, and `COMP_WORDBREAKS`; or "zsh" or "fish", and the words behind the
            name of the program, the last of which is at the cursor.
    """
    with suppress(P2pshareError, OSError, ValueError):
        if isinstance(sys.stdout, TextIOWrapper):  # the shell needs the bytes of file names
            sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")
        how, candidates = complete(words, os.environ)
        sys.stdout.write("".join(f"{line}\n" for line in (how, *candidates)))
        sys.stdout.flush()
    return 0


def complete(words: Sequence[str], environ: Mapping[str, str]) -> tuple[str, list[str]]:
    """Return the kind of the candidates, and the candidates: whole words, or for bash the text that it inserts.

    Raises:
        P2pshareError: the settings are invalid.
        OSError: a file cannot be read.
    """
    shell, *behind = words or ("",)
    if shell == "bash" and len(behind) == 2:
        line = split_line(*behind)
        line = replace(line, words=line.words[1:])
    elif shell in ("zsh", "fish") and behind:
        line = Typed(tuple(behind[:-1]), behind[-1])
    else:
        return NOTHING
    expected, may_be_local, values = _expected_at(line.words, line.last)
    lookup = partial(_lookup, values, environ)
    if isinstance(expected, Argument) and (expected.dest, expected.metavar) == SOURCE:
        how, candidates = _sources(line.last, lookup, may_be_name=may_be_local or "text" in values)
    else:
        how, candidates = _candidates(expected, may_be_local, line.last, lookup)
    safe = sorted({each for each in candidates if each.startswith(line.last) and _is_safe(each)})
    del safe[CANDIDATES_MAX:]
    if shell != "bash":
        return how, safe
    inserted = replacements(line, safe)
    return PART if len(inserted) < len(safe) else how, inserted


def _expected_at(
    words: Sequence[str], last: str
) -> tuple[Argument | Sequence[str], bool, Mapping[str, str]]:
    """Return what is expected in the place of `last`, after `words`, which follow the name of the program.

    Returns:
        The argument, or the words of which it is one; whether it may also be a local folder or file, as DEST is; the
        values of the flags in `words`, by their settings.
    """
    command, positionals, flags_ended = DIALOG, 0, False
    values: dict[str, str] = {}
    awaiting: Argument | None = None
    for word in words:
        if awaiting is not None:
            values[awaiting.dest] = word
            awaiting = None
        elif word == "--" and not flags_ended:
            flags_ended = True
        elif word.startswith("-") and word != "-" and not flags_ended:
            flag, equals, value = word.partition("=")
            argument = command.flags.get(flag)
            if argument is not None and argument.metavar is not None:
                if equals:
                    values[argument.dest] = value
                else:
                    awaiting = argument
        elif word in commands_below(command):
            command, positionals = commands_below(command)[word], 0
        else:
            positionals += 1
    arguments = command.positionals
    if awaiting is not None:
        return () if awaiting.dest == "name" else awaiting, False, values  # nobody knows a new name
    if last.startswith("-") and not flags_ended:
        flags = [flag for flag in command.flags if flag.startswith("--")]
        return ("--help", *(("--version",) if command is DIALOG else ()), *flags), False, values
    if commands_below(command):
        return () if positionals else tuple(commands_below(command)), False, values
    if positionals < len(arguments):
        return arguments[positionals], False, values
    if arguments and arguments[-1].repeated:
        return arguments[-1], True, values
    return (), False, values


def _candidates(
    expected: Argument | Sequence[str], may_be_local: bool, last: str, lookup: Callable[[], Lookup]
) -> tuple[str, Sequence[str]]:
    """As `complete`, but whole words, some of which may not begin with `last`."""
    if not isinstance(expected, Argument):
        return WORDS, expected
    if expected.choices is not None:
        return WORDS, expected.choices
    match expected.metavar:
        case "FILE" | "PATH" | "[NAME=]PATH":
            return FILES, []
        case "DIR" | "DEST":
            return FOLDERS, []
        case "ID":
            is_own = expected.dest in ("cancel", "again")
            is_open = expected.dest != "again" and not expected.optional  # `inbox clear`
            return WORDS, lookup().offers("offers" if is_own else "inbox", is_open=is_open)
        case "CARRIER":
            return WORDS, list(Via)
        case "NAME":
            return WORDS, lookup().known()
        case "NAMES":
            before, comma, prefix = last.rpartition(",")
            return WORDS, [f"{before}{comma}{name}" for name in _names(lookup(), prefix)]
        case "SHARE":
            return WORDS, lookup().shares()
        case "URL":
            return WORDS, lookup().registries()
        case "PEER":
            return WORDS, _names(lookup(), last)
        case "PEER:PATH" | "PEER[:PATH]":
            if may_be_local and _is_local_path(last):
                return FOLDERS, []
            if ":" in last:
                return PATHS, _paths(lookup(), last)
            names = [f"{name}:" for name in _names(lookup(), last)]
            if may_be_local:
                names += _local_folders(last)
            return (WORDS, names) if names or not may_be_local else (FILES, [])
    return NOTHING


def _sources(
    last: str, lookup: Callable[[], Lookup], *, may_be_name: bool
) -> tuple[str, Sequence[str]]:
    """Return what `send` may have in the place of `last`: a path, or after the first one also names with commas."""
    if not may_be_name or _is_local_path(last):
        return FILES, []
    before, comma, prefix = last.rpartition(",")
    names = [f"{before}{comma}{name}" for name in _names(lookup(), prefix)]
    if comma:
        return WORDS, names
    return (WORDS, [*names, *_local(last)]) if names else (FILES, [])


def _is_local_path(word: str) -> bool:
    """Whether a word can only be a local path: it has a slash before any colon, or begins like one."""
    return word.startswith((".", "~")) or "/" in word.partition(":")[0]


def _local_folders(prefix: str) -> list[str]:
    """Return the folders in the current one, without hidden ones."""
    return [each for each in _local(prefix) if each.endswith("/")]


def _local(prefix: str) -> list[str]:
    """Return the entries of the current folder, without hidden ones; folders end with a slash."""
    with suppress(OSError), os.scandir() as entries:
        return [
            f"{each.name}/" if each.is_dir() else each.name
            for each in islice(entries, LOCAL_MAX)
            if each.name.startswith(prefix) and not each.name.startswith(".")
        ]
    return []


def _names(lookup: Lookup, prefix: str) -> list[str]:
    if prefix and not can_begin_name(prefix):
        return []
    return [name for name in lookup.names(prefix) if is_name(name)]


def _paths(lookup: Lookup, last: str) -> list[str]:
    peer, _, typed = last.partition(":")
    folder, slash, prefix = typed.rpartition("/")
    if not is_name(peer) or (slash and not folder):
        return []
    try:
        entries = lookup.entries(peer, parse_path(folder), prefix)
    except RemoteProtocolError:
        return []
    return [f"{peer}:{folder}{slash}{entry}" for entry in entries]


def _lookup(values: Mapping[str, str], environ: Mapping[str, str]) -> Lookup:
    flags = {setting: values.get(setting) for setting in ("registry", "name", "data")}
    return Lookup(Settings.load(flags, environ, default_config_path()))


def _is_safe(candidate: str) -> bool:
    """Whether a candidate is what it looks like: nothing in it moves a cursor, ends a line, or hides."""
    return display(candidate) == candidate
