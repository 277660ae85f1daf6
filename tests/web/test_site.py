"""The bounds on connections and long replies."""

from __future__ import annotations

from typing import cast

from p2pshare.web.connections import PATIENCE as CONNECTION_PATIENCE
from p2pshare.web.exchange import Reply
from p2pshare.web.limits import FILES_RESERVED, Limits
from p2pshare.web.reply_bodies import PATIENCE
from p2pshare.web.site import Channel, Site
from tests.registry.connections import HOST, Client, NarrowTransport, SiteTestCase, SlowRoutes

YEAR = 365 * 24 * 3600.0  # seconds


class NumberTests(SiteTestCase):
    """Every number has a bound."""

    limits = Limits(
        connections_max=5, connections_per_address_max=3, long_reply=10, long_replies_max=1
    )

    def test_connections(self) -> None:
        """Connections are bounded for one address and in total; one that ends makes room."""
        ones = [Client(self.site, "10.0.0.1") for _ in range(4)]
        self.assertEqual([client.channel is None for client in ones], [False] * 3 + [True])
        ones[0].leave()
        self.assertIsNotNone(Client(self.site, "10.0.0.1").channel)
        site = self.make_site(SlowRoutes())
        served = [Client(site, f"10.0.0.{n}") for n in range(5)]
        for client in served:
            client.send(b"GET /list HTTP/1.1\r\n" + HOST)
        self.assertIsNone(Client(site, "10.0.1.1").channel)
        served[0].leave()
        self.assertIsNotNone(Client(site, "10.0.1.1").channel)

    def test_flood(self) -> None:
        """Threat: a client that connects repeatedly displaces itself, not a client with fewer waiting connections."""
        calm = Client(self.site, "10.0.0.9")
        flood = [Client(self.site, f"10.0.0.{n % 2}") for n in range(100)]
        self.assertEqual([client.channel is None for client in flood], [False] * 4 + [True] * 96)
        late = Client(self.site, "10.0.0.8")
        self.assertEqual(
            [each.transport.disconnected for each in flood[:4]], [True, False, False, False]
        )
        for client in (calm, late):
            self.assertIn(b"200 OK", client.send(b"GET /healthz HTTP/1.1\r\n" + HOST))

    def test_flood_of_many(self) -> None:
        """If every client has one waiting connection, the one that has waited the longest makes room."""
        ones = [Client(self.site, f"10.0.0.{n}") for n in range(5)]
        ones[0].send(b"GET /healthz HTTP/1.1\r\n" + HOST)
        self.assertIsNotNone(Client(self.site, "10.0.1.1").channel)
        self.assertEqual(
            [each.transport.disconnected for each in ones], [False, True, False, False, False]
        )

    def test_nothing_is_left(self) -> None:
        """The table is empty after connections have come and gone, displaced or not."""
        for n in range(200):
            client = Client(self.site, f"10.0.{n % 3}.{n % 7}")
            if client.channel is not None and n % 2:
                client.send(b"GET /healthz HTTP/1.1\r\n" + HOST + b"G" * (n % 4))
            if client.channel is not None and n % 5 == 0:
                client.leave()
            self.clock.advance(0.1)
        connections = self.site.connections
        for channel in connections:
            cast(Channel, channel).connectionLost()
        self.assertEqual(
            (len(connections), connections._of_client, connections._waiting), (0, {}, {})
        )

    def test_who_waits_makes_room(self) -> None:
        """Silent and dripping clients keep nobody out (threat 25), neither at their address nor elsewhere."""
        slow = [Client(self.site, "10.0.0.1") for _ in range(3)]
        slow[1].send(b"G")
        slow[2].send(b"GET /healthz HTTP/1.1\r\n" + HOST)
        self.clock.advance(CONNECTION_PATIENCE)
        slow[0].send(b"GET /healthz HTTP/1.1\r\nH")
        honest = Client(self.site, "10.0.0.1")
        self.assertIn(b"200 OK", honest.send(b"GET /healthz HTTP/1.1\r\n" + HOST))
        self.assertEqual([each.transport.disconnected for each in slow], [True, False, False])
        others = [Client(self.site, f"10.0.0.{n}") for n in (2, 3, 4)]
        self.assertEqual([client.channel is None for client in others], [False] * 3)
        self.assertEqual([each.transport.disconnected for each in slow], [True, True, False])

    def test_one_client(self) -> None:
        """All addresses of a /64 are one client. An IPv4 address in IPv6 notation is the same client."""
        ones = [Client(self.site, f"2001:db8::{n}") for n in range(4)]
        self.assertEqual([client.channel is None for client in ones], [False] * 3 + [True])
        for client in ones[:3]:
            client.leave()
        same = [Client(self.site, host) for host in ("10.0.0.1", "::ffff:10.0.0.1") * 2]
        self.assertEqual([client.channel is None for client in same], [False] * 3 + [True])

    def test_who_is_served_stays(self) -> None:
        """A connection whose request is being answered never makes room for a new one."""
        site = self.make_site(SlowRoutes())
        served = [Client(site, "10.0.0.1") for _ in range(3)]
        for client in served:
            client.send(b"GET /list HTTP/1.1\r\n" + HOST)
        self.clock.advance(2 * CONNECTION_PATIENCE)
        self.assertIsNone(Client(site, "10.0.0.1").channel)
        self.assertEqual([each.transport.disconnected for each in served], [False] * 3)

    def test_long_replies(self) -> None:
        """A long reply is written as fast as its client reads; others are rejected if there is no room."""
        routes = SlowRoutes()
        site = self.make_site(routes)
        slow, other = Client(site, transport=NarrowTransport), Client(site)
        for client in (slow, other):
            client.send(b"GET /list HTTP/1.1\r\n" + HOST)
        long = Reply(200, (b"a" * 10, b"b" * 10))
        routes.asked[0].callback(long)
        self.assertTrue(slow.transport.value().endswith(b"a" * 10))
        routes.asked[1].callback(long)
        self.assertTrue(other.transport.value().startswith(b"HTTP/1.1 503"))
        while slow.transport.producerState == "paused":
            slow.transport.drain()
        self.assertTrue(slow.transport.value().endswith(b"a" * 10 + b"b" * 10))
        other.send(b"GET /list HTTP/1.1\r\n" + HOST)
        routes.asked[2].callback(long)
        self.assertTrue(other.transport.value().endswith(b"b" * 10))

    def long_reply(self, site: Site, routes: SlowRoutes, host: str) -> Client:
        """Return a client that requests a long reply, and reads nothing of it."""
        client = Client(site, host, NarrowTransport)
        client.send(b"GET /list HTTP/1.1\r\n" + HOST)
        routes.asked[-1].callback(Reply(200, (b"a" * 10,) * 9))
        return client

    def test_long_replies_of_one_client(self) -> None:
        """The long replies of one client are bounded; all addresses of a /64 are one client."""
        self.limits = Limits(long_reply=10, long_replies_max=3, long_replies_per_address_max=2)
        routes = SlowRoutes()
        site = self.make_site(routes)
        own = [self.long_reply(site, routes, f"2001:db8::{n}") for n in range(3)]
        other = self.long_reply(site, routes, "2001:db8:0:1::1")
        statuses = [client.transport.value()[9:12] for client in (*own, other)]
        self.assertEqual(statuses, [b"200", b"200", b"503", b"200"])

    def test_stalled_long_replies_make_room(self) -> None:
        """Threat: a stalled long reply is dropped when another one needs its place, the longest stalled first."""
        self.limits = Limits(long_reply=10, long_replies_max=3, long_replies_per_address_max=2)
        routes = SlowRoutes()
        site = self.make_site(routes)
        first, second, third = (self.long_reply(site, routes, f"10.0.0.{n}") for n in (1, 2, 3))
        self.clock.advance(PATIENCE)
        first.transport.drain()
        fourth = self.long_reply(site, routes, "10.0.0.4")
        self.assertTrue(fourth.transport.value().startswith(b"HTTP/1.1 200"))
        cut = [each.transport.disconnected for each in (first, second, third, fourth)]
        self.assertEqual(cut, [False, True, False, False])

    def test_stalled_long_replies_end(self) -> None:
        """A stalled long reply is dropped after a while; one that is read slowly is not."""
        self.limits = Limits(long_reply=10)
        routes = SlowRoutes()
        site = self.make_site(routes)
        deaf, slow = (self.long_reply(site, routes, "10.0.0.1") for _ in range(2))
        for _ in range(3):
            self.clock.pump([1.0] * 5)
            slow.transport.drain()
        self.assertEqual((deaf.transport.disconnected, slow.transport.disconnected), (True, False))

    def test_leaving_during_a_long_reply(self) -> None:
        """A client that leaves makes room for another long reply."""
        routes = SlowRoutes()
        site = self.make_site(routes)
        slow, other = Client(site, transport=NarrowTransport), Client(site)
        for client, number in ((slow, 0), (other, 1)):
            client.send(b"GET /list HTTP/1.1\r\n" + HOST)
            routes.asked[number].callback(Reply(200, (b"a" * 10, b"b" * 10)))
            if client is slow:
                slow.leave()
        self.assertTrue(other.transport.value().endswith(b"b" * 10))


