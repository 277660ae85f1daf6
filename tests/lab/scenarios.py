"""What happens to fetches and offers when the network changes: `trial tests.lab.scenarios`, as root on Linux.

The suite does not find this module, since its tests take minutes; `make lab` runs it.
"""

from __future__ import annotations

import contextlib
import filecmp
import json
import signal
import sys
import time

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.lab.commands import Command, Event
from tests.lab.homes import Home, HomeKind, Internet, internet
from tests.lab.namespaces import why_not
from tests.lab.world import FILE, SIZE, Fetch, Running, World, url_of, world

SLOW = ("--limit", "4MB/s")  # 5 s for the file
EARLY = 4_000_000  # bytes: the fetch is under way
BACK_S = 10.0  # s after which a peer has to be back
DECIDED_S = 40.0  # s until a sender learns a decision over another connection
LEASE_S = 90.0  # s after which a silent peer counts as offline


class Scenario(SynchronousTestCase):
    """Two homes and a registry."""

    def setUp(self) -> None:
        if (reason := why_not("nft", "conntrack")) is not None:
            raise SkipTest(reason)

    def homes(self, requester: HomeKind, sharer: HomeKind, *flags: str) -> None:
        """Make two homes, and share the file in one of them; `flags` are those of the sharer."""
        stack = contextlib.ExitStack()
        self.addCleanup(stack.close)
        self.net: Internet = stack.enter_context(internet())[0]
        self.alice: Home = self.net.add(requester)
        self.bob: Home = self.net.add(sharer)
        self.world: World = stack.enter_context(world(self.net))
        self.sharer = self.world.share(self.bob, "bob", *flags)

    def fetch(self, *flags: str) -> Running:
        """Start a fetch, and return when it is under way."""
        running = self.world.fetch(self.alice, "alice", "bob", *SLOW, *flags)
        running.wait_for_bytes(EARLY)
        return running

    def check(self, running: Running, *, patience: float = 60.0) -> Fetch:
        """Wait for the end of a fetch, which has to be exact."""
        fetch = running.end(patience)
        told = f"{fetch.events}\n{fetch.log}\n{self.world.log('bob')[-4000:]}"
        self.assertEqual((fetch.exit_code, fetch.is_exact), (0, True), told)
        sys.stderr.write(f"{self._testMethodName}: {fetch}, longest stall {fetch.stall_s:.1f} s\n")
        return fetch


