"""Signals between the clients of several worker processes, and STUN at their ports."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import time
from collections import Counter

from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.keys import SigningKey
from p2pshare.wire.reach.access import Access, Use, detail_of_body
from p2pshare.wire.reach.rendezvous import SignalBody
from p2pshare.wire.reach.stun import padded_request, parse
from p2pshare.wire.registry_answers import ClaimBody, RegistryInfo
from p2pshare.wire.statements import Record
from tests.integration.test_registry_process import Registry, children
from tests.integration.test_registry_workers import (
    RegistryTestCase,
    said_until,
    wait_until,
    workers,
)

STREAMS = 12


class Client:
    """The owner of a name, who makes a connection for each request."""

    def __init__(self, registry: Registry, number: int, name: str) -> None:
        self.registry, self.name = registry, name
        self.key = SigningKey(bytes([number]) * 32)
        self.aud = RegistryInfo.parse(registry.ask("GET", "/v1/")[1].encode()).key
        self.count = 0
        self.connections: list[http.client.HTTPConnection] = []

    def claim(self) -> None:
        now = int(time.time())
        record = Record(self.name, self.key.public, now * 1000, now, now + 999, self.aud, "", ())
        body = ClaimBody(record.sign(self.key)).to_json().decode()
        assert self.registry.ask("PUT", f"/v1/peers/{self.name}", body)[0] == 201

    def request(self, method: str, to: str, use: Use, detail: str, body: bytes = b""):  # type: ignore[no-untyped-def]
        self.count += 1
        now, nonce = int(time.time()), f"{os.getpid()}-{self.count:016}"
        access = Access(self.name, self.key.public, self.aud, now, nonce, use, detail)
        connection = http.client.HTTPConnection("127.0.0.1", self.registry.port, timeout=10)
        self.connections.append(connection)
        headers = {"Authorization": access.to_header(self.key)}
        connection.request(method, f"/v1/peers/{to}/signals", body, headers)
        return connection.getresponse()

    def follow(self) -> http.client.HTTPResponse:
        """Return a stream that is open."""
        stream: http.client.HTTPResponse = self.request("GET", self.name, Use.SIGNALS, "main")
        assert stream.status == 200
        while stream.readline() != b"event: open\n":
            pass
        return stream

    def send(self, to: str, sealed: bytes) -> int:
        body = SignalBody("main", self.name, sealed).to_json()
        response = self.request("POST", to, Use.SIGNAL, detail_of_body(body), body)
        response.read()
        self.connections.pop().close()
        return int(response.status)


def next_event(stream: http.client.HTTPResponse) -> tuple[str, dict[str, str]]:
    """Return the next event that is not `alive`; "" at the end."""
    kind = ""
    while line := stream.readline().decode():
        field, _, value = line.strip().partition(": ")
        if field == "event":
            kind = value
        elif field == "data" and kind not in ("", "alive", "open"):
            return kind, json.loads(value)
    return "", {}


class WorkerTests(RegistryTestCase):
    """Two workers that share a port."""

    def setUp(self) -> None:
        super().setUp()
        self.registry = self.begin("--workers", "2")
        said_until(self.registry, "registry ready:", "workers=2")
        self.bob, self.carol = Client(self.registry, 1, "bob"), Client(self.registry, 3, "carol")
        self.addCleanup(self.close)
        self.bob.claim()
        self.carol.claim()

    def close(self) -> None:
        for connection in self.bob.connections + self.carol.connections:
            connection.close()

    def check_stun(self) -> None:
        """All requests over UDP are answered, at every port that peers are told."""
        told = RegistryInfo.parse(self.registry.ask("GET", "/v1/")[1].encode()).stun
        self.assertEqual(told[0], str(self.registry.port))
        for number in map(int, told):
            for _ in range(20):
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                    client.settimeout(5)
                    client.connect(("127.0.0.1", number))
                    client.send(padded_request(b"t" * 12))
                    answer = parse(client.recv(100))
                    self.assertEqual(
                        answer and answer.mapped, PeerAddress("127.0.0.1", client.getsockname()[1])
                    )

    def test_signals(self) -> None:
        """Signals and replacements reach a stream from every worker, also after one of them has died."""
        streams = [self.bob.follow() for _ in range(STREAMS)]
        for stream in streams[:-1]:
            self.assertEqual(next_event(stream)[0], "replaced")
            self.assertEqual(stream.read(), b"\n")
        sent = [f"{number}".encode() for number in range(STREAMS)]
        self.assertEqual({self.carol.send("bob", each) for each in sent}, {202})
        events = [next_event(streams[-1]) for _ in sent]
        self.assertEqual(Counter(kind for kind, _ in events), {"signal": STREAMS})
        self.assertEqual({data["from"] for _, data in events}, {"carol"})
        streams[-1].close()
        self.bob.connections[-1].close()
        wait_until(lambda: self.carol.send("bob", b"") == 404)
        self.assertEqual({self.carol.send("bob", b"") for _ in range(4)}, {404})

        (worker, other) = workers(self.registry)
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: worker not in children(self.registry.process.pid))
        stream = self.bob.follow()
        self.assertEqual(self.carol.send("bob", b"x"), 202)
        self.assertEqual(next_event(stream)[0], "signal")
        self.assertIn(other, workers(self.registry))
        self.check_stun()
        self.assertNotIn("Traceback", self.registry.end())
