"""Tests of `p2pshare.ui.verbs.reach.invite`."""

from __future__ import annotations

import io
import ipaddress
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import (
    InvitationNeeded,
    KeyUnusable,
    NoRegistry,
    NoSuchPeer,
    NotFound,
    RegistryHasNoOwners,
    RegistryUnreachable,
    Unreachable,
    WrongUsage,
)
from p2pshare.net.reach.interfaces import InterfaceAddress, NetworkState
from p2pshare.peer.registration import LOCAL_ONLY
from p2pshare.registry.api.authority import Authority
from p2pshare.registry.assembly import registry_key
from p2pshare.storage.identity import key_file
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.output import Output
from p2pshare.ui.terminal.capabilities import Terminal
from p2pshare.ui.verbs.reach import invite as inviting
from p2pshare.ui.verbs.reach.invite import (
    ADDRESSES_MAX,
    KEY_NAME,
    OWN_REGISTRY,
    invitations,
    invite,
)
from p2pshare.wire.keys import SigningKey
from p2pshare.wire.reach.join_links import URLS_MAX, JoinLink
from p2pshare.wire.registry_answers import RegistryInfo
from p2pshare.wire.statements import Invitation
from tests.ui.registries import NOW, REGISTRY_KEY, URL, MemoryInvocation, MemoryRegistry, view_of
from tests.ui.screens import FakeTty

HERE = "http://127.0.0.1:8000"
OWN = ("198.51.100.7", "192.0.2.7", "2001:db8::7")


def network(*ips: str) -> NetworkState:
    """Return the state of a machine with these addresses, and a temporary one."""
    ips = (*ips, "2001:db8::ffff")
    return NetworkState(
        tuple(
            InterfaceAddress(ip, ipaddress.ip_network(ip), "eth0", ip.endswith("ffff"))
            for ip in ips
        )
    )


class InviteTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.stdout, self.stderr = io.StringIO(), io.StringIO()
        self.registry = MemoryRegistry()
        self.folder = Path(self.mktemp()).absolute()
        answering = ("192.0.2.7", "[2001:db8::7]", "[2001:db8::ffff]")
        self.answering = {f"http://{ip}:8000" for ip in answering}
        self.status: dict[str, Any] | None = None
        self.patch(inviting, "read_network", lambda: network(*OWN))
        self.patch(inviting, "_registry_folder", lambda: self.folder)
        self.patch(inviting, "running", self._running)

    def _running(self, invocation: object, folder: Path) -> Any:
        test = self

        class Running:
            async def __aenter__(self) -> object:
                return None if test.status is None else self

            async def ask(self, _: str) -> object:
                return test.status

            async def __aexit__(self, *_: object) -> None:
                pass

        return Running()

    def output(self, *, json: bool = False, quiet: bool = False) -> Output:
        terminals = (Terminal.detect(each, {}) for each in (self.stdout, self.stderr))
        return Output(*terminals, json=json, quiet=quiet)

    def invite(
        self,
        place: str | None = None,
        url: str = URL,
        *,
        life: int | None = None,
        urls: Sequence[str] = (),
        invitation: str | None = None,
        output: Output | None = None,
    ) -> Deferred[int]:
        fake = MemoryInvocation(self.registry, output or self.output(), self.folder)
        fake.settings = replace(fake.settings, registry=url, invitation=invitation)
        test = self

        async def answer(*_: object) -> RegistryInfo | None:
            if test.registry.url not in {url, *test.answering}:
                raise RegistryUnreachable(registry=test.registry.url, reason="refused")
            return await MemoryRegistry.info(test.registry)

        self.patch(self.registry, "info", answer)
        invocation = cast(Invocation, fake)
        flag = None if invitation is None else "FILE"
        return Deferred.fromCoroutine(
            invite(invocation, place, life=life, urls=urls, invitation=flag)
        )

    def link(self, *args: Any, **options: Any) -> JoinLink:
        self.stdout.truncate(0), self.stdout.seek(0)
        self.assertEqual(self.successResultOf(self.invite(*args, **options)), 0)
        return JoinLink.parse(self.stdout.getvalue(), NOW)


