"""Errors of listings and files that another peer sends."""

from __future__ import annotations

from p2pshare.errors.base import NotFound, TransferFailed


class RemoteNotFound(NotFound):
    """{name!r} shares no {path!r}, or not with you. Run `p2pshare ls {name}` for what it shares with you."""


class RemoteWithdrawn(NotFound):
    """{name!r} no longer shares {path!r}, or not with you. Verified data is kept; ask {name!r} to share it again."""


class NothingShared(NotFound):
    """{name!r} answered, but sent no {what}. It may share none, or too many peers are fetching it."""


class PeerFellSilent(TransferFailed):
    """{name!r} stopped sending: {done} of {total} rows arrived, without {missing}. Nothing was saved. Try again."""


class TextCutShort(TransferFailed):
    """The text ended after {done} bytes: {reason}. Nothing was saved. Try again."""


class RemoteTooMany(TransferFailed):
    """{name!r} lists more than {most} {what} in {path!r}, perhaps without end. Fetch a part of it, or add --max-files N
    if you expect that many.
    """


class RemoteIsFile(TransferFailed):
    """{path!r} of {name!r} is a file, not a folder. Fetch it with `p2pshare get`."""


class RemoteIsFolder(TransferFailed):
    """{path!r} of {name!r} has become a folder. Try again."""


class RemoteUnreadable(TransferFailed):
    """{name!r} cannot read {path!r}. Tell its owner."""


class RemoteNoPreview(TransferFailed):
    """{name!r} has no preview of {path!r}: only JPEG, PNG, WebP and GIF pictures have one, and only up to
    50 million pixels. Get the file itself.
    """


class RemoteGone(TransferFailed):
    """{path!r} of {name!r} disappeared while it was listed. Try again."""


class RemoteLinkNotFollowed(TransferFailed):
    """{path!r} of {name!r} is a link whose target does not exist or is not shared. Ask its owner to replace it."""


class RemoteLinkLoop(TransferFailed):
    """{path!r} of {name!r} is a link to a folder that contains the link. Fetch that folder instead."""


class RemoteNameUnusable(TransferFailed):
    """{path!r} of {name!r} cannot be fetched: its name is not UTF-8, or is too long. Ask its owner to rename it."""


class RemoteTooDeep(TransferFailed):
    """Something in {path!r} of {name!r} cannot be fetched: its path is too deep or too long. Ask its owner to share a
    folder nearer to it.
    """


class RemoteSpecial(TransferFailed):
    """{path!r} of {name!r} is a device, a FIFO or a socket, which cannot be fetched. Ask its owner to remove it."""


class RemoteTooLarge(TransferFailed):
    """{path!r} of {name!r} is too large to be fetched. Ask its owner to split it."""


class RemoteLeftOut(TransferFailed):
    """{name!r} left {count} more files or folders out of {path!r}, without their names. Ask its owner about them."""


class RemotePathTooLong(TransferFailed):
    """{path!r} of {name!r} cannot be fetched: the path is too deep or too long. Ask its owner to share a folder nearer
    to it.
    """


class RemoteBusy(TransferFailed):
    """{name!r} is too busy to send {path!r}. Try again later."""


class SourceChanged(TransferFailed):
    """{path!r} of {name!r} kept changing while it was fetched. Try again when nobody writes to it."""


class StreamCutShort(TransferFailed):
    """{path!r} of {name!r} changed while it was written to standard output: {written} bytes of its earlier version were
    written, and the rest is lost. Run the command again for the new version.
    """


class SharerLied(TransferFailed):
    """{path!r} was given up: the data from {name!r} does not match its checksums. Its disk, its memory or its owner
    cannot be trusted.
    """


class PictureRefused(TransferFailed):
    """The picture of {name!r}, with {width} x {height} pixels, is refused: {fault}."""
