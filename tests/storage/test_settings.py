"""Tests for `p2pshare.storage.settings`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.offers.incoming import OffersPolicy
from p2pshare.errors import BadSetting, P2pshareError, SettingsUnreadable, UnknownSetting
from p2pshare.storage.config_file import update_config
from p2pshare.storage.settings import (
    DEFAULT_REGISTRY,
    OFFERS_FROM,
    SETTINGS_SIZE_MAX,
    Settings,
    Source,
    Via,
    default_config_path,
    default_inbox_folder,
    read_setting,
    written_setting,
)


class SettingsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.config = Path(self.mktemp())

    def load(
        self,
        flags: Mapping[str, object] | None = None,
        environ: Mapping[str, str] | None = None,
        config: str | None = None,
    ) -> Settings:
        if config is not None:
            self.config.write_text(config)
        return Settings.load(flags or {}, environ or {}, self.config)

    def test_defaults(self) -> None:
        """The default registry is on this machine, and nothing else is set."""
        self.assertEqual(self.load(), Settings())
        self.assertEqual(self.load().registry, DEFAULT_REGISTRY)

    def test_order(self) -> None:
        """A flag goes before a variable, a variable before the file."""
        config = 'name = "file"\nregistry = "http://file:1/"\nlisten = 3'
        environ = {"P2PSHARE_NAME": "variable", "P2PSHARE_REGISTRY": "https://variable"}
        found = self.load({"name": "flag", "registry": None}, environ, config)
        self.assertEqual(
            (found.name, found.registry, found.listen), ("flag", "https://variable", 3)
        )

    def test_sources(self) -> None:
        """The source of each setting is known, and where the file is."""
        found = self.load({"name": "flag"}, {"P2PSHARE_LISTEN": "3"}, 'offers = "known"').origin
        assert found is not None
        self.assertEqual(found.path, self.config)
        self.assertEqual(
            found.sources,
            {"name": Source.FLAG, "listen": Source.VARIABLE, "offers": Source.FILE},
        )

    def test_written(self) -> None:
        """What a program sets is read from the file as it was meant."""
        for setting, given_value in (
            ("limit", 2_500_000),
            ("inbox_quota", 0),
            ("inbox_folder", '/home/bob/Inbox of \\ "bob"'),
            ("offers", "allowed"),
            ("accept_from", ["bob", "carol"]),
            ("private", True),
            ("via", "udp"),
            ("listen", 50000),
            ("address", ["192.0.2.7", "2001:db8::7"]),
            ("registry", "http://192.0.2.1:8000"),
        ):
            with self.subTest(setting=setting):
                value = read_setting(setting, given_value)
                self.config.unlink(missing_ok=True)
                update_config(self.config, {setting: written_setting(value)})
                self.assertEqual(getattr(self.load(), setting), value)
        self.assertRaises(BadSetting, read_setting, "limit", "fast")

    def test_values(self) -> None:
        """Each setting can be given in the file, in its own type or as text."""
        found = self.load(
            config="""
            registry = "http://[::1]:8000/"
            name = "bob"
            data = "~/data"
            share = ["a", "pictures=~/b"]
            listen = 65535
            address = ["192.0.2.7", "2001:db8::7"]
            private = true
            port_mapping = false
            """
        )
        expected = Settings(
            registry="http://[::1]:8000",
            name="bob",
            data=Path.home() / "data",
            share=("a", "pictures=~/b"),
            listen=65535,
            address=("192.0.2.7", "2001:db8::7"),
            private=True,
        )
        self.assertEqual(found, expected)
        environ = {"P2PSHARE_SHARE": "a:pictures=~/b", "P2PSHARE_LISTEN": "7", "P2PSHARE_DATA": ""}
        found = self.load(environ=environ, config="")
        self.assertEqual((found.share, found.listen, found.data), (expected.share, 7, None))
        self.assertEqual(self.load({"share": ["x:y"]}).share, ("x:y",))

    def test_allow(self) -> None:
        """`--allow` may be repeated, for all shares and for single ones."""
        expected = ("bob,carol", "pictures=dave")
        for found in (
            self.load({"allow": ["bob,carol", "pictures=dave"]}),
            self.load(environ={"P2PSHARE_ALLOW": "bob,carol;pictures=dave"}),
            self.load(config='allow = ["bob,carol", "pictures=dave"]'),
        ):
            self.assertEqual(found.allow, expected)

    def test_limit(self) -> None:
        """A rate has a unit of 1000 or of 1024, or is in bytes per second; 0 and none are no limit."""
        for text, expected in (
            ("5MB/s", 5e6),
            ("500kB/s", 5e5),
            ("1.5MiB/s", 1.5 * 1024**2),
            ("2 gb/s", 2e9),
            ("64K", 64e3),
            ("12345", 12345.0),
            ("0", None),
            ("none", None),
        ):
            with self.subTest(limit=text):
                self.assertEqual(self.load({"limit": text}).limit, expected)
                self.assertEqual(self.load(environ={"P2PSHARE_LIMIT": text}).limit, expected)
        self.assertEqual(self.load(config="limit = 50000").limit, 50000.0)
        self.assertIsNone(self.load({"limit": "0"}, config="limit = 50000").limit)

    def test_offers(self) -> None:
        """Offers of everyone wait, unless the user says otherwise; the values are those of the policy."""
        default = self.load()
        self.assertEqual((default.offers, default.accept_from), ("everyone", ()))
        self.assertEqual((default.inbox_folder, default.inbox_quota), (None, 10 * 10**9))
        self.assertEqual(OFFERS_FROM, tuple(each.value for each in OffersPolicy))
        self.assertEqual(default_inbox_folder().name, "p2pshare")
        for each in OFFERS_FROM:
            self.assertEqual(self.load({"offers": each.upper()}).offers, each)
        for found in (
            self.load({"accept_from": ["Bob,carol", "dave"]}),
            self.load(environ={"P2PSHARE_ACCEPT_FROM": "bob,carol,dave"}),
            self.load(config='accept_from = ["bob", "carol", "dave"]'),
        ):
            self.assertEqual(found.accept_from, ("bob", "carol", "dave"))
        for text, size in (
            ("1.5GiB", 3 * 2**29),
            ("2 tb", 2 * 10**12),
            ("7", 7),
            ("0", None),
            ("none", None),
        ):
            self.assertEqual(self.load({"inbox_quota": text}).inbox_quota, size)
        self.assertEqual(self.load(config="inbox_quota = 5").inbox_quota, 5)

    def test_timeout(self) -> None:
        """The timeout is 8 s by default, and can be set within bounds."""
        self.assertEqual(self.load().timeout, 8.0)
        self.assertEqual(self.load({"timeout": "2.5"}).timeout, 2.5)

    def test_via(self) -> None:
        """The carriers of sessions."""
        self.assertIs(self.load().via, Via.AUTO)
        self.assertIs(self.load({"via": "UDP"}).via, Via.UDP)
        self.assertIs(self.load(config='via = "tcp"').via, Via.TCP)
        error = self.assertRaises(BadSetting, self.load, {"via": "pigeon"})
        for via in Via:
            self.assertIn(via, str(error))
        self.assertEqual(self.load(config="timeout = 600").timeout, 600.0)

    def test_classic(self) -> None:
        """The classic protocol is disabled by default; an absent flag changes nothing."""
        self.assertFalse(self.load().classic)
        for absent in (None, False, 0):
            self.assertTrue(self.load({"classic": absent}, config="classic = true").classic)
        self.assertTrue(self.load({"classic": True}, config="classic = false").classic)
        for word, expected in (("1", True), ("yes", True), ("off", False), ("false", False)):
            self.assertIs(self.load(environ={"P2PSHARE_CLASSIC": word}).classic, expected)

    def test_invitation(self) -> None:
        """An invitation is in a file that the command line names, or in a variable or the settings themselves."""
        path = Path(self.mktemp())
        path.write_text("in.file\n")
        environ = {"P2PSHARE_INVITATION": " in.variable "}
        config = 'invitation = "in.settings"'
        self.assertEqual(
            self.load({"invitation": str(path)}, environ, config).invitation, "in.file"
        )
        self.assertEqual(self.load({}, environ, config).invitation, "in.variable")
        self.assertEqual(self.load(config=config).invitation, "in.settings")
        self.assertIsNone(self.load(config="").invitation)

    def test_no_invitation(self) -> None:
        """The error for an invalid invitation does not show it, since it could be a secret."""
        path = Path(self.mktemp())
        for content in (b"", b"secret", b"sec.ret\nsec.ret", b"s." + b"x" * 5000):
            path.write_bytes(content)
            error = self.assertRaises(BadSetting, self.load, {"invitation": str(path)})
            self.assertEqual(error.fields["setting"], "--invitation")
            self.assertNotIn("sec", str(error))
        path.write_bytes(b"sec.\xff")
        with self.assertRaisesRegex(SettingsUnreadable, "not UTF-8") as unread:
            self.load({"invitation": str(path)})
        self.assertNotIn("sec.", str(unread.exception))
        for other in (path.with_name("missing"), path.parent):
            with self.assertRaises(SettingsUnreadable):
                self.load({"invitation": str(other)})

    def test_encodings(self) -> None:
        """A file that Windows has written is read, or the encoding in which it is written is named."""
        text = 'name = "bob"\r\nshare = ["~/Bücher"]\r\n'
        for encoding, found in (
            ("utf-8-sig", None),
            ("utf-16", "UTF-16 (little-endian)"),
            ("utf-16-be", "UTF-16 (big-endian)"),
            ("cp1252", "Windows-1252"),
        ):
            self.config.write_bytes(text.encode(encoding))
            if found is None:
                loaded = self.load()
                self.assertEqual((loaded.name, loaded.share), ("bob", ("~/Bücher",)))
                continue
            error = str(self.assertRaises(SettingsUnreadable, self.load))
            for part in (str(self.config), found, "Save it as UTF-8."):
                self.assertIn(part, error)
        path = Path(self.mktemp())
        path.write_text("in.file\r\n", "utf-8-sig")
        self.assertEqual(self.load({"invitation": str(path)}, config="").invitation, "in.file")
        path.write_text("in.file\r\n", "utf-16")
        with self.assertRaisesRegex(SettingsUnreadable, "UTF-16"):
            self.load({"invitation": str(path)})

    def test_bad_values(self) -> None:
        """A value that will not do is one sentence with its place, key and cure."""
        for line in (
            *('registry = "ftp://x"', 'registry = "x:y"', 'registry = "http://"', "registry = 1"),
            *('registry = "http://x:99999"', 'registry = "http://u:p@x"', 'registry = "http://[::1"'),
            *('name = "B b"', 'name = "list"', 'name = ""', "name = true"),
            *("data = 1", 'data = ""', "share = {}", "share = [1]", 'share = [""]'),
            *("listen = 65536", "listen = -1", "listen = true", 'listen = "x"', "listen = 1.5"),
            *('share = ["a="]', 'allow = "bob,list"', 'allow = "bob,"', "allow = 1", 'allow = [""]'),
            *('limit = "5MB/h"', 'limit = "fast"', 'limit = "1B/s"', "limit = -1", "limit = true"),
            *("limit = nan", "limit = inf", 'timeout = "0"', "timeout = 601", "timeout = nan"),
            *("timeout = true", 'classic = "maybe"', "classic = 2", "classic = 1.0"),
            *('offers = "friends"', "offers = 1", 'accept_from = "bob,,carol"', 'accept_from = "@lan"'),
            *('inbox_quota = "5GB/s"', "inbox_quota = -1", "inbox_quota = inf", "inbox_quota = true"),
            *('via = "quic"', "via = 1", 'via = ""'),
            *('address = "::ffff:10.0.0.1"', 'address = "localhost"', 'address = "0.0.0.0"', "address = 1"),
            *('address = "169.254.1.1"', 'address = "224.0.0.1"', 'address = "255.255.255.255"'),
        ):  # fmt: skip
            key = line.split()[0]
            with self.subTest(line=line):
                error = self.assertRaises(BadSetting, self.load, config=line)
                self.assertEqual(error.fields["setting"], key)
                self.assertIn(str(self.config), str(error.fields["source"]))

    def test_bad_variable_and_flag(self) -> None:
        """The sentence names the variable or the flag as the user wrote it."""
        error = self.assertRaises(BadSetting, self.load, environ={"P2PSHARE_NAME": "b."})
        self.assertEqual((error.fields["setting"], error.fields["value"]), ("P2PSHARE_NAME", "b."))
        error = self.assertRaises(BadSetting, self.load, {"listen": "x"})
        self.assertEqual((error.fields["setting"], error.fields["value"]), ("--listen", "x"))

    def test_names(self) -> None:
        """A name may be in upper case; the error for a reserved one says so."""
        self.assertEqual(self.load({"name": " Bob"}).name, "bob")
        self.assertEqual(self.load({"allow": ["Bob,CAROL"]}).allow, ("Bob,CAROL",))
        for flags in ({"name": "List"}, {"allow": ["bob,admin"]}):
            error = self.assertRaises(BadSetting, self.load, flags)
            self.assertIn("reserved", str(error))

    def test_broken_file(self) -> None:
        """A file that is not understood is never half obeyed."""
        with self.assertRaisesRegex(UnknownSetting, "no setting 'colour'.*registry, name"):
            self.load(config="colour = 1")
        for broken in ("name = ", "name", "[name", "#" * (SETTINGS_SIZE_MAX + 1)):
            self.assertRaisesRegex(SettingsUnreadable, str(self.config), self.load, config=broken)
        self.config.write_bytes(b"\xff")
        with self.assertRaises(SettingsUnreadable):
            self.load()

    def test_file_is_a_folder(self) -> None:
        """The error for an unreadable file says why in plain words."""
        self.config.mkdir()
        with self.assertRaisesRegex(SettingsUnreadable, "it is not a plain file"):
            self.load()

    def test_file_is_no_file(self) -> None:
        """A file that is not plain is rejected without blocking."""
        os.mkfifo(self.config)
        self.assertRaisesRegex(SettingsUnreadable, "it is not a plain file", self.load)
        with self.assertRaisesRegex(SettingsUnreadable, "it is not a plain file"):
            Settings.load({}, {}, Path("/dev/zero"))

    def test_link(self) -> None:
        """The file may be a symbolic link to one, as users keep them."""
        target = Path(self.mktemp())
        target.write_text("listen = 3")
        self.config.symlink_to(target.absolute())
        self.assertEqual(self.load().listen, 3)

    def test_nested_deeply(self) -> None:
        """Brackets in brackets in brackets are a sentence, and no end of the stack."""
        for config in (f"share = {'[' * 3000}{']' * 3000}", f"share{'.a' * 3000} = 1"):
            with self.assertRaisesRegex(SettingsUnreadable, "nested too deeply"):
                self.load(config=config)

    @given(
        st.dictionaries(
            st.sampled_from(
                [
                    *("name", "data", "share", "allow", "limit", "timeout", "via", "classic"),
                    *("listen", "offers", "accept_from", "inbox_folder", "inbox_quota", "notify"),
                ]
            ),
            st.none()
            | st.text()
            | st.integers()
            | st.floats()
            | st.lists(st.text())
            | st.booleans(),
        )
    )
    def test_anything(self, flags: dict[str, object]) -> None:
        """Any values at all are settings or one sentence."""
        try:
            self.load(flags)
        except P2pshareError as error:
            self.assertNotIn("\n", str(error))

    def test_default_place(self) -> None:
        """The file is in the user's own configuration folder."""
        self.assertEqual(default_config_path().parts[-2:], ("p2pshare", "config.toml"))
