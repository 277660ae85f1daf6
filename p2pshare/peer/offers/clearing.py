"""The actions that remove what is over from the list of offers, at either side.

An offer that is over disappears from the list at once. If the other side is still to be told what became of it, it
stays in the ledger until the first start of the peer after that, or after that is given up. The files that have arrived
stay, and so does the history.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from p2pshare.errors import JobNotSo
from p2pshare.net.shared_answer import SharedAnswer
from p2pshare.peer.control import ID_TEXT_MAX, Fields
from p2pshare.peer.offers.parts import OfferParts, id_of
from p2pshare.wire.strict_json import text

EVENTS_AT_ONCE = 50  # events in one turn of the reactor, so that followers keep up
BETWEEN_TURNS = 0.01  # seconds until the next ones


async def clear_listed(
    parts: OfferParts,
    request: Fields,
    listed: Mapping[str, str],
    clear: Callable[[Sequence[str]], Coroutine[Any, Any, Sequence[Fields]]],
    kind: str,
) -> Fields:
    """Remove the offer that has the `id` of a request, or all offers that are over, and return their number as `count`.

    Args:
        parts: of the peer.
        request: without an `id`, all that are over are meant.
        listed: the IDs in the list, each with its state if it is not over, and otherwise with an empty text.
        clear: removes those of some IDs that are over, durably, and returns them as verbs see them.
        kind: of the events that tell it.

    Raises:
        NoSuchOffer: there is none of that ID.
        JobNotSo: it is not over.
        LedgerUnusable: nothing could be written, and nothing is removed.
    """
    ids = [each for each, state in listed.items() if not state]
    if request.get("id") is not None:
        ids = [id_of(text({**request}, "id", ID_TEXT_MAX), listed)]
        if listed[ids[0]]:
            raise JobNotSo(id=ids[0], state=listed[ids[0]], action="removed")
    rows = await SharedAnswer(Deferred.fromCoroutine(clear(ids))).wait()
    for number, row in enumerate(rows, 1):
        parts.events.publish(kind, **row, removed=True)
        if number % EVENTS_AT_ONCE == 0:
            await deferLater(parts.reactor, BETWEEN_TURNS)
    return {"count": len(rows)}
