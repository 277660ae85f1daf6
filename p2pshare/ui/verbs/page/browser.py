"""The browser of the user: whether there is one to open, and opening a page in it.

The browser is started by a small child process with the standard module `webbrowser`, which knows the browsers of each
system and the variable BROWSER. The child has no terminal and a session of its own: browsers write noise, some of them
block until they end, and Ctrl+C in the terminal is not for them. A browser without a window, such as `lynx`, would need
the terminal; without a display none is opened.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping

OPEN_TIMEOUT = 10.0  # seconds; a starter that takes longer has most likely opened the browser
_OPEN = "import sys, webbrowser; sys.exit(not webbrowser.open(sys.argv[1]))"


def has_browser(environ: Mapping[str, str], platform: str = sys.platform) -> bool:
    """Whether a page that is opened here would be seen: not over ssh, and only with a display."""
    if is_remote(environ):
        return False
    has_display = bool(environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY"))
    return has_display or bool(environ.get("BROWSER")) or platform == "darwin"


def is_remote(environ: Mapping[str, str]) -> bool:
    """Whether the user is on another machine."""
    return bool(environ.get("SSH_CONNECTION") or environ.get("SSH_TTY"))


def open_browser(url: str) -> bool:
    """Open a page in the browser; return whether one has been started. It may block, so run it in a thread."""
    command = [sys.executable, "-I", "-c", _OPEN, url]
    nothing = subprocess.DEVNULL
    try:
        starter = subprocess.Popen(
            command, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True
        )
        return starter.wait(OPEN_TIMEOUT) == 0
    except subprocess.TimeoutExpired:
        return True
    except OSError:
        return False
