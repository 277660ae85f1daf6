"""Tests of `p2pshare.ui.verbs.reach.join`."""

from __future__ import annotations

import io
import json
import sys
import tomllib
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import (
    IllegalName,
    InvitationRefused,
    JoinLinkExpired,
    JoinLinkUnusable,
    NameTaken,
    P2pshareError,
    PeerOffline,
    Refused,
    RegistryChanged,
    RegistryUnreachable,
    Unreachable,
    WrongUsage,
)
from p2pshare.peer.ownership import Owner
from p2pshare.storage.identity.data_folder import DataFolder, PeerPlace
from p2pshare.storage.identity.identity import Identity
from p2pshare.storage.settings import Settings
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.output import Output
from p2pshare.ui.terminal.capabilities import Terminal
from p2pshare.ui.verbs.reach import join as joining
from p2pshare.wire.keys import PublicKey, SigningKey
from p2pshare.wire.reach.join_links import JoinLink
from p2pshare.wire.registry_answers import RegistryInfo
from p2pshare.wire.statements import Invitation
from tests.ui.registries import NOW, REGISTRY_KEY, URL, MemoryInvocation, MemoryRegistry, view_of

OTHER = SigningKey(bytes([7]) * 32).public
SECOND = "http://198.51.100.1:8000"
INVITATION = Invitation("i" * 22, NOW, NOW + 60).sign(SigningKey(bytes(32)))
LINK = JoinLink(REGISTRY_KEY, (URL,))
TO_ALICE = JoinLink(REGISTRY_KEY, (URL,), INVITATION, "alice:photos")


