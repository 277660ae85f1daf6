"""`p2pshare complete`, by which shells complete words: it asks the running peer, or tells what was seen last.

It has a fraction of a second from the start of the process, and so imports neither Twisted nor anything else that takes
its time. What it cannot find out it leaves out: nobody reads an error while typing.

It prints what the candidates are, and then a candidate a line: `words`, `paths`, a `part` of those that could follow,
or `files` or `folders`, if those of this machine are meant, which the shell knows. No candidate holds a character that
a terminal obeys. What a shell obeys is quoted: by zsh and fish themselves, and for bash here.
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
from p2pshare.storage.settings import Settings, default_config_path
from p2pshare.ui.completion.command_words import Expected, Kind, expected_at
from p2pshare.ui.completion.shell_words import Typed, replacements, split_line
from p2pshare.ui.completion.sources import Lookup
from p2pshare.wire.display import display
from p2pshare.wire.paths import parse_path

WORDS, PATHS, PART, FILES, FOLDERS = "words", "paths", "part", "files", "folders"
SHELLS = ("bash", "zsh", "fish")
CANDIDATES_MAX = 500
LOCAL_MAX = 2000  # entries of the current folder that are looked at

NOTHING: tuple[str, list[str]] = (WORDS, [])


def main(words: Sequence[str], wall: Callable[[], float]) -> int:
    """Print what the word at the cursor can become, and return the exit code.

    Args:
        words: "bash", the line up to the cursor, and `COMP_WORDBREAKS`; or "zsh" or "fish", and the words behind the
            program's name, the last of which is the one at the cursor.
        wall: the Unix time in s.
    """
    with suppress(P2pshareError, OSError, ValueError):
        if isinstance(
            sys.stdout, TextIOWrapper
        ):  # a shell wants the bytes of names, and not what is displayed
            sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")
        how, candidates = complete(words, os.environ, wall)
        sys.stdout.write("".join(f"{line}\n" for line in (how, *candidates)))
        sys.stdout.flush()
    return 0


def complete(
    words: Sequence[str], environ: Mapping[str, str], wall: Callable[[], float]
) -> tuple[str, list[str]]:
    """What the candidates are, and the candidates: whole words, or for bash what it puts in.

    Raises:
        P2pshareError: the settings are none.
        OSError: something could not be read.
    """
    shell, *behind = words or ("",)
    if shell == "bash" and len(behind) == 2:
        line = split_line(*behind)
        line = replace(line, words=line.words[1:])
    elif shell in SHELLS and shell != "bash" and behind:
        line = Typed(tuple(behind[:-1]), behind[-1])
    else:
        return NOTHING
    expected = expected_at(line.words, line.last)
    lookup = partial(_lookup, expected, environ, wall)
    how, candidates = _candidates(expected, line.last, lookup)
    safe = sorted({each for each in candidates if each.startswith(line.last) and _is_safe(each)})
    del safe[CANDIDATES_MAX:]
    if shell != "bash":
        return how, safe
    put_in = replacements(line, safe)
    return PART if len(put_in) < len(safe) else how, put_in


def _candidates(
    expected: Expected, last: str, lookup: Callable[[], Lookup]
) -> tuple[str, Sequence[str]]:
    """As `complete`, but whole words, some of which may not begin with what was typed."""
    match expected.kind:
        case Kind.WORD:
            return WORDS, expected.words
        case Kind.FILE:
            return FILES, []
        case Kind.FOLDER:
            return FOLDERS, []
        case Kind.KNOWN:
            return WORDS, lookup().known()
        case Kind.REGISTRY:
            return WORDS, lookup().registries()
        case Kind.REMOTE if expected.may_be_local and _is_local_path(last):
            return FOLDERS, []
        case Kind.REMOTE if ":" in last:
            return PATHS, _paths(lookup(), last)
        case Kind.REMOTE:
            names = [f"{name}:" for name in _names(lookup(), last)]
            if expected.may_be_local:
                names += _local_folders(last)
            return (WORDS, names) if names or not expected.may_be_local else (FILES, [])
    return NOTHING


def _is_local_path(word: str) -> bool:
    """Whether a word can only be a path on this machine: a slash comes before any colon, or it begins so."""
    return word.startswith((".", "~")) or "/" in word.partition(":")[0]


def _local_folders(prefix: str) -> list[str]:
    """Folders in the current one that are not hidden."""
    with suppress(OSError), os.scandir() as entries:
        return [
            f"{each.name}/"
            for each in islice(entries, LOCAL_MAX)
            if each.name.startswith(prefix) and not each.name.startswith(".") and each.is_dir()
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


def _lookup(expected: Expected, environ: Mapping[str, str], wall: Callable[[], float]) -> Lookup:
    flags = {flag: expected.flags.get(flag) for flag in ("registry", "name", "data")}
    return Lookup.by_settings(Settings.load(flags, environ, default_config_path()), wall)


def _is_safe(candidate: str) -> bool:
    """Whether it is what it looks like: nothing in it moves a cursor, ends a line, or hides."""
    return display(candidate) == candidate
