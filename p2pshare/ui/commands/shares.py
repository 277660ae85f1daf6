"""The commands for shares that change while the peer runs: `share` and those below it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from p2pshare.ui.commands.command import PRIVATE, Command, Work, flag, positional, read_time

if TYPE_CHECKING:
    from argparse import Namespace

    from p2pshare.ui.invocation import Invocation

COUNT_MAX = 10_000  # as in `storage.shares.kept`, which takes its time to import
SHARE = positional("share_name", "SHARE", "its name, as `p2pshare share list` shows it")


def _count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= COUNT_MAX:
        raise ValueError(f"{text!r} is not a number from 1 to {COUNT_MAX}")
    return int(text)


def _add(arguments: Namespace, invocation: Invocation) -> Work:
    from p2pshare.ui.verbs.offers import share

    options = share.ShareOptions(
        arguments.as_name,
        arguments.allowed or (),
        arguments.excluded or (),
        arguments.with_hidden,
        arguments.expires_s,
        arguments.downloads,
    )
    return share.add(invocation, arguments.path, options)


SHARE_COMMANDS = (
    Command(
        "share",
        "list what you share, and change it while your peer runs",
        "verbs.offers.share.shares",
        (PRIVATE,),
        (
            ("p2pshare share list", "what you share, and with whom"),
            ("p2pshare share add ~/photos", "share a folder"),
            ("p2pshare share allow photos bob,carol", "with these two only"),
            ("p2pshare share remove photos", "share it no longer"),
        ),
        "Your peer keeps these shares when it restarts. Those of --share are in its command line or settings.",
        "[options] [list | add PATH | allow SHARE NAMES | remove SHARE]",
    ),
    Command("share list", "list what you share", "verbs.offers.share.shares", (PRIVATE,)),
    Command(
        "share add",
        "share a file or a folder",
        _add,
        (
            positional("path", "PATH", "the file or folder"),
            flag(
                "--as", "SHARENAME", "its name for others (default: that of PATH)", dest="as_name"
            ),
            flag(
                "--allow",
                "NAMES",
                "who may see it: bob,carol; repeatable (default: everyone)",
                repeated=True,
                dest="allowed",
            ),
            flag(
                "--exclude",
                "GLOB",
                "leave out what matches, as in .gitignore; repeatable",
                repeated=True,
                dest="excluded",
            ),
            flag("--hidden", None, "include names that begin with a dot", dest="with_hidden"),
            flag(
                "--expires",
                "TIME",
                "end after 12h, 30d and so on",
                parse=read_time,
                dest="expires_s",
            ),
            flag("--count", "N", "end after N downloads", parse=_count, dest="downloads"),
            PRIVATE,
        ),
        (
            ("p2pshare share add ~/photos", "with everyone"),
            ("p2pshare share add ~/photos --as pictures --allow bob", "with bob"),
            ("p2pshare share add project --exclude '*.tmp' --exclude /build/", ""),
            ("p2pshare share add report.pdf --expires 7d --count 1", "once, within a week"),
        ),
        "It takes effect at once if your peer runs, and otherwise when it starts. Others see it without reconnecting.",
    ),
    Command(
        "share remove",
        "share something no longer",
        "verbs.offers.share.remove",
        (SHARE, PRIVATE),
        notes="Running transfers of it are stopped.",
    ),
    Command(
        "share allow",
        "change who may see a share",
        "verbs.offers.share.allow",
        (
            SHARE,
            positional("names", "NAMES", "bob,carol, or everyone", repeated=True),
            PRIVATE,
        ),
        (
            ("p2pshare share allow photos bob,carol", ""),
            ("p2pshare share allow photos everyone", ""),
        ),
        "Running transfers of people who may not see it any more are stopped.",
    ),
)
"""They stand behind those for offers in the table."""
