"""docs/operations.md describes the options of a peer, and the limits of its sessions."""

from __future__ import annotations

import os
import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.sharer import LIMITS
from p2pshare.peer.service import OPEN_FILES, OPEN_FILES_MIN
from p2pshare.peer.share.acceptor import DEFAULT_LIMITS
from p2pshare.peer.share.session import LARGE_OPEN, LISTS_AT_ONCE, MEMORY
from p2pshare.peer.tap import Options
from p2pshare.storage.shares.arguments import SHARES_MAX
from p2pshare.wire.paths import DEPTH_MAX, PATH_MAX

TEXT = (Path(__file__).parents[2] / "docs" / "operations.md").read_text().partition("\n# A peer")[2]


class PeerOperationsTests(SynchronousTestCase):
    """The section about peers."""

    def test_options(self) -> None:
        """The table lists exactly the options."""
        told = re.findall(r"^\| `--([a-z-]+)` \|", TEXT, re.M)
        known = {name.replace("_", "-") for name in Options().synonyms if len(name) > 1}
        self.assertEqual(sorted(told), sorted(known - {"help", "version"}))
        self.assertIn(f"up to {SHARES_MAX} names", TEXT)

    def test_settings(self) -> None:
        """Options become settings, also those of two words and repeated ones."""
        options = Options()
        self.patch(os, "environ", {"XDG_CONFIG_HOME": self.mktemp()})
        flags = ["--name", "bob", "--data", self.mktemp(), "--port-mapping", "--private"]
        options.parseOptions([*flags, "--address", "192.0.2.7", "--address", "2001:db8::7"])
        settings = options["settings"]
        self.assertEqual(settings.address, ("192.0.2.7", "2001:db8::7"))
        self.assertEqual((settings.port_mapping, settings.private), (True, True))

    def test_bounds(self) -> None:
        """The table lists the limits with their values."""
        for what, value in (
            (
                "connections that are not sessions yet, of TCP and UDP together",
                DEFAULT_LIMITS.half_open,
            ),
            ("those of one address", DEFAULT_LIMITS.half_open_per_host),
            ("from a connection to the welcome", DEFAULT_LIMITS.handshake),
            ("sessions", DEFAULT_LIMITS.total),
            ("sessions of one key", DEFAULT_LIMITS.per_key),
            ("silence in a session", DEFAULT_LIMITS.silence),
            ("a session in which nothing is asked", DEFAULT_LIMITS.idle),
            ("files asked for at once in a session", LIMITS.transfers),
            ("lists asked for at once in a session", LIMITS.lists),
            ("components of a path, with the name of the share", DEPTH_MAX),
            ("a path, with the name of the share", PATH_MAX),
            ("folders that are read at once, for all", LISTS_AT_ONCE),
            ("memory for large files, of all sessions", MEMORY / 1024**2),
            ("memory for small files, of all sessions", MEMORY / 1024**2),
            ("large files that are open, of all sessions", LARGE_OPEN),
            ("open files of the process", OPEN_FILES),
            ("open files without which a peer does not start", OPEN_FILES_MIN),
        ):
            self.assertIn(f"\n| {what} | {value:g} |", TEXT)