class ChangeTests(Scenario):
    """Changes in the middle of a fetch."""

    def test_rebinding(self) -> None:
        """The requester's NAT forgets the mapping and gives another one: the fetch goes on over the same session."""
        self.homes(HomeKind.SYMMETRIC, HomeKind.OPEN)
        running = self.fetch("--via", "udp")
        self.alice.forget_flows()
        self.assertEqual(set(self.check(running).paths), {"udp"})

    def test_rebinding_punched(self) -> None:
        """Both NATs of a path that was punched forget it."""
        self.homes(HomeKind.CONE, HomeKind.CONE)
        running = self.fetch()
        self.assertTrue(running.events[0]["via"], "udp")
        self.alice.forget_flows()
        self.bob.forget_flows()
        self.check(running)

    def test_direct_path_cut(self) -> None:
        """A punched path dies: the fetch goes on through the relay."""
        self.homes(HomeKind.CONE, HomeKind.CONE)
        running = self.fetch()
        self.net.cut_direct()
        fetch = self.check(running)
        self.assertEqual((fetch.paths[0], fetch.paths[-1]), ("udp", "relay"))

    def test_direct_path_returns(self) -> None:
        """A fetch that began on the relay moves to a direct path when there is one, and fetches nothing twice."""
        self.homes(HomeKind.CONE, HomeKind.CONE)
        self.net.cut_direct()
        running = self.world.fetch(self.alice, "alice", "bob", "--limit", "200KB/s")
        running.wait_for_bytes(1_000_000)
        self.net.mend()
        fetch = self.check(running, patience=150.0)
        self.assertEqual((fetch.paths[0], fetch.paths[-1]), ("relay", "udp"))
        (saved,) = (each for each in fetch.events if each["event"] == "saved")
        self.assertEqual(saved["fetched"], SIZE)

    def test_registry_killed(self) -> None:
        """The relay is killed in the middle of a fetch and comes back: the fetch goes on."""
        self.homes(HomeKind.SYMMETRIC, HomeKind.CONE)
        running = self.fetch()
        self.world.registry.send_signal(signal.SIGKILL)
        self.world.registry.wait(10)
        time.sleep(1)
        self.world.start_registry()
        self.assertEqual(set(self.check(running).paths), {"relay"})

    def test_direct_without_registry(self) -> None:
        """A direct path does not need the registry."""
        self.homes(HomeKind.CONE, HomeKind.CONE)
        running = self.fetch()
        self.world.registry.send_signal(signal.SIGKILL)
        self.assertEqual(self.check(running).paths, ["udp"])

    def test_sharer_moves(self) -> None:
        """The sharer's host gets another address in the middle of a fetch over TCP."""
        self.homes(HomeKind.OPEN, HomeKind.CONE)
        running = self.fetch("--via", "tcp")
        host = self.bob.host
        host.run("ip", "addr", "del", f"{self.bob.host_ip}/24", "dev", "eth")
        time.sleep(1)
        host.run("ip", "addr", "add", "192.168.1.77/24", "dev", "eth")
        host.run("ip", "route", "add", "default", "via", "192.168.1.1")
        self.assertLess(self.check(running).stall_s, 1 + BACK_S)

    def test_outage(self) -> None:
        """The requester's network is away for a while in the middle of a fetch: the fetch goes on soon after."""
        self.homes(HomeKind.CONE, HomeKind.CONE)
        running = self.fetch()
        away = 30.0  # s
        host = self.alice.host
        host.run("ip", "link", "set", "eth", "down")
        time.sleep(away)
        host.run("ip", "link", "set", "eth", "up")
        host.run("ip", "route", "replace", "default", "via", "192.168.1.1")
        self.assertLess(self.check(running).stall_s, away + BACK_S)


class ReturnTests(Scenario):
    """Peers that were away."""

    def fetches_within(self, seconds: float) -> Fetch:
        """Fetch again and again until that succeeds, which has to be soon."""
        started = time.monotonic()
        while True:
            fetch = self.world.fetch(self.alice, "alice", "bob").end(30.0)
            if fetch.exit_code == 0 and fetch.is_exact:
                took = time.monotonic() - started
                sys.stderr.write(f"{self._testMethodName}: back after {took:.1f} s\n")
                self.assertLess(took, seconds)
                return fetch
            self.assertLess(time.monotonic() - started, seconds, f"{fetch.events}\n{fetch.log}")

    def test_suspend(self) -> None:
        """A sharer that was suspended is back soon after it runs again, though its NAT has forgotten it."""
        self.homes(HomeKind.CONE, HomeKind.CONE)
        self.sharer.send_signal(signal.SIGSTOP)
        time.sleep(15)
        self.bob.forget_flows()
        self.sharer.send_signal(signal.SIGCONT)
        self.fetches_within(BACK_S)

    def test_cable(self) -> None:
        """A sharer whose network was away is back soon after the network is."""
        self.homes(HomeKind.CONE, HomeKind.CONE)
        self.bob.host.run("ip", "link", "set", "eth", "down")
        time.sleep(10)
        self.bob.host.run("ip", "link", "set", "eth", "up")
        self.bob.host.run("ip", "route", "replace", "default", "via", "192.168.1.1")
        self.fetches_within(BACK_S)

    def test_back_after_the_lease(self) -> None:
        """Peers that were offline are online again soon: a network that returns, a router that passes packets again, a
        suspended process, and another address.
        """
        with internet() as (net, add), world(net) as made:
            homes = {name: add(HomeKind.CONE) for name in ("cable", "router", "suspended", "moved")}
            peers = {name: made.share(home, name) for name, home in homes.items()}
            hosts = {name: home.host for name, home in homes.items()}
            routers = homes["router"].routers[0]
            for name in ("cable", "moved"):
                hosts[name].run("ip", "link", "set", "eth", "down")
            routers.run("nft", "add table ip cut")
            routers.run(
                "nft",
                "add chain ip cut f { type filter hook forward priority -10; policy drop; }",
            )
            peers["suspended"].send_signal(signal.SIGSTOP)
            time.sleep(LEASE_S + 5)
            self.assertEqual(made.names(), [])
            hosts["moved"].run("ip", "addr", "flush", "dev", "eth")
            hosts["moved"].run("ip", "addr", "add", "192.168.1.77/24", "dev", "eth")
            for name in ("cable", "moved"):
                hosts[name].run("ip", "link", "set", "eth", "up")
                hosts[name].run("ip", "route", "replace", "default", "via", "192.168.1.1")
            routers.run("nft", "delete table ip cut")
            peers["suspended"].send_signal(signal.SIGCONT)
            started = time.monotonic()
            while set(made.names() or ()) != set(homes):
                away = set(homes) - set(made.names() or ())
                self.assertLess(time.monotonic() - started, BACK_S, away)
                time.sleep(0.1)

    def test_registry_restart(self) -> None:
        """A sharer is called again soon after a restart of the registry."""
        self.homes(HomeKind.CONE, HomeKind.CONE)
        self.world.registry.terminate()
        self.world.registry.wait(15)
        time.sleep(3)
        self.world.start_registry()
        self.fetches_within(BACK_S)


