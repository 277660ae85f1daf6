"""The commands for offers: `send`, `inbox` and `history`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from p2pshare.errors import WrongUsage
from p2pshare.ui.commands.command import PRIVATE, Command, Work, flag, positional, read_time

if TYPE_CHECKING:
    from argparse import Namespace

    from p2pshare.ui.invocation import Invocation

INVITATION = flag("--invitation", "FILE", "file with an invitation to the registry")
HISTORY_MAX = 100_000  # entries that are listed at once
ALL = flag("--all", None, "list those that are over, too", dest="with_past")


def _send(arguments: Namespace, invocation: Invocation) -> Work:
    from p2pshare.ui.verbs.offers import send

    words = arguments.words
    if arguments.clear:
        if arguments.list or arguments.cancel is not None:
            raise WrongUsage(reason="--clear takes no other flags, only the IDs of offers.")
        return send.clear(invocation, words)
    if arguments.list or arguments.cancel is not None:
        if words or (arguments.list and arguments.cancel is not None):
            raise WrongUsage(reason="--list and --cancel ID take no other words.")
        if arguments.list:
            return send.list_offers(invocation, with_past=arguments.with_past)
        return send.cancel(invocation, arguments.cancel)
    options = send.OfferOptions(
        arguments.note,
        arguments.expires_s or send.EXPIRES,
        tuple(arguments.exclude or ()),
        arguments.hidden,
    )
    return send.send(
        invocation,
        words,
        options,
        text=arguments.text,
        as_name=arguments.as_name,
        again=arguments.again,
        waits=not arguments.no_wait,
    )


def _entries(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", text) or not 1 <= int(text) <= HISTORY_MAX:
        raise ValueError(f"{text!r} is not a number from 1 to {HISTORY_MAX}")
    return int(text)


def _history(arguments: Namespace, invocation: Invocation) -> Work:
    from p2pshare.ui.verbs.offers import history

    words = arguments.words
    options = history.ContentOptions(tuple(arguments.exclude or ()), arguments.hidden)
    return history.history(invocation, words, arguments.entries or history.LIMIT, options)


OFFER_COMMANDS = (
    Command(
        "send",
        "offer files, a text or standard input to people",
        _send,
        (
            positional(
                "words",
                "PATH",
                "files and folders, or - for standard input; the last word is NAME, or"
                " NAME,NAME for several people",
                repeated=True,
            ),
            flag("--note", "TEXT", "a few words for them"),
            flag(
                "--expires",
                "TIME",
                "lifetime: 12h, 30d (default: 7d)",
                parse=read_time,
                dest="expires_s",
            ),
            flag("--text", "TEXT", "send this text in place of files"),
            flag("--as-name", "FILENAME", "the name under which it arrives"),
            flag("--again", "ID", "send what an earlier offer had"),
            flag("--exclude", "GLOB", "leave out such names; repeatable", repeated=True),
            flag("--hidden", None, "include names that begin with a dot"),
            flag("--no-wait", None, "do not wait for an answer"),
            flag("--list", None, "send nothing: list your offers"),
            ALL,
            flag("--cancel", "ID", "send nothing: withdraw an offer"),
            flag("--clear", None, "send nothing: remove finished offers from the list"),
            PRIVATE,
            INVITATION,
        ),
        (
            ("p2pshare send photos/cat.jpg bob", "offer a file to bob"),
            ("p2pshare send photos notes.txt bob,carol", "a folder and a file, to two"),
            ('p2pshare send --text "see you at 8" bob', "a text"),
            ("tar c . | p2pshare send - bob --as-name photos.tar", ""),
            ("p2pshare send --again k6xwn2 bob", "the same once more"),
            ("p2pshare send --list", "what you offer, and who has it"),
            ("p2pshare send --cancel k6xwn2", "withdraw an offer"),
            ("p2pshare send --clear", "remove what is over from the list"),
        ),
        "They see the offer in `p2pshare inbox`, and decide. Your peer keeps the offer until they have it, also while"
        " they are offline. If no peer of yours runs, the command itself delivers it as long as it runs. What is left"
        " out is said before anything goes out. Exit code 5: not delivered yet, but kept.",
        "[options] PATH ... NAME[,NAME ...]",
    ),
    Command(
        "inbox",
        "list what others offer you",
        "verbs.offers.inbox.inbox",
        (ALL, PRIVATE),
        (
            ("p2pshare inbox", "who offers what"),
            ("p2pshare inbox accept k6xwn2", "into the current folder"),
            ("p2pshare inbox accept k6xwn2 ~/Pictures", ""),
            ("p2pshare inbox decline k6xwn2", ""),
            ("p2pshare inbox pause k6xwn2", "and `resume`, while it arrives"),
            ("p2pshare inbox clear", "remove what is over from the list"),
        ),
        "Nothing is fetched before you accept it, and nothing that arrives is opened or shared.",
        "[options] [accept ID [DEST] | decline ID | pause ID | resume ID | clear [ID]]",
    ),
    Command(
        "inbox accept",
        "get what somebody offers you",
        "verbs.offers.inbox.accept",
        (
            positional("offer_id", "ID", "the offer, as `p2pshare inbox` shows it"),
            positional("folder", "DEST", "a folder (default: the current one)", optional=True),
            PRIVATE,
            INVITATION,
        ),
        (
            ("p2pshare inbox accept k6xwn2", "into the current folder"),
            ("p2pshare inbox accept k6xwn2 ~/Pictures", ""),
        ),
        "A transfer that was interrupted goes on by itself while your peer runs, or with the same command.",
    ),
    Command(
        "inbox decline",
        "decline what somebody offers you",
        "verbs.offers.inbox.decline",
        (positional("offer_id", "ID", "the offer, as `p2pshare inbox` shows it"), PRIVATE),
        notes="An offer that is being fetched is stopped. The sender is told.",
    ),
    Command(
        "inbox clear",
        "remove what is over from the list",
        "verbs.offers.inbox.clear",
        (
            positional("offer_id", "ID", "only this offer (default: all)", optional=True),
            PRIVATE,
        ),
        notes="Files and the history stay. Offers that wait or arrive stay in the list.",
    ),
    Command(
        "inbox pause",
        "pause an offer that is arriving",
        "verbs.offers.inbox.pause",
        (positional("offer_id", "ID", "the offer, as `p2pshare inbox` shows it"), PRIVATE),
        notes="What has arrived stays, also when your peer restarts. The sender is not told.",
    ),
    Command(
        "inbox resume",
        "go on with an offer that is paused",
        "verbs.offers.inbox.resume",
        (
            positional("offer_id", "ID", "the offer, as `p2pshare inbox` shows it"),
            PRIVATE,
            INVITATION,
        ),
        notes="It is saved into the same folder as before.",
    ),
    Command(
        "history",
        "list what you sent and received, and verify receipts",
        _history,
        (
            positional(
                "words",
                "NAME",
                "only what went to or came from NAME; or `verify` with the ID of an offer, and the"
                " files and folders to compare",
                repeated=True,
            ),
            flag("--limit", "N", "list the last N (default: 20)", parse=_entries, dest="entries"),
            flag("--exclude", "GLOB", "verify: as for `send`; repeatable", repeated=True),
            flag("--hidden", None, "verify: as for `send`"),
            PRIVATE,
        ),
        (
            ("p2pshare history", "the last 20"),
            ("p2pshare history bob --limit 5", "with bob"),
            ("p2pshare history verify k6xwn2", "what bob has signed"),
            ("p2pshare history verify k6xwn2 photos", "and whether it is this folder"),
        ),
        "The receiver of an offer signs a receipt when all files have arrived. It has the root of the files, so you"
        " can prove later what was received.",
        "[options] [NAME | verify ID [PATH ...]]",
    ),
)
"""They stand behind `get` in the table."""
