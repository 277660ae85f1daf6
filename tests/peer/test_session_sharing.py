"""Tests of `p2pshare.peer.session_sharing`: what it says in the log."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.peer.session_sharing import SessionSharer, sharing_text
from p2pshare.registry.client import RegistryClient
from p2pshare.storage import block_cache, folder_index
from p2pshare.storage.share_arguments import EVERYONE, SharedPath
from p2pshare.testing import ThreadlessReactor
from p2pshare.wire.keys import SigningKey


class LogTests(SynchronousTestCase):
    def test_trouble(self) -> None:
        """What cannot be remembered of the shares is said with what it is and where, once for each."""
        folder = tempfile.TemporaryDirectory(prefix="p2p-")
        self.addCleanup(folder.cleanup)
        data = Path(folder.name)
        (data / block_cache.FILE_NAME).mkdir()
        shared = data / "shared"
        shared.mkdir()
        (shared / "x").write_bytes(bytes(3 * 1024 * 1024))
        reactor: Any = ThreadlessReactor()
        client = cast("RegistryClient", SimpleNamespace(url="http://127.0.0.1:1"))
        sharer = SessionSharer(
            reactor,
            [SharedPath("stuff", shared)],
            None,
            data,
            client,
            reactor.seconds,
            lambda: SigningKey(b"a" * 32),
        )
        with capturedLogs() as events:
            self.successResultOf(Deferred.fromCoroutine(sharer.open()))
            assert sharer._tree is not None and sharer._stores is not None
            sharer._stores[1]._tell("the disk is full")
            file: Any = sharer._tree.open("bob", ("stuff", "x"))
            file.finish()
            file.close()
            reactor.advance(0)
        self.successResultOf(Deferred.fromCoroutine(sharer.stop()))
        lines = [formatEvent(event) or "" for event in events]
        for what, path in (
            ("shared files", data / block_cache.FILE_NAME),
            ("shared folders", data / folder_index.FOLDER_NAME),
        ):
            said = [line for line in lines if line.startswith(f"what is remembered of {what}")]
            self.assertEqual(len(said), 1, lines)
            self.assertIn(f"({path}): ", said[0])

    def test_sharing(self) -> None:
        """What is shared is said with whom."""
        shares = [
            SharedPath("photos", Path("/p")),
            SharedPath("notes", Path("/n"), frozenset({"carol", "bob"})),
        ]
        self.assertEqual(
            sharing_text(shares),
            f"shared are photos (/p) with {EVERYONE}; notes (/n) with bob, carol",
        )
        self.assertIn("nothing is shared", sharing_text([]))
