"""The examples of the documents are what really happens."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.registry.channel import Limits
from p2pshare.registry.listing import KEEP
from p2pshare.registry.memory_store import MemoryNameStore
from p2pshare.registry.redis_link import CALL_TIMEOUT
from p2pshare.registry.site import RegistrySite
from tests.registry.connections import Client, make_routes

DOCS = Path(__file__).parent.parent.parent / "docs"
EXCHANGE = re.compile(r"```http-exchange\n(.*?)```", re.DOTALL)


def side(exchange: str, mark: str) -> bytes:
    """What one side sends: lines end in CRLF, except the last of a body."""
    lines = [line[2:] for line in exchange.splitlines() if line.startswith(mark)]
    head, _, body = "\r\n".join(lines).partition("\r\n\r\n")
    return f"{head.rstrip()}\r\n\r\n{body}".encode()


class ProtocolDocumentTests(SynchronousTestCase):
    """docs/protocol-registry.md"""

    def test_exchanges(self) -> None:
        """One after the other, each request gets the reply that stands below it."""
        clock = Clock()
        site = RegistrySite(make_routes(MemoryNameStore(clock), clock), clock)
        site.doStart()
        self.addCleanup(site.doStop)
        exchanges = EXCHANGE.findall((DOCS / "protocol-registry.md").read_text())
        self.assertEqual(len(exchanges), 5)
        for exchange in exchanges:
            self.assertEqual(Client(site).send(side(exchange, ">")), side(exchange, "<"))


class OperationsDocumentTests(SynchronousTestCase):
    """docs/operations.md"""

    def test_limits(self) -> None:
        """The table names the limits that hold."""
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
        ):
            self.assertIn(f"| {what} | {value:g} |", text)
