"""The peer as a process: its start, its refusals and its end."""

from __future__ import annotations

import http.client
import json
import os
import random
import re
import shlex
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path

from p2pshare.errors import NameReleased
from p2pshare.peer.registration import LOCAL_ONLY
from p2pshare.storage.shares.arguments import EVERYONE
from tests.integration import forked
from tests.integration.neighbourhood import P2PSHARE
from tests.integration.programs import HOST, Program, ProgramsTestCase
from tests.integration.test_registry_process import PATIENCE, TWISTD, free_port


def end_daemon(pid_file: Path) -> None:
    """Kill a daemon that a failed test has left."""
    with suppress(FileNotFoundError, ProcessLookupError):
        os.kill(int(pid_file.read_text()), signal.SIGKILL)


class RunningTests(ProgramsTestCase):
    """A peer with a registry."""

    def setUp(self) -> None:
        super().setUp()
        self.registry = self.start_registry()

    def peer(self, name: str, *options: str) -> Program:
        """A peer that is registered."""
        peer = self.start_peer(name, self.registry.port, *options)
        peer.wait_for(f"registered: name={name} address={HOST}:")
        return peer

    def presence(self, name: str) -> str:
        """Return the registry's entry for a peer."""
        status, body = self.registry.ask("GET", f"/v1/peers/{name}")
        self.assertEqual(status, 200, body)
        return str(json.loads(body)["presence"])

    def key(self, name: str) -> str:
        return str(json.loads(self.registry.ask("GET", f"/v1/peers/{name}")[1])["key"])

    def test_terminated(self) -> None:
        """SIGTERM ends the peer within 2 s and its presence immediately. The name remains owned."""
        peer = self.peer("bob", "--classic")
        self.assertEqual(self.registry.ask("GET", "list"), (200, '["bob"]'))
        self.assertLess(peer.end(), 2.0)
        self.assertIn(peer.process.returncode, (0, -signal.SIGTERM), peer.said())
        self.assertNotIn("Traceback", peer.said())
        self.assertEqual(self.registry.ask("GET", "list"), (200, "[]"))
        self.assertEqual(self.presence("bob"), "offline")
        other = self.start_peer("bob", self.registry.port, "--data", str(self.folder / "other"))
        self.assertEqual(other.wait(), 3, other.said())
        self.peer("bob")
        self.assertEqual(self.presence("bob"), "online")

    def test_debug(self) -> None:
        """With `--debug`, the sharer's log holds the reason of a refused session, and each download."""
        log = self.folder / "debug.log"
        (self.folder / "x").write_text("miau")
        peer = self.peer("bob", "--share", "x", "--debug", str(log))
        [port] = re.findall(rf"registered: name=bob address={HOST}:(\d+)", peer.said())
        with socket.create_connection((HOST, int(port)), PATIENCE) as stranger:
            stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
            with suppress(ConnectionResetError):
                while stranger.recv(100):
                    pass
        environ = {**os.environ, "P2PSHARE_REGISTRY": f"http://{HOST}:{self.registry.port}"}
        words = [*P2PSHARE, "get", "bob:x", "--name", "ann", "--data", str(self.folder / "ann")]
        forked.run(words, env=environ, cwd=self.folder, input=None, timeout=PATIENCE)
        peer.end()
        text = log.read_text()
        for event in (
            "run begins: p2pshare=",
            "no session: host=",
            "handshake done: ",
            "registered at",
        ):
            self.assertIn(event, text)
        self.assertRegex(text, r"handshake done: .* key=[a-z2-7]{52}")
        self.assertNotIn("no session: host=", peer.said())
        self.assertEqual(log.stat().st_mode & 0o777, 0o600)
        picture = self.folder / "cat.jpg"
        picture.write_bytes(b"\xff\xd8")
        refused = self.start_peer("eve", self.registry.port, "--debug", str(picture))
        self.assertEqual(refused.wait(), 1, refused.said())
        self.assertIn(str(picture), refused.said())

    def test_killed(self) -> None:
        """After kill -9, a restarted peer gets its name back immediately by the key in its data folder."""
        peer = self.peer("bob")
        peer.end(signal.SIGKILL)
        self.assertEqual(self.presence("bob"), "online")
        self.peer("bob")

    def test_name_taken(self) -> None:
        """A name that another key owns is refused with one sentence and exit code 3."""
        self.peer("bob")
        second = self.start_peer("bob", self.registry.port, "--data", str(self.folder / "second"))
        self.assertEqual(second.wait(), 3, second.said())
        self.assertIn("The name 'bob' is taken in the registry", second.said())
        self.assertNotIn("Traceback", second.said())

    def test_same_data_folder(self) -> None:
        """A second peer on the same data folder is refused with one sentence and exit code 3."""
        first = self.peer("bob")
        second = self.start_peer("bob", self.registry.port)
        self.assertEqual(second.wait(), 3, second.said())
        (sentence,) = second.said().splitlines()
        self.assertIn(f"'bob' (process {first.process.pid})", sentence)

    def test_one_working_folder(self) -> None:
        """Two peers and a registry run in the same working folder and leave no pid file there."""
        for name in ("alice", "bob"):
            self.peer(name)
            self.assertEqual(self.presence(name), "online")
        self.assertFalse((self.folder / "twistd.pid").exists())

    def test_in_the_background(self) -> None:
        """Without -n, the command returns once the peer is online; `p2pshare stop` returns once it has ended."""
        data = self.folder / "data-bob"
        whose = ["--name", "bob", "--registry", f"http://{HOST}:{self.registry.port}", "--data"]
        start = [*TWISTD[1:-1], "p2ppeer", *whose]
        first = self.start(*start, data.name)
        self.addCleanup(end_daemon, data / "peer.pid")
        self.assertEqual(first.wait(), 0, first.said())
        warning, line = first.said().splitlines()
        self.assertEqual(warning, f"p2ppeer: {LOCAL_ONLY}")
        self.assertRegex(line, r"^bob is online at \S+, in the background as process \d+\. Log: ")
        self.assertIn(f" Log: {data / 'peer.log'}.", line)
        stop = line.partition("Stop it with: ")[2]
        self.assertEqual(stop, shlex.join(["p2pshare", "stop", *whose, str(data)]))
        self.assertEqual(self.presence("bob"), "online")
        second = self.start(*start, str(self.folder / "second"))
        self.assertEqual(second.wait(), 3, second.said())
        self.assertRegex(second.said(), r"^p2ppeer: The name 'bob' is taken in .*\.\n$")
        stopped = self.start(*P2PSHARE[1:], *shlex.split(stop)[1:])
        self.assertEqual(stopped.wait(), 0, stopped.said())
        self.assertRegex(stopped.said(), r"^bob is stopped \(process \d+\)\.\n$")
        self.assertEqual(self.presence("bob"), "offline")
        self.assertFalse(list(self.folder.glob("twistd.*")))

    def test_random_bytes(self) -> None:
        """Random bytes on its UDP and TCP ports cause no log lines, and the peer goes on (threat 6)."""
        port = free_port()
        peer = self.peer("bob", "--listen", str(port), "--classic")
        rng = random.Random(1)
        for size in (1, 100, 100_000):
            with socket.create_connection((HOST, port)) as stranger, suppress(OSError):
                stranger.sendall(rng.randbytes(size))
                stranger.shutdown(socket.SHUT_WR)
                stranger.settimeout(5.0)
                while stranger.recv(4096):
                    pass
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.settimeout(5.0)
            for size in [*range(300), 5000, 60_000]:
                stranger.sendto(rng.randbytes(size), (HOST, port))
            stranger.sendto(b"TXT", (HOST, port))
            self.assertEqual(stranger.recvfrom(9), (b"ACK", (HOST, port)))
        peer.end()
        for word in ("Traceback", "Error", "Unhandled"):
            self.assertNotIn(word, peer.said())

    def test_says_what_is_shared(self) -> None:
        """The start prints each share, its audience and the port. Original clients get no answer (threat 36)."""
        (self.folder / "pictures").mkdir()
        (self.folder / "notes").mkdir()
        shares = ["--share", "photos=pictures", "--share", "notes", "--allow", "notes=alice,dave"]
        peer = self.peer("bob", *shares, "--limit", "5MB/s")
        for line in (
            f"shared: share=photos path={self.folder / 'pictures'} with={EVERYONE}",
            f"shared: share=notes path={self.folder / 'notes'} with=alice,dave",
        ):
            self.assertIn(line, peer.said())
        self.assertEqual(self.registry.ask("GET", "list"), (200, "[]"))
        nobody = self.registry.ask("GET", "user/nobody")
        self.assertEqual(self.registry.ask("GET", "user/bob"), nobody)
        status = self.ask_peer("bob", "status")
        self.assertEqual((status["sharing"], status["sessions"]), (["photos", "notes"], 0))
        self.assertIs(status["classic"], False)
        self.assertLess(peer.end(), 2.0)
        self.assertNotIn("Traceback", peer.said())

    def test_registry_lost_its_names(self) -> None:
        """A registry that lost its store gives each name to its owner, regardless of the order of claims."""
        keys = {}
        for name in ("alice", "bob"):
            peer = self.peer(name)
            keys[name] = self.key(name)
            peer.end(signal.SIGKILL)
        self.registry.end()
        for path in (self.folder / "registry").glob("appendonlydir/*"):
            path.unlink()
        listen = f"tcp:{self.registry.port}:interface={HOST}"
        options = ["--data", str(self.folder / "registry"), "--listen", listen]
        again = self.start(*TWISTD[1:], "p2pregistry", *options)
        again.wait_for("registry ready: urls=")
        thief = self.start_peer("bob", self.registry.port, "--data", str(self.folder / "thief"))
        thief.wait_for("registry not ready: retry_s=")
        self.assertIn("has lost its store", thief.said())
        for name in ("alice", "bob"):
            self.peer(name)
        self.assertEqual({name: self.key(name) for name in keys}, keys)
        again.end()

    def test_released(self) -> None:
        """A peer that is told through its control socket to release its name does so and exits with code 0."""
        peer = self.peer("bob")
        reply = self.ask_peer("bob", "release")
        self.assertEqual(reply, {"ok": True, "name": "bob"})
        self.assertEqual(peer.wait(), 0, peer.said())
        self.assertIn(str(NameReleased(name="bob")), peer.said())
        self.assertEqual(self.registry.ask("GET", "/v1/peers/bob")[0], 404)
        self.peer("bob", "--data", str(self.folder / "another folder"))

    def test_rotated(self) -> None:
        """A peer that rotates its key goes on, and uses the new key after a kill."""
        peer = self.peer("bob")
        before = self.key("bob")
        reply = self.ask_peer("bob", "rotate")
        self.assertEqual((reply["old"], reply["key"]), (before, self.key("bob")))
        self.assertNotEqual(before, self.key("bob"))
        peer.end(signal.SIGKILL)
        self.peer("bob")
        self.assertEqual((self.key("bob"), self.presence("bob")), (reply["key"], "online"))

    def ask_peer(self, name: str, do: str) -> dict[str, object]:
        """Send a command to the running peer."""
        with socket.socket(socket.AF_UNIX) as connection, connection.makefile("rb") as replies:
            connection.settimeout(PATIENCE)
            connection.connect(str(self.folder / f"data-{name}" / "peer.sock"))
            connection.sendall(json.dumps({"do": do}).encode() + b"\n")
            reply: dict[str, object] = json.loads(replies.readline())
            return reply