class PlaceTests(Scenario):
    """Other places than those of the matrix."""

    def test_one_home(self) -> None:
        """Two hosts behind one NAT use their own network, also if the NAT is symmetric."""
        self.homes(HomeKind.OPEN, HomeKind.SYMMETRIC)
        self.alice = self.net.add_neighbour(self.bob)
        fetch = self.check(self.world.fetch(self.alice, "alice", "bob"))
        (connected,) = (each for each in fetch.events if each["event"] == "connected")
        self.assertTrue(connected["address"].startswith(f"{self.bob.host_ip}:"), connected)

    def test_private(self) -> None:
        """A private sharer is reached through the relay, and no address of it is known to anybody."""
        self.homes(HomeKind.OPEN, HomeKind.OPEN, "--private")
        fetch = self.check(self.world.fetch(self.alice, "alice", "bob"))
        self.assertEqual(fetch.paths, ["relay"])
        self.assertNotIn(self.bob.host_ip, str(fetch.events) + fetch.log)

    def test_no_relay(self) -> None:
        """With `--via udp` and `--via tcp`, two homes that have no direct path fail with an error, and soon."""
        self.homes(HomeKind.SYMMETRIC, HomeKind.CONE)
        fetch = self.world.fetch(self.alice, "alice", "bob", "--via", "udp").end()
        self.assertNotEqual(fetch.exit_code, 0)
        self.assertLess(fetch.seconds, 20.0)


class PathTests(Scenario):
    """What `p2pshare path` says about homes."""

    def test_path(self) -> None:
        """The kind of NAT, the path in use and the advice are right for each kind of home."""
        for kind, mapping, direct, advice in (
            (HomeKind.OPEN, "none", True, ""),
            (HomeKind.CONE, "independent", True, ""),
            (HomeKind.SYMMETRIC, "dependent", False, "The NAT here varies"),
            (HomeKind.UDP_BLOCKED, "blocked", False, "UDP is blocked at this end"),
            (HomeKind.IPV6_ONLY, "none", False, "this machine has IPv6 only"),
        ):
            self.homes(kind, HomeKind.CONE)
            flags = ("--registry", url_of(self.alice), "--name", "alice", "--json")
            told = self.world.run(self.alice, "alice", "path", "bob", *flags)
            events = [json.loads(line) for line in told.splitlines() if line.startswith("{")]
            found = {each["event"]: each for each in events}
            self.assertEqual(found["network"]["mapping"], mapping, told)
            self.assertEqual(found["path"]["direct"], direct, told)
            self.assertIn(advice, "\n".join(found["path"]["advice"]), told)


