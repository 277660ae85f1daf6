"""Checks the receipts with which receivers confirm what was offered."""

from __future__ import annotations

from collections.abc import Container

from twisted.logger import Logger

from p2pshare.errors import RemoteProtocolError
from p2pshare.storage.offers.outgoing import OutgoingOffer
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.offers.messages import InboxState, OfferState
from p2pshare.wire.offers.receipts import OfferReceipt

_log = Logger()


def checked_receipt(
    offer: OutgoingOffer,
    own: PublicKey,
    keys: Container[PublicKey | None],
    name: str,
    state: OfferState,
) -> tuple[str, str]:
    """Return the receipt of an offer that is done, and the root in it; empty if it proves nothing.

    Args:
        offer: that is done.
        own: the sender's key.
        keys: the recipient's present one, and the one before it, which may have signed.
        name: the recipient's.
        state: what the recipient has told.
    """
    if state.state is not InboxState.DONE or not state.receipt:
        return "", ""
    try:
        receipt = OfferReceipt.read(state.receipt)
    except RemoteProtocolError as error:
        _log.warn("receipt not valid: peer={peer} why={why}", peer=name, why=error)
        return "", ""
    told = receipt.offer, receipt.sender, receipt.files, receipt.bytes
    if told != (offer.id, own, offer.files, offer.bytes) or receipt.key not in keys:
        _log.warn("receipt of something else: peer={peer}", peer=name)
        return "", ""
    return state.receipt, receipt.root.hex()
