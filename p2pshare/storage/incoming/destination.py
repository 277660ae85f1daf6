"""The destination of a fetched file, and names that are safe for it."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path, PurePath

from p2pshare.errors import CannotSave, WrongUsage
from p2pshare.storage.os_errors import plain_reason
from p2pshare.wire.paths import folded

SAFE_NAME_MAX = 255  # bytes of UTF-8; the limit of nearly every file system
SUFFIX_MAX = 16  # bytes; a longer suffix is not kept when a name is shortened

_ILLEGAL = frozenset('/\\:<>"|?*')  # on one system or another
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_OBEYED = frozenset({"Cc", "Cs", "Zl", "Zp"})
_REORDERING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_JOINERS = "\u200c\u200d"  # invisible, but Persian, Indian scripts and emoji need them
_LEADING = ".-~"  # hidden, taken for an option, expanded by a shell
_DEVICES = frozenset(
    {"con", "prn", "aux", "nul", "conin$", "conout$", "clock$"}
    | {f"{port}{number}" for port in ("com", "lpt") for number in "0123456789¹²³"}
)


def resolve_destination(dest: str | None, default_name: str, cwd: Path) -> tuple[Path, str]:
    """Split DEST, as a user typed it, into a folder and a file name.

    Args:
        dest: a folder, a file name, or None for the current folder.
        default_name: the name if `dest` has none.
        cwd: the folder to which a relative `dest` refers.

    Raises:
        WrongUsage: the folder does not exist, or `dest` is neither a folder nor a file.
    """
    if dest is None:
        return cwd, default_name
    if not dest or "\0" in dest:
        raise WrongUsage(reason=f"{dest!r} is neither a folder nor a file name.")
    path = cwd / dest
    if is_folder(dest, cwd):
        return path, default_name
    if dest.endswith(("/", "/.", "/..")) or dest in (".", ".."):
        raise WrongUsage(reason=f"There is no folder {dest!r}: make it first.")
    if not os.path.isdir(path.parent):
        raise WrongUsage(
            reason=f"There is no folder {os.path.dirname(dest)!r} to save in: make it first."
        )
    if os.path.exists(path) and not os.path.isfile(path):
        raise WrongUsage(reason=f"{dest!r} is neither a folder nor a regular file.")
    return path.parent, path.name


def storable_name(text: str) -> str:
    """Return the local name of a remote file if the file system accepts it: usually the same.

    Control characters, line ends and characters that reorder text become `_`. `text` is a component of a remote path,
    not empty, and without a slash.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join("_" if _is_obeyed(each) else each for each in text)


def shown_name(text: str) -> str:
    """Return the name of a remote file or folder that comes to lie in the destination itself. It is not hidden."""
    return f"_{text}" if folded(text).startswith(".") else text


def is_folder(dest: str, cwd: Path) -> bool:
    """Whether DEST is a folder, or ends with a slash and can be made one by `make_folder`."""
    path = cwd / dest
    if os.path.isdir(path):
        return True
    is_new = dest.endswith("/") and path.name not in ("", "..") and not os.path.lexists(path)
    return is_new and os.path.isdir(path.parent)


def make_folder(folder: Path) -> None:
    """Make the folder if it does not exist; its parent does, as `is_folder` says.

    Raises:
        CannotSave: it cannot be made.
    """
    if os.path.isdir(folder):
        return
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise CannotSave(path=folder, reason=plain_reason(error)) from error


def safe_name(text: str) -> str:
    """Return a portable, harmless name, made from a name of a stranger.

    The result is one path component of 1 to `SAFE_NAME_MAX` bytes. It is not hidden, does not look like an option, has
    no control or invisible characters, and is no DOS device. A harmless name is kept, in NFC. A joiner (U+200C, U+200D)
    is kept between two characters if one of them is not ASCII, so that it makes no twins of ASCII names.
    """
    normal = unicodedata.normalize("NFC", text)
    name = "".join(
        character
        if character in _JOINERS and _joins(normal[max(0, at - 1) : at], normal[at + 1 : at + 2])
        else _safe_character(character)
        for at, character in enumerate(normal)
    )
    name = name.strip(" ").rstrip(". ")
    if name.startswith(tuple(_LEADING)):
        name = "_" + name.lstrip(_LEADING + " ")
    if name.split(".")[0].rstrip(" ").casefold() in _DEVICES:
        name = "_" + name
    return fitting_name(name) or "_"


def _is_obeyed(character: str) -> bool:
    return unicodedata.category(character) in _OBEYED or character in _REORDERING


def _safe_character(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Zs":
        return " "
    return "_" if category in _INVISIBLE or character in _ILLEGAL else character


def _joins(before: str, after: str) -> bool:
    """Whether a joiner may stand between these characters; an empty one is an end of the name."""
    return (
        not (before + after).isascii()
        and len(before) == len(after) == 1
        and all(
            unicodedata.category(each)[0] in "LMN"
            or (unicodedata.category(each)[0] == "S" and not each.isascii())
            for each in (before, after)
        )
    )


def fitting_name(name: str, size_max: int = SAFE_NAME_MAX) -> str:
    """Return `name` shortened to `size_max` bytes; its suffix is kept."""
    if len(name.encode()) <= size_max:
        return name
    suffix = PurePath(name).suffix
    if len(suffix.encode()) > SUFFIX_MAX:
        suffix = ""
    stem = name.encode()[: size_max - len(suffix.encode())].decode("utf-8", "ignore")
    return (stem.rstrip(". " + _JOINERS) + suffix).rstrip(". ")
