"""Why a connection could not be made."""

from __future__ import annotations

import errno

from twisted.internet.error import (
    ConnectError,
    ConnectionRefusedError,
    DNSLookupError,
    TimeoutError,
)
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.net.reasons import connect_reason


class ConnectReasonTests(SynchronousTestCase):
    """Twisted's errors become words."""

    def test_reasons(self) -> None:
        """With the errno that Twisted puts into them, or without any."""
        for error, reason in (
            (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), "nothing listens there"),
            (ConnectError(errno.ENOENT, "no such"), "there is no such file or folder"),
            (TimeoutError(), "it did not answer in time"),
            (DNSLookupError("DNS lookup failed"), "there is no machine of this name"),
        ):
            self.assertEqual(connect_reason(error), reason)
