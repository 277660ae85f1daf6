"""Verbs for owners of names, and `users --watch`, as processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import unittest
from typing import Any

from p2pshare.storage.identity.known_peers import KnownPeers
from p2pshare.wire.keys import SigningKey
from tests.integration.forked import Popen
from tests.integration.neighbourhood import (
    P2PSHARE,
    PATIENCE,
    CommandLineTestCase,
    TerminalRun,
    is_alive,
)


class OwnerTests(CommandLineTestCase):
    def join(self, name: str) -> None:
        """Claim a name without a presence."""
        self.assertEqual(self.near.run("--name", name, answers="").returncode, 0)

    def whoami(self, *words: str) -> dict[str, Any]:
        (event,) = self.assert_events(self.near.run("whoami", "--json", *words).stdout)
        return event

    def test_whoami(self) -> None:
        """A running peer is found by its socket; an unused name has no key yet."""
        alice = self.whoami("--name", "alice", "--data", "a")
        self.assertEqual((alice["state"], alice["running"]), ("online", True))
        self.assertTrue(is_alive(alice["pid"]))
        zoe = self.whoami("--name", "zoe")
        self.assertEqual((zoe["state"], zoe["running"], zoe["key"]), ("unclaimed", False, None))
        self.join("fay")
        self.assertEqual(self.whoami("--name", "fay")["state"], "offline")
        other = self.near.home / "other-fay"
        self.near.run("--name", "fay", "--data", str(other))
        self.assertEqual(self.whoami("--name", "fay", "--data", str(other))["state"], "taken")
        away = self.near.run("whoami", "--name", "fay", "--registry", "http://127.0.0.1:1")
        self.assertEqual(away.returncode, 0)
        self.assertIn("unknown: ", away.stdout)
        self.assertEqual(self.near.run("whoami").returncode, 2)

    def test_release(self) -> None:
        """A name is released only on confirmation, and is unowned afterwards."""
        self.join("gil")
        done = self.near.run("release", "--name", "gil")
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.assertIn("--yes", done.stderr)
        self.assertEqual(self.whoami("--name", "gil")["state"], "offline")
        done = self.near.run("release", "--name", "gil", "--yes", "--json")
        (event,) = self.assert_events(done.stdout)
        self.assertEqual((done.returncode, event["event"]), (0, "released"))
        self.assertEqual(self.whoami("--name", "gil")["state"], "unclaimed")

    def test_asked(self) -> None:
        """On a terminal the verb asks until the answer is yes or no; only yes changes anything."""
        self.join("hal")
        for keys, code in (("perhaps\rno\r", 1), ("\x03", 130)):
            run = TerminalRun(self.near, 80, "release", "--name", "hal")
            self.addCleanup(run.close)
            run.expect("Give up the name hal for good? (yes/no)")
            run.type(keys)
            self.assertEqual(run.exit_code(), code)
        self.assertEqual(self.whoami("--name", "hal")["state"], "offline")

    def rotate(self, *words: str) -> dict[str, Any]:
        done = self.near.run("key", "rotate", "--json", *words)
        (event,) = self.assert_events(done.stdout)
        self.assertEqual((done.returncode, event["event"]), (0, "rotated"))
        return event

    def test_rotate_alone(self) -> None:
        """Without a running peer, the verb rotates the key itself, and no presence appears."""
        self.join("ian")
        before = self.whoami("--name", "ian")["key"]
        event = self.rotate("--name", "ian")
        after = self.whoami("--name", "ian")
        self.assertEqual((event["old"], event["key"]), (before, after["key"]))
        self.assertEqual(after["state"], "offline")

    def test_rotate_running(self) -> None:
        """A running peer rotates its key; peers that knew the old key accept the new one and are told."""
        get = ("get", "alice:alice/my_file.txt", "--name", "bob")
        self.assertEqual(self.near.run(*get, cwd=self.near.folder()).returncode, 0)
        event = self.rotate("--name", "alice", "--data", "a")
        self.assertEqual(self.whoami("--name", "alice", "--data", "a")["key"], event["key"])
        done = self.near.run(*get, cwd=self.near.folder())
        self.assertEqual(done.returncode, 0)
        self.assertIn("alice has a new key", done.stderr)

    def test_another_key(self) -> None:
        """If a peer's key is not the known one and does not follow it, no file is saved."""
        folder, me = self.near.folder(), ("--name", "joe", "--data", "j")
        KnownPeers(self.near.home / "j", self.near.url).pin(
            "alice", SigningKey(bytes(32)).public, None
        )
        done = self.near.run("get", "alice:alice/my_file.txt", folder.name, *me)
        self.assertEqual((done.returncode, done.stdout), (3, ""))
        self.assertRegex(
            done.stderr, r"p2pshare: The key of 'alice' has changed.*peers forget alice`\.\n$"
        )
        self.assertEqual(os.listdir(folder), [])
        self.assertEqual(self.near.run("peers", "forget", "alice", *me).returncode, 0)
        self.assertEqual(
            self.near.run("get", "alice:alice/my_file.txt", folder.name, *me).returncode, 0
        )

    def test_compare(self) -> None:
        """Both sides see the same code; the mark is kept until the key is forgotten."""
        self.join("lea")
        codes = []
        for other, me in (
            ("alice", ("--name", "lea")),
            ("lea", ("--name", "alice", "--data", "a")),
        ):
            done = self.near.run("peers", "compare", other, *me, "--json")
            (event,) = self.assert_events(done.stdout)
            self.assertEqual((event["event"], event["compared"]), ("comparison", False))
            codes.append(event["code"])
        self.assertEqual(codes[0], codes[1])
        done = self.near.run("peers", "compare", "alice", "--name", "lea")
        self.assertEqual((done.returncode, done.stdout), (0, f"{codes[0]}\n"))
        self.assertIn("p2pshare peers compare lea", done.stderr)
        self.assertEqual(
            self.near.run("peers", "compare", "alice", "--done", "--name", "lea").returncode, 0
        )
        (known,) = self.assert_events(self.near.run("peers", "--name", "lea", "--json").stdout)
        self.assertEqual((known["name"], known["compared"]), ("alice", True))
        refused = self.near.run("peers", "compare", "lea", "--name", "lea")
        self.assertEqual(refused.returncode, 2)

    def test_key_file(self) -> None:
        """The passphrase is typed twice without echo, and restores the key on another machine."""
        self.join("kim")
        run = TerminalRun(self.near, 40, "key", "export", "--name", "kim", "kim.key")
        self.addCleanup(run.close)
        new, repeat = "New passphrase", "Repeat the passphrase:"
        for question, times, answer in (
            (new, 1, "short"),
            (new, 2, "long enough"),
            (repeat, 1, "not the same"),
            (new, 3, "long enough"),
            (repeat, 2, "long enough"),
        ):
            run.expect_times(question, times)  # what is typed before the question is dropped
            run.type(answer + "\r")
        self.assertIn("passphrases differ", run.shown)
        self.assertEqual(run.exit_code(), 0)
        self.assertNotIn("long enough", run.written)
        copy = run.folder / "kim.key"
        words = ("key", "import", str(copy), "--data", "k", "--passphrase-file", "-")
        wrong = self.near.run(*words, answers="not the same\n")
        self.assertEqual((wrong.returncode, wrong.stdout), (3, ""))
        done = self.near.run(*words, "--json", answers="long enough\n")
        (event,) = self.assert_events(done.stdout)
        self.assertEqual(event["key"], self.whoami("--name", "kim")["key"])
        self.assertEqual(self.whoami("--name", "kim", "--data", "k")["state"], "offline")

    def test_ended_while_it_asks(self) -> None:
        """A signal at the passphrase prompt ends the command and restores the terminal's echo."""
        self.join("max")
        for number, code in (
            (signal.SIGTERM, -signal.SIGTERM),
            (signal.SIGHUP, -signal.SIGHUP),
            (signal.SIGINT, 130),
        ):
            run = TerminalRun(self.near, 40, "key", "export", "--name", "max", "max.key")
            self.addCleanup(run.close)
            run.expect("New passphrase")
            run.process.send_signal(number)
            self.assertEqual(run.exit_code(), code, run.shown)
            self.assertNotIn("Traceback", run.written)
            self.assertEqual(os.listdir(run.folder), [])

    @unittest.skipUnless(os.path.exists("/dev/full"), "needs /dev/full")
    def test_no_export(self) -> None:
        """Without a terminal, or with an existing file, the error is one sentence."""
        self.join("leo")
        passphrase = self.near.home / "leo.txt"
        passphrase.write_text("long enough")
        for file, code in (("/dev/full", 1), ("/nonexistent/leo.key", 1)):
            words = ("key", "export", file, "--passphrase-file", str(passphrase), "--name", "leo")
            done = self.near.run(*words)
            self.assertEqual((done.returncode, done.stdout), (code, ""))
            self.assertRegex(done.stderr, r"^p2pshare: .* cannot be written: .*\n$")

    def test_invite(self) -> None:
        """The operator creates invitations, one per line, from the registry's folder."""
        done = self.near.run("invite", "--data", "names", "--count", "2")
        self.assertEqual((done.returncode, len(set(done.stdout.split()))), (0, 2))
        done = self.near.run("invite", "--data", "names", "--json")
        (event,) = self.assert_events(done.stdout)
        self.assertEqual(event["event"], "invitation")
        self.assertEqual(self.near.run("invite", "--count", "2").returncode, 4)
        self.assertEqual(self.near.run("invite").returncode, 5)  # nobody else reaches it


class WatchTests(CommandLineTestCase):
    def test_events(self) -> None:
        """`users --watch` reports each change of presence until Ctrl+C."""
        process = Popen(
            [*P2PSHARE, "users", "--watch", "--online", "--json"],
            env=self.near.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        self.assertEqual((first["name"], first["presence"]), ("alice", "online"))
        self.assertEqual(self.near.run("--name", "max").returncode, 0)
        changes = [json.loads(process.stdout.readline()) for _ in range(2)]
        self.assertEqual(
            [(each["name"], each["presence"]) for each in changes],
            [("max", "online"), ("max", "offline")],
        )
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=PATIENCE)
        self.assertEqual((process.returncode, out, error), (130, "", ""))

    def test_terminal(self) -> None:
        """On a terminal the table changes in place and remains after Ctrl+C."""
        run = TerminalRun(self.near, 40, "users", "--watch", "--online", "--name", "alice")
        self.addCleanup(run.close)
        run.expect("1 online - Ctrl+C ends it")
        self.assertIn("alice (you)  online", run.shown)
        run.type("\x03")
        self.assertEqual(run.exit_code(), 130)
        self.assertEqual(run.screen.shown()[-1], "stopped")
        self.assertFalse(run.screen.wrapped)
