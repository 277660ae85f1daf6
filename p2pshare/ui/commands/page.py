"""The command for the page of a peer: `open`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from p2pshare.errors import WrongUsage
from p2pshare.ui.commands.command import Argument, Command, Work, flag, positional

if TYPE_CHECKING:
    from argparse import Namespace

    from p2pshare.ui.invocation import Invocation


def _open(arguments: Namespace, invocation: Invocation) -> Work:
    if arguments.register or arguments.unregister:
        from p2pshare.ui.verbs.page import link_handler

        if arguments.where is not None or (arguments.register and arguments.unregister):
            raise WrongUsage(reason="--register and --unregister stand alone.")
        if arguments.unregister:
            return link_handler.unregister(invocation.output, os.environ)
        named = {key: getattr(arguments, key) for key in ("registry", "name")}
        if arguments.data is not None:  # a desktop starts programs in any folder
            named["data"] = str(Path(arguments.data).expanduser().absolute())
        return link_handler.register(invocation.output, named, os.environ)
    from p2pshare.ui.verbs.page.open import open_page

    return open_page(
        invocation,
        arguments.where,
        no_browser=arguments.no_browser,
        desktop=arguments.desktop,
        registry=arguments.registry,
        data=arguments.data,
        environ=os.environ,
    )


def page_commands(flags_of_peer: tuple[Argument, ...]) -> tuple[Command, ...]:
    """Return the commands, with the flags of a peer that may be started."""
    return (
        Command(
            "open",
            "open your page in the browser, and run your peer if none runs",
            _open,
            (
                positional(
                    "where",
                    "PEER[:PATH]",
                    "a person, a folder such as alice:photos, or a p2pshare: link (default: all people)",
                    optional=True,
                ),
                flag("--no-browser", None, "print the address, and open no browser"),
                flag("--register", None, "let p2pshare:// links on this desktop open in p2pshare"),
                flag("--unregister", None, "do not let them open in p2pshare any more"),
                flag("--desktop", None, "for a desktop: follow a link, but start no peer"),
                *flags_of_peer,
            ),
            (
                ("p2pshare open", "people, files, transfers, inbox"),
                ("p2pshare open alice:photos", "a folder of alice"),
                ("p2pshare open p2pshare://aoqq.../alice", "a link of a registry's page"),
                ("p2pshare open --register", "open such links by a click"),
            ),
            "If no peer runs, yours runs in this command until Ctrl+C, with the shares of --share and those that"
            " it keeps. A peer that runs already ignores the flags of a peer, such as --share and --limit.",
            "[options] [PEER[:PATH] | LINK]",
        ),
    )
