"""The command `p2pshare` as a process, on pipes and on terminals, with a real registry and a real peer."""

from __future__ import annotations

import atexit
import codecs
import contextlib
import errno
import fcntl
import functools
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import time
import unittest
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from p2pshare.pictures.decoding import read_picture
from p2pshare.pictures.png import write_png
from p2pshare.storage.known_peers import KnownPeers
from p2pshare.wire.classic import Pixels
from p2pshare.wire.keys import SigningKey
from p2pshare.wire.registration import PeerAddress, Registration
from tests.ui.screens import Screen

P2PSHARE = [sys.executable, "-c", "import sys; from p2pshare.ui.main import main; sys.exit(main())"]
TWISTD = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "-n"]
PATIENCE = 20.0  # seconds for a process on a busy machine
DOCUMENT = Path(__file__).parents[2] / "docs" / "command-line.md"
_CUT_ESCAPE = re.compile(r"\x1b(\[[?0-9;]*)?\Z")  # one of which the rest is still to come
TEXT = b"".join(b"line %d\n" % n for n in range(50_000))


def documented_events() -> dict[str, set[str]]:
    """The keys of each event, as the document has them."""
    (block,) = re.findall(r"```json\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    events = [json.loads(line) for line in block.splitlines()]
    return {event["event"]: set(event) for event in events}


def free_port() -> int:
    """A TCP port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Neighbourhood:
    """A registry and alice's peer, in a folder that is home to all that is run here."""

    def __init__(self) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="p2p-")
        self.home = Path(self._temporary.name)
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("P2PSHARE_", "NO_COLOR"))}
        self.environ = kept | {
            "XDG_CONFIG_HOME": str(self.home / "config"),
            "XDG_DATA_HOME": str(self.home / "data"),
            "TMPDIR": str(self.home / "tmp"),
            "P2PSHARE_REGISTRY": self.url,
            "TERM": "xterm-256color",
            "COLUMNS": "80",
        }
        self.pixels: Pixels = np.random.default_rng(1).integers(0, 256, (60, 90, 3), np.uint8)
        for name in ("alice", "carol", "tmp"):
            (self.home / name).mkdir()
        (self.home / "alice" / "my_file.txt").write_bytes(TEXT)
        (self.home / "carol" / "my_file.txt").write_bytes(b"of carol\n")
        with open(self.home / "alice" / "my_file.png", "wb") as file:
            write_png(self.pixels, file)
        listen = f"tcp:{port}:interface=127.0.0.1"
        self._children = [
            self._twistd("p2pregistry", "--listen", listen, "--data", "names"),
            self._twistd("p2ppeer", "--name", "alice", "--share", "alice", "--data", "a"),
        ]
        deadline = time.monotonic() + PATIENCE
        while "alice" not in self.names():
            assert time.monotonic() < deadline, "the services did not start"
            time.sleep(0.05)

    def invite_only(self) -> str:
        """The URL of a further registry, whose folder is `closed`."""
        port = free_port()
        listen = f"tcp:{port}:interface=127.0.0.1"
        words = ("--listen", listen, "--data", "closed", "--invite-only")
        self._children.append(self._twistd("p2pregistry", *words))
        deadline = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port)).close()
                return f"http://127.0.0.1:{port}"
            assert time.monotonic() < deadline, "the registry did not start"
            time.sleep(0.05)

    def _twistd(self, *words: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*TWISTD, *words],
            cwd=self.home,
            env=self.environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def names(self) -> list[str]:
        """Who is registered; nobody while the registry is not there."""
        try:
            with urllib.request.urlopen(f"{self.url}/list", timeout=5) as reply:
                return sorted(json.load(reply))
        except urllib.error.URLError:
            return []

    def register(self, name: str, port: int, lease: int = 90) -> None:
        """Register somebody on this machine; a lease of 0 ends that."""
        address = PeerAddress("127.0.0.1", port)
        body = Registration(name, address, token="t" * 43, lease=lease).to_json()
        urllib.request.urlopen(f"{self.url}/name", body, timeout=5).close()

    def folder(self) -> Path:
        """A new, empty folder."""
        return Path(tempfile.mkdtemp(dir=self.home))

    def run(
        self,
        *words: str,
        cwd: Path | None = None,
        answers: str = "",
        environ: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run the command on pipes."""
        return subprocess.run(
            [*P2PSHARE, *words],
            cwd=cwd or self.home,
            env=self.environ | dict(environ or {}),
            input=answers,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    def end(self) -> None:
        for child in reversed(self._children):
            child.terminate()
            child.wait(PATIENCE)
        self._temporary.cleanup()


@functools.cache
def neighbourhood() -> Neighbourhood:
    """One for all tests, since it takes its time to start."""
    near = Neighbourhood()
    atexit.register(near.end)
    return near


class TerminalRun:
    """The command on a terminal of its own, where it is the foreground process."""

    def __init__(self, near: Neighbourhood, columns: int, *words: str, **environ: str) -> None:
        self.screen = Screen(columns)
        self.folder = near.folder()
        self.written = ""
        self._fed = 0  # characters of that which the screen has got
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._master, self._slave = pty.openpty()
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.mode = termios.tcgetattr(self._slave)
        environment = {k: v for k, v in near.environ.items() if k != "COLUMNS"} | environ
        self.process = subprocess.Popen(
            [*P2PSHARE[:-1], f"import os; os.login_tty(0); {P2PSHARE[-1]}", *words],
            cwd=self.folder,
            env=environment,
            stdin=self._slave,
        )

    def expect(self, text: str) -> None:
        """Wait until the last lines of the screen have this in them."""
        deadline = time.monotonic() + PATIENCE
        while text not in "\n".join(self.screen.shown()[-3:]):
            assert self._read(deadline), f"{text!r} did not come, but:\n{self.shown}"

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def answer(self, question: str, line: str) -> None:
        """Wait for a question, and answer it."""
        self.expect(question)
        self.type(line + "\r")

    def exit_code(self) -> int:
        """Wait for the end; the terminal must be as it was before."""
        deadline = time.monotonic() + PATIENCE
        while self.process.poll() is None and time.monotonic() < deadline:
            self._read(time.monotonic() + 0.05)
        while self._read(time.monotonic() + 0.05):
            pass
        assert termios.tcgetattr(self._slave) == self.mode, "the terminal was not restored"
        assert not self.screen.cursor_hidden
        return self.process.wait(0)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)
        os.close(self._slave)

    @property
    def shown(self) -> str:
        return "\n".join(self.screen.shown())

    def _read(self, deadline: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], max(0, deadline - time.monotonic()))
        if not ready:
            return False
        self.written += self._decoder.decode(os.read(self._master, 1 << 16))
        whole = _CUT_ESCAPE.sub("", self.written)
        self.screen.feed(whole[self._fed :])
        self._fed = len(whole)
        return True


class CommandLineTestCase(unittest.TestCase):
    def setUp(self) -> None:
        self.near = neighbourhood()

    def pixels_of(self, path: Path) -> Pixels:
        with open(path, "rb") as file:
            return read_picture(file)

    def assert_events(self, output: str) -> list[dict[str, Any]]:
        """Every line is an event with just the keys that are documented."""
        documented = documented_events()
        events: list[dict[str, Any]] = [json.loads(line) for line in output.splitlines()]
        for event in events:
            self.assertEqual(set(event), documented[event["event"]])
        return events


class VerbTests(CommandLineTestCase):
    def test_users(self) -> None:
        """Who is there, one a line; as events; and quietly."""
        online = ("users", "--online")
        self.assertRegex(self.near.run(*online).stdout, r"^alice\tonline\t[-0-9T:]+Z\towned\n$")
        self.assertEqual(self.near.run(*online, "--quiet").stdout, "alice\n")
        (event,) = self.assert_events(self.near.run(*online, "--json").stdout)
        self.assertEqual(
            (event["name"], event["kind"], event["presence"]), ("alice", "owned", "online")
        )
        self.assertEqual(self.near.run("users", "--prefix", "b", "--quiet").stdout, "")

    def test_get(self) -> None:
        """A text and a picture arrive as they are; nothing is overwritten unless asked."""
        folder = self.near.folder()
        for _ in range(2):
            done = self.near.run("get", "alice:my_file.txt", "alice:my_file.jpg", cwd=folder)
            self.assertEqual((done.returncode, done.stderr), (0, "alice.txt\nalice.png\n"))
        self.assertRegex(done.stdout, r"Saved alice \(1\)\.txt: .*\nNot verified: ")
        self.assertRegex(done.stdout, r"Saved alice \(1\)\.png: 90 x 60 pixels in .*\nVerified: ")
        names = ["alice (1).png", "alice (1).txt", "alice.png", "alice.txt"]
        self.assertEqual(sorted(os.listdir(folder)), names)
        self.assertEqual((folder / "alice (1).txt").read_bytes(), TEXT)
        for name in names[::2]:
            np.testing.assert_array_equal(self.pixels_of(folder / name), self.near.pixels)
        done = self.near.run("get", "--force", "--quiet", "alice:my_file.txt", cwd=folder)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))
        self.assertEqual(sorted(os.listdir(folder)), names)

    def test_json(self) -> None:
        """Programs get events with the documented keys, and one failure stops nothing else."""
        folder = self.near.folder()
        words = ("bob:my_file.txt", "alice:my_file.jpg", "alice:my_file.txt")
        done = self.near.run("get", "--json", *words, cwd=folder)
        self.assertEqual((done.returncode, done.stderr), (4, ""))
        events = self.assert_events(done.stdout)
        self.assertEqual((events[0]["kind"], events[0]["exit_code"]), ("no_such_peer", 4))
        picture, text = (event for event in events if event["event"] == "fetched")
        self.assertEqual(
            (picture["bytes"], picture["width"], picture["height"]), (90 * 60 * 3, 90, 60)
        )
        self.assertEqual((text["path"], text["bytes"]), (str(folder / "alice.txt"), len(TEXT)))
        self.assertEqual((picture["verified"], text["verified"]), (True, False))

    def test_exit_codes(self) -> None:
        """Each kind of failure is one line on stderr, and a code of its own."""
        nowhere = {"P2PSHARE_REGISTRY": "http://127.0.0.1:1"}
        for words, environ, code in (
            (("gte",), {}, 2),
            (("get", "alice"), {}, 2),
            (("get", "alice:my_file.jpg", "x.jpg"), nowhere, 2),
            (("get", "alice:my_file.txt", "--name", "alice"), nowhere, 2),
            (("users",), {"P2PSHARE_REGISTRY": "ftp://x"}, 2),
            (("get", "bob:my_file.txt"), {}, 4),
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
        """So is a folder in which nothing can be saved, for it is known before anything comes."""
        done = self.near.run("get", "alice:my_file.txt", "/proc")
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertRegex(done.stderr, r"^p2pshare: /proc/alice.txt cannot be written: .*\.\n$")

    def test_defect(self) -> None:
        """A defect is a sentence, too; its traceback goes to the file that was named, only."""
        broken = "import p2pshare.ui.verbs as verbs; verbs.parse_wanted = None;"
        log = self.near.home / "log"
        for flags in ([], ["--debug", str(log)]):
            done = subprocess.run(
                [sys.executable, "-c", broken + P2PSHARE[-1], "get", "alice:my_file.txt", *flags],
                env=self.near.environ,
                capture_output=True,
                text=True,
                timeout=PATIENCE,
            )
            self.assertEqual((done.returncode, done.stdout), (1, ""))
            self.assertRegex(done.stderr, r"^p2pshare: A defect .*TypeError: .*(log|--debug).*\n$")
            self.assertEqual(done.stderr.count("\n"), 1)
        self.assertIn("Traceback", log.read_text())

    def test_reader_leaves(self) -> None:
        """A reader that has seen enough is no reason for a complaint."""
        process = subprocess.Popen(
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
        """A full disk behind stdout, or a stdout that is closed, is one sentence."""
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
        """A signal stops a fetch within a second, and nothing of the file stays."""
        folder = self.near.folder()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as welcome:
            welcome.bind(("127.0.0.1", 0))
            welcome.settimeout(PATIENCE)
            port = welcome.getsockname()[1]
            self.near.register("slow", port)
            self.addCleanup(self.near.register, "slow", port, lease=0)
            for number, flags in ((signal.SIGINT, ["--quiet"]), (signal.SIGTERM, ["--json"])):
                process = subprocess.Popen(
                    [*P2PSHARE, "get", "slow:my_file.txt", *flags],
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
                    self.assertLess(time.monotonic() - sent, 1.5)
                self.assertEqual((process.returncode, error), (128 + number, b""))
                self.assertEqual(os.listdir(folder), [])

    def assert_progress(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        started, progress = (process.stdout.readline().decode() for _ in range(2))
        (event,) = self.assert_events(progress)
        self.assertEqual((event["done"], event["total"], event["unit"]), (16, None, "bytes"))
        self.assertEqual(json.loads(started)["event"], "started")


class OwnerTests(CommandLineTestCase):
    def join(self, name: str) -> None:
        """Claim a name, and leave."""
        self.assertEqual(self.near.run("--name", name, answers="").returncode, 0)

    def whoami(self, *words: str) -> dict[str, Any]:
        (event,) = self.assert_events(self.near.run("whoami", "--json", *words).stdout)
        return event

    def test_whoami(self) -> None:
        """A running peer is found by its socket; who was never there has no key yet."""
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
        self.assertIn("unknown: the registry is away (nothing listens there)", away.stdout)
        self.assertEqual(self.near.run("whoami").returncode, 2)

    def test_release(self) -> None:
        """A name is given up only if that was said, and is then nobody's."""
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
        """On a terminal it asks first; anything but yes changes nothing."""
        self.join("hal")
        for keys, code in (("no\r", 1), ("\x03", 130)):
            run = TerminalRun(self.near, 80, "release", "--name", "hal")
            self.addCleanup(run.close)
            run.expect("Give the name hal up for good? (yes/no)")
            run.type(keys)
            self.assertEqual(run.exit_code(), code)
        self.assertEqual(self.whoami("--name", "hal")["state"], "offline")

    def rotate(self, *words: str) -> dict[str, Any]:
        done = self.near.run("key", "rotate", "--json", *words)
        (event,) = self.assert_events(done.stdout)
        self.assertEqual((done.returncode, event["event"]), (0, "rotated"))
        return event

    def test_rotate_alone(self) -> None:
        """While no peer runs, the verb itself lets a new key follow, and nobody is seen online."""
        self.join("ian")
        before = self.whoami("--name", "ian")["key"]
        event = self.rotate("--name", "ian")
        after = self.whoami("--name", "ian")
        self.assertEqual((event["old"], event["key"]), (before, after["key"]))
        self.assertEqual(after["state"], "offline")

    def test_rotate_running(self) -> None:
        """A running peer does it; who knew the old key is told, and follows."""
        get = ("get", "alice:my_file.txt", "--name", "bob")
        self.assertEqual(self.near.run(*get, cwd=self.near.folder()).returncode, 0)
        event = self.rotate("--name", "alice", "--data", "a")
        self.assertEqual(self.whoami("--name", "alice", "--data", "a")["key"], event["key"])
        done = self.near.run(*get, cwd=self.near.folder())
        self.assertEqual(done.returncode, 0)
        self.assertIn("alice has a new key", done.stderr)

    def test_another_key(self) -> None:
        """A key that is not the known one, and did not follow it, gets nothing saved."""
        folder, me = self.near.folder(), ("--name", "joe", "--data", "j")
        KnownPeers(self.near.home / "j", self.near.url).pin(
            "alice", SigningKey(bytes(32)).public, None
        )
        done = self.near.run("get", "alice:my_file.txt", folder.name, *me)
        self.assertEqual((done.returncode, done.stdout), (3, ""))
        self.assertRegex(
            done.stderr, r"^p2pshare: The key of 'alice' is another one .*key forget alice`\.\n$"
        )
        self.assertEqual(os.listdir(folder), [])
        self.assertEqual(self.near.run("key", "forget", "alice", *me).returncode, 0)
        self.assertEqual(self.near.run("get", "alice:my_file.txt", folder.name, *me).returncode, 0)

    def test_key_file(self) -> None:
        """A passphrase is asked for without an echo, twice; with it the key is had again elsewhere."""
        self.join("kim")
        run = TerminalRun(self.near, 40, "key", "export", "--name", "kim", "kim.key")
        self.addCleanup(run.close)
        for question, answer in (
            ("A new passphrase", "short"),
            ("A new passphrase", "long enough"),
            ("The same again:", "not the same"),
            ("Those are not the same.", "long enough"),
            ("The same again:", "long enough"),
        ):
            run.expect(question)
            time.sleep(0.2)  # what is typed before the echo is off would be shown, and dropped
            run.type(answer + "\r")
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

    @unittest.skipUnless(os.path.exists("/dev/full"), "needs /dev/full")
    def test_no_export(self) -> None:
        """Without a terminal, or with a file that is there, there is a sentence."""
        self.join("leo")
        passphrase = self.near.home / "leo.txt"
        passphrase.write_text("long enough")
        for file, code in (("/dev/full", 1), ("/nonexistent/leo.key", 1)):
            words = ("key", "export", file, "--passphrase-file", str(passphrase), "--name", "leo")
            done = self.near.run(*words)
            self.assertEqual((done.returncode, done.stdout), (code, ""))
            self.assertRegex(done.stderr, r"^p2pshare: .* cannot be written: .*\n$")

    def test_invite(self) -> None:
        """The operator gets invitations, one a line, from the registry's folder."""
        done = self.near.run("invite", "--data", "names", "--count", "2")
        self.assertEqual((done.returncode, len(set(done.stdout.split()))), (0, 2))
        done = self.near.run("invite", "--data", "names", "--json")
        (event,) = self.assert_events(done.stdout)
        self.assertEqual(event["event"], "invitation")
        self.assertEqual(self.near.run("invite").returncode, 4)


class WatchTests(CommandLineTestCase):
    def test_events(self) -> None:
        """Who comes and goes is told as it happens, until Ctrl+C."""
        process = subprocess.Popen(
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
        """A terminal has a table that changes in place, and that stays when Ctrl+C ends it."""
        run = TerminalRun(self.near, 40, "users", "--watch", "--online", "--name", "alice")
        self.addCleanup(run.close)
        run.expect("1 online - Ctrl+C ends it")
        self.assertIn("alice (you)  online", run.shown)
        run.type("\x03")
        self.assertEqual(run.exit_code(), 130)
        self.assertEqual(run.screen.shown()[-1], "stopped")
        self.assertFalse(run.screen.wrapped)


class DialogTests(CommandLineTestCase):
    def start(self, columns: int, *words: str, **environ: str) -> TerminalRun:
        run = TerminalRun(self.near, columns, *words, **environ)
        self.addCleanup(run.close)
        return run

    def test_whole(self) -> None:
        """Names that will not do, users that are not there, both files, and the end."""
        run = self.start(80, "--share", str(self.near.home / "carol"))
        run.answer("Your name:", "alice")
        run.expect("The name 'alice' is taken")
        run.answer("Your name:", "two words")
        run.expect("none of the reserved words")
        run.answer("Your name:", "carol")
        run.expect("Here now: alice, carol (you)")
        self.assertIn("You share my_file.txt, with everyone", run.shown)
        for whom, complaint in (
            ("nobody", "Nobody is registered as 'nobody'"),
            ("carol", "You cannot get files from yourself."),
        ):
            run.answer("Get files from:", whom)
            run.expect(complaint)
        for which, verdict in (("t", "Not verified"), ("I", "Verified")):
            run.answer("Get files from:", "alice")
            run.answer("Image or text (I/T):", which)
            run.expect(verdict)
        self.assertEqual((run.folder / "alice.txt").read_bytes(), TEXT)
        np.testing.assert_array_equal(self.pixels_of(run.folder / "alice.png"), self.near.pixels)
        self.assertIn("▀", run.shown)
        run.expect("Get files from:")
        run.type("qu")
        run.expect("Get files from: qu")
        self.assertEqual(self.near.run("get", "carol:my_file.txt", cwd=run.folder).returncode, 0)
        run.expect("127.0.0.1 fetched your text")
        run.expect("Get files from: qu")
        run.type("it\r")
        self.assertEqual(run.exit_code(), 0)
        self.assertFalse(run.screen.wrapped)
        self.assertEqual(self.near.names(), ["alice"])

    def test_narrow_without_colours(self) -> None:
        """With 40 columns nothing sticks out, with NO_COLOR nothing is coloured, and Ctrl+C ends it."""
        run = self.start(40, "--name", "dave", NO_COLOR="1")
        run.expect("Get files from:")
        self.assertIn("You share nothing", run.shown)
        again = self.near.run("--name", "dave")
        self.assertEqual(again.returncode, 3)
        self.assertIn("'dave' is already running on this machine", again.stderr)
        run.answer("Get files from:", "alice")
        run.answer("Image or text (I/T):", "i")
        run.expect("Verified")
        run.expect("Get files from:")
        run.type("ali")
        run.expect("Get files from: ali")
        pressed = time.monotonic()
        run.type("\x03")
        self.assertEqual(run.exit_code(), 130)
        self.assertLess(time.monotonic() - pressed, 1.5)
        self.assertEqual(run.screen.shown()[-2:], ["Get files from: ali", "stopped"])
        self.assertFalse(run.screen.wrapped)
        self.assertNotRegex(run.written, r"\x1b\[[0-9;]*m")
        self.assertEqual(self.near.names(), ["alice"])

    def test_invitation(self) -> None:
        """A registry that wants an invitation is told one, on the terminal or in a file, once for each name."""
        url = self.near.invite_only()
        words = ("invite", "--data", "closed", "--count", "2", "--quiet")
        first, second = self.near.run(*words).stdout.split()
        run = self.start(80, "--name", "ned", P2PSHARE_REGISTRY=url)
        run.expect("Your invitation:")
        self.assertIn("takes new names by invitation only", run.shown)
        run.type("nonsense\r")
        run.expect("does not take this invitation")
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

    def test_pipe(self) -> None:
        """Answers may come from a pipe; at their end it finishes what it does."""
        folder = self.near.folder()
        done = self.near.run(cwd=folder, answers="alice\nerin\nalice\nT\nalice\ni")
        self.assertEqual(done.returncode, 0)
        self.assertEqual(sorted(os.listdir(folder)), ["alice.png", "alice.txt"])
        self.assertEqual((folder / "alice.txt").read_bytes(), TEXT)
        self.assertIn("Your name: alice\nThe name 'alice' is taken", done.stdout)
        self.assertIn("Image or text (I/T): T\nSaved alice.txt", done.stdout)
        self.assertNotIn("\x1b", done.stdout)
        self.assertEqual(self.near.names(), ["alice"])


class DemoTests(CommandLineTestCase):
    def test_exact(self) -> None:
        """It shows all of it, whatever the user's settings, and leaves nothing behind."""
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
        self.assertEqual(compared, [("text", True), ("picture", True)])
        self.assertEqual(os.listdir(self.near.home / "tmp"), [])

    def test_stopped(self) -> None:
        """Stopped half-way, it leaves nothing behind either, no process and no folder."""
        process = subprocess.Popen(
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


def children_of(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True)
    pairs = (map(int, line.split()) for line in listed.stdout.splitlines())
    return [child for child, parent in pairs if parent == pid]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return error.errno != errno.ESRCH
    return True