class OfferTests(Scenario):
    """Files that alice sends to bob, whose peer runs as a service."""

    def begin(
        self,
        sender: HomeKind,
        receiver: HomeKind,
        *flags: str,
        runs: bool = False,
        limit: tuple[str, ...] = (),
    ) -> None:
        """Make two homes, start bob's peer with `limit`, and alice's too if it `runs`; `flags` are those of alice."""
        stack = contextlib.ExitStack()
        self.addCleanup(stack.close)
        self.net = stack.enter_context(internet())[0]
        self.alice, self.bob = self.net.add(sender), self.net.add(receiver)
        self.world = stack.enter_context(world(self.net))
        self.receiver = self.world.serve(self.bob, "bob", *limit)
        if runs:
            self.world.serve(self.alice, "alice", *flags)
        self.flags = () if runs else flags

    def send(self) -> Command:
        """Send the file to bob."""
        return self.world.command(self.alice, "alice", "send", FILE, "bob", *self.flags)

    def accept(self, sending: Command) -> Command:
        """Accept what was sent, as soon as bob has it."""
        told = sending.until(lambda event: state_at_bob(event) == "delivered")
        self.delivered_s = told["at"]
        return self.world.command(self.bob, "bob", "inbox", "accept", told["id"], "got")

    def under_way(self, sending: Command) -> Command:
        """Accept what was sent, and return when some of it is here."""
        accepting = self.accept(sending)
        accepting.until(lambda event: event.get("bytes_done", 0) >= EARLY)
        return accepting

    def check_both(self, sending: Command, accepting: Command) -> None:
        """Both commands end well, and the file is exact."""
        codes = accepting.end(120.0), sending.end(20.0)
        self.assertEqual(codes, (0, 0), f"{accepting}\n{sending}\n{self.world.log('bob')[-4000:]}")
        got = self.world.folder / "got" / "film.bin"
        self.assertTrue(filecmp.cmp(got, self.world.folder / FILE, shallow=False))
        done = [each["at"] for each in accepting.events if each.get("state") == "done"]
        sys.stderr.write(
            f"{self._testMethodName}: {self.alice.kind} to {self.bob.kind}: delivered after"
            f" {self.delivered_s:.2f} s; first byte {accepting.first_byte_s or 0:.2f} s, done {done[0]:.2f} s"
            " after accepting\n"
        )

    def test_homes(self) -> None:
        """Offers get through between homes of all kinds, from a command alone and from a running peer."""
        for sender, receiver, runs in (
            (HomeKind.STOCK, HomeKind.STOCK, False),
            (HomeKind.CONE, HomeKind.SYMMETRIC, False),
            (HomeKind.SYMMETRIC, HomeKind.CONE, True),
            (HomeKind.UDP_BLOCKED, HomeKind.CONE, False),
            (HomeKind.CONE, HomeKind.UDP_BLOCKED, True),
            (HomeKind.IPV6_ONLY, HomeKind.IPV6_ONLY, False),
            (HomeKind.IPV6_ONLY, HomeKind.CONE, True),
        ):
            self.begin(sender, receiver, runs=runs)
            sending = self.send()
            self.check_both(sending, self.accept(sending))

    def test_private(self) -> None:
        """A private sender publishes no address, whether its peer runs or not: no packet goes from home to home."""
        for runs in False, True:
            self.begin(HomeKind.OPEN, HomeKind.OPEN, "--private", runs=runs)
            self.net.count_direct()
            sending = self.send()
            self.check_both(sending, self.accept(sending))
            self.assertEqual(self.net.direct_packets(), 0)

    def test_away(self) -> None:
        """An offer to somebody who is offline is delivered soon after the receiver's peer is back."""
        for runs in False, True:
            self.begin(HomeKind.SYMMETRIC, HomeKind.CONE, runs=runs)
            self.receiver.terminate()
            self.receiver.wait(10)
            sending = self.send()
            offer = sending.until(lambda event: event["event"] == "offer")
            if runs:
                self.assertEqual(sending.end(), 5)
            else:
                sending.until(
                    lambda event: event["event"] == "offer" and event["to"][0]["online"] is False
                )
            self.world.serve(self.bob, "bob")
            deadline = time.monotonic() + BACK_S
            while (
                not (inbox := self.world.command(self.bob, "bob", "inbox")).end()
                and not inbox.events
            ):
                self.assertLess(time.monotonic(), deadline)
            self.assertEqual(inbox.events[0]["id"], offer["id"])

    def test_changes(self) -> None:
        """The network changes while an accepted offer is fetched: it goes on, and arrives."""
        for sender, receiver, runs, change in (
            (HomeKind.CONE, HomeKind.CONE, False, self.forget_flows),
            (HomeKind.SYMMETRIC, HomeKind.CONE, True, self.forget_flows),
            (HomeKind.CONE, HomeKind.CONE, True, lambda: self.net.cut_direct()),
            (HomeKind.CONE, HomeKind.CONE, False, lambda: self.unplug(self.alice)),
            (HomeKind.CONE, HomeKind.CONE, True, lambda: self.unplug(self.bob)),
        ):
            self.begin(sender, receiver, runs=runs, limit=SLOW)
            sending = self.send()
            accepting = self.under_way(sending)
            change()
            self.check_both(sending, accepting)

    def test_decision_after_rebinding(self) -> None:
        """The sender learns the decision, though the connection over which it offered is dead by then."""
        self.begin(HomeKind.SYMMETRIC, HomeKind.CONE)
        sending = self.send()
        told = sending.until(lambda event: state_at_bob(event) == "delivered")
        self.forget_flows()
        self.world.command(self.bob, "bob", "inbox", "decline", told["id"]).end()
        sending.until(lambda event: state_at_bob(event) == "declined", DECIDED_S)

    def forget_flows(self) -> None:
        """Both NATs forget all."""
        self.alice.forget_flows()
        self.bob.forget_flows()

    def unplug(self, home: Home) -> None:
        """Pull the cable of a host for a while that is longer than the silence after which it reconnects."""
        home.host.run("ip", "link", "set", "eth", "down")
        time.sleep(15)
        home.host.run("ip", "link", "set", "eth", "up")
        home.host.run("ip", "route", "replace", "default", "via", "192.168.1.1")

    def test_local_network(self) -> None:
        """Without a registry, two strangers on one network."""
        for runs in False, True:
            stack = contextlib.ExitStack()
            self.addCleanup(stack.close)
            net = stack.enter_context(internet())[0]
            self.bob = net.add(HomeKind.CONE)
            self.alice, self.flags = net.add_neighbour(self.bob), ()
            self.world = stack.enter_context(world(net, has_registry=False))
            self.world.serve(self.bob, "bob")
            if runs:
                self.world.serve(self.alice, "alice")
            sending = self.send()
            self.check_both(sending, self.accept(sending))


