"""File names and arguments as UTF-8, whatever the locale is.

Python decodes both with the encoding of the locale. In an ASCII or Latin-1 locale a shared name beyond that could
neither be opened nor asked for. Python's UTF-8 mode (PEP 540) has to be chosen when the interpreter starts, so the
process starts itself again, in the same process id. Only what is displayed keeps the encoding of the locale.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

IO_VARIABLE = "PYTHONIOENCODING"
MODE_VARIABLE = "PYTHONUTF8"


def require_utf8(
    execve: Callable[..., Any] = os.execve,
    encoding: str | None = None,
) -> None:
    """Start this process again in UTF-8 mode, unless names are UTF-8 already. Call it before anything is begun.

    Args:
        execve: starts it.
        encoding: of file names in this process.
    """
    if (encoding or sys.getfilesystemencoding()).lower() in ("utf-8", "utf8"):
        return
    shown = getattr(sys.stdout, "encoding", None) or "ascii"
    environ = {
        IO_VARIABLE: f"{shown}:backslashreplace",
        **os.environ,
        MODE_VARIABLE: "1",  # for children; the option counts even if Python ignores variables
    }
    # What the locale could decode becomes the same text in UTF-8, and the rest the same bytes.
    words = [word.encode("utf-8", "surrogateescape") for word in sys.orig_argv[1:]]
    execve(sys.executable, [os.fsencode(sys.executable), b"-X", b"utf8", *words], environ)
