"""The program that opens `p2pshare://` links on a desktop: registered, and registered no longer.

The entry itself is in `storage/desktop_entry.py`. `xdg-mime` makes it the default, and `update-desktop-database` lets
desktops find it; both are used if they are installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from p2pshare.errors import WrongUsage
from p2pshare.storage.desktop_entry import (
    ENTRY_NAME,
    SCHEME_TYPE,
    entry_text,
    read_entry,
    remove_entry,
    write_entry,
)
from p2pshare.ui.output import Output

TOOL_TIMEOUT = 10.0  # seconds for a program that registers the entry
NO_DESKTOP = "Links are registered on Linux and other systems with freedesktop.org desktops only."
NO_PROGRAM = "The program p2pshare is not in PATH, so no desktop could start it."


def register(output: Output, settings: Mapping[str, str | None], environ: Mapping[str, str]) -> int:
    """Let links open in this program, with the flags in `settings`; return the exit code.

    Raises:
        WrongUsage: this system has no such desktops, or the program cannot stand in an entry.
        CannotSave: the entry cannot be written.
    """
    folder = _data_home(environ)
    flags = [word for name, value in settings.items() if value for word in (f"--{name}", value)]
    path = write_entry(folder, entry_text([_program(), "open", "--desktop", *flags, "--"]))
    refreshed = _run(["update-desktop-database", str(path.parent)])
    is_default = _run(["xdg-mime", "default", ENTRY_NAME, SCHEME_TYPE])
    output.event("registered", path=str(path), is_default=is_default, refreshed=refreshed)
    output.line(f"Links that begin with p2pshare:// now open in p2pshare: {path}.")
    if not is_default:
        output.line(
            f"xdg-mime is missing or failed: choose p2pshare for {SCHEME_TYPE} in your desktop's settings."
        )
    return 0


def unregister(output: Output, environ: Mapping[str, str]) -> int:
    """Let links open in this program no longer; return the exit code.

    Raises:
        CannotSave: the entry cannot be removed.
    """
    folder = _data_home(environ)
    was_there = remove_entry(folder)
    if was_there:
        _run(["update-desktop-database", str(folder / "applications")])
    output.event("unregistered", was_registered=was_there)
    output.line(
        "Links no longer open in p2pshare." if was_there else "Links did not open in p2pshare."
    )
    return 0


def should_offer(environ: Mapping[str, str]) -> bool:
    """Whether links could be registered on this desktop, and are not."""
    has_desktop = bool(environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY"))
    if sys.platform == "darwin" or not has_desktop or shutil.which("xdg-mime") is None:
        return False
    return read_entry(_data_home(environ)) is None


def _data_home(environ: Mapping[str, str]) -> Path:
    """Return the user's data folder for all programs.

    Raises:
        WrongUsage: this system knows no such folder.
    """
    if sys.platform == "darwin" or os.name != "posix":
        raise WrongUsage(reason=NO_DESKTOP)
    named = Path(
        environ.get("XDG_DATA_HOME", "")
    )  # a relative one is ignored, as the specification wants
    return named if named.is_absolute() else Path.home() / ".local" / "share"


def _program() -> str:
    """Return the absolute path of this program.

    Raises:
        WrongUsage: it is not known.
    """
    own = Path(sys.argv[0]).absolute()
    if own.name == "p2pshare" and os.access(own, os.X_OK):
        return str(own)
    found = shutil.which("p2pshare")
    if found is None:
        raise WrongUsage(reason=NO_PROGRAM)
    return str(Path(found).absolute())


def _run(command: Sequence[str]) -> bool:
    """Run a program of the desktop, if it is installed; return whether it has done its work."""
    program = shutil.which(command[0])
    if program is None:
        return False
    nothing = subprocess.DEVNULL
    try:
        ended = subprocess.run(
            [program, *command[1:]],
            stdin=nothing,
            stdout=nothing,
            stderr=nothing,
            timeout=TOOL_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return ended.returncode == 0
