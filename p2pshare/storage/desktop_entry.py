"""The entry that tells a desktop which program opens `p2pshare://` links.

Sources: the Desktop Entry Specification 1.5 (quoting in `Exec`), and the XDG Base Directory Specification. The entry is
found by its MIME type `x-scheme-handler/p2pshare`; `mimeapps.list` is left to `xdg-mime`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from p2pshare.errors import CannotSave, WrongUsage
from p2pshare.storage.identity.private_file import replace_private
from p2pshare.storage.os_errors import plain_reason

ENTRY_NAME = "p2pshare-link.desktop"
SCHEME_TYPE = "x-scheme-handler/p2pshare"
ENTRY_MODE = 0o644  # desktops only read it

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_PLAIN = re.compile(r"[A-Za-z0-9_./:@+,-]+")
_UNSTARTABLE = re.compile(r"[=%]")
"""The specification forbids = in the path of a program, and GLib does not find one with %."""
_ESCAPED = re.compile(r'(["`$\\])')


def entry_text(command: Sequence[str]) -> str:
    """Return the entry that calls `command` with the link as its last word.

    Raises:
        WrongUsage: a word cannot stand in an entry, or the program has no absolute path.
    """
    program = command[0]
    if not Path(program).is_absolute() or _UNSTARTABLE.search(program):
        raise WrongUsage(
            reason=f"A desktop cannot start {program!r}: use an absolute path without = and %."
        )
    words = " ".join(map(_quoted, command))
    return f"""[Desktop Entry]
Type=Application
Name=p2pshare
Comment=Open links to people in p2pshare
Exec={words} %u
MimeType={SCHEME_TYPE};
NoDisplay=true
Terminal=false
StartupNotify=false
"""


def write_entry(folder: Path, text: str) -> Path:
    """Write the entry into the folder `applications` of a data folder for all programs; return its path.

    Raises:
        CannotSave: it cannot be written.
    """
    path = folder / "applications" / ENTRY_NAME
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_private(path, text.encode())
        path.chmod(ENTRY_MODE)
    except OSError as error:
        raise CannotSave(path=path, reason=plain_reason(error)) from error
    return path


def read_entry(folder: Path) -> str | None:
    """Return the entry in a data folder for all programs; None if there is none that can be read."""
    with suppress(OSError, UnicodeDecodeError):
        return (folder / "applications" / ENTRY_NAME).read_text()
    return None


def remove_entry(folder: Path) -> bool:
    """Remove the entry; return whether there was one.

    Raises:
        CannotSave: it cannot be removed.
    """
    path = folder / "applications" / ENTRY_NAME
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise CannotSave(path=path, reason=plain_reason(error)) from error
    return True


def _quoted(word: str) -> str:
    """Return a word of `Exec`, in quotation marks and with the escapes of arguments, field codes and texts if needed.

    A plain word has no quotation marks, because `xdg-open` without a desktop takes them for a part of the name.
    """
    if _CONTROL.search(word):
        raise WrongUsage(
            reason=f"{word!r} has a control character, which a desktop entry cannot have."
        )
    if _PLAIN.fullmatch(word):
        return word
    argument = _ESCAPED.sub(r"\\\1", word).replace("%", "%%")
    return f'"{argument}"'.replace("\\", "\\\\")
