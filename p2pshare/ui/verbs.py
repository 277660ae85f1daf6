"""The verbs `users` and `get`."""

from __future__ import annotations

from collections.abc import Sequence

from p2pshare.errors import P2pshareError, RegistryUnreachable
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.wanted import parse_wanted
from p2pshare.ui.watching import fetch_watched

NOBODY = "Nobody is registered yet: `p2pshare --name NAME` makes you the first."


async def users(invocation: Invocation) -> int:
    """List who is registered; returns the exit code."""
    async with invocation.registry() as registry:
        names = sorted(await registry.list_names())
    output, own_name = invocation.output, invocation.settings.name
    for name in names:
        output.event("user", name=name)
    if names:
        output.table(["registered users"], [[name] for name in names], own=own_name)
    else:
        output.remark(NOBODY)
    return 0


async def get(invocation: Invocation, words: Sequence[str], *, overwrite: bool) -> int:
    """Get every file that `words` name; returns the exit code.

    One that fails does not keep the others from being fetched: the code is that of the first failure.

    Raises:
        WrongUsage: the words cannot be understood; nobody was asked for anything.
        RegistryUnreachable: there is no use in going on.
    """
    wanted = parse_wanted(words, invocation.settings.name, invocation.cwd)
    exit_code = 0
    async with invocation.registry() as registry:
        for each in wanted:
            try:
                address = await registry.look_up(each.peer)
                await fetch_watched(invocation, each.order(address, overwrite=overwrite))
            except RegistryUnreachable:
                raise
            except P2pshareError as error:
                invocation.output.error(error)
                exit_code = exit_code or error.exit_code
    return exit_code
