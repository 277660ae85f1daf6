"""A relay that loses datagrams, between a requester and a sharer on this machine.

    python -m benchmarks.relay PORT LOSS SEED

The relay prints its port, and forwards datagrams from there to the sharer's welcome port PORT, through one socket per
requester. Replies reach the requester through one socket per address of the sharer, so that the requester sees as many
addresses as the sharer has. In both directions a datagram is lost with the probability LOSS.
"""

from __future__ import annotations

import random
import selectors
import socket
import sys
from collections.abc import Callable

Address = tuple[str, int]

HOST = "127.0.0.1"
DATAGRAM_MAX = 65_536  # bytes
BUFFER = 4 * 1024 * 1024  # bytes: what gets lost is to be lost by chance, not for want of room


class Relay:
    """The sockets towards requesters and sharers, and the datagrams between them."""

    def __init__(self, welcome_port: int, loss: float, rng: random.Random) -> None:
        self._welcome = (HOST, welcome_port)
        self._loss = loss
        self._rng = rng
        self._selector = selectors.DefaultSelector()
        self._upstream: dict[Address, socket.socket] = {}
        self._downstream: dict[tuple[Address, Address], socket.socket] = {}
        front = self._socket(lambda data, source: self._to_sharer(data, source, self._welcome))
        self._front = front
        self.port = int(front.getsockname()[1])

    def run(self) -> None:
        """Relay for ever."""
        while True:
            for key, _ in self._selector.select():
                data, source = key.fileobj.recvfrom(DATAGRAM_MAX)  # type: ignore[union-attr]
                if self._rng.random() >= self._loss:
                    key.data(data, source)

    def _socket(self, arrived: Callable[[bytes, Address], None]) -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind((HOST, 0))
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        self._selector.register(made, selectors.EVENT_READ, arrived)
        return made

    def _to_sharer(self, data: bytes, requester: Address, sharer: Address) -> None:
        if requester not in self._upstream:
            self._upstream[requester] = self._socket(
                lambda answer, source: self._to_requester(answer, source, requester)
            )
        self._upstream[requester].sendto(data, sharer)

    def _to_requester(self, data: bytes, sharer: Address, requester: Address) -> None:
        key = sharer, requester
        if sharer == self._welcome:
            self._downstream[key] = self._front
        elif key not in self._downstream:
            self._downstream[key] = self._socket(
                lambda answer, source: self._to_sharer(answer, source, sharer)
            )
        self._downstream[key].sendto(data, requester)


def main(port: str, loss: str, seed: str) -> None:
    """Run the command line."""
    relay = Relay(int(port), float(loss), random.Random(int(seed)))
    print(relay.port, flush=True)
    relay.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
