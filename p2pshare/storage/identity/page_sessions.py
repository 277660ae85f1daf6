"""The state of the peer's page that survives a restart: its port, and the browsers that may use it.

It is a private file of the data folder. A session is known by the digest of its secret alone, so a copy of the file
lets nobody in. The file is bounded, written completely or not at all, and replaced if it is damaged.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from p2pshare.errors import RemoteProtocolError, SettingsUnreadable
from p2pshare.storage.identity.private_file import read_private, replace_private
from p2pshare.storage.os_errors import plain_reason
from p2pshare.wire.strict_json import boolean, integer, parse_object

FILE_NAME = "page.json"
VERSION = 1
SESSIONS_MAX = 32
BYTES_MAX = 16 * 1024  # of the file

PASSWORD_MIN, PASSWORD_MAX = 12, 256  # characters of the password

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(slots=True)
class KeptPage:
    """The content of the file."""

    port: int = 0
    """The TCP port that the page had last; 0 if it had none."""
    is_open: bool = False
    """Whether the page was opened by a command, and is to be open again after a restart."""
    sessions: dict[str, int] = field(default_factory=dict)
    """The Unix time in s of the last use, by the SHA-256 digest of the secret; the latest last."""

    @classmethod
    def read(cls, folder: Path) -> KeptPage:
        """Read the file of a data folder; without a usable one, nothing is known."""
        with suppress(OSError, RemoteProtocolError, ValueError):
            text = read_private(folder / FILE_NAME, BYTES_MAX + 1)
            if len(text) <= BYTES_MAX:
                return cls._of_fields(parse_object(text))
        return cls()

    @classmethod
    def _of_fields(cls, fields: dict[str, Any]) -> KeptPage:
        sessions = fields.get("sessions")
        if fields.get("v") != VERSION or not isinstance(sessions, dict):
            raise ValueError
        if not all(_DIGEST.fullmatch(each) for each in sessions) or len(sessions) > SESSIONS_MAX:
            raise ValueError
        used = {each: integer(sessions, each) for each in sessions}
        return cls(integer(fields, "port", 0, 65535), boolean(fields, "open"), used)

    def write(self, folder: Path) -> None:
        """Write the file.

        Raises:
            OSError: it cannot be written; the old one is unchanged.
        """
        fields = {
            "v": VERSION,
            "port": self.port,
            "open": self.is_open,
            "sessions": self.sessions,
        }
        replace_private(folder / FILE_NAME, json.dumps(fields).encode() + b"\n", durable=False)


def read_password(path: Path) -> str:
    """Return the only line of the file with the password.

    Raises:
        SettingsUnreadable: it cannot be read, others may read it, or it has another form.
    """
    try:
        text = read_private(path, 4 * PASSWORD_MAX + 2).decode().rstrip("\n")
    except OSError as error:
        raise SettingsUnreadable(source=path, reason=plain_reason(error)) from error
    except UnicodeDecodeError:
        text = ""
    if not PASSWORD_MIN <= len(text) <= PASSWORD_MAX or not text.isprintable():
        reason = f"it must have one line of {PASSWORD_MIN} to {PASSWORD_MAX} characters."
        raise SettingsUnreadable(source=path, reason=reason)
    return text
