"""A registry of two processes whose Redis loses all data, while strangers claim the lost names."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path

from p2pshare.wire.keys import PublicKey, SigningKey
from p2pshare.wire.registry_answers import (
    ClaimBody,
    Granted,
    PeerPage,
    PeerView,
    Presence,
    Problem,
    RegistryInfo,
    ReleaseBody,
)
from p2pshare.wire.statements import Receipt, Record, Release, Rotation, digest_of
from tests.integration.programs import HOST, ProgramsTestCase
from tests.integration.test_registry_process import PATIENCE, TWISTD, free_port
from tests.integration.test_registry_workers import wait_until
from tests.wire.statements import location_of

FREE = 13  # owners whose names nobody else ever had
PEERS = ("peer0", "peer1")
RELEASED, ROTATED = "released", "rotated"
PAUSE = 0.005  # seconds between two attempts of an intruder: the others need the processor, too
ATTEMPTS = 8  # of each intruder, after the last owner came back
CHAIN_MAX = 20  # rotations of the rotated-out key that may succeed: fewer than ms from its claim to the rotation
GRANTED = (200, 201)
REFUSED = (400, 409, 503)  # taken, in the classic protocol and in ours, or recovering
KEYS = count(1)


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of a request for a name."""

    name: str
    status: int
    body: bytes
    began: float
    """Start on the monotonic clock, in seconds; `ended` likewise."""
    ended: float

    @property
    def granted(self) -> bool:
        return self.status in GRANTED

    @property
    def word(self) -> str:
        return Problem.parse(self.status, self.body).word


def ask(port: int, method: str, name: str, path: str, body: bytes | None = None) -> Answer:
    """Send a request over a new connection, which any worker may accept."""
    began = time.monotonic()
    with closing(http.client.HTTPConnection(HOST, port, timeout=PATIENCE)) as connection:
        connection.request(method, path, body)
        response = connection.getresponse()
        return Answer(name, response.status, response.read(), began, time.monotonic())


@cache
def registry_key(port: int) -> PublicKey:
    """Return the key that the registry at a port presents."""
    about = ask(port, "GET", "", "/v1/").body
    return RegistryInfo.parse(about).key


class Holder:
    """A client with a key."""

    def __init__(self, port: int) -> None:
        self.key = SigningKey(next(KEYS).to_bytes(32))
        self.receipt: str | None = None
        self._port = port
        self._registry = registry_key(port)
        self._seq = 0

    def put(
        self,
        name: str,
        receipt: str | None = None,
        rotation: str | None = None,
        *,
        keep: bool = True,
    ) -> Answer:
        """Claim a name with a receipt, or with the last one received."""
        now = int(time.time())
        end = now + 3600
        location = location_of("10.0.0.5:50000").to_text()
        record = Record(
            name,
            self.key.public,
            self._next(),
            now,
            end,
            self._registry,
            digest_of(location),
            ("classic",),
        )
        body = ClaimBody(record.sign(self.key), location, rotation, receipt or self.receipt)
        answer = ask(self._port, "PUT", name, f"/v1/peers/{name}", body.to_json())
        if answer.granted and keep:
            self.receipt = Granted.parse(answer.body).receipt
        return answer

    def release(self, name: str) -> Answer:
        release = Release(name, self.key.public, self._next(), int(time.time()), self._registry)
        body = ReleaseBody(release.sign(self.key)).to_json()
        return ask(self._port, "DELETE", name, f"/v1/peers/{name}", body)

    def rotate(self, name: str, new: Holder, ago: int = 0) -> str:
        """Return a rotation that was signed some seconds ago."""
        iat = int(time.time()) - ago
        return Rotation(name, self.key.public, new.key.public, iat, self._registry).sign(self.key)

    def _next(self) -> int:
        self._seq = max(self._seq + 1, int(time.time() * 1000))
        return self._seq


