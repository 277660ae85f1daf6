"""The first file of a job, requested before anybody knows whether it is one.

A job begins with a question: is the item a file or a folder, and how large is it? To ask that first costs a round trip
before the first byte. So the file is requested at once, in the first flight of the session. A sharer answers the
request for a folder by `is_folder`, and then the folder is listed.

The answer arrives while the job still looks at the disk. A `FirstFile` keeps what has arrived until a fetch takes it
over; credit bounds that. Only a file of which nothing is here is requested this way: for any other one, the listing
tells whether it has changed, and the sharer need not send what is here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.internet.defer import Deferred

from p2pshare.core.incoming_transfer import ArrivedBlock, Receiver
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.paths import RemotePath
from p2pshare.wire.transfer_messages import Fault, FileHeader


class FirstFile:
    """A request and what has come of it; a `Receiver`."""

    def __init__(self, path: RemotePath, is_wanted: Callable[[PublicKey], Awaitable[bool]]) -> None:
        """Args:
        path: of the item.
        is_wanted: returns whether to request it of the peer with this key.
        """
        self.path = path
        self.is_wanted = is_wanted
        self.number: int | None = None
        """The number of the transfer, until it is taken over or over."""
        self.answer: Deferred[FileHeader | Fault | None] = Deferred()
        """The first answer; None if the file was not requested, or the session was lost."""
        self.is_dropped = False
        """Whether nobody wants it any more."""
        self._receiver: Receiver | None = None
        self._kept: list[Callable[[Receiver], None]] = []
        self._blocks: list[ArrivedBlock] = []

    def take_over(self, receiver: Receiver) -> None:
        """Pass to `receiver` all that has come and that will come; it uses `number` from now on."""
        self._receiver, self.number = receiver, None
        kept, self._kept = self._kept, []
        self._blocks.clear()
        for event in kept:
            event(receiver)

    def drop(self) -> int | None:
        """Forget what has come; return the number of the transfer if it has to be cancelled."""
        self.is_dropped = True
        number, self.number = self.number, None
        self._answer(None)
        self._kept.clear()
        while self._blocks:
            self._blocks.pop().release()
        return number

    def not_requested(self) -> None:
        """Let the item be looked up in a listing."""
        self._answer(None)

    def announced(self, header: FileHeader) -> None:
        """See `Receiver`."""
        self._pass_on(lambda receiver: receiver.announced(header))
        self._answer(header)

    def outgrown(self, header: FileHeader) -> None:
        """Nothing: any size was asked for."""

    def block_arrived(self, block: ArrivedBlock) -> None:
        """See `Receiver`."""
        if self._receiver is None:
            self._blocks.append(block)
        self._pass_on(lambda receiver: receiver.block_arrived(block))

    def ended(self, root: bytes) -> None:
        """See `Receiver`."""
        self._pass_on(lambda receiver: receiver.ended(root))

    def failed(self, why: Fault) -> None:
        """See `Receiver`."""
        self._over(why, lambda receiver: receiver.failed(why))

    def interrupted(self) -> None:
        """See `Receiver`."""
        self._over(None, lambda receiver: receiver.interrupted())

    def _over(self, answer: Fault | None, event: Callable[[Receiver], None]) -> None:
        self.number = None
        self._pass_on(event)
        self._answer(answer)

    def _pass_on(self, event: Callable[[Receiver], None]) -> None:
        if self._receiver is None:
            self._kept.append(event)
        else:
            event(self._receiver)

    def _answer(self, answer: FileHeader | Fault | None) -> None:
        if not self.answer.called:
            self.answer.callback(answer)
