"""Tests for `p2pshare.storage.shares.arguments`."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import IllegalName, WrongUsage
from p2pshare.storage.os_errors import plain_reason
from p2pshare.storage.shares import arguments as share_arguments
from p2pshare.storage.shares.arguments import SharedPath, shared_paths
from p2pshare.storage.shares.rules import IGNORE_NAME, Rules


class ArgumentsTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.cwd = Path(self.mktemp()).absolute()
        self.cwd.mkdir()
        for name in ("photos", "a=b", "other/photos", ".hidden", "data/keys"):
            (self.cwd / name).mkdir(parents=True)
        (self.cwd / "song.mp3").write_bytes(b"la")

    def read(self, *share: str, allow: tuple[str, ...] = ()) -> tuple[SharedPath, ...]:
        return shared_paths(share, allow, self.cwd, (self.cwd / "data",))

    def names(self, *share: str) -> list[tuple[str, str]]:
        return [(each.name, os.path.relpath(each.path, self.cwd)) for each in self.read(*share)]

    def assert_wrong(self, pattern: str, *share: str, allow: tuple[str, ...] = ()) -> None:
        with self.assertRaisesRegex(WrongUsage, pattern):
            self.read(*share, allow=allow)


class RuleTests(ArgumentsTestCase):
    def test_rules(self) -> None:
        """Rules hold for all shares; patterns that are no patterns are noticed at once."""
        rules = Rules.of(["*.tmp"], hidden=True)
        shares = shared_paths(["photos", "song.mp3"], [], self.cwd, rules=rules)
        self.assertEqual([each.rules for each in shares], [rules, rules])
        (self.cwd / "photos" / IGNORE_NAME).write_text("fine\n[")
        self.assert_wrong(
            "photos' cannot be shared: .p2pshareignore is not valid: line 2", "photos"
        )


class ShareTests(ArgumentsTestCase):
    def test_paths(self) -> None:
        """A path is shared under its last name, or under the one before the first `=`."""
        for text, expected in {
            "photos": ("photos", "photos"),
            "./photos/": ("photos", "photos"),
            "photos/../song.mp3": ("song.mp3", "song.mp3"),
            str(self.cwd / "photos"): ("photos", "photos"),
            ".": (self.cwd.name, "."),
            "photos/..": (self.cwd.name, "."),
            "mine=photos": ("mine", "photos"),
            "mine=a=b": ("mine", "a=b"),
            "./a=b": ("a=b", "a=b"),
            f"{self.cwd}/a=b": ("a=b", "a=b"),
            "Ünï cödé=song.mp3": ("Ünï cödé", "song.mp3"),
            "h=.hidden": ("h", ".hidden"),
        }.items():
            self.assertEqual(self.names(text), [expected], text)

    def test_order_and_defaults(self) -> None:
        """Shares keep their order, are absolute, for everyone, and without private folders."""
        first, second = self.read("photos", "song.mp3")
        self.assertEqual((first.name, second.name), ("photos", "song.mp3"))
        self.assertEqual(
            first, SharedPath("photos", self.cwd / "photos", None, (self.cwd / "data",))
        )

    def test_home(self) -> None:
        """The shell leaves the `~` in NAME=~ to us."""
        with patch.dict(os.environ, HOME=str(self.cwd)):
            self.assertEqual(self.names("mine=~/photos"), [("mine", "photos")])

    def test_same_name(self) -> None:
        """Two shares of one name are refused, with the way out."""
        pattern = (
            r"would be shared as 'photos'. Give one of them another name: NAME=.*/other/photos\.$"
        )
        self.assert_wrong(pattern, "photos", "other/photos")
        self.assert_wrong("Give one of them another name", "x=photos", "x=photos")
        self.assertEqual(len(self.read("photos", "others=other/photos")), 2)

    def test_name_of_an_offer(self) -> None:
        """Names that begin as those of offers do are not those of shares."""
        (self.cwd / "@mine").mkdir()
        self.assert_wrong("'@mine' begins with '@', as offers do.: NAME=@mine", "@mine")
        self.assert_wrong("begins with '@'", "@photos=photos")
        self.assertEqual(self.names("mine=@mine"), [("mine", "@mine")])

    def test_no_name(self) -> None:
        """A path whose last component is no valid name needs another name."""
        self.assert_wrong(r"'\.hidden' is hidden\): NAME=\.hidden\.$", ".hidden")
        self.assert_wrong("needs a name", "/")
        odd = os.fsdecode(b"\xff")
        (self.cwd / odd).mkdir()
        self.assert_wrong("is no Unicode text", odd)
        self.assertEqual(self.read(f"x={odd}")[0].name, "x")

    def test_cannot_be_shared(self) -> None:
        """A share that does not exist, or is neither a file nor a folder, is an error at the start."""
        os.mkfifo(self.cwd / "fifo")
        (self.cwd / "broken").symlink_to("gone")
        for pattern, text in (
            ("nothing to share at '.*/gone'", "gone"),
            ("nothing to share at '.*/b': write the path 'a=b' as './a=b'", "a=b"),
            ("nothing to share at '.*/b'.$", "c=b"),
            ("nothing to share", "broken"),
            ("not a path", ""),
            ("not a path", "photos\0"),
            ("neither a file nor a folder", "fifo"),
            (plain_reason(OSError(errno.ENOTDIR, "")), "song.mp3/x"),
            (plain_reason(OSError(errno.ENAMETOOLONG, "")), "x=" + "x" * 300),
        ):
            self.assert_wrong(pattern, text)
        with patch.object(os, "access", return_value=False):
            self.assert_wrong(plain_reason(OSError(errno.EACCES, "")), "photos")

    def test_where_the_key_is(self) -> None:
        """Files beside the peer's key are not shared, whichever path leads there; a folder above may be."""
        (self.cwd / "way").symlink_to("data")
        for text in ("data", "data/keys", "way", "x=way/keys", "photos/../data"):
            self.assert_wrong("contains keys of p2pshare", text)
        self.assertEqual(self.read(".")[0].private, (self.cwd / "data",))

    def test_links(self) -> None:
        """A path that the user names may be a link, also to a target that does not exist yet."""
        (self.cwd / "link").symlink_to("photos")
        (shared,) = self.read("link")
        self.assertEqual((shared.path, shared.may_be_link), (self.cwd / "link", True))

    def test_too_many(self) -> None:
        """Threat 7: the number of shares has a bound."""
        self.patch(share_arguments, "SHARES_MAX", 2)
        self.assert_wrong("At most 2", "a=photos", "b=photos", "c=photos")
        self.assertEqual(len(self.read("a=photos", "b=photos")), 2)