class Chain:
    """A former owner, which rotated its key away and tries to claim and rotate the name again."""

    def __init__(self, port: int, first: Holder) -> None:
        self._port = port
        self._holders = [first]

    def attempt(self, number: int) -> Answer:
        """Alternately claim with the first receipt and rotate from the last key that got the name."""
        last = self._holders[-1]
        if number % 2 or len(self._holders) > CHAIN_MAX:
            return self._holders[number % len(self._holders)].put(ROTATED)
        new = Holder(self._port)
        rotation = last.rotate(ROTATED, new, ago=2 * CHAIN_MAX - len(self._holders))
        answer = new.put(ROTATED, last.receipt, rotation)
        if answer.granted:
            self._holders.append(new)
        return answer


class Hammer:
    """A client that claims repeatedly in its own thread."""

    def __init__(self, attempt: Callable[[int], Answer]) -> None:
        self.answers: list[Answer] = []
        self.error: Exception | None = None
        self._attempt = attempt
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._ends.set()
        self._thread.join(2 * PATIENCE)

    def words(self) -> set[str]:
        """Return the error of a refused request."""
        return {each.word for each in self.answers.copy() if not each.granted}

    def was_granted(self) -> bool:
        return any(each.granted for each in self.answers.copy())

    def _run(self) -> None:
        try:
            for number in count():
                if self._ends.wait(PAUSE):
                    return
                self.answers.append(self._attempt(number))
        except Exception as error:
            self.error = error


