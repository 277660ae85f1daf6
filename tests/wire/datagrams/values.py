"""Hypothesis strategies for the packets and frames of the datagram transport."""

from __future__ import annotations

from hypothesis import strategies as st

from p2pshare.wire.blocks import BLOCK_SIZE, FILE_SIZE_MAX
from p2pshare.wire.datagrams.acks import Run
from p2pshare.wire.datagrams.fields import U32_MAX
from p2pshare.wire.datagrams.frames import (
    CHALLENGE_SIZE,
    CONTROL_STREAM_MAX,
    CRYPTO_STREAM_MAX,
    MISSING_RANGES_MAX,
    REASON_MAX,
    Ack,
    AckSize,
    Challenge,
    Close,
    Complete,
    Control,
    Credit,
    Crypto,
    Data,
    Fin,
    Frame,
    Missing,
    Ping,
    Response,
    Size,
)
from p2pshare.wire.datagrams.packets import (
    CID_SIZE,
    COOKIE_MAX,
    PACKET_NUMBER_MAX,
    RANDOM_SIZE,
    UNKNOWN_CID,
    Cookie,
    HandshakeHeader,
    Open,
    Packet,
    ProtectedHeader,
)

CIDS = st.binary(min_size=CID_SIZE, max_size=CID_SIZE).filter(any)
RANDOMS = st.binary(min_size=RANDOM_SIZE, max_size=RANDOM_SIZE)
PACKET_NUMBERS = st.integers(0, PACKET_NUMBER_MAX)
VERSIONS = st.integers(0, 255)
COOKIES = st.binary(min_size=1, max_size=COOKIE_MAX)
TOKENS = st.builds(lambda cookie, random: cookie + random, COOKIES, RANDOMS)

PACKETS: dict[type[Packet], st.SearchStrategy[Packet]] = {
    Open: st.builds(Open, CIDS, RANDOMS, VERSIONS),
    Cookie: st.builds(Cookie, CIDS, RANDOMS, COOKIES | st.just(b""), VERSIONS),
    HandshakeHeader: st.one_of(
        st.builds(
            HandshakeHeader, st.just(True), CIDS, st.just(UNKNOWN_CID), PACKET_NUMBERS, TOKENS
        ),
        st.builds(HandshakeHeader, st.booleans(), CIDS, CIDS, PACKET_NUMBERS),
    ),
    ProtectedHeader: st.builds(ProtectedHeader, CIDS, PACKET_NUMBERS, st.integers(0, 1)),
}
"""Packets of each type, without their sealed frames."""

TRANSFERS = st.integers(0, U32_MAX)
SIZES = st.integers(0, FILE_SIZE_MAX)
NONCES = st.binary(min_size=CHALLENGE_SIZE, max_size=CHALLENGE_SIZE)


@st.composite
def runs(
    draw: st.DrawFn, *, count_max: int, step_max: int = 40, adjoining: bool = False
) -> tuple[Run, ...]:
    """Ascending runs of at most `step_max`, with gaps between them unless they may adjoin."""
    steps = st.integers(1, step_max)
    gaps = st.integers(0 if adjoining else 1, step_max)
    end = draw(st.integers(0, 2**40))
    found = list[Run]()
    for gap, length in draw(st.lists(st.tuples(gaps, steps), min_size=1, max_size=count_max)):
        found.append((end + gap, end + gap + length))
        end += gap + length
    return tuple(found)


@st.composite
def acks(draw: st.DrawFn, *, count_max: int = 30) -> Ack:
    """ACK frames with few runs: dense ones, for which a bitmap is shorter, and others."""
    ranges = draw(runs(count_max=count_max, step_max=draw(st.sampled_from([3, 40, 2**20]))))
    counter = st.integers(0, U32_MAX)
    return Ack(ranges[-1][1] - 1, draw(counter), draw(counter), ranges)


@st.composite
def pieces(draw: st.DrawFn) -> Data:
    """DATA frames within a block."""
    data = draw(st.binary(min_size=1, max_size=64))
    block = draw(st.integers(0, FILE_SIZE_MAX // BLOCK_SIZE - 1))
    start = draw(st.integers(0, BLOCK_SIZE - len(data)))
    return Data(draw(TRANSFERS), block * BLOCK_SIZE + start, data)


def _parts(most: int) -> st.SearchStrategy[tuple[int, bytes]]:
    """Parts of a stream of at most `most` bytes: offset and bytes."""
    return st.binary(min_size=1, max_size=64).flatmap(
        lambda data: st.tuples(st.integers(0, most - len(data)), st.just(data))
    )


FRAMES: dict[type[Frame], st.SearchStrategy[Frame]] = {
    Ping: st.just(Ping()),
    Ack: acks(),
    Size: st.builds(Size, TRANSFERS, SIZES),
    AckSize: st.builds(AckSize, TRANSFERS),
    Missing: st.builds(Missing, TRANSFERS, runs(count_max=MISSING_RANGES_MAX, adjoining=True)),
    Fin: st.builds(Fin, TRANSFERS, SIZES),
    Complete: st.builds(Complete, TRANSFERS),
    Credit: st.builds(Credit, st.integers(0, CONTROL_STREAM_MAX)),
    Challenge: st.builds(Challenge, NONCES),
    Response: st.builds(Response, NONCES),
    Close: st.builds(
        Close,
        st.integers(0, 2**16 - 1),
        st.text(max_size=REASON_MAX // 4).filter(lambda text: text.isprintable()),
    ),
    Control: st.builds(lambda part: Control(*part), _parts(CONTROL_STREAM_MAX)),
    Crypto: st.builds(lambda part: Crypto(*part), _parts(CRYPTO_STREAM_MAX)),
    Data: pieces(),
}
"""Frames of each type."""

IN_HANDSHAKE = (Ping, Ack, Close, Crypto)
"""The frames that HANDSHAKE packets hold."""
