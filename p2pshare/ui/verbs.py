"""The verb `get`."""

from __future__ import annotations

from collections.abc import Sequence

from p2pshare.errors import P2pshareError, RegistryUnreachable
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.meeting import Meetings
from p2pshare.ui.wanted import parse_wanted


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
        meetings = Meetings(invocation, registry, invocation.settings.name)
        for each in wanted:
            try:
                met = await meetings.meet(each.peer)
                await met.fetch(each, overwrite=overwrite)
            except RegistryUnreachable:
                raise
            except P2pshareError as error:
                invocation.output.error(error)
                exit_code = exit_code or error.exit_code
    return exit_code
