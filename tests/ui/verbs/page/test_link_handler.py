"""Tests of `p2pshare.ui.verbs.page.link_handler`, with programs of a desktop that note how they are called."""

from __future__ import annotations

import io
import json
import os
import sys
from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import WrongUsage
from p2pshare.storage.desktop_entry import ENTRY_NAME
from p2pshare.ui.arguments import parse_arguments
from p2pshare.ui.output import Output
from p2pshare.ui.terminal.capabilities import Terminal
from p2pshare.ui.verbs.page.link_handler import register, should_offer, unregister

NONE = {"registry": None, "name": None, "data": None}


class LinkHandlerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.home = Path(self.mktemp()).absolute()
        self.bin = self.home / "bin"
        self.bin.mkdir(parents=True)
        self.called = self.home / "called"
        self.environ = {"XDG_DATA_HOME": str(self.home / "data"), "DISPLAY": ":0"}
        self.entry = self.home / "data" / "applications" / ENTRY_NAME
        self.program("p2pshare")
        patched = patch.dict(os.environ, {"PATH": str(self.bin)})
        patched.start()
        self.addCleanup(patched.stop)
        self.patch(sys, "argv", [str(self.bin / "p2pshare")])
        self.stdout = io.StringIO()

    def program(self, name: str, code: int = 0) -> None:
        path = self.bin / name
        path.write_text(f'#!/bin/sh\necho {name} "$@" >> {self.called}\nexit {code}\n')
        path.chmod(0o755)

    def output(self) -> Output:
        terminal = Terminal.detect(self.stdout, {})
        return Output(terminal, terminal, json=True)

    def events(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.stdout.getvalue().splitlines()]

    def test_registered(self) -> None:
        """The entry calls this program by its absolute path with the flags of the user, and is made the default."""
        self.program("xdg-mime")
        self.program("update-desktop-database")
        self.assertTrue(should_offer(self.environ))
        self.assertEqual(register(self.output(), {**NONE, "name": "bob"}, self.environ), 0)
        self.assertIn(
            f"\nExec={self.bin}/p2pshare open --desktop --name bob -- %u\n", self.entry.read_text()
        )
        self.assertEqual(
            self.called.read_text().splitlines(),
            [
                f"update-desktop-database {self.entry.parent}",
                f"xdg-mime default {ENTRY_NAME} x-scheme-handler/p2pshare",
            ],
        )
        self.assertFalse(should_offer(self.environ))
        self.assertEqual(unregister(self.output(), self.environ), 0)
        self.assertFalse(self.entry.exists())
        self.assertEqual(
            [(each["event"], each.get("is_default")) for each in self.events()],
            [("registered", True), ("unregistered", None)],
        )

    def test_relative_data(self) -> None:
        """A data folder is written with its absolute path, since desktops start programs in any folder."""
        words = ["open", "--register", "--json", "--data", "mine", "--registry", "http://192.0.2.1"]
        with patch.dict(os.environ, self.environ), redirect_stdout(self.stdout):
            arguments = parse_arguments(words)
            arguments.command.run(arguments, SimpleNamespace(output=self.output()))
        self.assertIn(
            f" --registry http://192.0.2.1 --data {Path('mine').absolute()} -- %u\n",
            self.entry.read_text(),
        )

    def test_without_tools(self) -> None:
        """Without the programs of a desktop, or if they fail, the entry is there, and the user is told the rest."""
        for with_tool in (False, True):
            if with_tool:
                self.program("xdg-mime", code=3)
            self.assertEqual(register(self.output(), NONE, self.environ), 0)
            self.assertTrue(self.entry.exists())
            self.assertFalse(self.events()[-1]["is_default"])

    def test_not_offered(self) -> None:
        """Nobody is asked to register links without a display, or without xdg-mime."""
        self.assertFalse(should_offer(self.environ))
        self.program("xdg-mime")
        self.assertFalse(should_offer({**self.environ, "DISPLAY": ""}))

    def test_no_program(self) -> None:
        """A program that cannot be found is an error, and nothing is written."""
        self.patch(sys, "argv", ["/nowhere/trial"])
        (self.bin / "p2pshare").unlink()
        self.assertRaises(WrongUsage, register, self.output(), NONE, self.environ)
        self.assertFalse(self.entry.exists())

    def test_relative_folder(self) -> None:
        """A relative XDG_DATA_HOME is ignored, as its specification demands."""
        with patch.dict(os.environ, {"HOME": str(self.home)}):
            register(self.output(), NONE, {"XDG_DATA_HOME": "data"})
        self.assertTrue((self.home / ".local/share/applications" / ENTRY_NAME).exists())