class PickyRegistry(MemoryRegistry):
    """A registry at one of several URLs."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: dict[str, PublicKey | None] = {URL: REGISTRY_KEY}
        """The key that is proven at each URL; None for an original registry."""

    async def info(self) -> RegistryInfo | None:
        if self.url not in self.keys:
            raise RegistryUnreachable(registry=self.url, reason="nothing listens there")
        key = self.keys[self.url]
        if key is None:
            return None
        if self.known not in (None, key):
            assert self.known is not None
            known, now = self.known.grouped, key.grouped
            raise RegistryChanged(registry=self.url, known=known, now=now)
        self.key = key
        return RegistryInfo("1", NOW, key, (), False)


class FakeConsole:
    """A user with prepared answers."""

    def __init__(self, *answers: str | None) -> None:
        self.answers = list(answers)
        self.questions: list[str] = []
        self.lines: list[str] = []
        self.is_closed = False

    async def ask(self, question: str) -> str | None:
        self.questions.append(question)
        return self.answers.pop(0)

    def line(self, text: str, colour: str = "") -> None:
        self.lines.append(text)

    def close(self) -> None:
        self.is_closed = True


class JoinTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.stdout, self.stderr = io.StringIO(), io.StringIO()
        output = Output(
            Terminal.detect(self.stdout, {}), Terminal.detect(self.stderr, {}), json=True
        )
        self.registry = PickyRegistry()
        self.folder = Path(self.mktemp()).absolute()
        self.config = self.folder / "config.toml"
        self.fake = MemoryInvocation(self.registry, output, self.folder)
        self.fake.settings = Settings(data=self.folder / "data")
        self.console: FakeConsole | None = None
        self.claims: list[tuple[str, str | None]] = []
        self.claim_error: P2pshareError | None = None
        self.listed: list[tuple[Settings, str]] = []
        self.list_error: P2pshareError | None = None
        self.patch(joining, "default_config_path", lambda: self.config)
        self.patch(joining, "_console", lambda _: self.console)
        self.patch(joining, "ls", self.ls)
        self.patch(Owner, "claim_offline", lambda owner: self.claim(owner))

    async def claim(self, owner: Owner) -> None:
        self.claims.append((owner.identity.name, owner._invitation))
        if self.claim_error is not None:
            raise self.claim_error
        key = owner.identity.key.public
        self.registry.views[owner.identity.name] = view_of(owner.identity.name, key)

    async def ls(self, invocation: Invocation, where: str, *, recursive: bool) -> int:
        self.listed.append((invocation.settings, where))
        if self.list_error is not None:
            raise self.list_error
        return 0

    def join(
        self, link: JoinLink | str | None = LINK, name: str | None = "bob", **options: Any
    ) -> Deferred[int]:
        self.fake.settings = replace(self.fake.settings, name=name)
        fields = {"registry": None, "data": None, "force": False, "environ": {}, **options}
        invocation = cast(Invocation, self.fake)
        text = None if link is None else str(link)
        joined = Deferred.fromCoroutine(joining.join(invocation, text, **fields))
        self.fake.reactor.advance(joining.HEAD_START)
        return joined

    def config_values(self) -> dict[str, Any]:
        return tomllib.loads(self.config.read_text())

    def write(self, text: str) -> None:
        self.folder.mkdir(exist_ok=True)
        self.config.write_text(text)

    def make_key(self) -> PublicKey:
        with closing(DataFolder.open(self.folder / "data", "bob")) as data:
            return Identity.open(data, URL, "bob").key.public


class JoinTests(JoinTestCase):
    def test_new(self) -> None:
        """The name is claimed, the settings are written, the key is known, and the place is listed."""
        self.assertEqual(self.successResultOf(self.join(TO_ALICE)), 0)
        self.assertEqual(self.claims, [("bob", INVITATION)])
        self.assertEqual(self.config_values(), {"registry": URL, "name": "bob"})
        self.assertEqual(PeerPlace(URL, "bob", self.folder / "data").key, str(REGISTRY_KEY))
        ((settings, where),) = self.listed
        self.assertEqual((settings.registry, settings.name, where), (URL, "bob", "alice:photos"))
        event = json.loads(self.stdout.getvalue())
        self.assertEqual(
            event,
            {
                "event": "joined",
                "name": "bob",
                "registry": URL,
                "key": str(REGISTRY_KEY),
                "place": "alice:photos",
                "is_new": True,
                "config": str(self.config),
            },
        )

    def test_again(self) -> None:
        """Somebody who has joined already is told so, and goes to the place of the link."""
        self.successResultOf(self.join(TO_ALICE))
        before = self.config.stat()
        self.assertEqual(self.successResultOf(self.join(TO_ALICE)), 0)
        self.assertEqual(len(self.claims), 1)
        self.assertEqual(self.config.stat().st_ino, before.st_ino)
        self.assertFalse(json.loads(self.stdout.getvalue().splitlines()[1])["is_new"])
        self.assertEqual(len(self.listed), 2)

    def test_stopped_half_way(self) -> None:
        """A run that was stopped after the claim is continued by the next one."""
        self.registry.views["bob"] = view_of("bob", self.make_key())
        self.assertEqual(self.successResultOf(self.join()), 0)
        self.assertEqual((self.claims, self.config_values()["name"]), ([], "bob"))

    def test_data(self) -> None:
        """A data folder that is named is written into the settings, too."""
        self.successResultOf(self.join(data=str(self.folder / "data")))
        self.assertEqual(self.config_values()["data"], str(self.folder / "data"))

    def test_own_place(self) -> None:
        """A link that leads to the user lists nothing."""
        self.successResultOf(self.join(JoinLink(REGISTRY_KEY, (URL,), None, "bob")))
        self.assertEqual(self.listed, [])

    def test_listing_fails(self) -> None:
        """If the place cannot be listed, the user has joined nevertheless."""
        self.list_error = PeerOffline(name="alice", seen="1 min ago", tried="")
        self.failureResultOf(self.join(TO_ALICE), PeerOffline)
        self.assertEqual(self.config_values()["name"], "bob")

    def test_variables(self) -> None:
        """A variable that goes before the settings is pointed out."""
        terminals = (Terminal.detect(each, {}) for each in (self.stdout, self.stderr))
        self.fake.output = Output(*terminals)
        environ = {"P2PSHARE_REGISTRY": SECOND, "P2PSHARE_NAME": "bob"}
        self.successResultOf(self.join(environ=environ))
        self.assertIn("P2PSHARE_REGISTRY", self.stderr.getvalue())
        self.assertNotIn("P2PSHARE_NAME", self.stderr.getvalue())

    def test_standard_input(self) -> None:
        """Threat 24: `-` reads the link from standard input, so that nobody else sees it. It may be closed."""
        stdin = io.TextIOWrapper(io.BytesIO(f"\n{LINK}\n".encode()))
        self.patch(sys, "stdin", stdin)
        self.assertEqual(self.successResultOf(self.join("-")), 0)
        self.patch(sys, "stdin", None)
        self.assertRaises(WrongUsage, self.join, "-")

    def test_wrong(self) -> None:
        """A link that is none, damaged or expired, and no link at all, are errors before anybody is asked."""
        self.failureResultOf(self.join(f"{LINK}a"), JoinLinkUnusable)
        self.failureResultOf(self.join(URL), JoinLinkUnusable)
        expired = JoinLink(REGISTRY_KEY, (URL,), None, None, NOW)
        self.failureResultOf(self.join(expired), JoinLinkExpired)
        self.failureResultOf(self.join(None), WrongUsage)
        self.assertRaises(WrongUsage, self.join, registry=URL)
        self.assert_unchanged()

    def assert_unchanged(self) -> None:
        self.assertFalse(self.config.exists())
        self.assertFalse((self.folder / "data").exists())
        self.assertEqual(self.claims, [])


class RegistryTests(JoinTestCase):
    def test_urls(self) -> None:
        """Each URL is tried in order; the one at which the registry proves its key is used."""
        link = JoinLink(REGISTRY_KEY, (SECOND, URL))
        self.assertEqual(self.successResultOf(self.join(link)), 0)
        self.assertEqual(self.config_values()["registry"], URL)

    def test_head_start(self) -> None:
        """The next URL is tried while the one before is silent."""
        silent: list[Deferred[None]] = []
        info = self.registry.info

        async def answer() -> RegistryInfo | None:
            if self.registry.url == SECOND:
                silent.append(Deferred())
                await silent[0]
            return await info()

        self.patch(self.registry, "info", answer)
        self.assertEqual(self.successResultOf(self.join(JoinLink(REGISTRY_KEY, (SECOND, URL)))), 0)
        self.assertEqual(self.config_values()["registry"], URL)
        self.assertTrue(silent[0].called)

    def test_other_key_at_first_url(self) -> None:
        """Another registry at one URL does not matter if the right one answers at another."""
        self.registry.keys[SECOND] = OTHER
        self.assertEqual(self.successResultOf(self.join(JoinLink(REGISTRY_KEY, (SECOND, URL)))), 0)

    def test_other_key(self) -> None:
        """Threat 60: another registry at the URL of the link gets nothing, and nothing is written."""
        self.registry.keys[URL] = OTHER
        error = self.failureResultOf(
            self.join(JoinLink(REGISTRY_KEY, (SECOND, URL))), Refused
        ).value
        self.assertIn(REGISTRY_KEY.grouped, str(error))
        self.assertIn(OTHER.grouped, str(error))
        self.assertEqual(self.claims, [])
        self.assertFalse(self.config.exists())

    def test_known_by_other_key(self) -> None:
        """Threat 60: a link does not replace the key that is known for a URL."""
        place = PeerPlace(URL, "", self.folder / "data")
        place.registries.pin(URL, str(OTHER))
        error = self.failureResultOf(self.join(), RegistryChanged).value
        self.assertIn(f"registries forget {URL}", str(error))
        self.assertEqual(place.key, str(OTHER))
        self.assertFalse(self.config.exists())

    def test_nobody_answers(self) -> None:
        """If no URL answers, the error names each with the reason, and the exit code is 5."""
        self.registry.keys = {SECOND: None}
        error = self.failureResultOf(self.join(JoinLink(REGISTRY_KEY, (URL, SECOND)))).value
        self.assertIsInstance(error, Unreachable)
        self.assertIn(f"{URL} (nothing listens there)", str(error))
        self.assertIn(f"{SECOND} ({joining.NO_REGISTRY})", str(error))
        self.assertEqual(error.exit_code, 5)

    def test_same_registry(self) -> None:
        """The URL in the settings is kept if the registry of the link answers there."""
        self.write(f'registry = "{SECOND}"\nname = "bob"\n')
        PeerPlace(SECOND, "", self.folder / "data").registries.pin(SECOND, str(REGISTRY_KEY))
        self.registry.keys[SECOND] = REGISTRY_KEY
        self.assertEqual(self.successResultOf(self.join()), 0)
        self.assertEqual(self.config_values(), {"registry": SECOND, "name": "bob"})


class NameTests(JoinTestCase):
    def test_asked(self) -> None:
        """The name is asked for until one is free; no key is made for a name that is taken."""
        self.registry.views = {"alice": view_of("alice", OTHER), "old": view_of("old", None)}
        self.console = FakeConsole("", "alice", "Bad name", "old", " Bob ")
        self.assertEqual(self.successResultOf(self.join(name=None)), 0)
        self.assertEqual(self.claims, [("bob", None)])
        self.assertEqual(len(self.console.lines), 3)
        self.assertTrue(self.console.is_closed)

    def test_taken(self) -> None:
        """A name in the flag that is taken is an error without a terminal, and a new question on one."""
        self.registry.views = {"bob": view_of("bob", OTHER)}
        self.failureResultOf(self.join(), NameTaken)
        self.assertFalse((self.folder / "data").exists())
        self.console = FakeConsole("carol")
        self.assertEqual(self.successResultOf(self.join()), 0)
        self.assertEqual(self.claims, [("carol", None)])

    def test_nobody_to_ask(self) -> None:
        """Without a terminal the name must be given."""
        error = self.failureResultOf(self.join(name=None), WrongUsage).value
        self.assertIn("--name", str(error))
        self.assertFalse(isinstance(error, IllegalName))

    def test_input_ends(self) -> None:
        """A link that is no link is asked for again. Ctrl+D at a question changes nothing."""
        self.console = FakeConsole("p2pshare:aa", str(LINK), None)
        self.assertEqual(self.successResultOf(self.join(None, None)), 1)
        asked = [joining.LINK, joining.LINK, joining.YOUR_NAME]
        self.assertEqual(self.console.questions, asked)
        self.assertIn("damaged", self.console.lines[0])
        self.assertFalse(self.config.exists())

    def test_refused(self) -> None:
        """If the registry rejects the claim, nothing is written."""
        self.claim_error = InvitationRefused(registry=URL)
        self.failureResultOf(self.join(TO_ALICE), InvitationRefused)
        self.assertFalse(self.config.exists())


class ConsentTests(JoinTestCase):
    BEFORE = f'registry = "{SECOND}"\nname = "robert"\nlimit = 5e6\n'
    AFTER = {"registry": URL, "name": "bob", "limit": 5e6}  # noqa: RUF012

    def setUp(self) -> None:
        super().setUp()
        self.write(self.BEFORE)

    def test_agreed(self) -> None:
        """Other settings are replaced if the user agrees, and the rest is kept."""
        self.console = FakeConsole("what", "Yes")
        self.assertEqual(self.successResultOf(self.join()), 0)
        self.assertEqual(self.config_values(), self.AFTER)
        self.assertIn(SECOND, self.console.lines[0])
        self.assertIn('# name = "robert"', self.config.read_text())

    def test_not_agreed(self) -> None:
        """If the user does not agree, nothing is claimed and nothing is written."""
        self.console = FakeConsole("no")
        self.assertEqual(self.successResultOf(self.join()), 1)
        self.assertEqual((self.config.read_text(), self.claims), (self.BEFORE, []))

    def test_nobody_to_ask(self) -> None:
        """Without a terminal the user must use `--force`."""
        error = self.failureResultOf(self.join(), Refused).value
        self.assertIn("--force", str(error))
        self.assertEqual((error.exit_code, self.claims), (3, []))
        self.assertEqual(self.successResultOf(self.join(force=True)), 0)
        self.assertEqual(self.config_values(), self.AFTER)