def state_at_bob(event: Event) -> str | None:
    """Return the state of an offer at its receiver; None if the event tells something else."""
    return event["to"][0]["state"] if event["event"] == "offer" else None


class FirstMinuteTests(Scenario):
    """New users with two machines."""

    def test_local_network(self) -> None:
        """Without a registry: one command shares, and one on the other machine of the network fetches."""
        stack = contextlib.ExitStack()
        self.addCleanup(stack.close)
        net = stack.enter_context(internet())[0]
        bob = net.add(HomeKind.CONE)
        alice = net.add_neighbour(bob)
        self.world = stack.enter_context(world(net, has_registry=False))
        self.world.share(bob, "bob", "--allow", "@lan")
        fetch = self.check(self.world.fetch(alice, "alice", "bob"))
        (connected,) = (each for each in fetch.events if each["event"] == "connected")
        self.assertTrue(connected["address"].startswith(f"{bob.host_ip}:"), connected)

    def test_join(self) -> None:
        """With a registry: the link that one user makes, and two commands on the other machine."""
        self.homes(HomeKind.CONE, HomeKind.CONE)
        made = self.world.run(
            *(self.bob, "bob", "invite", "--registry", url_of(self.bob), "--json", "bob:share")
        )
        self.assertIn("link", made)
        link = json.loads(made.splitlines()[-1])["link"]
        joined = self.world.run(self.alice, "alice", "join", link, "--name", "alice")
        self.assertIn("film.bin", joined)
        got = self.world.run(self.alice, "alice", "get", "--json", f"bob:{FILE}", "got")
        self.assertIn('"saved"', got)
        copy = self.world.folder / "got"
        self.assertTrue(filecmp.cmp(copy, self.world.folder / FILE, shallow=False))
