"""The command `p2pshare` as a process, on pipes and on terminals, with a real registry and a real peer."""

from __future__ import annotations

import base64
import functools
import json
import os
import re
import shlex
import signal
import socket
import ssl
import subprocess
import sys
import time
import unittest
from pathlib import Path

import numpy as np

from p2pshare.storage.identity import key_file
from p2pshare.web.client import UNTRUSTED
from p2pshare.wire.keys import to_base64url
from tests.integration.forked import Popen, run
from tests.integration.neighbourhood import (
    DOCUMENT,
    P2PSHARE,
    PATIENCE,
    TEXT,
    CommandLineTestCase,
    TerminalRun,
    children_of,
    is_alive,
    neighbourhood,
)
from tests.integration.test_registry_process import SOON
from tests.net.test_utf8_mode import ASCII
from tests.registry.certificates import write_certificate


class VerbTests(CommandLineTestCase):
    def test_users(self) -> None:
        """`users` prints one name per line, events with --json, and less with --quiet."""
        online = ("users", "--online")
        self.assertRegex(self.near.run(*online).stdout, r"^alice\tonline\t[-0-9T:]+Z\towned\n$")
        self.assertEqual(self.near.run(*online, "--quiet").stdout, "alice\n")
        (event,) = self.assert_events(self.near.run(*online, "--json").stdout)
        self.assertEqual(
            (event["name"], event["kind"], event["presence"]), ("alice", "owned", "online")
        )
        self.assertEqual(self.near.run("users", "--prefix", "q", "--quiet").stdout, "")

    def test_get_classic(self) -> None:
        """A text and a picture arrive unchanged; no file is overwritten without --force."""
        folder = self.near.folder()
        for _ in range(2):
            words = ("get", "--classic", "alice:my_file.txt", "alice:my_file.jpg")
            done = self.near.run(*words, cwd=folder)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertRegex(done.stdout, r"Saved alice \(1\)\.txt: .*\nNot verified: ")
        self.assertRegex(done.stdout, r"Saved alice \(1\)\.png: .*\nVerified: 90 x 60 pixels, ")
        names = ["alice (1).png", "alice (1).txt", "alice.png", "alice.txt"]
        self.assertEqual(sorted(os.listdir(folder)), names)
        self.assertEqual((folder / "alice (1).txt").read_bytes(), TEXT)
        for name in names[::2]:
            np.testing.assert_array_equal(self.pixels_of(folder / name), self.near.pixels)
        done = self.near.run(
            "get", "--classic", "--force", "--quiet", "alice:my_file.txt", cwd=folder
        )
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))
        self.assertEqual(sorted(os.listdir(folder)), names)

    def test_json_classic(self) -> None:
        """JSON events have the documented keys, and one failure does not stop the other items."""
        folder = self.near.folder()
        words = ("nobody:my_file.txt", "alice:my_file.jpg", "alice:my_file.txt")
        done = self.near.run("get", "--classic", "--json", *words, cwd=folder)
        self.assertEqual((done.returncode, done.stderr), (1, ""))
        events = self.assert_events(done.stdout)
        self.assertEqual((events[0]["kind"], events[0]["exit_code"]), ("no_such_peer", 4))
        picture, text = (event for event in events if event["event"] == "fetched")
        self.assertEqual(
            (picture["bytes"], picture["width"], picture["height"]), (90 * 60 * 3, 90, 60)
        )
        self.assertEqual((text["path"], text["bytes"]), (str(folder / "alice.txt"), len(TEXT)))
        self.assertEqual((picture["verified"], text["verified"]), (True, False))

    def test_exit_codes(self) -> None:
        """Each kind of failure prints one line on stderr and has its own exit code."""
        nowhere = {"P2PSHARE_REGISTRY": "http://127.0.0.1:1"}
        for words, environ, code in (
            (("gte",), {}, 2),
            (("get", "alice"), {}, 2),
            (("get", "alice:my_file.txt"), nowhere, 2),
            (("ls", "alice"), nowhere, 2),
            (("get", "--classic", "alice:my_file.jpg", "x.jpg"), nowhere, 2),
            (("get", "alice:my_file.txt", "--name", "alice"), nowhere, 2),
            (("get", "alice:x", "--name", "bert", "--limit", "fast"), {}, 2),
            (("ls", "alice:../x", "--name", "bert"), {}, 2),
            (("users",), {"P2PSHARE_REGISTRY": "ftp://x"}, 2),
            (("get", "--classic", "nobody:my_file.txt"), {}, 4),
            (("get", "alice:x", "--name", "bert"), nowhere, 5),
            (("users",), nowhere, 5),
            ((), nowhere, 5),
            (("--name", "alice"), {"P2PSHARE_DATA": str(self.near.home / "other")}, 3),
        ):
            with self.subTest(words=words, environ=environ):
                done = self.near.run(*words, environ=environ)
                self.assertEqual((done.returncode, done.stdout), (code, ""))
                self.assertRegex(done.stderr, r"^p2pshare: .*\n$")

    @unittest.skipUnless(os.path.isdir("/proc/self"), "needs a folder that takes no files")
    def test_cannot_save(self) -> None:
        """A folder that is not writable is reported before the transfer starts."""
        done = self.near.run("get", "--classic", "alice:my_file.txt", "/proc")
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertRegex(done.stderr, r"^p2pshare: /proc/alice.txt cannot be written: .*\.\n$")

    def test_tls(self) -> None:
        """A registry without TLS and one with an untrusted certificate give different errors."""
        done = self.near.run("users", "--registry", self.near.url.replace("http:", "https:"))
        self.assertEqual(done.returncode, 5)
        self.assertIn(" http://", done.stderr)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(write_certificate(self.near.folder() / "both.pem"))
        with socket.create_server(("127.0.0.1", 0)) as server:
            url = f"https://127.0.0.1:{server.getsockname()[1]}"
            process = Popen(
                [*P2PSHARE, "users", "--registry", url],
                env=self.near.environ,
                stderr=subprocess.PIPE,
                text=True,
            )
            connection, _ = server.accept()
            with connection, self.assertRaises(ssl.SSLError):
                context.wrap_socket(connection, server_side=True)
            _, error = process.communicate(timeout=PATIENCE)
        self.assertEqual(process.returncode, 5)
        self.assertIn(UNTRUSTED, error)

    def test_defect(self) -> None:
        """A defect is reported in one sentence; its traceback goes to the named file only."""
        broken = "import p2pshare.ui.verbs.get as verbs; verbs.parse_items = None;"
        log = self.near.home / "log"
        for flags in ([], ["--debug", str(log)]):
            done = run(
                [sys.executable, "-c", broken + P2PSHARE[-1], "get", "alice:x", "--name=b", *flags],
                env=self.near.environ,
                input=None,
                timeout=PATIENCE,
            )
            self.assertEqual((done.returncode, done.stdout), (1, ""))
            self.assertRegex(done.stderr, r"^p2pshare: A bug .*TypeError: .*(log|--debug).*\n$")
            self.assertEqual(done.stderr.count("\n"), 1)
        self.assertIn("Traceback", log.read_text())

    def test_reader_leaves(self) -> None:
        """A closed pipe at the reader's end causes no error message."""
        process = Popen(
            [*P2PSHARE, "users"],
            env=self.near.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout is not None
        process.stdout.close()
        self.assertEqual(process.communicate(timeout=PATIENCE)[1], b"")
        self.assertEqual(process.returncode, 141)

    @unittest.skipUnless(os.path.exists("/dev/full"), "needs /dev/full")
    def test_output_cannot_be_written(self) -> None:
        """A full disk behind stdout, and a closed stdout, give one sentence."""
        for redirection, word, reason in (
            (">/dev/full", "users", "the disk is full"),
            (">&-", "users", "it is closed"),
            (">&-", "--help", "it is closed"),
        ):
            done = subprocess.run(
                ["sh", "-c", f'exec "$@" {redirection}', "sh", *P2PSHARE, word],
                env=self.near.environ,
                stderr=subprocess.PIPE,
                text=True,
                timeout=PATIENCE,
            )
            complaint = f"p2pshare: Standard output cannot be written: {reason}.\n"
            self.assertEqual((done.returncode, done.stderr), (1, complaint))

    def test_stopped(self) -> None:
        """A signal stops a fetch soon, and no part of the file is left."""
        folder = self.near.folder()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as welcome:
            welcome.bind(("127.0.0.1", 0))
            welcome.settimeout(PATIENCE)
            port = welcome.getsockname()[1]
            self.near.register("slow", port)
            self.addCleanup(self.near.register, "slow", port, lease=0)
            for number, flags in ((signal.SIGINT, ["--quiet"]), (signal.SIGTERM, ["--json"])):
                process = Popen(
                    [*P2PSHARE, "get", "--classic", "slow:my_file.txt", *flags],
                    cwd=folder,
                    env=self.near.environ,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                )
                _, requester = welcome.recvfrom(100)
                welcome.sendto(b"ACK", requester)
                with socket.create_connection(requester) as connection:
                    connection.sendall(b"and then nothing")
                    if "--json" in flags:
                        self.assert_progress(process)
                    self.assertTrue(os.listdir(folder))
                    sent = time.monotonic()
                    process.send_signal(number)
                    _, error = process.communicate(timeout=PATIENCE)
                    self.assertLess(time.monotonic() - sent, SOON)
                self.assertEqual((process.returncode, error), (128 + number, b""))
                self.assertEqual(os.listdir(folder), [])

    def assert_progress(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        started, progress = (process.stdout.readline().decode() for _ in range(2))
        (event,) = self.assert_events(progress)
        self.assertEqual((event["done"], event["total"], event["unit"]), (16, None, "bytes"))
        self.assertEqual(json.loads(started)["event"], "started")


@functools.cache
def know_bert() -> None:
    """Claim the name first, so that later output does not mention the claim."""
    neighbourhood().run("ls", "alice", "--name", "bert")


class DebugTests(CommandLineTestCase):
    """The file of `--debug`; each line is an event."""

    LINE = re.compile(
        r"[-0-9]{10}T[:0-9]{8}\.[0-9]{3}Z [0-9]+ [^ ]+ .+|p2pshare debug log.*|    .*"
    )

    def events(self, log: Path) -> str:
        text = log.read_text()
        for line in text.splitlines():
            self.assertRegex(line, self.LINE)
        self.assertEqual(log.stat().st_mode & 0o777, 0o600)
        return text

    def test_secrets(self) -> None:
        """Threat 24: the debug log never contains passphrases, keys, exports or invitations."""
        near, url = self.near, self.near.invite_only()
        folder = near.folder()
        log, passphrase = folder / "log", folder / "passphrase"
        passphrase.write_text("correct horse battery")
        first, second = near.run(
            "invite", "--data", "closed", "--count=2", "--quiet"
        ).stdout.split()
        file = folder / "invitation"
        file.write_text(first)
        own = ("--name", "dora", "--registry", url, "--data", str(folder / "data"))
        other = ("--name", "dora", "--data", str(folder / "other"))
        copy = str(folder / "dora.key")
        secret = ("--passphrase-file", str(passphrase))
        environ = {"P2PSHARE_DEBUG": str(log), "P2PSHARE_INVITATION": second}
        for code, words in (
            (4, ("ls", "nobody", "--invitation", str(file), *own)),
            (0, ("key", "export", copy, *secret, *own)),
            (0, ("key", "import", copy, *secret, *other)),
            (0, ("invite", "--data", "closed", "--json")),
        ):
            done = near.run(*words, environ=environ)
            self.assertEqual(done.returncode, code, done.stderr)
        text = self.events(log)
        for event in ("PUT http", "status=201", "exported: ", "imported: ", "invitation: "):
            self.assertIn(event, text)
        seeds = [key_file.load(folder / each / "key") for each in ("data", "other")]
        seeds += [key_file.load(near.home / "closed" / "registry.key")]
        box = json.loads(Path(copy).read_text())["box"]
        made = json.loads(done.stdout)["invitation"]
        secrets = {"correct horse", str(passphrase), first, second, made, box}
        for key in seeds:
            assert key is not None
            seed = key.seed
            secrets |= {seed.hex(), base64.b64encode(seed).decode()[:-4], to_base64url(seed)[:-4]}
        for each in secrets:
            self.assertNotIn(each, text)

    def test_diagnosis(self) -> None:
        """The debug log says what failed, where and why. Completion and wrong usage write no log."""
        know_bert()
        log = self.near.folder() / "log"
        environ = {"P2PSHARE_DEBUG": str(log)}
        for words in (("complete", "zsh", "get", "al"), ("completion", "zsh"), ("gte",)):
            self.near.run(*words, environ=environ)
            self.assertFalse(log.exists())
        nowhere = {**environ, "P2PSHARE_REGISTRY": "http://localhost:1"}
        for code, about, events in (
            (4, environ, ["handshake done: ", "listing: ", "failed: from='alice:alice/none'"]),
            (
                5,
                nowhere,
                ["look-up done: host=localhost", "connection failed: to=http://localhost:1"],
            ),
        ):
            done = self.near.run("get", "alice:alice/none", "--name", "bert", environ=about)
            self.assertEqual(done.returncode, code)
            text = self.events(log)
            log.unlink()
            for event in ("run begins: p2pshare=", *events, f"run ends: exit_code={code}"):
                self.assertIn(event, text)

    def test_not_written(self) -> None:
        """An unusable log file is an error before any work; a full disk later is not."""
        picture = self.near.folder() / "cat.jpg"
        picture.write_bytes(b"\xff\xd8")
        done = self.near.run("users", "--debug", str(picture))
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertRegex(
            done.stderr, rf"^p2pshare: {picture} cannot be written: .*not a debug log.*\n$"
        )
        limited = f"ulimit -f 1; exec {shlex.join([*P2PSHARE, 'users', '--quiet'])} --debug log"
        folder = self.near.folder()
        done = subprocess.run(
            ["bash", "-c", limited],
            env=self.near.environ,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("alice", done.stdout)
        self.assertEqual((folder / "log").stat().st_size, 1024)


class SessionTests(CommandLineTestCase):
    """Verbs that open sessions, as bert, who has no running peer."""

    def bert(self, *words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return self.near.run(*words, "--name", "bert", cwd=cwd)

    def setUp(self) -> None:
        super().setUp()
        know_bert()

    def test_relay(self) -> None:
        """With `--via relay` both meet at the registry, and the file is exact."""
        inbox = self.near.home / "relayed"
        done = self.bert("get", "alice:alice/my_file.txt", f"{inbox}/", "--via", "relay", "--json")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        (event,) = (e for e in self.assert_events(done.stdout) if e["event"] == "connected")
        self.assertEqual((event["via"], event["address"]), ("relay", self.near.url[7:]))
        self.assertEqual((inbox / "my_file.txt").read_bytes(), TEXT)

    def test_first_use(self) -> None:
        """The first use claims the name without a presence; later uses do not mention it."""
        first, second = (self.near.run("ls", "alice", "--name", "new") for _ in range(2))
        self.assertEqual((first.returncode, first.stderr), (0, "new is yours now.\n"))
        self.assertEqual((second.returncode, second.stderr), (0, ""))
        self.assertEqual(first.stdout, second.stdout)
        self.assertRegex(first.stdout, r"^alice\tfolder\t0\t\S+Z\n$")
        self.assertRegex(self.near.run("users", "--prefix", "new").stdout, r"^new\toffline\t")
        known = self.near.run("peers", "--name", "new").stdout
        self.assertRegex(known, r"^alice\t[a-z2-7]{52}\n$")
        stolen = ("ls", "alice", "--name", "new", "--data", str(self.near.home / "thief"))
        self.assertEqual(self.near.run(*stolen).returncode, 3)

    def test_ls(self) -> None:
        """`ls` of a folder, of a whole tree, of a file and of a missing path."""
        listed = self.bert("ls", "--quiet", "alice:alice").stdout
        self.assertEqual(
            listed.splitlines(), ["alice/my_file.png", "alice/my_file.txt", "alice/tree"]
        )
        listed = self.bert("ls", "-R", "--json", "alice:alice/tree").stdout
        _connected, *events = self.assert_events(listed)
        paths = [(event["path"], event["type"], event["size"]) for event in events]
        self.assertIn(("alice/tree/deep", "folder", 0), paths)
        self.assertIn(("alice/tree/deep/猫.txt", "file", 4), paths)
        self.assertRegex(
            self.bert("ls", "alice:alice/my_file.txt").stdout, rf"\tfile\t{len(TEXT)}\t"
        )
        missing = self.bert("ls", "alice:alice/nope")
        self.assertEqual((missing.returncode, missing.stdout), (4, ""))
        self.assertIn("'alice/nope'", missing.stderr)

    def test_get(self) -> None:
        """A file, a folder and a glob arrive unchanged, and a second run fetches nothing."""
        folder = self.near.folder()
        words = ("get", "alice:alice/my_file.txt", "alice:alice/tree", "alice:alice/*.png")
        done = self.bert(*words, cwd=folder)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertRegex(done.stdout, r"Saved my_file\.txt: .*\n")
        self.assertRegex(done.stdout, r"\n4 files, .* in .* s, .*/s\.\n$")
        self.assertEqual((folder / "my_file.txt").read_bytes(), TEXT)
        np.testing.assert_array_equal(self.pixels_of(folder / "my_file.png"), self.near.pixels)
        self.assertEqual((folder / "tree" / "deep" / "猫.txt").read_text(), "miau")
        again = self.bert(*words, "--json", cwd=folder)
        *saved, summary = (
            event
            for event in self.assert_events(again.stdout)
            if event["event"] not in ("connected", "progress")
        )
        self.assertTrue(all(event["already_there"] for event in saved))
        self.assertEqual((summary["files"], summary["already_there"]), (0, 4))
        self.assertEqual(sorted(os.listdir(folder)), ["my_file.png", "my_file.txt", "tree"])

    def test_standard_output(self) -> None:
        """A pipe gets the bytes of a file and nothing else, and one whose reader leaves ends the command as usual."""
        big = self.near.home / "alice" / "stream.bin"
        big.write_bytes(os.urandom((6 << 20) + 5))
        self.addCleanup(big.unlink)
        words = [*P2PSHARE, "get", "alice:alice/stream.bin", "-", "--name", "bert", "--json"]
        start = functools.partial(
            Popen, words, env=self.near.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        process = start()
        written, events = process.communicate(timeout=PATIENCE)
        self.assertTrue(written == big.read_bytes())
        saved, summary = self.assert_events(events.decode())[-2:]
        self.assertEqual((process.returncode, saved["path"], summary["files"]), (0, "-", 1))
        process = start()
        assert process.stdout is not None
        self.assertEqual(process.stdout.read(5), written[:5])
        process.stdout.close()
        self.assertEqual(process.wait(PATIENCE), 141)
        assert process.stderr is not None
        with process.stderr as rest:
            self.assertNotIn(b"error", rest.read())

    def test_ascii_locale(self) -> None:
        """File names are UTF-8 in any locale; only the display is escaped."""
        folder = self.near.folder()
        (folder / "ñ").mkdir()
        words = ("get", "alice:alice/tree/deep/猫.txt", "ñ", "--name", "bert")
        done = self.near.run(*words, cwd=folder, environ=ASCII)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(done.stdout, "Saved \\xf1/\\u732b.txt: 4 bytes.\n")
        self.assertEqual((folder / "ñ" / "猫.txt").read_text(), "miau")

    def test_one_fails(self) -> None:
        """A missing item is reported and the rest is fetched; alone it has its own exit code."""
        folder = self.near.folder()
        done = self.bert("get", "alice:nope", "alice:alice/my_file.txt", cwd=folder)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"^p2pshare: 'alice' shares no 'nope'.*\n$")
        self.assertEqual((folder / "my_file.txt").read_bytes(), TEXT)
        self.assertEqual(self.bert("get", "alice:nope", cwd=folder).returncode, 4)

    def test_stopped_and_again(self) -> None:
        """Ctrl+C and a kill keep the verified blocks, and the same command continues from there."""
        folder = self.near.folder()
        big = self.near.home / "alice" / "big.bin"
        big.write_bytes(os.urandom(12 << 20))
        self.addCleanup(big.unlink)
        words = [*P2PSHARE, "get", "alice:alice/big.bin", "--name", "bert", "--json"]
        for number in (signal.SIGINT, signal.SIGKILL):
            process = Popen(
                [*words, "--limit", "3MB/s"],
                cwd=folder,
                env=self.near.environ,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            assert process.stdout is not None
            done = 0
            while done < 2 << 20:
                line = process.stdout.readline()
                self.assertTrue(line, "it ended by itself")
                done = json.loads(line).get("done", 0)
            process.send_signal(number)
            process.communicate(timeout=PATIENCE)
            self.assertEqual(process.returncode, 130 if number == signal.SIGINT else -number)
            self.assertFalse((folder / "big.bin").exists())
        done_again = self.bert("get", "alice:alice/big.bin", "--json", cwd=folder)
        (saved,) = (
            event for event in self.assert_events(done_again.stdout) if event["event"] == "saved"
        )
        self.assertLess(saved["fetched"], saved["size"])
        self.assertEqual((folder / "big.bin").read_bytes(), big.read_bytes())
        self.assertEqual(os.listdir(folder), ["big.bin"])

    def test_terminal(self) -> None:
        """On a terminal, a job shows one line that fits and disappears; Ctrl+C reports the blocks that are kept."""
        big = self.near.home / "alice" / "large.bin"
        big.write_bytes(os.urandom(6 << 20))
        self.addCleanup(big.unlink)
        run = TerminalRun(
            self.near, 40, "get", "alice:alice/large.bin", "--name", "bert", "--limit", "1MB/s"
        )
        self.addCleanup(run.close)
        run.expect("%")
        run.type("\x03")
        self.assertEqual(run.exit_code(), 130)
        self.assertFalse(run.screen.wrapped)
        self.assertIn("stopped: verified data is kept", run.shown)
        self.assertNotIn("%", run.shown)

    def test_not_in_the_clear(self) -> None:
        """A peer without a proven key is not asked without --classic (threat 36)."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as welcome:
            welcome.bind(("127.0.0.1", 0))
            port = welcome.getsockname()[1]
            self.near.register("plain", port)
            self.addCleanup(self.near.register, "plain", port, lease=0)
            done = self.bert("get", "plain:my_file.txt")
            self.assertEqual((done.returncode, done.stdout), (3, ""))
            self.assertRegex(done.stderr, "'plain' .*--classic")
            welcome.setblocking(False)
            with self.assertRaises(BlockingIOError):
                welcome.recvfrom(100)


class DialogTests(CommandLineTestCase):
    def start(self, columns: int, *words: str, **environ: str) -> TerminalRun:
        run = TerminalRun(self.near, columns, *words, **environ)
        self.addCleanup(run.close)
        return run

    def test_whole(self) -> None:
        """The dialog: invalid names, absent users, both files, and the end."""
        run = self.start(80, "--share", str(self.near.home / "carol"))
        run.answer("Your name:", "alice")
        run.expect("The name 'alice' is taken")
        run.answer("Your name:", "two words")
        run.expect("is not a valid name")
        run.answer("Your name:", "carol")
        run.expect("Here now: alice, carol (you)")
        self.assertIn("You share carol, with everyone whose key owns a name", run.shown)
        for whom, complaint in (
            ("nobody", "Nobody is registered as 'nobody'"),
            ("carol", "You cannot get files from yourself."),
        ):
            run.answer("Get files from:", whom)
            run.expect(complaint)
        run.answer("Get files from:", "alice")
        run.expect("Open or get:")
        self.assertIn("1  alice/", run.shown)
        run.answer("Open or get:", "1")
        run.expect("alice:alice:")
        run.answer("Open or get:", "my_file.txt")
        run.expect("Saved my_file.txt")
        run.answer("Open or get:", "get /alice")
        run.expect("Saved alice/my_file.txt")
        run.answer("Open or get:", "")
        for name in ("my_file.txt", "alice/my_file.txt"):
            self.assertEqual((run.folder / name).read_bytes(), TEXT)
        run.expect("Get files from:")
        run.type("qu")
        run.expect("Get files from: qu")
        words = ("--name", "dora", "get", "carol:carol/my_file.txt", "dora.txt")
        self.assertEqual(self.near.run(*words, cwd=run.folder).returncode, 0)
        run.expect("dora is done: 1 file")
        run.expect("Get files from: qu")
        run.type("it\r")
        self.assertEqual(run.exit_code(), 0)
        self.assertFalse(run.screen.wrapped)
        self.assertEqual(self.near.names(), ["alice"])

    def test_narrow_without_colours(self) -> None:
        """With 40 columns no line is too long, with NO_COLOR there is no colour, and Ctrl+C ends the dialog."""
        run = self.start(40, "--name", "dave", NO_COLOR="1")
        run.expect("Get files from:")
        self.assertIn("You share nothing", run.shown)
        again = self.near.run("--name", "dave")
        self.assertEqual(again.returncode, 3)
        self.assertRegex(again.stderr, r"'dave' .*\d+.* --data")
        run.answer("Get files from:", "alice")
        run.answer("Open or get:", "alice/my_file.txt")
        run.expect("Saved my_file.txt")
        run.answer("Open or get:", "")
        run.expect("Get files from:")
        run.type("ali")
        run.expect("Get files from: ali")
        pressed = time.monotonic()
        run.type("\x03")
        self.assertEqual(run.exit_code(), 130)
        self.assertLess(time.monotonic() - pressed, SOON)
        self.assertEqual(run.screen.shown()[-2:], ["Get files from: ali", "stopped"])
        self.assertFalse(run.screen.wrapped)
        self.assertNotRegex(run.written, r"\x1b\[[0-9;]*m")
        self.assertEqual(self.near.names(), ["alice"])

    def test_terminal_closed(self) -> None:
        """Closing the terminal ends the presence without an error, even if SIGHUP is ignored."""
        for number, handler in enumerate((signal.SIG_DFL, signal.SIG_DFL, signal.SIG_IGN)):
            log, name = self.near.home / "hang-up.log", f"finn{number}"
            before = signal.signal(signal.SIGHUP, handler)
            try:
                run = self.start(80, "--name", name, "--debug", str(log))
            finally:
                signal.signal(signal.SIGHUP, before)
            run.expect("Get files from:")
            run.type("ali")
            run.expect("Get files from: ali")
            self.assertIn(run.hang_up(), (128 + signal.SIGHUP, 0))
            listed = self.near.run("users", "--prefix", name).stdout
            self.assertRegex(listed, rf"^{name}\toffline\t")
            self.assertNotIn("Traceback", log.read_text())

    def test_invitation(self) -> None:
        """An invitation, typed or from a file, is needed once per name."""
        url = self.near.invite_only()
        words = ("invite", "--data", "closed", "--count", "2", "--quiet")
        first, second = self.near.run(*words).stdout.split()
        run = self.start(80, "--name", "ned", P2PSHARE_REGISTRY=url)
        run.expect("Your invitation:")
        self.assertIn("by invitation only", run.shown)
        run.type("nonsense\r")
        run.expect("rejected the invitation")
        run.answer("Your invitation:", first)
        run.expect("Get files from:")
        run.type("quit\r")
        self.assertEqual(run.exit_code(), 0)
        file = self.near.home / "invitation"
        for invitation, code in ((first, 3), (second, 0)):
            file.write_text(invitation + "\n")
            flags = ("--name", "olga", "--registry", url, "--invitation", str(file))
            self.assertEqual(self.near.run(*flags).returncode, code)
        self.assertEqual(self.near.run("--name", "olga", "--registry", url).returncode, 0)

    def test_join(self) -> None:
        """A link with an invitation joins one new name, and then no command needs flags."""
        url, folder = self.near.invite_only(), self.near.folder()
        file = folder / "invitation"
        words = ("invite", "--data", "closed", "--quiet")
        file.write_text(self.near.run(*words).stdout)
        flags = ("--registry", url, "--url", url, "--invitation", str(file))
        link = self.near.run("invite", "--quiet", *flags).stdout.strip()
        environ = {"XDG_CONFIG_HOME": str(folder), "P2PSHARE_REGISTRY": "", "P2PSHARE_NAME": ""}
        run = self.start(80, "join", **environ)
        run.answer("The link:", link)
        run.answer("Your name:", "petra")
        run.expect("You are petra")
        self.assertEqual(run.exit_code(), 0)
        done = self.near.run("users", environ=environ)
        self.assertRegex(done.stdout, r"(?m)^petra\t")
        done = self.near.run("join", link, "--name", "paul", "--force", environ=environ)
        self.assertEqual(done.returncode, 3, done.stderr)

    def test_documented(self) -> None:
        """The documented example with answers from a pipe works; a wrong answer gives an exit code."""
        (example,) = re.findall(r"`(printf '.*' \| p2pshare)`", DOCUMENT.read_text())
        folder = self.near.folder()
        answers = example.split("'")[1].replace("\\n", "\n")
        done = self.near.run(cwd=folder, answers=answers)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual((folder / "my_file.txt").read_bytes(), TEXT)
        for wrong, code in (("nobody", 4), ("two words", 2), ("get alice:none", 4)):
            done = self.near.run("--name", "carol", cwd=folder, answers=f"{wrong}\n")
            self.assertEqual(done.returncode, code, done.stdout)

    def test_transfer_stopped(self) -> None:
        """Ctrl+C during a transfer ends the transfer; Ctrl+C at the question ends the dialog."""
        big = self.near.home / "alice" / "long.bin"
        big.write_bytes(os.urandom(8 << 20))
        self.addCleanup(big.unlink)
        next_one = self.near.home / "alice" / "next.bin"
        next_one.write_bytes(os.urandom(2 << 20))
        self.addCleanup(next_one.unlink)
        run = self.start(40, "--name", "gina", "--limit", "1MB/s")
        run.answer("Get files from:", "help")
        run.expect("to FOLDER")
        run.answer("Get files from:", "to new/")
        run.expect("now on.")
        run.answer("Get files from:", "alice:alice")
        run.expect("[alice:alice] Open or get:")
        run.answer("Open or get:", "long.bin")
        run.expect("B/s")
        run.type("\x03")
        run.expect("Stopped.")
        self.assertIn("The verified part is kept", run.shown)
        run.answer("Open or get:", "next.bin")  # takes longer than a command has after a signal
        run.expect("Saved new/next.bin: 2.0 MiB")
        run.answer("Open or get:", "ls")
        run.expect("my_file.png")
        run.expect("[alice:alice] Open or get:")
        run.type("\x03")
        self.assertEqual(run.exit_code(), 130)
        self.assertFalse(run.screen.wrapped)
        saved = run.folder / "new" / "next.bin"
        self.assertEqual(saved.read_bytes(), next_one.read_bytes())
        self.assertEqual(self.near.names(), ["alice"])

    def test_pipe(self) -> None:
        """Answers may come from a pipe; at its end the dialog finishes its work and exits."""
        folder = self.near.folder()
        done = self.near.run(cwd=folder, answers="alice\nerin\nalice\n1\nmy_*.txt\nnone")
        self.assertEqual(done.returncode, 1)  # a name that is taken, and a file that is not there
        self.assertEqual(os.listdir(folder), ["my_file.txt"])
        self.assertEqual((folder / "my_file.txt").read_bytes(), TEXT)
        self.assertIn("Your name: alice\nThe name 'alice' is taken", done.stdout)
        self.assertIn("Open or get: my_*.txt\nSaved my_file.txt", done.stdout)
        self.assertRegex(done.stdout, "'alice' .*'alice/none'")
        self.assertNotIn("\x1b", done.stdout)
        self.assertEqual(self.near.names(), ["alice"])


class DemoTests(CommandLineTestCase):
    def test_exact(self) -> None:
        """The demonstration runs completely under any user settings and leaves no files or processes."""
        upset = {"P2PSHARE_NAME": "NOT A NAME", "P2PSHARE_SHARE": "/nonexistent"}
        done = self.near.run("demo", "--json", environ=upset)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        events = self.assert_events(done.stdout)
        users = [(e["name"], e["presence"]) for e in events if e["event"] == "user"]
        both = [("alice", "online"), ("bob", "online")]
        self.assertEqual(users, [*both, ("alice", "online"), ("bob", "offline")])
        (alice,) = (event for event in events if event["event"] == "whoami")
        self.assertEqual(
            (alice["name"], alice["state"], len(alice["key"])), ("alice", "online", 52)
        )
        compared = [(e["kind"], e["same"]) for e in events if e["event"] == "compared"]
        self.assertEqual(compared, [("text", True), ("picture", True), ("picture", True)])
        self.assertEqual(os.listdir(self.near.home / "tmp"), [])

    def test_stopped(self) -> None:
        """The demonstration, stopped half-way, leaves no process and no folder."""
        process = Popen(
            [*P2PSHARE, "demo", "--json"], env=self.near.environ, stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        with process.stdout as output:
            for line in output:
                if json.loads(line).get("command") == "p2pshare users":
                    break
            children = children_of(process.pid)
            self.assertEqual(len(children), 3)
            process.terminate()
            self.assertEqual(process.wait(PATIENCE), 143)
        self.assertFalse([pid for pid in children if is_alive(pid)])
        self.assertEqual(os.listdir(self.near.home / "tmp"), [])