class DefaultTests(ArgumentsTestCase):
    def test_my_files(self) -> None:
        """Without names, the `my_file.*` that are plain files now are shared, and no later ones."""
        self.assertEqual(self.read(), ())
        for name in ("my_file.txt", "my_file.jpg", "my_file.exe", "my_file", "other.txt"):
            (self.cwd / name).write_bytes(b"")
        (self.cwd / "my_file.png").symlink_to("/etc/passwd")
        (self.cwd / "my_file.webp").mkdir()
        shares = self.read()
        self.assertEqual([each.name for each in shares], ["my_file.txt", "my_file.jpg"])
        self.assertEqual([each.may_be_link for each in shares], [False, False])


class AllowTests(ArgumentsTestCase):
    def allowed(self, *allow: str) -> list[list[str] | None]:
        """Return the names that may see `photos`, and those that may see `song.mp3`."""
        shares = self.read("photos", "song.mp3", allow=allow)
        return [None if each.allow is None else sorted(each.allow) for each in shares]

    def test_default_and_single(self) -> None:
        """A share has its own names, else the default, else everyone may see it."""
        self.assertEqual(self.allowed(), [None, None])
        self.assertEqual(self.allowed("bob,carol"), [["bob", "carol"]] * 2)
        self.assertEqual(self.allowed("photos=bob"), [["bob"], None])
        self.assertEqual(self.allowed("photos=bob", "carol"), [["bob"], ["carol"]])
        self.assertEqual(self.allowed("bob", "carol, dave"), [["bob", "carol", "dave"]] * 2)
        self.assertEqual(self.allowed("photos=bob", "photos=dave"), [["bob", "dave"], None])

    def test_name_with_an_equals_sign(self) -> None:
        """The text before the last `=` is the share."""
        (shared,) = self.read("./a=b", allow=("a=b=bob",))
        self.assertEqual(shared.allow, frozenset({"bob"}))

    def test_upper_case(self) -> None:
        """Names may be written in upper case, and mean the same."""
        self.assertEqual(self.allowed("Bob, CAROL"), [["bob", "carol"]] * 2)

    def test_wrong(self) -> None:
        """Threat 34: an `--allow` that is not valid allows nobody anything."""
        for allow in ("", "photos=", "list", "bob,,carol", "photos=bob;carol", "*", "photos=*"):
            self.assertRaises(IllegalName, self.read, "photos", allow=(allow,))
        pattern = "'videos', which does not exist. Shares are 'photos'"
        self.assert_wrong(pattern, "photos", allow=("videos=bob",))
        self.assert_wrong(
            "'videos', which does not exist. Shares are nothing", allow=("videos=bob",)
        )
