"""Changes of `config.toml`, which people write by hand: a few values are set, and everything else is kept.

There is no writer for TOML that keeps comments in the standard library, and the settings that a command sets are texts
of one line. So lines are edited: an old line becomes a comment, the new one follows it. The result is parsed and
compared before it is written; if it is not what was wanted, such as in a file with texts of several lines, nothing is
written.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

from p2pshare.errors import CannotSave, SettingsUnreadable
from p2pshare.storage.identity.private_file import replace_private
from p2pshare.storage.os_errors import plain_reason
from p2pshare.storage.settings import SETTINGS_SIZE_MAX
from p2pshare.storage.text_files import read_text_file

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def update_config(path: Path, values: Mapping[str, str | None]) -> None:
    """Set values at the top level of a file, which is made if need be; nobody else can read it afterwards.

    A value that is None is removed: its line becomes a comment.

    The file is replaced in one step. If it is a symbolic link, the file that it leads to is replaced.

    Raises:
        CannotSave: it cannot be written, or its lines cannot be edited; it is unchanged.
        SettingsUnreadable: it cannot be read.
    """
    path = path.resolve()
    try:
        before = read_text_file(path, SETTINGS_SIZE_MAX).decode()
        known = tomllib.loads(before)
    except FileNotFoundError:
        before, known = "", {}
    except OSError as error:
        raise SettingsUnreadable(source=path, reason=plain_reason(error)) from error
    except ValueError as error:
        raise SettingsUnreadable(source=path, reason=str(error)) from error
    changed = {key: value for key, value in values.items() if known.get(key) != value}
    if not changed:
        return
    text, first = before, ""
    for key, value in changed.items():
        line = "" if value is None else f"{key} = {_quoted(value)}\n"
        text, count = _with_line(text, key, line)
        first += "" if count else line
    text = first + text
    wanted = {key: value for key, value in {**known, **values}.items() if value is not None}
    if not _means(text, wanted):
        lines = ", ".join(
            f"remove {key}" if value is None else f"set {key} = {_quoted(value)}"
            for key, value in changed.items()
        )
        raise CannotSave(path=path, reason=f"its lines cannot be edited. Edit it yourself: {lines}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_private(path, text.encode())
    except OSError as error:
        raise CannotSave(path=path, reason=plain_reason(error)) from error


def _with_line(text: str, key: str, line: str) -> tuple[str, int]:
    """Return the text with each line of a key replaced by `line`, and the number of these lines."""
    old = re.compile(rf"""^(?=[ \t]*(?:{key}|"{key}"|'{key}')[ \t]*=)(.*)$""", re.MULTILINE)
    return old.subn(lambda match: f"# {match[1].strip()}\n{line}".removesuffix("\n"), text)


def _means(text: str, wanted: Mapping[str, object]) -> bool:
    try:
        return len(text.encode()) <= SETTINGS_SIZE_MAX and tomllib.loads(text) == wanted
    except ValueError:
        return False


def _quoted(value: str) -> str:
    """Return a basic string of TOML."""
    shown = value.replace("\\", "\\\\").replace('"', '\\"')
    escaped = _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", shown)
    return f'"{escaped}"'
