"""Errors of offers."""

from __future__ import annotations

from p2pshare.errors.base import NotFound, Refused, TransferFailed


class OfferChanged(TransferFailed):
    """What {name!r} has sent is not what was offered: {reason}. It was given up, and what had arrived is kept. Ask
    {name!r} to send it again.
    """


class NoSuchOffer(NotFound):
    """There is no offer {id!r}{hint}. `p2pshare inbox` and `p2pshare send --list` show all offers."""


class OfferOver(Refused):
    """The offer {id} is over: it is {state}. Ask for it to be sent again."""


class TooManyOffers(Refused):
    """There are {count} open offers, and no more are kept. Cancel some with `p2pshare send --cancel ID`."""


class SendingToOneself(Refused):
    """{name!r} is your own name, and an offer to yourself leads nowhere. Name somebody else."""
