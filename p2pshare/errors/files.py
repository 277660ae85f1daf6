"""Errors of files and folders on this machine."""

from __future__ import annotations

from p2pshare.errors.base import NotFound, P2pshareError, TransferFailed


class PictureUnreadable(P2pshareError):
    """{path} cannot be shared as a picture: {reason}"""


class CannotSave(TransferFailed):
    """{path} cannot be written: {reason}"""


class DiskFull(CannotSave):
    """{path} needs {needed}, but its disk has {free} left. Make room, and run the same command again to continue.
    `p2pshare get --clean FOLDER` removes what stopped transfers left.
    """


class NoRoomForDraft(DiskFull):
    """{path} needs {needed}, but the disk of this peer has only {free} for files that wait to be sent. Make room, or
    send less.
    """


class DestinationGone(CannotSave):
    """The folder {path} was removed, or its disk was unmounted, during the transfer. Choose a folder that exists, and
    run the command again.
    """


class TooManyOpenFiles(CannotSave):
    """{path} cannot be written: {reason}. Raise the limit with `ulimit -n 1024`, and run the command again."""


class InUse(CannotSave):
    """{path} is being fetched by another process. Wait until that is done, or stop it."""


class BlockCorrupt(TransferFailed):
    """{path} does not match its checksums: {reason}. Try again."""


class ChangedHere(CannotSave):
    """{path} is not as it was fetched, so it is kept. Add --force to replace it."""


class CannotRead(P2pshareError):
    """{path} cannot be read: {reason}"""


class FolderUnusable(P2pshareError):
    """The folder {path} cannot be used: {reason}"""


class SharesUnusable(P2pshareError):
    """The list of shares, {path}, cannot be used: {reason}"""


class NoSuchShare(NotFound):
    """You share nothing under the name {share!r}. Shares are {known}."""


class LedgerUnusable(P2pshareError):
    """The list of offers, {path}, cannot be used: {reason}"""
