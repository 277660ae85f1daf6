"""Hypothesis strategies for the messages and frames of a session."""

from __future__ import annotations

from hypothesis import strategies as st

from p2pshare.wire.blocks import BLOCK_SIZE, FILE_SIZE_MAX, block_count
from p2pshare.wire.frames import PIECE_MAX, TRANSFER_MAX
from p2pshare.wire.offers.messages import (
    EXPIRY_MAX,
    SNIPPET_MAX,
    InboxState,
    Offer,
    OfferFault,
    OfferItem,
    OfferNoted,
    OfferState,
    Withdraw,
    Withdrawal,
)
from p2pshare.wire.session_messages import (
    Bye,
    Credit,
    Hello,
    Message,
    Ping,
    Pong,
    Purpose,
    Refusal,
    Refused,
    Welcome,
)
from p2pshare.wire.strict_json import INTEGER_MAX
from p2pshare.wire.transfer_messages import (
    NANOSECONDS,
    TIME_MAX,
    VERSION_MAX,
    Cancel,
    Cancelled,
    Digests,
    Done,
    End,
    Entry,
    EntryKind,
    Failed,
    Fault,
    FileHeader,
    Get,
    Job,
    List,
    Listing,
    Omission,
    Omitted,
    Stopped,
)
from tests.wire.statements import NAMES
from tests.wire.test_paths import COMPONENTS

IDS = st.integers(0, TRANSFER_MAX)
SIZES = st.integers(0, FILE_SIZE_MAX)
TIMES = st.integers(-TIME_MAX * NANOSECONDS, TIME_MAX * NANOSECONDS)
VERSIONS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=VERSION_MAX)
AMOUNTS = st.integers(0, INTEGER_MAX)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=64)
DIGESTS = st.binary(min_size=32, max_size=32)
PATHS = st.lists(COMPONENTS, max_size=4).map(tuple)
ENTRIES = st.builds(
    Entry, PATHS.filter(bool), st.just(EntryKind.FILE), SIZES, TIMES, VERSIONS
) | st.builds(Entry, PATHS.filter(bool), st.just(EntryKind.FOLDER), st.just(0), TIMES)
RUNS = st.lists(st.integers(0, 2**40), unique=True, max_size=8).map(
    lambda ends: tuple(
        (first, end) for first, end in zip(sorted(ends)[::2], sorted(ends)[1::2], strict=False)
    )
)

OFFER_IDS = st.text("abcdefghijklmnopqrstuvwxyz234567", min_size=16, max_size=16)
ITEM_NAMES = COMPONENTS | COMPONENTS.map(lambda name: f".{name[:60]}")
ITEMS = st.builds(
    OfferItem, ITEM_NAMES, st.just(EntryKind.FILE), st.integers(0, 2**40), st.just(1)
) | st.builds(
    OfferItem,
    ITEM_NAMES,
    st.just(EntryKind.FOLDER),
    st.integers(0, 2**40),
    st.integers(0, 2**20),
)


@st.composite
def offers(draw: st.DrawFn) -> Offer:
    """An offer whose numbers fit together."""
    items = tuple(draw(st.lists(ITEMS, min_size=1, max_size=4, unique_by=lambda item: item.name)))
    more = draw(st.integers(0, 3))
    size = sum(each.size for each in items) + more
    files = sum(each.files for each in items) + more
    folders = sum(each.kind is EntryKind.FOLDER for each in items) + more
    is_text = size <= SNIPPET_MAX and not more and folders == 0 and len(items) == 1
    return Offer(
        draw(OFFER_IDS),
        files,
        folders,
        size,
        items,
        more,
        draw(TEXTS),
        draw(st.integers(1, EXPIRY_MAX)),
        is_text and draw(st.booleans()),
    )


MESSAGES: dict[type[Message], st.SearchStrategy[Message]] = {
    Hello: st.builds(
        Hello,
        st.integers(1, 99),
        TEXTS,
        AMOUNTS,
        st.just("") | NAMES,
        st.none() | st.sampled_from(Purpose),
    ),
    Welcome: st.builds(Welcome, st.just(1), TEXTS, NAMES, AMOUNTS),
    Refused: st.builds(Refused, st.sampled_from(Refusal), st.integers(0, 86400)),
    Credit: st.builds(Credit, AMOUNTS),
    Ping: st.just(Ping()),
    Pong: st.just(Pong()),
    Bye: st.just(Bye()),
    List: st.builds(List, IDS, PATHS, PATHS, st.integers(1, 1000), st.booleans()),
    Listing: st.builds(
        Listing,
        IDS,
        st.lists(ENTRIES, max_size=4).map(tuple),
        st.booleans(),
        st.lists(st.builds(Omission, PATHS, st.sampled_from(Omitted)), max_size=4).map(tuple),
        AMOUNTS,
    ),
    Get: st.builds(
        Get, IDS, PATHS, TEXTS, st.none() | RUNS, RUNS, st.integers(0, 65535), st.booleans()
    ),
    FileHeader: st.builds(FileHeader, IDS, SIZES, TIMES, st.booleans(), TEXTS.filter(bool)),
    Digests: st.builds(
        Digests,
        IDS,
        st.integers(0, block_count(FILE_SIZE_MAX) - 1),
        st.lists(DIGESTS, min_size=1, max_size=4).map(tuple),
    ),
    End: st.builds(End, IDS, st.just(b"") | DIGESTS, AMOUNTS),
    Failed: st.builds(Failed, IDS, st.sampled_from(Fault), AMOUNTS),
    Stopped: st.builds(Stopped, IDS, AMOUNTS),
    Done: st.builds(Done, st.lists(IDS, min_size=1, max_size=8).map(tuple)),
    Cancel: st.builds(Cancel, IDS, st.sampled_from(Cancelled)),
    Job: st.builds(Job, TEXTS, AMOUNTS, AMOUNTS),
    Offer: offers(),
    OfferState: st.builds(
        OfferState,
        OFFER_IDS,
        st.sampled_from(InboxState),
        st.none() | st.sampled_from(OfferFault),
        TEXTS,
    ),
    OfferNoted: st.builds(OfferNoted, OFFER_IDS, st.sampled_from(InboxState)),
    Withdraw: st.builds(Withdraw, OFFER_IDS, st.sampled_from(Withdrawal)),
}
"""Messages of each kind."""


@st.composite
def pieces(draw: st.DrawFn) -> tuple[int, int, bytes]:
    """Transfer, offset and bytes of a piece of a file, short or whole."""
    length = draw(st.integers(1, 40) | st.just(PIECE_MAX))
    block = draw(st.integers(0, block_count(FILE_SIZE_MAX) - 1))
    start = draw(st.integers(0, BLOCK_SIZE - length))
    return draw(IDS), block * BLOCK_SIZE + start, draw(st.binary(min_size=1, max_size=1)) * length
