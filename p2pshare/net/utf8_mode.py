"""File names and arguments in UTF-8, whatever the locale is.

Python decodes both with the encoding of the locale. In an ASCII or Latin-1 locale, a shared name with other characters
could neither be opened nor be requested. Python's UTF-8 mode (PEP 540) has to be set when the interpreter starts, so
the process executes itself again, with the same pid. Only the output keeps the encoding of the locale.
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
    """Execute this process again in UTF-8 mode, unless names are UTF-8 already. Call it before anything else.

    Args:
        execve: replaces `os.execve`.
        encoding: that of file names in this process.
    """
    if (encoding or sys.getfilesystemencoding()).lower() in ("utf-8", "utf8"):
        return
    shown = getattr(sys.stdout, "encoding", None) or "ascii"
    environ = {
        IO_VARIABLE: f"{shown}:backslashreplace",
        **os.environ,
        MODE_VARIABLE: "1",  # for child processes; the option works even if Python ignores variables
    }
    # Text that the locale could decode becomes the same text in UTF-8; the rest stays the same bytes.
    words = [word.encode("utf-8", "surrogateescape") for word in sys.orig_argv[1:]]
    execve(sys.executable, [os.fsencode(sys.executable), b"-X", b"utf8", *words], environ)
