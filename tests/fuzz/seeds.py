"""Inputs to begin with: the vectors of docs/protocol-datagrams.md, and changed copies of them."""

from __future__ import annotations

import random
import re
from pathlib import Path

DOCUMENT = Path(__file__).parents[2] / "docs" / "protocol-datagrams.md"
CHANGES_MAX = 4  # in one input
BYTES_MAX = 40  # that are inserted at once

_HEX = re.compile(r"`((?:[0-9a-f]{2})+)`")


def seeds() -> list[bytes]:
    """Return the packets and frames of the document."""
    vectors = DOCUMENT.read_text().partition("\n## Vectors\n")[2]
    return sorted({bytes.fromhex(each) for each in _HEX.findall(vectors)})


def changed(seed: bytes, rng: random.Random) -> bytes:
    """Return a copy with bytes replaced, inserted, removed or appended."""
    data = bytearray(seed)
    for _ in range(rng.randint(1, CHANGES_MAX)):
        place = rng.randint(0, len(data))
        match rng.randrange(4):
            case 0:
                data[place : place + 1] = rng.randbytes(1)
            case 1:
                data[place:place] = rng.randbytes(rng.randint(1, BYTES_MAX))
            case 2:
                del data[place : place + rng.randint(1, BYTES_MAX)]
            case _:
                data += rng.choice([seed, bytes(len(seed))])
    return bytes(data)
