"""Tests of `p2pshare.ui.verbs.partial`."""

from __future__ import annotations

import errno
import io
import json
import random
from pathlib import Path
from typing import Any, cast

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import WrongUsage
from p2pshare.storage.incoming import hidden_file, publishing
from p2pshare.storage.incoming.announcement import Announced, Origin, Place
from p2pshare.storage.incoming.folder import IncomingFolder
from p2pshare.storage.incoming.partial_file import Incoming
from p2pshare.storage.os_errors import plain_reason
from p2pshare.storage.settings import Settings
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.output import Output
from p2pshare.ui.terminal.capabilities import Terminal
from p2pshare.ui.verbs.partial import clean, list_partial
from p2pshare.wire.blocks import BLOCK_SIZE, digest_of
from p2pshare.wire.keys import PublicKey
from tests.storage.incoming_case import Failing

BLOCK = bytes(BLOCK_SIZE)


class PartialTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp()).absolute()
        self.path.mkdir()
        self.stdout, self.stderr = io.StringIO(), io.StringIO()

    def invocation(self, *, json: bool = False) -> Invocation:
        terminals = (Terminal.detect(stream, {}) for stream in (self.stdout, self.stderr))
        reactor, wall = cast("Any", Clock()), lambda: 2.0**31
        output = Output(*terminals, json=json)
        return Invocation(reactor, random.SystemRandom(), Settings(), output, self.path, wall)

    def part(self, name: str, blocks: int) -> Incoming:
        """Return a partial file of three blocks."""
        origin = Origin(PublicKey(b"k" * 32), ("films", name), "alice")
        said = Announced(3 * BLOCK_SIZE, 1, False, "v1")
        with IncomingFolder.open(self.path) as folder:
            part = folder.begin(Place(("sub",), name), origin, said)
        for index in range(blocks):
            part.write_block(index, BLOCK, digest_of(BLOCK))
        part.sync()
        self.addCleanup(part.close)
        return part

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stdout.getvalue().splitlines()]

    def test_listed(self) -> None:
        """Each partial file has a line with its origin, its verified part, its room and its age."""
        self.part("film", 2).close()
        self.assertEqual(list_partial(self.invocation(), None), 0)
        self.assertRegex(
            self.stdout.getvalue(),
            r"\Asub/film: 2\.0 MiB of 3\.0 MiB of alice:films/film, [\d.]+ MiB on the disk, \d+ days ago\n\Z",
        )
        self.assertIn("`p2pshare get --clean` ", self.stderr.getvalue())
        self.assertEqual(list_partial(self.invocation(), "sub"), 0)
        self.assertIn("`p2pshare get --clean sub` ", self.stderr.getvalue())

    def test_cleaned(self) -> None:
        """Partial files that are not in use are removed, and the freed room is reported."""
        self.part("film", 2).close()
        self.part("other", 1)
        self.assertEqual(list_partial(self.invocation(json=True), "sub"), 0)
        self.assertEqual([each["in_use"] for each in self.events()], [False, True])
        self.stdout.truncate(0), self.stdout.seek(0)
        self.assertEqual(clean(self.invocation(json=True), None), 0)
        removed, cleaned = self.events()
        self.assertEqual((removed["event"], removed["from"]), ("removed", "alice:films/film"))
        self.assertEqual(removed["verified"], 2 * BLOCK_SIZE)
        self.assertGreaterEqual(cleaned.pop("freed"), 2 * BLOCK_SIZE)
        self.assertEqual(cleaned, {"event": "cleaned", "removed": 1, "in_use": 1, "failed": 0})
        self.assertEqual(len(list((self.path / "sub").iterdir())), 2)
        clean(self.invocation(), None)
        self.assertIn("sub/other is in use, and stays.", self.stderr.getvalue())
        self.assertIn("0 partial files removed, 0", self.stdout.getvalue())

    def test_failure(self) -> None:
        """A file that cannot be removed is an error with exit code 1; the others are removed."""
        self.part("film", 2).close()
        self.part("other", 1).close()
        self.patch(hidden_file, "remove_name", Failing(publishing.remove_name, 1, 1))
        self.assertEqual(clean(self.invocation(), None), 1)
        self.assertIn(plain_reason(OSError(errno.EPERM, "")), self.stderr.getvalue())
        self.assertIn("1 partial file removed", self.stdout.getvalue())

    def test_nothing(self) -> None:
        """No partial files is not an error; a missing folder is."""
        self.assertEqual(list_partial(self.invocation(), "."), 0)
        self.assertEqual(self.stderr.getvalue(), "There are no partial files.\n")
        for call in (list_partial, clean):
            with self.assertRaisesRegex(WrongUsage, "'gone'"):
                call(self.invocation(), "gone")
