"""Rules that leave files and folders out of a share, or of an offer.

Three kinds leave something out: hidden names, unless the owner shares them (`--hidden`); patterns that the owner gave
(`--exclude`); and patterns in files `.p2pshareignore`, which hold for their folder and everything beneath.

**Patterns** are those of `.gitignore`, by the library `pathspec`. As in Git, the last pattern that matches decides, the
file in the deepest folder comes first, and the owner's own patterns come before all files. A folder that is left out is
not entered, so nothing in it can be included again.

**Where they hold.** Whether a name is left out is decided folder by folder, from the root of the share down, when a
folder is entered (`Scope`). Listing and opening go the same way, and links are walked from the root, so nothing that is
left out can be reached by its path or through a link.

**What cannot be read excludes.** If a `.p2pshareignore` is a link, too large, or has an invalid line, its whole folder
is unreadable: the owner wanted something left out, and it is not known what.

**Names that are equal.** Some file systems treat capitals as small letters. There, patterns do so, too; otherwise a
path in other letters would lead to what is left out.

Names of files of p2pshare (`wire.paths.is_reserved`), `.p2pshareignore` among them, are never shared.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import islice
from typing import Self

from pathspec import GitIgnoreSpec, RegexPattern

from p2pshare.errors import WrongUsage
from p2pshare.wire.blocks import digest_of
from p2pshare.wire.paths import is_reserved

IGNORE_NAME = ".p2pshareignore"
IGNORE_SIZE_MAX = 64 * 1024  # bytes of a file with patterns
IGNORE_FILES_MAX = 16  # files with patterns on the way to a folder
PATTERNS_MAX = 1000  # lines of such a file, and patterns of the owner
PATTERN_MAX = 1024  # characters of a pattern
PATTERN_SHOWN = 80  # characters of a pattern in an error
PROBED_MAX = (
    64  # names of a folder by which it is found out whether capitals are small letters there
)
COMPILED_MAX = 64  # files whose patterns are kept compiled

_KEY_SIZE = 16  # hexadecimal digits
_OPENING = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

# Parts of the expressions of `pathspec`. No other part of them has a slash, except the separators.
_FOLDERS_BEFORE = "(?:.+/)?"  # `**/` at the beginning
_FOLDERS_BETWEEN = "(?:/.+)?"  # `/**`
_STAR = "[^/]*"
_BENEATH = "(?P<ps_d>/)"  # what is in a folder of that name
_ITSELF_OR_BENEATH = f"(?:{_BENEATH}|$)"


_Regexes = list[tuple[re.Pattern[str], bool]]


class RulesError(OSError):
    """The patterns of a folder are not known, so nothing of it is shared."""

    def __init__(self, reason: str) -> None:
        super().__init__(errno.EIO, reason)


@dataclass(frozen=True, slots=True)
class Rules:
    """What the owner leaves out. Two equal rules leave out the same."""

    exclude: tuple[str, ...] = ()
    """Patterns as in `.gitignore`, relative to the root of the share."""
    hidden: bool = False
    """Whether names that begin with a dot are shared."""

    @classmethod
    def of(cls, exclude: Iterable[str] = (), *, hidden: bool = False) -> Self:
        """Check the options `--exclude` and `--hidden`.

        Raises:
            WrongUsage: a pattern is not valid, or there are too many.
        """
        patterns = tuple(exclude)
        for pattern in patterns:
            if "\n" in pattern or not pattern.strip():
                raise WrongUsage(reason=f"--exclude {pattern!r} is no pattern.")
        try:
            _compiled("\n".join(patterns))
        except ValueError as error:
            raise WrongUsage(reason=f"--exclude is not valid: {error}.") from None
        return cls(patterns, hidden)

    def scope(self, folder: int) -> Scope:
        """Return what holds in the root of a share, which is open.

        Raises:
            RulesError: its `.p2pshareignore` cannot be read.
            OSError: too many files are open.
        """
        files = _with_file((), 0, folder)
        return Scope(self, (), files, self._folds(files, folder))

    def _folds(self, files: tuple[_PatternFile, ...], folder: int) -> bool:
        """Whether patterns treat capitals as small letters in an open folder; False if there are no patterns."""
        return bool(self.exclude or files) and folds(folder)


class _Patterns:
    """Patterns in the order of their lines."""

    def __init__(self, lines: Sequence[str]) -> None:
        """Compile valid lines."""
        self._of_files = _regexes(lines)
        self._of_folders = _regexes([line.removesuffix("/") for line in lines])
        self._lines = lines

    @cached_property
    def _folded(self) -> tuple[_Regexes, _Regexes]:
        """For files and for folders, where capitals are small letters."""
        lines = [unicodedata.normalize("NFC", line) for line in self._lines]
        folders = [line.removesuffix("/") for line in lines]
        return _regexes(lines, re.IGNORECASE), _regexes(folders, re.IGNORECASE)

    def verdict(self, path: str, *, is_folder: bool, folds: bool) -> bool | None:
        """Return whether a path is left out; None if no pattern matches it. The folders above it are not left out.

        So what a pattern says of the content of a folder is of no interest, and the library's own `match_file` is not
        used.
        """
        if folds:
            path = unicodedata.normalize("NFC", path)
            regexes = self._folded[is_folder]
        else:
            regexes = self._of_folders if is_folder else self._of_files
        for regex, include in regexes:
            if regex.match(path) is not None:
                return include
        return None


def _regexes(lines: Sequence[str], flags: int = 0) -> _Regexes:
    """Return the expression of each pattern, and whether it leaves out what it matches; the last line first."""
    patterns = GitIgnoreSpec.from_lines(lines).patterns
    return [
        (re.compile(_without_retries(each.regex.pattern), flags), each.include)
        for each in reversed(patterns)
        if isinstance(each, RegexPattern) and each.regex is not None and each.include is not None
    ]


def _without_retries(expression: str) -> str:
    """Return an expression of `pathspec` for the path itself, whose time grows with the length of the path only.

    With several wildcards, the library's own expressions try all combinations of what each of them may match. That can
    take hours, and no other thread runs meanwhile. But the first place where the text between two wildcards is found
    leaves the most to the following ones. So all but the last wildcard keep it: `(?>...)` is never tried again.
    """
    expression = expression.removeprefix("^")
    end = ""
    if expression.endswith(_ITSELF_OR_BENEATH):
        expression, end = expression.removesuffix(_ITSELF_OR_BENEATH), "$"
    elif expression.endswith(_BENEATH):  # a folder is matched without its slash
        return "(?!)"
    is_anywhere = expression.startswith(_FOLDERS_BEFORE)
    first, *others = expression.removeprefix(_FOLDERS_BEFORE).split(_FOLDERS_BETWEEN)
    parts = [("(?:[^/]+/)*?" if is_anywhere else "") + _first_stars(first)]
    parts += ["(?:/[^/]+)*?" + _first_stars(each) for each in others]
    return "".join(f"(?>{each}(?=/))" for each in parts[:-1]) + parts[-1] + end


def _first_stars(part: str) -> str:
    """Let all but the last `*` of an expression without `**` match as little as possible, once."""
    first, *pieces = part.split(_STAR)
    if not pieces:
        return part
    return first + "".join(f"(?>[^/]*?{each})" for each in pieces[:-1]) + _STAR + pieces[-1]


@dataclass(frozen=True, slots=True)
class _PatternFile:
    """A `.p2pshareignore`."""

    patterns: _Patterns
    depth: int
    """Number of folders from the root to the one with the file."""
    text: str


@dataclass(frozen=True, slots=True)
class Scope:
    """The rules that hold in one folder of a share."""

    rules: Rules = field(default_factory=Rules)
    path: tuple[str, ...] = ()
    """The real folder, from the root of the share on."""
    files: tuple[_PatternFile, ...] = ()
    """Patterns of files on the way, the deepest last."""
    folds: bool = False
    """Whether capitals are small letters here."""

    def is_hidden(self, name: str) -> bool:
        """Whether a name in the folder is hidden from viewers."""
        return name.startswith(".") and (not self.rules.hidden or is_reserved(name))

    def is_excluded(self, name: str, *, is_folder: bool) -> bool:
        """Whether a pattern leaves a name in the folder out. A link to a folder is no folder."""
        if not self.has_patterns:
            return False
        parts = (*self.path, name)
        sources = [(each.patterns, each.depth) for each in self.files]
        if self.rules.exclude:
            sources.append((_compiled("\n".join(self.rules.exclude)), 0))
        for patterns, depth in reversed(sources):
            path = "/".join(parts[depth:])
            if "\n" in path:  # the dot of a regular expression does not match it; no name has a NUL
                path = path.replace("\n", "\0")
            left_out = patterns.verdict(path, is_folder=is_folder, folds=self.folds)
            if left_out is not None:
                return left_out
        return False

    @property
    def has_patterns(self) -> bool:
        """Whether any pattern holds here."""
        return bool(self.rules.exclude or self.files)

    def enter(self, name: str, folder: int) -> Scope:
        """Return what holds in an open folder of this one, of that name.

        Raises:
            RulesError, OSError: see `Rules.scope`.
        """
        path = (*self.path, name)
        files = _with_file(self.files, len(path), folder)
        return Scope(self.rules, path, files, self.folds or self.rules._folds(files, folder))

    @property
    def key(self) -> str:
        """Return a text for a file name that differs as soon as something else may be left out of this folder."""
        known: list[object] = [self.rules.hidden]
        if self.has_patterns:
            texts = [(each.depth, each.text) for each in self.files]
            known += [self.rules.exclude, texts, self.path, self.folds]
        told = repr(known).encode("utf-8", "surrogatepass")
        return digest_of(told).hex()[:_KEY_SIZE]


def folds(folder: int) -> bool:
    """Whether an open folder treats capitals as small letters, as far as its names tell."""
    with os.scandir(folder) as entries:
        for entry in islice(entries, PROBED_MAX):
            other = entry.name.swapcase()
            if other == entry.name:
                continue
            try:
                status = os.stat(other, dir_fd=folder, follow_symlinks=False)
            except OSError:
                return False
            return status.st_ino == entry.inode()
    return False


def _with_file(
    files: tuple[_PatternFile, ...], depth: int, folder: int
) -> tuple[_PatternFile, ...]:
    """Return the patterns on the way and those of an open folder."""
    text = _read(folder)
    if text is None:
        return files
    if len(files) >= IGNORE_FILES_MAX:
        raise RulesError(f"more than {IGNORE_FILES_MAX} files {IGNORE_NAME} hold here")
    try:
        return (*files, _PatternFile(_compiled(text), depth, text))
    except ValueError as error:
        raise RulesError(f"{IGNORE_NAME} is not valid: {error}") from None


def _read(folder: int) -> str | None:
    """Return the text of the file with patterns in an open folder; None if there is none."""
    try:
        fd = os.open(IGNORE_NAME, _OPENING, dir_fd=folder)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
            raise
        raise RulesError(f"{IGNORE_NAME} cannot be opened") from error
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise RulesError(f"{IGNORE_NAME} is no file")
        with open(fd, "rb", closefd=False) as file:
            data = file.read(IGNORE_SIZE_MAX + 1)
    finally:
        os.close(fd)
    if len(data) > IGNORE_SIZE_MAX:
        raise RulesError(f"{IGNORE_NAME} has more than {IGNORE_SIZE_MAX} bytes")
    return data.decode("utf-8", "surrogateescape").removeprefix("\ufeff")


@lru_cache(COMPILED_MAX)
def _compiled(text: str) -> _Patterns:
    """Compile lines of patterns.

    Raises:
        ValueError: a line is not valid; the sentence says which.
    """
    lines = text.replace("\r\n", "\n").split("\n")
    if len(lines) > PATTERNS_MAX:
        raise ValueError(f"it has more than {PATTERNS_MAX} lines")
    for number, line in enumerate(lines, 1):
        if (fault := _fault(line)) is not None:
            raise ValueError(f"line {number}, {line[:PATTERN_SHOWN]!r}, {fault}")
    return _Patterns(lines)


def _fault(line: str) -> str | None:
    """Return the fault of a line with a pattern; None if it has none."""
    if line.startswith("#") or not line.strip():
        return None
    if len(line) > PATTERN_MAX:
        return f"has more than {PATTERN_MAX} characters"
    try:
        is_pattern = bool(_regexes([line]))
    except ValueError:
        is_pattern = False
    return None if is_pattern else "is no pattern"
