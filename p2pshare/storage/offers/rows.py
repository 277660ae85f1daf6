"""Values in the rows of the ledger, as text."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from p2pshare.wire.keys import PublicKey
from p2pshare.wire.offers.messages import OfferFault, OfferItem
from p2pshare.wire.transfer_messages import EntryKind


def written(value: object) -> str:
    """Return JSON in ASCII, which also keeps file names that are no Unicode text."""
    return json.dumps(value, separators=(",", ":"))


def read(text: str) -> Any:
    """Return what `written` wrote; raise `ValueError` if it was not."""
    return json.loads(text)


def written_items(items: Iterable[OfferItem]) -> str:
    """Return the items of an offer as text."""
    return written([(each.name, each.kind.value, each.size, each.files) for each in items])


def read_items(text: str) -> tuple[OfferItem, ...]:
    """Return the items of an offer."""
    return tuple(
        OfferItem(name, EntryKind(kind), size, files) for name, kind, size, files in read(text)
    )


def read_key(text: str | None) -> PublicKey | None:
    """Return a key, or None."""
    return None if text is None else PublicKey.parse(text)


def read_fault(text: str | None) -> OfferFault | None:
    """Return a reason, or None."""
    return None if text is None else OfferFault(text)
