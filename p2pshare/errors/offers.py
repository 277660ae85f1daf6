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
    """The offer {id} is over: it is {state}. If its files are wanted again, they have to be sent again."""


class OfferFilesGone(NotFound):
    """The files of the offer {id} cannot be sent again: {what} is not there any more. Choose the files again."""


class TooManyOffers(Refused):
    """There are {count} open offers, and no more are kept. Cancel some with `p2pshare send --cancel ID`."""


class SendingToOneself(Refused):
    """{name!r} is your own name, and an offer to yourself leads nowhere. Name somebody else."""


class OfferDeclined(Refused):
    """{name!r} has declined the offer."""


class OfferRefused(Refused):
    """The peer of {name!r} has refused the offer: {reason}."""


class OfferFailed(TransferFailed):
    """The transfer of the offer failed, with {name!r}: {reason}."""


class OfferWithdrawn(TransferFailed):
    """{name!r} has withdrawn the offer, or it has expired."""


class NoReceipt(TransferFailed):
    """Nobody has signed a receipt of the offer {id} ({states}). A receiver signs one when all files have arrived."""


class ReceiptInvalid(TransferFailed):
    """The receipt of {name!r} for the offer {id} proves nothing: {reason}. Ask {name!r} what has arrived."""


class ReceiptDiffers(TransferFailed):
    """The files are not those of the receipt for the offer {id}: it has {files} files of {size}, and here are {here} of
    {here_size}. Name each file and folder that was offered, with the same --exclude and --hidden.
    """


class NoSuchJob(NotFound):
    """There is no job {id!r}. It was removed, or belongs to an earlier run of the peer."""


class JobNotSo(Refused):
    """{id!r} is {state}, so it cannot be {action}."""


class TooManyJobs(Refused):
    """There are {count} downloads that are not over, and no more are kept. Wait for some, or cancel them."""
