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
    """Make invitations, one a line; returns the exit code.

    Args:
        output: gets them.
        data: the registry's data folder; None for where it is by default.
        life: seconds for which they are good.
        count: how many.
        wall: the Unix time.

    Raises:
        NotFound: no registry has its key there.
        KeyUnusable: the key cannot be read, or is none.
    """
    default = platformdirs.user_data_path("p2pshare") / "registry"
    folder = Path(data).expanduser().absolute() if data else default
    key = key_file.load(folder / KEY_NAME)
    if key is None:
        raise NotFound(
            reason=f"No registry has its key in {folder}: say with --data which folder the registry runs on, "
            "on its machine and as its user, once it has been started."
        )
    authority = Authority(key, wall, os.urandom)
    expires = int(wall()) + life
    for _ in range(count):
        invitation = authority.invite(life)
        output.event("invitation", invitation=invitation, expires=expires)
        output.result(invitation)
    until = f"{datetime.fromtimestamp(expires).astimezone():%Y-%m-%d %H:%M %Z}"
    each = "It lets one new name" if count == 1 else "Each lets one new name"
    output.remark(
        f"{each} in, once, until {until}. Who gets it puts it into a file, and says"
        " `p2pshare --name NAME --invitation FILE`."
    )
    return 0