class RegistryGoneTests(ProgramsTestCase):
    """A registry that is killed after two peers have met."""

    def bob(self, *words: str) -> Program:
        """Run a verb as bob, who has no running peer."""
        flags = ("--registry", self.url, "--name", "bob", "--data", str(self.folder / "data-bob"))
        verb = self.start(*P2PSHARE[1:], *words, *flags)
        verb.wait()
        return verb

    def test_found_without_registry(self) -> None:
        """Without a registry, a sharer is found at its last address by its known key. One that moved is exit code 5."""
        registry = self.start_registry()
        self.url = f"http://{HOST}:{registry.port}"
        (self.folder / "notes.txt").write_text("notes")
        alice = self.start_peer("alice", registry.port, "--share", "notes.txt")
        alice.wait_for("registered: name=alice")
        self.assertEqual(self.bob("ls", "alice").process.returncode, 0)
        registry.end(signal.SIGKILL)
        for words in (("ls", "alice"), ("get", "alice:notes.txt", "got")):
            verb = self.bob(*words)
            self.assertEqual(verb.process.returncode, 0, verb.said())
            self.assertEqual(verb.said().count("Trying alice at"), 1)
        self.assertEqual((self.folder / "got").read_text(), "notes")
        address = re.findall(r"registered: name=alice address=(\S+:\d+)", alice.said())[0]
        verb = self.bob("ls", "alice", "--json", "--at", address)
        self.assertEqual(verb.process.returncode, 0, verb.said())
        self.assertNotIn("remark", verb.said())
        alice.end(signal.SIGKILL)
        verb = self.bob("get", "--json", "alice:notes.txt")
        self.assertEqual(verb.process.returncode, 5, verb.said())
        self.assertIn('"kind": "peer_not_found"', verb.said())


