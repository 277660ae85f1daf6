"""The shares that were added while a peer ran or may run: `shares.json` in its data folder.

Only the process that has locked the data folder reads and writes the file. Each change replaces it in one durable step.
A damaged file is an error and never replaced: without it, the peer would share too little, or a share that has ended.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p2pshare.errors import IllegalName, RemoteProtocolError, SharesUnusable, WrongUsage
from p2pshare.names import read_viewer
from p2pshare.storage.identity.private_file import read_private, replace_private
from p2pshare.storage.os_errors import plain_reason
from p2pshare.storage.shares.arguments import SHARES_MAX, SharedPath, share_name_fault
from p2pshare.storage.shares.rules import PATTERN_MAX, PATTERNS_MAX, Rules
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.strict_json import INTEGER_MAX, boolean, integer, parse_object, text, texts

FILE_NAME = "shares.json"
VERSION = 1
BYTES_MAX = 8 * 1024 * 1024  # of the file
COUNT_MAX = 10_000  # downloads after which a share can end
EXPIRY_MAX = 366 * 86400  # seconds after which a share can end
PATH_TEXT_MAX = 4096  # characters of a path
ALLOWED_MAX = 1000  # names that may see a share
NAME_TEXT_MAX = 64  # characters of a name, as a user types it
DAMAGED = "it is damaged. Restore it, or delete it and add the shares again"


@dataclass(frozen=True, slots=True)
class KeptShare:
    """A share, and when it ends."""

    shared: SharedPath
    expires: int | None = None
    """Unix time at which it ends; None for never."""
    count: int | None = None
    """Downloads after which it ends; None for any number."""
    downloads: int = 0
    """Downloads that have begun."""
    downloading: tuple[PublicKey, ...] = ()
    """The keys whose downloads are not over."""


class KeptShares:
    """The file. Calls block."""

    def __init__(self, folder: Path) -> None:
        """Use the file in a data folder."""
        self.path = folder / FILE_NAME

    def read(self) -> tuple[KeptShare, ...]:
        """Return the shares, none if there is no file.

        Raises:
            SharesUnusable: the file cannot be read, or is damaged.
        """
        try:
            content = read_private(self.path, BYTES_MAX + 1)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise SharesUnusable(path=self.path, reason=plain_reason(error)) from error
        try:
            fields = parse_object(content)
            rows = fields.get("shares")
            if fields.get("v") != VERSION or not isinstance(rows, list) or len(rows) > SHARES_MAX:
                raise ValueError
            shares = tuple(map(_share_of, rows))
            if len({each.shared.name for each in shares}) < len(shares):
                raise ValueError
        except (ValueError, RemoteProtocolError, IllegalName, WrongUsage):
            raise SharesUnusable(path=self.path, reason=DAMAGED) from None
        return shares

    def write(self, shares: Iterable[KeptShare]) -> None:
        """Replace the shares.

        Raises:
            SharesUnusable: they cannot be written; the old ones are still there.
        """
        told = json.dumps({"v": VERSION, "shares": list(map(row_of, shares))}, indent=1)
        try:
            replace_private(self.path, f"{told}\n".encode())
        except OSError as error:
            raise SharesUnusable(path=self.path, reason=plain_reason(error)) from error


def row_of(kept: KeptShare) -> dict[str, Any]:
    """Return a share as an object of JSON."""
    shared = kept.shared
    return {
        "name": shared.name,
        "path": str(shared.path),
        "allow": None if shared.allow is None else sorted(shared.allow),
        "exclude": list(shared.rules.exclude),
        "hidden": shared.rules.hidden,
        "expires": kept.expires,
        "count": kept.count,
        "downloads": kept.downloads,
        "downloading": [str(key) for key in kept.downloading],
    }


def _share_of(row: object) -> KeptShare:
    """Read what `row_of` wrote.

    Raises:
        ValueError, RemoteProtocolError, IllegalName, WrongUsage: it did not write this.
    """
    if not isinstance(row, dict):
        raise ValueError(row)
    name, path = text(row, "name", PATH_TEXT_MAX), Path(text(row, "path", PATH_TEXT_MAX))
    if share_name_fault(name) is not None or not path.is_absolute():
        raise ValueError(name)
    allow = None
    if row.get("allow") is not None:
        allow = frozenset(map(read_viewer, texts(row, "allow", ALLOWED_MAX, NAME_TEXT_MAX)))
    exclude = texts(row, "exclude", PATTERNS_MAX, PATTERN_MAX)
    rules = Rules.of(exclude, hidden=boolean(row, "hidden"))
    return KeptShare(
        SharedPath(name, path, allow, rules=rules),
        _optional(row, "expires", INTEGER_MAX),
        _optional(row, "count", COUNT_MAX),
        integer(row, "downloads"),
        tuple(map(PublicKey.parse, texts(row, "downloading", COUNT_MAX, NAME_TEXT_MAX))),
    )


def _optional(row: dict[str, Any], key: str, high: int) -> int | None:
    return None if row.get(key) is None else integer(row, key, 1, high)