class OpenFilesTests(SiteTestCase):
    """Threat: a process with a low limit on open files."""

    def test_bound(self) -> None:
        """There are fewer connections than files, so that waiting ones make room before `accept` fails."""
        for files, most, own in (
            (None, 3072, 512),
            (4096, 3072, 512),
            (1024, 1024 - FILES_RESERVED, 512),
            (150, 150 - FILES_RESERVED, 150 - FILES_RESERVED),
            (60, 30, 30),
            (1, 1, 1),
        ):
            limits = Limits().within(files)
            self.assertEqual(
                (limits.connections_max, limits.connections_per_address_max), (most, own), files
            )

    def test_small(self) -> None:
        """Silent clients make room for others."""
        self.limits = Limits().within(60)
        site = self.make_site(SlowRoutes())
        idle = [Client(site, f"10.0.0.{n % 2}") for n in range(100)]
        self.assertEqual(sum(client.channel is not None for client in idle), 30)
        self.assertIsNotNone(Client(site, "10.0.0.3").channel)


class DateTests(SiteTestCase):
    """Two clocks: one for the date, one for deadlines."""

    def test_wall_clock_jumps(self) -> None:
        """Threat 38: a change of the machine's clock changes the `Date` header, and no deadline."""
        wall = [1_750_000_000.0]
        site = Site(SlowRoutes(), self.clock, Limits(headers_timeout=10), wall=lambda: wall[0])
        site.doStart()
        self.addCleanup(site.doStop)
        self.assertIn(b"Sun, 15 Jun 2025 15:06:40 GMT", site.date_header)
        for jump in (YEAR, -2 * YEAR):
            client = Client(site)
            client.send(b"G")
            wall[0] += jump
            self.clock.advance(9)
            self.assertFalse(client.transport.disconnected)
            self.assertNotIn(b"2025", site.date_header)
            self.clock.pump([1] * 10)
            self.assertIn(b"408", client.transport.value())