class ShortLeaseTests(ProgramsTestCase):
    """A registry whose leases are short."""

    LEASE = 2  # seconds

    def setUp(self) -> None:
        super().setUp()
        self.port = free_port()
        command = ["-m", "tests.integration.hasty_registry", str(self.port), str(self.LEASE)]
        self.registry = self.start(*command)
        self.registry.wait_for("is ready")

    def peer(self, name: str) -> Program:
        """A peer that is registered."""
        peer = self.start_peer(name, self.port)
        peer.wait_for(f"registered: name={name} address={HOST}:")
        return peer

    def view(self, name: str) -> dict[str, object]:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=PATIENCE)
        self.addCleanup(connection.close)
        connection.request("GET", f"/v1/peers/{name}")
        view: dict[str, object] = json.loads(connection.getresponse().read())
        return view

    def wait_until(self, name: str, presence: str) -> float:
        """Wait until the registry reports this presence; return the seconds it took."""
        started = time.monotonic()
        while self.view(name).get("presence") != presence:
            self.assertLess(time.monotonic() - started, PATIENCE, f"{name} is not {presence}")
            time.sleep(0.05)
        return time.monotonic() - started

    def test_killed(self) -> None:
        """A peer is online while it runs, offline within a lease after kill -9, and online again after a restart."""
        peer = self.peer("bob")
        key = self.view("bob")["key"]
        until = time.monotonic() + 2 * self.LEASE
        while time.monotonic() < until:
            self.assertEqual(self.view("bob")["presence"], "online")
            time.sleep(0.1)
        peer.end(signal.SIGKILL)
        self.assertLess(self.wait_until("bob", "offline"), self.LEASE + 1)
        self.peer("bob")
        view = self.view("bob")
        self.assertEqual((view["presence"], view["key"]), ("online", key))

    def test_registry_lost_its_names(self) -> None:
        """Running peers regain their names soon after the registry has lost them all."""
        keys = {}
        for name in ("alice", "bob", "carol"):
            self.peer(name)
            keys[name] = self.view(name)["key"]
        self.registry.process.send_signal(signal.SIGUSR1)
        for name in keys:
            self.wait_until(name, "online")
        self.assertEqual({name: self.view(name)["key"] for name in keys}, keys)


