"""A registry of several processes, and the promises of its command line."""

from __future__ import annotations

import http.client
import json
import os
import re
import select
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import unittest
from collections import Counter
from pathlib import Path

from tests.integration.forked import Popen, run
from tests.integration.test_registry_process import (
    BOB,
    PATIENCE,
    SOON,
    Registry,
    alive,
    children,
    free_port,
)
from tests.registry.certificates import write_certificate
from tests.registry.redis_server import RedisServer

ESTABLISHED = "01"  # as /proc/net/tcp has it


def workers(registry: Registry) -> list[int]:
    """Return the pids of a registry's workers."""
    found = []
    for pid in children(registry.process.pid):
        command = subprocess.run(
            ["ps", "-o", "args=", "-p", str(pid)], capture_output=True, text=True
        ).stdout
        if "p2pshare.registry.workers.worker" in command:
            found.append(pid)
    return found


def wait_until(condition: object, patience: float = PATIENCE) -> None:
    """Wait until a condition holds."""
    assert callable(condition)
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{condition} never held")
        time.sleep(0.02)


def said_until(registry: Registry, *texts: str) -> str:
    """Read the registry's output until it contains all of these; later output is left unread."""
    assert registry.process.stdout is not None
    file = registry.process.stdout.fileno()
    said = b""
    deadline = time.monotonic() + PATIENCE
    while not all(text.encode() in said for text in texts):
        ready, _, _ = select.select([file], [], [], max(0.0, deadline - time.monotonic()))
        data = os.read(file, 1 << 16) if ready else b""
        if not data:
            raise AssertionError(f"never said {texts}:\n{said.decode()}")
        said += data
    return said.decode()


def connections_of(pid: int, port: int) -> int:
    """Return the number of connections to a port that a process holds, from the kernel."""
    inodes = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1].endswith(f":{port:04X}") and fields[3] == ESTABLISHED:
            inodes.add(f"socket:[{fields[9]}]")
    held = [os.readlink(each) for each in Path(f"/proc/{pid}/fd").iterdir() if each.is_symlink()]
    return sum(each in inodes for each in held)


