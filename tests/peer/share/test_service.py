"""Tests of `p2pshare.peer.share.service`: its log and status."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.peer.share.admission import Admission
from p2pshare.peer.share.service import (
    EXAMPLE_MAX,
    SURVEY_AGAIN,
    SessionSharer,
    left_out_of,
    left_out_text,
)
from p2pshare.registry.client import RegistryClient
from p2pshare.storage.identity.known_peers import KnownPeers
from p2pshare.storage.shares import digest_cache as block_cache
from p2pshare.storage.shares import folder_index
from p2pshare.storage.shares.arguments import EVERYONE, SharedPath
from p2pshare.storage.shares.listing import Survey
from p2pshare.testing.network import ThreadlessReactor
from p2pshare.wire.keys import SigningKey
from tests.peer.share.live_case import live_shares
from tests.storage.share_case import opened


class LogTests(SynchronousTestCase):
    def test_trouble(self) -> None:
        """The fault of each cache is logged once, with its path."""
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
            live_shares(reactor, data, [SharedPath("stuff", shared)]),
            None,
            data,
            Admission(reactor, client, cast("KnownPeers", None)),
            lambda: SigningKey(b"a" * 32),
        )
        with capturedLogs() as events:
            self.successResultOf(Deferred.fromCoroutine(sharer.open()))
            assert sharer._tree is not None
            sharer._tree._index._report("the disk is full")
            file = opened(sharer._tree, "bob", ("stuff", "x"))
            file.finish()
            file.close()
            reactor.advance(0)
        self.successResultOf(Deferred.fromCoroutine(sharer.stop()))
        lines = [formatEvent(event) or "" for event in events]
        for path in (data / block_cache.FILE_NAME, data / folder_index.FOLDER_NAME):
            faults = [line for line in lines if line.startswith(f"cache fault: path={path} why=")]
            self.assertEqual(len(faults), 1, lines)

    def test_not_shared(self) -> None:
        """Names that are not listed are counted and shown, in the log when they change and in the status."""
        data = Path(tempfile.mkdtemp(dir=os.getcwd()))
        shared = data / "shared"
        (shared / ".git").mkdir(parents=True)
        (shared / "loop").symlink_to(".")
        reactor: Any = ThreadlessReactor()
        client = cast("RegistryClient", SimpleNamespace(url="http://127.0.0.1:1"))
        sharer = SessionSharer(
            reactor,
            live_shares(
                reactor, data, [SharedPath("stuff", shared), SharedPath("gone", data / "gone")]
            ),
            None,
            data,
            Admission(reactor, client, cast("KnownPeers", None)),
            lambda: SigningKey(b"a" * 32),
        )
        with capturedLogs() as events:
            self.successResultOf(Deferred.fromCoroutine(sharer.open()))
            before = self.successResultOf(Deferred.fromCoroutine(sharer.status()))
            os.mkfifo(shared / "pipe")
            reactor.advance(SURVEY_AGAIN + 1)
            after = self.successResultOf(Deferred.fromCoroutine(sharer.status()))
        self.successResultOf(Deferred.fromCoroutine(sharer.stop()))
        lines = [formatEvent(event) or "" for event in events]
        self.assertEqual(
            [line for line in lines if line.startswith("not shared")],
            [
                "not shared: share=stuff 1 hidden or private (.git); link loop: 1 (loop)",
                "not shared: share=gone not there any more: 1",
                "not shared: share=stuff 1 hidden or private (.git);"
                " device, FIFO or socket: 1, link loop: 1 (pipe, loop)",
            ],
        )
        self.assertEqual(sharer.left_out()["gone"], "not there any more: 1")
        self.assertEqual(before["shares"][0]["left_out"]["omitted"], {"link_loop": 1})
        self.assertEqual(
            after["shares"][0]["left_out"],
            {
                "hidden": 1,
                "hidden_examples": [".git"],
                "excluded": 0,
                "excluded_examples": [],
                "omitted": {"special": 1, "link_loop": 1},
                "omitted_examples": ["pipe", "loop"],
                "looked_at": 0,
                "complete": True,
            },
        )

    def test_not_shared_is_short(self) -> None:
        """The status is bounded, however many hidden names there are, and however long."""
        told = {"hidden": 9000, "hidden_examples": [".x"], "omitted": {}, "complete": False}
        said = left_out_text({**told, "omitted_examples": [], "looked_at": 100000})
        self.assertEqual(
            said,
            "9000 hidden or private (.x, …); only the first 100000 files and folders were looked at",
        )
        self.assertEqual(left_out_text({**told, "hidden": 0}), "")
        survey = Survey(hidden=1, hidden_examples=["x" * 5000])
        (example,) = left_out_of(survey, with_examples=True)["hidden_examples"]
        self.assertEqual(len(example), EXAMPLE_MAX)
        self.assertEqual(left_out_of(survey, with_examples=False)["hidden_examples"], [])

    def test_sharing(self) -> None:
        """The log has a line for each share, with those who may see it."""

        async def nothing(_: object) -> None:
            """Look no names up."""

        shared = (SharedPath("photos", Path("/p")), SharedPath("n", Path("/n"), frozenset("cb")))
        for shares, expected in (
            (shared, [f"shared: share=photos path=/p with={EVERYONE}", "shared: share=n path=/n with=b,c"]),
            ((), ["nothing shared: no my_file.txt or my_file.jpg here, and no --share"]),
        ):  # fmt: skip
            reactor: Any = ThreadlessReactor()
            client = cast("RegistryClient", SimpleNamespace(url="http://127.0.0.1:1"))
            data = Path(tempfile.mkdtemp(dir=os.getcwd()))
            sharer = SessionSharer(
                reactor,
                live_shares(reactor, data, shares),
                None,
                data,
                Admission(reactor, client, cast("KnownPeers", None)),
                lambda: SigningKey(b"a" * 32),
            )
            self.patch(sharer.admission, "resolve", nothing)
            with capturedLogs() as events:
                self.successResultOf(Deferred.fromCoroutine(sharer.open()))
            self.successResultOf(Deferred.fromCoroutine(sharer.stop()))
            lines = [formatEvent(event) or "" for event in events]
            self.assertEqual([line for line in lines if not line.startswith("not ")], expected)