class InviteTests(InviteTestCase):
    def test_open_registry(self) -> None:
        """The link to an open registry has its key and the URL in the settings, and never expires by itself."""
        self.assertEqual(self.link(), JoinLink(REGISTRY_KEY, (URL,)))
        self.assertEqual(self.link(life=60).expires, NOW + 60)

    def test_urls(self) -> None:
        """URLs of the operator follow the one in the settings; those that lead to the reader itself are left out."""
        told = ("https://share.example.org", "http://localhost:8000", URL, "http://[::1]:1")
        assert self.registry.infos is not None
        self.registry.infos = replace(self.registry.infos, urls=told)
        self.assertEqual(self.link().urls, (URL, "https://share.example.org"))
        self.assertEqual(self.link(url=HERE).urls, ("https://share.example.org", URL))
        given = ("http://192.0.2.9:80", HERE)
        self.assertEqual(self.link(urls=given).urls, ("http://192.0.2.9", HERE))

    def test_own_addresses(self) -> None:
        """For a registry on this machine, the link has the lasting addresses at which it answers."""
        urls = ("http://192.0.2.7:8000", "http://[2001:db8::7]:8000")
        self.assertEqual(self.link(url=HERE).urls, urls)
        self.answering.add("http://198.51.100.7:8000")
        for url in (HERE, "http://localhost:8000", "http://[::1]:8000", "http://0.0.0.0:8000"):
            self.assertEqual(self.link(url=url).urls, ("http://198.51.100.7:8000", *urls))

    def test_many(self) -> None:
        """Not all of many addresses are tried, and a link has the first URLs only."""
        own = [f"192.0.2.{number}" for number in range(1, 40)]
        tried: list[str] = []

        async def answers(_: object, url: str, key: object) -> bool:
            tried.append(url)
            return True

        self.patch(inviting, "read_network", lambda: network(*own))
        self.patch(inviting, "_answers", answers)
        self.assertEqual(len(self.link(url=HERE).urls), URLS_MAX)
        self.assertEqual(len(tried), ADDRESSES_MAX)
        urls = [f"http://{ip}" for ip in own]
        self.assertEqual(self.link(urls=urls).urls, tuple(urls[:URLS_MAX]))

    def test_for_itself(self) -> None:
        """A registry that listens for its machine alone is an error with the remedy."""
        self.answering.clear()
        error = self.failureResultOf(self.invite(url=HERE), Unreachable).value
        self.assertIn("--listen tcp:8000", str(error))
        self.assertIn("--url", str(error))
        self.assertEqual((error.exit_code, self.stdout.getvalue()), (5, ""))

    def test_place(self) -> None:
        """The place is a peer that exists, or the user whose peer runs here."""
        self.registry.views = {"alice": view_of("alice", SigningKey(bytes(32)).public)}
        self.assertEqual(self.link("Alice:photos/").place, "alice:photos")
        self.assertEqual(self.link("alice").place, "alice")
        self.failureResultOf(self.invite("carl"), NoSuchPeer)
        for wrong in ("alice/photos", "alice:../x", "a b"):
            self.assertEqual(self.failureResultOf(self.invite(wrong)).value.exit_code, 2)
        self.status = {"name": "bob", "loopback": False}
        self.assertEqual(self.link().place, "bob")
        self.status["loopback"] = True
        self.assertEqual(self.link("alice").place, "alice")
        self.assertNotIn(LOCAL_ONLY, self.stderr.getvalue())
        self.link()
        self.assertIn(LOCAL_ONLY, self.stderr.getvalue())

    def test_wrong(self) -> None:
        """A URL that is none, and an original registry, are errors."""
        self.failureResultOf(self.invite(urls=("http://x/y",)), WrongUsage)
        self.registry.infos = None
        self.failureResultOf(self.invite(), RegistryHasNoOwners)

    def test_no_registry(self) -> None:
        """Without a registry in the settings, that of this machine is meant, if there is one."""
        self.registry.keeps_names = False
        self.failureResultOf(self.invite(url="lan:"), NoRegistry)
        self.registry.keeps_names = True
        self.folder.mkdir(mode=0o700)
        key_file.make(self.folder / KEY_NAME, SigningKey(bytes(32)))
        self.answering |= {OWN_REGISTRY}
        self.assertEqual(self.link(url="lan:").urls[0], "http://192.0.2.7:8000")

    def test_terminal(self) -> None:
        """A terminal shows the QR code, the link on a line of its own, and what to do with it."""
        self.stdout = FakeTty()
        self.successResultOf(self.invite())
        *code, link = self.stdout.getvalue().splitlines()
        self.assertGreater(len(code), 15)
        self.assertTrue(all(set(line) <= set(" ▄▀█") for line in code))
        self.assertEqual(JoinLink.parse(link, NOW).key, REGISTRY_KEY)
        self.assertIn("p2pshare join LINK", self.stderr.getvalue())
        self.stdout, self.stderr = FakeTty(), io.StringIO()
        self.successResultOf(self.invite(output=self.output(quiet=True)))
        self.assertEqual(self.stdout.getvalue(), f"{link}\n")
        self.assertEqual(self.stderr.getvalue(), "")

    def test_json(self) -> None:
        """Programs get one event."""
        self.successResultOf(self.invite(output=self.output(json=True)))
        event = json.loads(self.stdout.getvalue())
        self.assertEqual(JoinLink.parse(event.pop("link"), NOW).urls, (URL,))
        self.assertEqual(
            event,
            {
                "event": "invite",
                "registry": str(REGISTRY_KEY),
                "urls": [URL],
                "place": None,
                "expires": None,
                "has_invitation": False,
            },
        )


