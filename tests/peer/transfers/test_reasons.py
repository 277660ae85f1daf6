"""Codes of reasons: all errors have one, and all codes are documented and translated."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from p2pshare import errors
from p2pshare.errors import P2pshareError
from p2pshare.peer.transfers import reasons
from p2pshare.peer.transfers.reasons import reason_of
from tests.test_errors import all_errors

DOCUMENT = (Path(__file__).parents[3] / "docs" / "control.md").read_text()
OF_OTHERS = {"by_you", "by_them", "lost"}
"""Codes of uploads."""


def codes() -> set[str]:
    """Return the codes of all errors, and of the states without an error."""
    found = {reason_of(kind.__new__(kind)).code for kind in all_errors()}
    return (
        found
        | OF_OTHERS
        | {reasons.QUEUE, reasons.CONNECTING, reasons.RECONNECTING, reasons.SOME_FAILED}
    )


class ReasonsTests(SynchronousTestCase):
    def test_documented(self) -> None:
        """The table in the document has all codes, and no others."""
        table = DOCUMENT.split("### Reasons\n")[1].split("\n#")[0]
        rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
        self.assertEqual({code for row in rows for code in re.findall(r"`(\w+)`", row)}, codes())

    def test_translated(self) -> None:
        """The page has words for each code, in each language."""
        texts = Path(str(files("p2pshare.peer.page"))) / "assets" / "texts"
        for path in texts.glob("*.json"):
            words = json.loads(path.read_text("utf-8"))["transfers"]["why"]
            self.assertEqual(codes() - words.keys(), set(), path.name)

    def test_final(self) -> None:
        """What another try may repair is repeated; what somebody has to repair is not."""
        for kind, is_final in (
            (errors.PeerOffline, False),
            (errors.RelayRefused, False),
            (errors.RemoteBusy, False),
            (errors.RegistryUnavailable, False),
            (errors.ClockWrong, False),
            (errors.KeyChanged, False),
            (errors.DiskFull, False),
            (errors.CannotSave, True),
            (errors.DestinationGone, True),
            (errors.RemoteNotFound, True),
            (errors.NoSuchPeer, True),
            (errors.RemoteTooMany, True),
            (P2pshareError, True),
        ):
            self.assertIs(reason_of(kind.__new__(kind)).is_final, is_final, kind)
