"""The verb `invite`, for the operator of a registry, on its machine."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import platformdirs

from p2pshare.errors import NotFound
from p2pshare.registry.api.authority import Authority
from p2pshare.storage.identity import key_file
from p2pshare.ui.output import Output

KEY_NAME = "registry.key"


def invite(
    output: Output, data: str | None, life: int, count: int, wall: Callable[[], float]
) -> int:
    """Print invitations, one per line; return the exit code.

    Args:
        output: where to print them.
        data: the registry's data folder; None for the default folder.
        life: seconds for which an invitation is valid.
        count: the number of invitations.
        wall: returns the Unix time in s.

    Raises:
        NotFound: no registry has its key in the folder.
        KeyUnusable: the key cannot be read.
    """
    default = platformdirs.user_data_path("p2pshare") / "registry"
    folder = Path(data).expanduser().absolute() if data else default
    key = key_file.load(folder / KEY_NAME)
    if key is None:
        raise NotFound(
            reason=f"No registry has its key in {folder}. Run this on the machine of a registry that was started, as"
            " its user, and name its data folder with --data."
        )
    authority = Authority(key, wall, os.urandom)
    expires = int(wall()) + life
    for _ in range(count):
        invitation = authority.invite(life)
        output.event("invitation", invitation=invitation, expires=expires)
        output.result(invitation)
    until = f"{datetime.fromtimestamp(expires).astimezone():%Y-%m-%d %H:%M %Z}"
    output.remark(
        f"Each invitation is for one new name, until {until}. To use it, save it to a file and run"
        " `p2pshare --name NAME --invitation FILE`."
    )
    return 0
