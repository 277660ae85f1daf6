"""Tests of `p2pshare.ui.verbs.page.link_target`, with data folders on the disk."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import WrongUsage
from p2pshare.storage.identity import data_folder
from p2pshare.storage.identity.known_registries import KnownRegistries
from p2pshare.storage.settings import Settings
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.output import Output
from p2pshare.ui.terminal.capabilities import Terminal
from p2pshare.ui.verbs.page.link_target import invocation_for
from p2pshare.wire.keys import SigningKey

HOME, WORK, FOREIGN = (SigningKey(bytes([number]) * 32).public for number in (1, 2, 3))


class LinkTargetTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.place = Path(self.mktemp()).absolute()
        patched = patch.object(data_folder, "data_place", return_value=self.place)
        patched.start()
        self.addCleanup(patched.stop)
        known = KnownRegistries(self.place)
        for url, key in (("http://home", HOME), ("http://work", WORK), ("http://met", FOREIGN)):
            known.pin(url, str(key))
        for key, name in ((HOME, "bob"), (WORK, "robert"), (WORK, "rob")):
            folder = self.place / "peers" / str(key) / name
            folder.mkdir(parents=True)
            (folder / "key").write_text("")
        (self.place / "peers" / str(HOME) / "carol").mkdir()  # looked up by URL once, without a key

    def found(self, key: Any, **settings: Any) -> tuple[str, str | None] | None:
        terminal = Terminal.detect(io.StringIO(), {})
        invocation = Invocation(
            cast(Any, Clock()),
            random.Random(1),
            Settings(**settings),
            Output(terminal, terminal),
            Path(),
            lambda: 0.0,
        )
        target = invocation_for(invocation, key)
        return None if target is None else (target.settings.registry, target.settings.name)

    def test_own(self) -> None:
        """The registry of the settings is used with the name of the settings."""
        self.assertEqual(
            self.found(HOME, registry="http://home", name="bob"), ("http://home", "bob")
        )

    def test_joined(self) -> None:
        """Another registry is used with the user's name there, also without any settings."""
        self.assertEqual(self.found(HOME), ("http://home", "bob"))
        self.assertEqual(
            self.found(HOME, registry="http://work", name="robert"), ("http://home", "bob")
        )
        self.assertEqual(self.found(WORK, name="rob"), ("http://work", "rob"))

    def test_several_names(self) -> None:
        """With several names there, the user has to choose."""
        error = self.assertRaises(WrongUsage, self.found, WORK)
        self.assertIn("rob, robert", str(error))

    def test_not_joined(self) -> None:
        """A registry that was only met, or is unknown, is not used, nor another folder than the one that is named
        (threat 130).
        """
        self.assertIsNone(self.found(FOREIGN))
        self.assertIsNone(self.found(FOREIGN, registry="http://met", name="bob"))
        self.assertIsNone(self.found(SigningKey(b"4" * 32).public))
        self.assertIsNone(self.found(HOME, data=self.place / "elsewhere"))