class RegistryTestCase(unittest.TestCase):
    """A folder, and registries that end with the test."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="p2p-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name, "data")

    def begin(self, *options: str, folder: Path | None = None) -> Registry:
        registry = Registry(folder or self.folder, *options)
        self.addCleanup(registry.discard)
        return registry

    def start(self, *options: str, folder: Path | None = None) -> Registry:
        registry = self.begin(*options, folder=folder)
        registry.wait_until_ready()
        return registry

    def refusal(self, *options: str, folder: Path | None = None, code: int) -> str:
        """Return the sentence of a registry that does not start."""
        registry = self.begin(*options, folder=folder)
        said = registry.said()
        self.assertEqual(registry.process.returncode, code, said)
        self.assertNotIn("Traceback", said)
        return said

    def start_redis(self) -> RedisServer:
        redis = RedisServer()
        self.addCleanup(redis.stop)
        redis.start()
        return redis


class WorkerProcessTests(RegistryTestCase):
    """Two workers."""

    def start_two(self, *options: str) -> Registry:
        registry = self.begin("--workers", "2", *options)
        assert registry.process.stdout is not None
        said = ""
        for line in registry.process.stdout:
            said += line
            if "registry ready:" in line:
                self.assertTrue(line.endswith(" workers=2\n"), line)
                return registry
        raise AssertionError(said)

    def kill(self, registry: Registry, worker: int) -> None:
        """Kill a worker, and return once the kernel has closed its sockets."""
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: worker not in children(registry.process.pid))

    @unittest.skipUnless(sys.platform == "linux", "the kernel spreads connections on Linux only")
    def test_both_serve(self) -> None:
        """Connections to the port are spread over both workers, which share all names."""
        registry = self.start_two()
        pids = workers(registry)
        held: Counter[int] = Counter()
        clients = []
        for _ in range(40):
            client = http.client.HTTPConnection("127.0.0.1", registry.port, timeout=5)
            self.addCleanup(client.close)
            client.request("GET", "/healthz")
            self.assertEqual(client.getresponse().read(), b"")
            clients.append(client)
        for pid in pids:
            held[pid] = connections_of(pid, registry.port)
        self.assertEqual(held.total(), 40)
        self.assertGreater(min(held.values()), 0, held)
        self.assertEqual(connections_of(registry.process.pid, registry.port), 0)
        self.assertEqual(registry.ask("POST", "/name", BOB)[0], 200)
        for client in clients:
            client.request("GET", "/user/bob")
            response = client.getresponse()
            self.assertEqual((response.status, json.loads(response.read())["port"]), (200, 50000))

    def test_worker_killed(self) -> None:
        """After kill -9 of a worker, the other serves, a new one starts, and the log reports it."""
        registry = self.start_two()
        first, second = workers(registry)
        self.kill(registry, first)
        for _ in range(20):
            self.assertEqual(registry.ask("GET", "/list"), (200, "[]"))
        wait_until(lambda: len(workers(registry)) == 2)
        self.assertIn(second, workers(registry))
        time.sleep(0.5)
        said = registry.end()
        self.assertRegex(said, r"process ended: name='worker [12]' reason='signal 9'")
        self.assertNotIn("Traceback", said)

    def test_terminated(self) -> None:
        """SIGTERM ends all processes within 2 s, even if a worker ignores it."""
        for deaf in (False, True):
            registry = self.start_two()
            pids = children(registry.process.pid)
            self.assertEqual(len(pids), 3)
            if deaf:
                os.kill(workers(registry)[0], signal.SIGSTOP)
            started = time.monotonic()
            said = registry.end()
            self.assertLess(time.monotonic() - started, SOON)
            self.assertEqual([pid for pid in pids if alive(pid)], [])
            self.assertNotIn("registry ready", said)  # a second time
            self.assertNotIn("Traceback", said)

    def test_parent_killed(self) -> None:
        """After kill -9 of the parent no process is left, and the next registry starts on the same port."""
        registry = self.start_two()
        pids = children(registry.process.pid)
        registry.end(signal.SIGKILL)
        wait_until(lambda: not any(map(alive, pids)), 5.0)
        listen = ("--listen", f"tcp:{registry.port}:interface=127.0.0.1")
        self.start(*listen)

    def test_port_is_ours_alone(self) -> None:
        """Another registry of the same user cannot join the port, with or without workers."""
        first = self.start_two()
        listen = ("--listen", f"tcp:{first.port}:interface=127.0.0.1")
        for number in ("1", "2"):
            other = self.folder.with_name(f"other{number}")
            said = self.refusal("--workers", number, *listen, folder=other, code=1)
            self.assertIn(f"tcp:{first.port}", said)
        self.assertEqual(first.ask("GET", "/readyz")[0], 200)

    def test_alone_stays_alone(self) -> None:
        """A registry with workers cannot join the port of a registry without."""
        first = self.start()
        listen = ("--listen", f"tcp:{first.port}:interface=127.0.0.1")
        other = self.folder.with_name("other")
        said = self.refusal("--workers", "2", *listen, folder=other, code=1)
        self.assertIn(f"tcp:{first.port}", said)
        self.assertEqual(first.ask("GET", "/readyz")[0], 200)

    def test_unsharable(self) -> None:
        """A Unix socket cannot be shared by workers: one sentence, before any process starts."""
        path = self.folder.with_name("s")
        said = self.refusal("--workers", "2", "--listen", f"unix:{path}", code=1)
        self.assertIn("--workers 1", said)
        self.assertFalse(path.exists())

    def test_metrics(self) -> None:
        """Each worker reports the sum of both, which never decreases, even after one dies."""
        port = free_port()
        registry = self.start_two("--metrics", f"tcp:{port}:interface=127.0.0.1")

        def counted() -> float:
            client = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            client.request("GET", "/metrics")
            text = client.getresponse().read().decode()
            client.close()
            found = re.search(r'^p2pshare_requests_total\{.*route="list".*\} (\S+)$', text, re.M)
            return float(found[1]) if found else 0.0

        for _ in range(20):
            registry.ask("GET", "/list")
        self.assertEqual({counted() for _ in range(10)}, {20.0})
        self.kill(registry, workers(registry)[0])
        self.assertEqual(counted(), 20.0)
        wait_until(lambda: len(workers(registry)) == 2)
        self.assertEqual(registry.ask("GET", "/metrics")[0], 404)
        self.assertEqual({counted() for _ in range(10)}, {20.0})

    def test_secrets(self) -> None:
        """Threat 24: no command line and no log holds the URL with its password, or the token."""
        redis = self.start_redis()
        file = self.folder.with_name("redis-url")
        file.write_text(f"{redis.url}?db=0\n")
        token = self.folder.with_name("token")
        token.write_text("hunter2hunter2hunter2\n")
        registry = self.start_two("--redis-url-file", str(file), "--metrics-token-file", str(token))
        for pid in (registry.process.pid, *workers(registry)):
            shown = subprocess.run(
                ["ps", "-o", "args=", "-p", str(pid)], capture_output=True, text=True
            ).stdout
            self.assertNotIn("hunter2", shown)
            self.assertNotIn(redis.path, shown)
        self.assertEqual(registry.ask("GET", "/metrics")[0], 401)
        self.assertNotIn("hunter2", registry.end())


class CommandLineTests(RegistryTestCase):
    """The promises of the options."""

    def test_tls(self) -> None:
        """`ssl:` serves HTTPS beside another endpoint, with one process and with two."""
        pem = write_certificate(self.folder.with_name("both.pem"))
        trust = ssl.create_default_context(cafile=str(pem))
        for number in ("1", "2"):
            port = free_port()
            listen = f"ssl:{port}:interface=127.0.0.1:privateKey={pem}"
            registry = self.start("--listen", listen, "--workers", number)
            client = http.client.HTTPSConnection("localhost", port, timeout=5, context=trust)
            client.request("GET", "/v1/")
            response = client.getresponse()
            self.assertEqual((response.status, response.version), (200, 11))
            self.assertIn("key", json.loads(response.read()))
            client.close()
            self.assertEqual(registry.ask("GET", "/v1/")[0], 200)
            self.assertNotIn("Traceback", registry.end())

    def test_json_log(self) -> None:
        """Each log line is a JSON object, and those of workers name the worker."""
        registry = self.start("--log-format", "json", "--workers", "2")
        registry.ask("POST", "/name", BOB)
        said = said_until(registry, '"worker": 1', '"worker": 2', "registry ready: urls=")
        lines = (said + registry.end()).splitlines()
        events = [json.loads(line) for line in lines]
        for event in events:
            self.assertLessEqual({"time", "level", "namespace", "message"}, set(event))
            self.assertRegex(event["time"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
        self.assertEqual({event.get("worker") for event in events}, {None, 1, 2})
        (ready,) = (each for each in events if "registry ready: urls=" in each["message"])
        self.assertEqual(ready["workers"], 2)

    def test_log_file(self) -> None:
        """`--logfile` receives JSON as well."""
        path = self.folder.with_name("log")
        port = free_port()
        command = [
            sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "-n", "--logfile", str(path),
            "p2pregistry", "--data", str(self.folder), "--listen", f"tcp:{port}:interface=127.0.0.1",
            "--log-format", "json",
        ]  # fmt: skip
        process = Popen(command, cwd=self.folder.parent)
        self.addCleanup(process.wait)
        self.addCleanup(process.terminate)
        wait_until(lambda: path.exists() and "registry ready" in path.read_text())
        messages = [json.loads(line)["message"] for line in path.read_text().splitlines()]
        self.assertTrue(any(each.startswith("registry key: ") for each in messages))

    def test_own_redis(self) -> None:
        """The Redis may be named on the command line, in a file or in the environment."""
        redis = self.start_redis()
        file = self.folder.with_name("redis-url")
        file.write_text(f"{redis.url}\n")
        first = self.start("--redis", redis.url)
        self.assertEqual(first.ask("POST", "/name", BOB)[0], 200)
        self.assertEqual(children(first.process.pid), [])
        self.assertIn(f"names_in=unix://{redis.path}", first.end())
        second = self.start("--redis-url-file", str(file))
        self.assertEqual(second.ask("GET", "/list"), (200, '["bob"]'))
        second.end()
        os.environ["P2PSHARE_REDIS"] = redis.url
        self.addCleanup(os.environ.pop, "P2PSHARE_REDIS")
        self.assertEqual(self.start().ask("GET", "/list"), (200, '["bob"]'))

    def test_names_of_another(self) -> None:
        """A registry with another key leaves the names in a Redis untouched, and names the missing file."""
        redis = self.start_redis()
        self.start("--redis", redis.url).end()
        other = self.folder.with_name("other")
        for number in ("1", "2"):
            said = self.refusal("--redis", redis.url, "--workers", number, folder=other, code=3)
            self.assertIn("registry.key", said)
            self.assertIn(str(other / "registry.key"), said)
        (other / "registry.key").write_bytes((self.folder / "registry.key").read_bytes())
        self.start("--redis", redis.url, folder=other)

    def test_damaged_key(self) -> None:
        """A truncated key file is reported and not replaced."""
        self.start().end()
        path = self.folder / "registry.key"
        path.write_bytes(path.read_bytes()[:40])
        for number in ("1", "2"):
            self.assertIn("registry.key", self.refusal("--workers", number, code=3))
        self.assertEqual(len(path.read_bytes()), 40)

    def test_limits(self) -> None:
        """A limit applies to this machine's addresses too, and to all workers together."""
        registry = self.begin("--workers", "2", "--limit", "requests=0.1:60")
        said_until(registry, " workers=2")  # one that does not reach Redis yet limits nobody
        seen: Counter[int] = Counter()
        for _ in range(200):
            seen[registry.ask("GET", "/list")[0]] += 1
        self.assertGreater(seen[429], 100, seen)

    def test_wrong_options(self) -> None:
        """Each invalid option gives one sentence and an exit code."""
        port = free_port()
        with socket.create_server(("127.0.0.1", 0)) as other:
            taken = other.getsockname()[1]
            for code, told, *options in (
                (2, "--workers must be from 1 to 64", "--workers", "0"),
                (2, "--workers must be from 1 to 64", "--workers", "many"),
                (2, "--replicas must be from 0", "--replicas", "-1"),
                (2, "--replicas needs a Redis", "--replicas", "1"),
                (2, "--url", "--url", "ftp://x"),
                (2, "--trusted-proxy", "--trusted-proxy", "proxy.example"),
                (2, "--limit", "--limit", "claims=fast"),
                (2, "--limit", "--limit", "everything=1"),
                (2, "--log-format", "--log-format", "xml"),
                (2, "--redis-url-file", "--redis", "redis://h", "--redis-url-file", "/none"),
                (2, "no such file", "--redis-url-file", "/none"),
                (2, "no such file", "--metrics-token-file", "/none"),
                (2, "--metrics", "--metrics", "nonsense:1"),
                (2, "/none.pem", "--listen", f"ssl:{port}:privateKey=/none.pem"),
                (2, "nonsense:1", "--listen", "nonsense:1"),
                (1, str(taken), "--listen", f"tcp:{taken}:interface=127.0.0.1"),
                (1, str(taken), "--metrics", f"tcp:{taken}:interface=127.0.0.1", "--workers", "2"),
            ):
                with self.subTest(options=options):
                    said = self.refusal(*options, code=code)
                    self.assertIn(told, said)
                    self.assertRegex(said.splitlines()[-1], r"p2pregistry: .*\.$")

    def test_help(self) -> None:
        """The help fits 80 columns and lists every option."""
        command = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]
        environ = {**os.environ, "COLUMNS": "80"}
        command += ["p2pregistry", "--help"]
        shown = run(command, input=None, timeout=PATIENCE, env=environ).stdout
        self.assertLessEqual(max(map(len, shown.splitlines())), 80)
        self.assertNotIn("   May be", shown)
        for option in ("url", "listen", "workers", "redis", "redis-url-file", "replicas", "invite-only",
                       "trusted-proxy", "limit", "metrics", "metrics-token-file", "log-format", "data"):  # fmt: skip
            self.assertIn(f"--{option}", shown)
