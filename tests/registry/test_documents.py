"""The examples of the documents are correct."""

from __future__ import annotations

import hmac
import re
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.registry.api.listing import KEEP
from p2pshare.registry.configuration import DEFAULT_LIMITS
from p2pshare.registry.redis.link import CALL_TIMEOUT
from p2pshare.testing.memory_store import MemoryNameStore
from p2pshare.web.limits import Limits
from p2pshare.web.problems import PROBLEMS
from p2pshare.web.site import Site
from p2pshare.wire.addresses import REFUSED
from p2pshare.wire.heartbeats import Heartbeat
from p2pshare.wire.keys import SigningKey, to_base64url
from p2pshare.wire.statements import (
    Invitation,
    Location,
    Proof,
    Receipt,
    Record,
    Release,
    Rotation,
    Statement,
    digest_of,
)
from tests.registry.connections import Client, make_routes

DOCS = Path(__file__).parent.parent.parent / "docs"
VECTOR = re.compile(r"```vector\n(.*?)```", re.DOTALL)
EXCHANGE = re.compile(r"```http-exchange\n(.*?)```", re.DOTALL)


def side(exchange: str, mark: str) -> bytes:
    """Return the bytes of one side; lines end in CRLF, except the last of a body."""
    lines = [line[2:] for line in exchange.splitlines() if line.startswith(mark)]
    head, _, body = "\r\n".join(lines).partition("\r\n\r\n")
    return f"{head.rstrip()}\r\n\r\n{body}".encode()


class ProtocolDocumentTests(SynchronousTestCase):
    """docs/protocol-registry.md"""

    def test_exchanges(self) -> None:
        """In order, each request gets the reply in the document."""
        clock = Clock()
        site = Site(make_routes(MemoryNameStore(clock), clock), clock)
        site.doStart()
        self.addCleanup(site.doStop)
        exchanges = EXCHANGE.findall((DOCS / "protocol-registry.md").read_text())
        self.assertEqual(len(exchanges), 5)
        for exchange in exchanges:
            self.assertEqual(Client(site).send(side(exchange, ">")), side(exchange, "<"))

    def test_addresses(self) -> None:
        """The table of rejected addresses has exactly the networks that the code rejects."""
        text = (DOCS / "protocol-registry.md").read_text()
        _, _, table = text.partition("| rejected | why |")
        table, _, _ = table.partition("\n\n")
        networks = set(re.findall(r"`([0-9a-f.:]+/[0-9]+)`", table))
        told = {"2002::/16", "2000::/3", "fc00::/7"}
        self.assertEqual(networks, {*map(str, REFUSED), *told})

    def vectors(self) -> list[dict[str, str]]:
        """Return the fields of each vector."""
        text = (DOCS / "protocol-registry.md").read_text()
        return [
            dict(re.split(r": +", line, maxsplit=1) for line in block.splitlines())
            for block in VECTOR.findall(text)
        ]

    def test_location(self) -> None:
        """The location of the vectors is parsed, and the record has its digest."""
        records, locations = (
            [each for each in self.vectors() if each["kind"] == kind]
            for kind in ("record", "location")
        )
        (record,), (vector,) = records, locations
        text = vector["location"]
        self.assertEqual(to_base64url(vector["payload"].encode()), text)
        self.assertEqual(Location.parse(text).to_text(), text)
        self.assertEqual(digest_of(text), vector["digest"])
        self.assertEqual(Record.read(record["statement"]).location, vector["digest"])

    def test_statements(self) -> None:
        """Each payload, signed with the key of its seed, is the statement, and is parsed."""
        kinds: dict[str, type[Statement]] = {
            each.KIND: each for each in (Record, Release, Rotation, Receipt, Invitation, Proof)
        }
        for vector in self.vectors():
            if vector["kind"] in kinds:
                key = SigningKey(bytes.fromhex(vector["seed"]))
                payload = vector["payload"].encode()
                message = f"p2pshare-{vector['kind']}-v1\0".encode() + payload
                statement = f"{to_base64url(payload)}.{to_base64url(key.sign(message))}"
                self.assertEqual(statement, vector["statement"])
                self.assertEqual(str(key.public), vector["public"])
                read = kinds.pop(vector["kind"]).read(statement, key.public)
                self.assertEqual(read.sign(key), statement)
        self.assertEqual(kinds, {})

    def test_heartbeats(self) -> None:
        """Each message has the MAC of its body."""
        heartbeats = [vector for vector in self.vectors() if vector["kind"] == "heartbeat"]
        self.assertEqual(len(heartbeats), 2)
        for vector in heartbeats:
            key, body = bytes.fromhex(vector["mac_key"]), vector["body"].encode()
            beat = Heartbeat.parse(vector["name"], body)
            self.assertEqual(beat.to_json(key), body)
            message = vector["message"].replace("\\0", "\0").encode()
            self.assertEqual(beat.mac, hmac.digest(key, message, "sha256"))

    def test_tables(self) -> None:
        """The tables of problems and limits are those of the code."""
        text = (DOCS / "protocol-registry.md").read_text()
        told = dict(re.findall(r"^\| `([a-z-]+)` \| (\d{3})[,0-9 ]* \|", text, re.MULTILINE))
        self.assertEqual(told, {word: str(status.value) for word, (status, _) in PROBLEMS.items()})
        for limit in DEFAULT_LIMITS.values():
            self.assertIn(f"| {limit.per_second:g} | {limit.burst} |", text)


class OperationsDocumentTests(SynchronousTestCase):
    """docs/operations.md"""

    def test_limits(self) -> None:
        """The table has the limits of the code."""
        text = (DOCS / "operations.md").read_text()
        limits = Limits()
        for what, value in (
            ("body of a request", limits.body_max),
            ("request line, one header", limits.line_max),
            ("from a request's first byte to the end of its headers", limits.headers_timeout),
            ("from a request's first byte to its last", limits.request_timeout),
            ("from there to the end of the reply", limits.reply_timeout),
            ("between two requests", limits.idle_timeout),
            ("for a client to take the end of the last reply", limits.close_timeout),
            ("connections", limits.connections_max),
            ("connections from one address", limits.connections_per_address_max),
            ("a call to Redis", CALL_TIMEOUT),
            ("the same list of all names is given for", KEEP),
            ("replies of more than 64 KiB under way", limits.long_replies_max),
            (
                "replies of more than 64 KiB under way to one client",
                limits.long_replies_per_address_max,
            ),
            (
                "for a client to take more of a reply of more than 64 KiB",
                limits.long_reply_stalled_max,
            ),
        ):
            self.assertIn(f"| {what} | {value:g} |", text)