class StartingTests(ProgramsTestCase):
    """A peer without a registry, or with invalid options."""

    def test_registry_comes_later(self) -> None:
        """The peer waits for an unreachable registry and reports it without a traceback."""
        data = self.folder / "data"
        registry_port = free_port()
        peer = self.start_peer("bob", registry_port, "--data", str(data))
        peer.wait_for("registry not ready: retry_s=")
        listen = f"tcp:{registry_port}:interface={HOST}"
        options = ["--data", str(self.folder / "registry"), "--listen", listen]
        self.start(*TWISTD[1:], "p2pregistry", *options)
        peer.wait_for("registered: name=bob")
        self.assertNotIn("Traceback", peer.said())

    def test_stopped_without_a_registry(self) -> None:
        """SIGTERM ends a peer that waits for a registry within 2 s."""
        peer = self.start_peer("bob", free_port())
        peer.wait_for("registry not ready: retry_s=")
        self.assertLess(peer.end(), 2.0)
        self.assertNotIn("Traceback", peer.said())

    def test_port_in_use(self) -> None:
        """A welcome port that is in use ends the peer with one sentence."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind((HOST, 0))
            port = other.getsockname()[1]
            peer = self.start_peer("bob", free_port(), "--listen", str(port))
            self.assertEqual(peer.wait(), 1, peer.said())
        self.assertIn(f"Port {port} cannot be used", peer.said())
        self.assertNotIn("Traceback", peer.said())

    def test_wrong_options(self) -> None:
        """Each invalid option gives one sentence and an exit code."""
        wrong = (
            (["--listen", "70000"], "listen"),
            (["--address", "here"], "address"),
            (["--registry", "ftp://x"], "ftp://x"),
            (["--share", "/nonexistent"], "/nonexistent"),
            (["--allow", "No such name!"], "No such name!"),
            (["--allow", "none=bob"], "none"),
            (["--limit", "fast"], "limit"),
            (["--name", "No such name!"], "--name"),
            (["--nonsense"], "--nonsense"),
            (["nonsense"], "twistd p2ppeer --help"),
        )
        peers = [
            self.start_peer("bob", free_port(), "--data", str(self.folder / f"{number}"), *options)
            for number, (options, _) in enumerate(wrong)
        ]
        for peer, (_, named) in zip(peers, wrong, strict=True):
            self.assertEqual(peer.wait(), 2, peer.said())
            self.assertIn(named, peer.said())
            self.assertEqual(peer.said().count("\n"), 1, peer.said())

    def test_key_that_others_may_read(self) -> None:
        """A daemon reports an unusable key on the terminal before it detaches."""
        data = self.folder / "data"
        data.mkdir()
        (data / "key").write_text("")
        (data / "key").chmod(0o644)
        options = ["--name", "bob", "--registry", f"http://{HOST}:{free_port()}"]
        peer = self.start(*TWISTD[1:-1], "p2ppeer", *options, "--data", str(data))
        self.assertEqual(peer.wait(), 3, peer.said())
        self.assertIn(f"{data / 'key'}", peer.said())
        self.assertEqual(peer.said().count("\n"), 1, peer.said())
        self.assertEqual((data / "key").read_text(), "")

    def test_no_name(self) -> None:
        """Without a name, the command asks for one."""
        peer = self.start(*TWISTD[1:], "p2ppeer")
        self.assertEqual(peer.wait(), 2, peer.said())
        self.assertIn("--name is missing", peer.said())
