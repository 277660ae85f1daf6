"""What the peer's page keeps across restarts: its port, and the browsers that may use it.

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

from p2pshare.errors import RemoteProtocolError
from p2pshare.storage.identity.private_file import read_private, replace_private
from p2pshare.wire.strict_json import boolean, integer, parse_object

FILE_NAME = "page.json"
VERSION = 1
SESSIONS_MAX = 32
BYTES_MAX = 16 * 1024  # of the file

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