class StoreLossProcessTests(ProgramsTestCase):
    """Fifteen owners of names and two real peers."""

    def setUp(self) -> None:
        super().setUp()
        self.port = free_port()
        listen = f"tcp:{self.port}:interface={HOST}"
        words = ("--data", str(self.folder / "registry"), "--listen", listen, "--workers", "2")
        self.registry = self.start(*TWISTD[1:], "p2pregistry", *words)
        self.registry.wait_for(" workers=2")
        self.names = [f"name{number}" for number in range(FREE)]
        self.owners = {name: Holder(self.port) for name in (*self.names, RELEASED, ROTATED)}
        self.returned: dict[str, float] = {}

    def claim(self, holder: Holder, name: str) -> None:
        self.assertEqual(holder.put(name).status, 201)

    def view(self, name: str) -> PeerView | None:
        answer = ask(self.port, "GET", name, f"/v1/peers/{name}")
        return PeerView.parse(answer.body) if answer.status == 200 else None

    def is_online(self, name: str, key: str | None = None) -> bool:
        view = self.view(name)
        return (
            view is not None
            and view.summary.presence is Presence.ONLINE
            and key in (None, str(view.key))
        )

    def share_out(self) -> tuple[Holder, Holder]:
        """Register every name; return the former owners of `RELEASED` and `ROTATED`."""
        former, rotated_out = Holder(self.port), Holder(self.port)
        self.claim(rotated_out, ROTATED)
        self.claim(former, RELEASED)
        self.assertEqual(former.release(RELEASED).status, 204)
        self.peers = {name: self.start_peer(name, self.port) for name in PEERS}
        for name in (*self.names, RELEASED):
            self.claim(self.owners[name], name)
        wait_until(lambda: all(map(self.is_online, PEERS)))
        owner = self.owners[ROTATED]
        rotation = rotated_out.rotate(ROTATED, owner)
        self.assertEqual(owner.put(ROTATED, rotated_out.receipt, rotation).status, 200)
        return former, rotated_out

    def strangers(self) -> list[Hammer]:
        """A stranger, who never owned any of the names."""
        names = (*self.names, RELEASED, ROTATED, *PEERS)
        plain, turning, forging, other = (Holder(self.port) for _ in range(4))
        elsewhere = SigningKey(bytes(32))  # of another registry
        self.claim(other, "stranger")  # the receipt is good, but for this name

        def rotate(number: int) -> Answer:
            name, new = names[number % len(names)], Holder(self.port)
            return new.put(name, rotation=turning.rotate(name, new))

        def forge(number: int) -> Answer:
            name = names[number % len(names)]
            receipt = Receipt(name, forging.key.public, 2**50, int(time.time()) + 3600)
            return forging.put(name, receipt.sign(elsewhere))

        def register(number: int) -> Answer:
            name = names[number % len(names)]
            body = json.dumps({"name": name, "ip": "10.6.6.6", "port": 50000}).encode()
            return ask(self.port, "POST", name, "/name", body)

        return [
            Hammer(lambda number: plain.put(names[number % len(names)])),
            Hammer(lambda number: other.put(names[number % len(names)], keep=False)),
            *map(Hammer, (rotate, forge, register)),
        ]

    def lose(self) -> None:
        """Delete all data from the registry's Redis."""
        with socket.socket(socket.AF_UNIX) as redis:
            redis.settimeout(PATIENCE)
            redis.connect(str(Path(self.folder, "registry", "redis.sock")))
            redis.sendall(b"FLUSHALL\r\n")
            self.assertEqual(redis.recv(64), b"+OK\r\n")

    def come_back(self, *names: str) -> None:
        """Let owners claim their names with their receipts, several at once, until each succeeds."""

        def claim(name: str) -> None:
            deadline = time.monotonic() + PATIENCE
            while not (answer := self.owners[name].put(name)).granted:
                assert time.monotonic() < deadline, answer
                time.sleep(0.05)
            self.returned[name] = answer.ended

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(claim, names))

    def restart_peers(self) -> None:
        """Stop both peers and start them again on their data folders."""
        for peer in self.peers.values():
            peer.process.send_signal(signal.SIGTERM)
        for name, peer in self.peers.items():
            peer.wait()
            self.peers[name] = self.start_peer(name, self.port)

    def assert_refused(self, hammers: list[Hammer]) -> None:
        for answer in (each for hammer in hammers for each in hammer.answers.copy()):
            self.assertIn(answer.status, REFUSED, answer)

    def test_flushed(self) -> None:
        """Every owner regains its name, regardless of claims by others in the meantime."""
        former, rotated_out = self.share_out()
        keys = {name: str(owner.key.public) for name, owner in self.owners.items()}
        keys |= {name: str(view.key) for name in PEERS if (view := self.view(name))}
        strangers = self.strangers()
        formers = [
            Hammer(lambda _: former.put(RELEASED)),
            Hammer(Chain(self.port, rotated_out).attempt),
        ]
        hammers = [*strangers, *formers]
        for hammer in hammers:
            self.addCleanup(hammer.end)
        wait_until(lambda: all(len(hammer.answers) > 20 for hammer in hammers))
        lost = time.monotonic()
        self.lose()
        self.come_back(*self.names[: FREE // 2])
        self.restart_peers()
        wait_until(
            lambda: all("recovering" in each.words() or each.was_granted() for each in strangers)
        )
        self.assert_refused(strangers)
        wait_until(lambda: all(hammer.was_granted() for hammer in formers))
        self.come_back(*self.names[FREE // 2 :], RELEASED, ROTATED)
        wait_until(lambda: all(self.is_online(name, keys[name]) for name in PEERS))
        made = [len(hammer.answers) for hammer in hammers]
        wait_until(
            lambda: all(
                len(hammer.answers) > before + ATTEMPTS or hammer.error
                for hammer, before in zip(hammers, made, strict=True)
            )
        )
        for hammer in hammers:
            hammer.end()
            self.assertIsNone(hammer.error)
        self.assert_refused(strangers)
        for answer in (each for hammer in formers for each in hammer.answers if each.granted):
            self.assertGreater(answer.ended, lost, answer)
            self.assertLess(answer.began, self.returned[answer.name], answer)
        for name, key in keys.items():
            self.assertTrue(self.is_online(name, key), name)
        page = PeerPage.parse(ask(self.port, "GET", "", "/v1/peers").body)
        self.assertEqual({each.name for each in page.peers}, set(keys))
        self.registry.end()
        self.assertNotIn("Traceback", self.registry.said())
