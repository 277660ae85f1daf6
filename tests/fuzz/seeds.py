"""Inputs to begin with: the vectors of the documents, and changed copies of them."""

from __future__ import annotations

import random
import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
CHANGES_MAX = 4  # in one input
BYTES_MAX = 40  # that are inserted at once

_HEX = re.compile(r"`((?:[0-9a-f]{2})+)`")
_VECTORS = re.compile(
    r"^(?:request|answer|sealed): +([0-9a-f]+)$|^(?:payload|preamble|link|json): +(\S.*)$", re.M
)


def seeds() -> list[bytes]:
    """Return the packets, frames and other vectors of the documents, without those of statements' signatures."""
    vectors = (DOCS / "protocol-datagrams.md").read_text().partition("\n## Vectors\n")[2]
    found = {bytes.fromhex(each) for each in _HEX.findall(vectors)}
    for page in ("protocol-reach.md", "join-links.md", "protocol-offers.md"):
        for digits, text in _VECTORS.findall((DOCS / page).read_text()):
            found.add(bytes.fromhex(digits) if digits else text.encode())
    return sorted(found)


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
