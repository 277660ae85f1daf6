"""The speed of sealing and opening trains of datagrams in one process, without sockets.

The ratio compares with the cipher alone: the same calls for the same segments in the same run, without headers, nonces,
copies and replay checks. Every train is opened and compared with what was sealed.

Run it as `python benchmarks/bench_sealing.py`; it takes a few seconds.
"""

from __future__ import annotations

import os
import time
from collections import deque

from benchmarks.reporting import print_table
from p2pshare.core.datagram.protection.keys import (
    AES_128_GCM,
    CHACHA20_POLY1305,
    SECRET_SIZE,
    Aead,
    KeyPair,
)
from p2pshare.core.datagram.protection.matrices import TrainMatrices
from p2pshare.core.datagram.protection.opening import DataRun, Opening, TrainOpener
from p2pshare.core.datagram.protection.phases import KeyPhases
from p2pshare.core.datagram.protection.sealing import TrainSealer

ROUNDS = 400  # of which the median counts
SEGMENTS = 1200, 1452, 8952  # bytes: the first size of a path, Ethernet, and jumbo frames over IPv6
CID = b"receive"


def measure(aead: Aead, segment: int) -> list[str]:
    """Return a row of the table."""
    opener, acceptor = (
        KeyPhases(KeyPair.for_session(bytes(SECRET_SIZE), aead, is_opener=each))
        for each in (True, False)
    )
    matrices, sealer, train_opener = TrainMatrices(segment), TrainSealer(), TrainOpener()
    cipher, count = aead.cipher(bytes(aead.key_size)), matrices.rows
    opening = Opening(acceptor, CID, lambda _first, _end: True, 0.0, 1.0)
    data = os.urandom(count * matrices.width)
    times: list[list[float]] = [[], [], []]
    for number in range(0, ROUNDS * count, count):
        start = time.perf_counter()
        deque(
            map(
                cipher.encrypt_into,
                matrices.nonces_of_rows,
                matrices.payloads_of_rows,
                matrices.headers_of_rows,
                matrices.sealed_of_rows,
            ),
            maxlen=0,
        )
        alone = time.perf_counter()
        train = sealer.seal(opener, CID, number, 1, [(0, data)], segment)
        sealed = time.perf_counter()
        opened = train_opener.open(memoryview(train), segment, opening)
        end = time.perf_counter()
        assert opened.contents == [DataRun(1, 0, memoryview(data))]
        for each, duration in zip(
            times, (alone - start, sealed - alone, end - sealed), strict=True
        ):
            each.append(duration)
    rates = [len(data) / sorted(each)[ROUNDS // 2] for each in times]
    return [
        aead.cipher.__name__,
        str(segment),
        *(f"{rate / 1e6:.0f} MB/s" for rate in rates),
        *(f"{rate / rates[0]:.2f}" for rate in rates[1:]),
    ]


def main() -> None:
    """Print the table."""
    print_table(
        "Sealing and opening of trains",
        ("cipher", "segment", "cipher alone", "sealing", "opening", "ratio", "ratio"),
        [measure(aead, size) for aead in (AES_128_GCM, CHACHA20_POLY1305) for size in SEGMENTS],
    )


if __name__ == "__main__":
    main()
