"""Standard input as the content of an offer: it is read to its end into the spool of the data folder."""

from __future__ import annotations

import os
import sys

from p2pshare.errors import CannotRead, WrongUsage
from p2pshare.net.threads import run_in_thread
from p2pshare.storage.identity.data_folder import peer_folder
from p2pshare.storage.offers.spool import SpoolFile
from p2pshare.storage.os_errors import plain_reason
from p2pshare.ui.invocation import Invocation
from p2pshare.wire.quantities import size_text

PIECE = 256 * 1024  # bytes that are read at once
TELL_EVERY = 5.0  # seconds between two remarks on how much has come


async def spool_stdin(invocation: Invocation, own_name: str, name: str) -> SpoolFile:
    """Read standard input to its end; return the spooled file, which the caller discards if it is not offered.

    Raises:
        WrongUsage: standard input is closed, or nothing can be sent under the name.
        CannotRead: it cannot be read.
        CannotSave: it cannot be kept, as on a full disk.
    """
    if sys.stdin is None or sys.stdin.closed:
        raise WrongUsage(reason="Standard input is closed, so there is nothing to send.")
    if sys.stdin.isatty():
        invocation.output.remark("Type what to send. Ctrl+D at the start of a line ends it.")
    source, size, told = sys.stdin.fileno(), 0, invocation.reactor.seconds()
    file = SpoolFile.create(peer_folder(invocation.settings, own_name), name)

    def copy_piece() -> int:
        try:
            piece = os.read(source, PIECE)
        except OSError as error:
            raise CannotRead(path="Standard input", reason=plain_reason(error)) from error
        if piece:
            file.write(piece)
        else:
            file.finish()
        return len(piece)

    try:
        while more := await run_in_thread(invocation.reactor, copy_piece):
            size += more
            if invocation.reactor.seconds() - told >= TELL_EVERY:
                told = invocation.reactor.seconds()
                invocation.output.remark(f"{size_text(size)} read so far.")
    except BaseException:
        file.discard()
        raise
    return file