class InviteOnlyTests(InviteTestCase):
    KEY = SigningKey(bytes([9]) * 32)

    def setUp(self) -> None:
        super().setUp()
        self.registry.infos = RegistryInfo("1", NOW, self.KEY.public, (), True)

    def test_on_its_machine(self) -> None:
        """On the machine of the registry, the link gets an invitation of its own, and expires with it."""
        self.folder.mkdir(mode=0o700)
        key_file.make(self.folder / KEY_NAME, self.KEY)
        for life in (None, 3600):
            link = self.link(life=life)
            assert link.invitation is not None
            until = NOW + (life or 7 * 86400)
            self.assertEqual(Invitation.read(link.invitation, self.KEY.public).exp, until)
            self.assertEqual(link.expires, until)
        self.assertIn("secret", self.stderr.getvalue())

    def test_elsewhere(self) -> None:
        """Elsewhere an invitation is needed; a missing one, or one of another registry, is an error."""
        for key in (None, SigningKey(bytes(32))):
            if key is not None:
                self.folder.mkdir(mode=0o700)
                key_file.make(self.folder / KEY_NAME, key)
            error = self.failureResultOf(self.invite(), InvitationNeeded).value
            self.assertEqual(error.exit_code, 3)
            self.assertIn("--invitation FILE", str(error))
        given = Invitation("i" * 22, NOW, NOW + 60).sign(self.KEY)
        link = self.link(invitation=given)
        self.assertEqual((link.invitation, link.expires), (given, NOW + 60))
        other = Invitation("i" * 22, NOW, NOW + 60).sign(SigningKey(bytes(32)))
        self.failureResultOf(self.invite(invitation=other), WrongUsage)


class InvitationsTests(InviteTestCase):
    def make(self, count: int = 1, *, json: bool = False) -> int:
        return invitations(self.output(json=json), str(self.folder), 3600, count, lambda: NOW)

    def test_good(self) -> None:
        """Each invitation is valid, unique and on its own line; the hint goes to stderr."""
        key = SigningKey(bytes(32))
        self.folder.mkdir(mode=0o700)
        key_file.make(self.folder / KEY_NAME, key)
        self.assertEqual(registry_key(self.folder).public, key.public)
        self.assertEqual(self.make(3), 0)
        authority = Authority(key, lambda: NOW + 3599, os.urandom)
        made = self.stdout.getvalue().splitlines()
        ids = {authority.read_invitation(each).id for each in made}
        self.assertEqual(len(ids), 3)
        self.assertIn("--invitation FILE", self.stderr.getvalue())

    def test_events(self) -> None:
        """The events contain the time of expiry."""
        self.folder.mkdir()
        key_file.make(self.folder / KEY_NAME, SigningKey(bytes(32)))
        self.make(json=True)
        event = json.loads(self.stdout.getvalue())
        self.assertEqual((event["event"], event["expires"]), ("invitation", NOW + 3600))
        self.assertEqual(self.stderr.getvalue(), "")

    def test_no_key(self) -> None:
        """A missing or unreadable registry key is an error that says where to run the verb."""
        error = self.assertRaises(NotFound, self.make)
        self.assertIn("--data", str(error))
        self.folder.mkdir()
        key_file.make(self.folder / KEY_NAME, SigningKey(bytes(32)))
        (self.folder / KEY_NAME).chmod(0o644)
        self.assertRaises(KeyUnusable, self.make)
        self.assertEqual(self.stdout.getvalue(), "")
