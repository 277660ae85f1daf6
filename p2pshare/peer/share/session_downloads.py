"""The part of one session in the downloads of shares: what counts as a download, and when it is over."""

from __future__ import annotations

from typing import Protocol

from twisted.logger import Logger

from p2pshare.core.sharer_transfers import Outcome, Transfer
from p2pshare.errors import SharesUnusable
from p2pshare.storage.shares.arguments import Viewer
from p2pshare.storage.shares.tree import Unavailable
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.transfer_messages import Fault, Get, Job


class DownloadCounter(Protocol):
    """Counts the downloads of all shares; see `LiveShares`."""

    def begin(self, viewer: Viewer, name: str) -> bool:
        """Note that a file of a share is opened, in any thread; return False if it may not be sent."""

    def attach(self, name: str, key: PublicKey) -> None:
        """Note that a session fetches from a share."""

    def detach(self, name: str, key: PublicKey, *, is_complete: bool) -> None:
        """Note that a session fetches no more from a share."""


class CountsNothing:
    """Lets everybody download without a count."""

    def begin(self, viewer: Viewer, name: str) -> bool:
        """Allow it."""
        return True

    def attach(self, name: str, key: PublicKey) -> None:
        """Do nothing."""

    def detach(self, name: str, key: PublicKey, *, is_complete: bool) -> None:
        """Do nothing."""


class SessionDownloads:
    """The downloads in one session. Previews, and requests for the root alone, are none."""

    _log = Logger()

    def __init__(self, counter: DownloadCounter, viewer: Viewer) -> None:
        self._counter = counter
        self._viewer = viewer
        self._shares: dict[str, bool] = {}  # that are fetched, and whether a file was confirmed

    def expect_allowed(self, request: Get) -> None:
        """Count a file that was opened, in any thread, before its first byte goes out.

        Raises:
            Unavailable: it may not be sent.
        """
        if not _counts(request):
            return
        try:
            if self._counter.begin(self._viewer, request.path[0]):
                return
        except SharesUnusable as error:
            self._log.error("upload refused: it cannot be counted: why={why}", why=error)
            raise Unavailable(Fault.UNREADABLE) from None
        raise Unavailable(Fault.NOT_FOUND)

    def started(self, transfer: Transfer) -> None:
        """Note a file that was announced."""
        name = transfer.request.path[0]
        if _counts(transfer.request) and name not in self._shares:
            self._shares[name] = False
            self._counter.attach(name, self._viewer.key)

    def ended(self, transfer: Transfer) -> None:
        """Note a transfer that is over."""
        name = transfer.request.path[0]
        if transfer.outcome is Outcome.CONFIRMED and name in self._shares:
            self._shares[name] = True

    def job_told(self, job: Job) -> None:
        """Note the size of the remaining job: nothing, at its end."""
        if not (job.files or job.bytes):
            for name in [name for name, is_confirmed in self._shares.items() if is_confirmed]:
                self._detach(name, is_complete=True)

    def over(self) -> None:
        """Note the end of the session: a download that was not complete may be resumed."""
        for name in tuple(self._shares):
            self._detach(name, is_complete=False)

    def _detach(self, name: str, *, is_complete: bool) -> None:
        del self._shares[name]
        self._counter.detach(name, self._viewer.key, is_complete=is_complete)


def _counts(request: Get) -> bool:
    return not request.preview and request.want != ()
