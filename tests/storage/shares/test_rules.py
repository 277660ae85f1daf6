"""Tests of `p2pshare.storage.shares.rules`, and of shares from which rules leave something out."""

from __future__ import annotations

import errno
import os
import time
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st
from pathspec import GitIgnoreSpec
from twisted.trial.unittest import SynchronousTestCase as TestCase

from p2pshare.errors import WrongUsage
from p2pshare.storage.shares import rules
from p2pshare.storage.shares.arguments import SharedPath
from p2pshare.storage.shares.folder_index import FolderIndex
from p2pshare.storage.shares.rules import (
    IGNORE_FILES_MAX,
    IGNORE_NAME,
    IGNORE_SIZE_MAX,
    PATTERN_MAX,
    PATTERNS_MAX,
    Rules,
    Scope,
    _compiled,
)
from p2pshare.wire.transfer_messages import Fault, Omitted
from tests.storage.share_case import ShareTestCase, viewer_of


class RulesTests(ShareTestCase):
    """A share with rules; `files` in it."""

    files = ("a.txt", "b.tmp", "sub/c.tmp", "sub/deep/d.txt", "build/e", ".env", ".git/config")

    def setUp(self) -> None:
        super().setUp()
        for name in self.files:
            self.write(name)

    def exclude(self, *patterns: str, hidden: bool = False) -> None:
        wanted = Rules.of(patterns, hidden=hidden)
        self.tree = self.share(SharedPath("s", self.root, rules=wanted))

    def ignore(self, folder: str, *lines: str) -> None:
        self.write(os.path.join(folder, IGNORE_NAME), "\n".join(lines).encode())

    def assert_shared(self, *paths: str) -> None:
        """These files are listed, opened and counted; the others are none of this."""
        every = {
            "/".join((*folder.removeprefix(str(self.root)).split("/")[1:], name))
            for folder, _, names in os.walk(self.root)
            for name in names
        }
        entries, _ = self.listed("bob", ("s",), recursive=True)
        listed = {"/".join(each.path) for each in entries if each.version}
        self.assertEqual(listed, set(paths))
        for path in every:
            is_shared = path in paths
            if is_shared:
                self.content("s", *path.split("/"))
            else:
                self.assertEqual(self.open_fault("s", *path.split("/")), Fault.NOT_FOUND, path)


class PatternTests(RulesTests):
    def test_exclude(self) -> None:
        """Patterns hold at any depth, or from the root, and for folders with everything in them."""
        self.assert_shared("a.txt", "b.tmp", "sub/c.tmp", "sub/deep/d.txt", "build/e")
        self.exclude("*.tmp", "/build/", "!sub/c.tmp")
        self.assert_shared("a.txt", "sub/c.tmp", "sub/deep/d.txt")
        self.exclude("deep")
        self.assert_shared("a.txt", "b.tmp", "sub/c.tmp", "build/e")
        self.exclude("*", "!*/", "!*.txt")
        self.assert_shared("a.txt", "sub/deep/d.txt")

    def test_hidden(self) -> None:
        """Hidden names are shared if the owner wants it, except those of p2pshare."""
        self.write(".p2pshare-0123456789abcdef.part")
        self.write("sub/.x.P2PSHARE-01234567.part")
        self.ignore("", "sub")
        self.exclude(".git", hidden=True)
        self.assert_shared("a.txt", "b.tmp", "build/e", ".env")

    def test_files(self) -> None:
        """A file with patterns holds in its folder and beneath; the deepest comes first, and the owner before all."""
        self.ignore("", "*.tmp", "build", "# sub")
        self.ignore("sub", "/deep/*", "!c.tmp", "!build")
        self.assert_shared("a.txt", "sub/c.tmp")
        self.ignore("sub/deep", "!d.txt")
        self.assert_shared("a.txt", "sub/c.tmp", "sub/deep/d.txt")
        self.exclude("c.*", "!b.tmp")
        self.assert_shared("a.txt", "b.tmp", "sub/deep/d.txt")

    def test_at_once(self) -> None:
        """A change holds for the next listing, also of a large folder that is indexed."""
        self.index = FolderIndex(self.folder / "folders", scan_max=1)
        self.exclude()
        self.assert_shared("a.txt", "b.tmp", "sub/c.tmp", "sub/deep/d.txt", "build/e")
        status = os.stat(self.root)
        self.ignore("", "*.tmp")
        os.utime(self.root, ns=(status.st_atime_ns, status.st_mtime_ns))
        self.assert_shared("a.txt", "sub/deep/d.txt", "build/e")
        self.ignore("", "/sub/c.tmp")
        self.assert_shared("a.txt", "b.tmp", "sub/deep/d.txt", "build/e")
        self.exclude("build", hidden=True)
        self.assert_shared("a.txt", "b.tmp", "sub/deep/d.txt", ".env", ".git/config")

    def test_as_in_git(self) -> None:
        """Patterns mean what they mean to Git, where programs differ; the whole was compared with random trees."""
        for pattern, is_folder, path, expected in (
            ("build/**", True, "build", False),  # its content, not the folder
            ("build/**", False, "build/e", True),
            ("/e", False, "build/e", False),
            ("e/", False, "build/e", False),
            ("e/", True, "build/e", True),
            ("**/build/e", False, "build/e", True),
            ("bui[a-l]d", True, "build", True),
            ("*.[!a]", False, "x.b", True),
            ("\\!x", False, "!x", True),
            ("x", False, "X", False),
            ("secret", False, "line\nbreak/secret", True),
        ):
            with self.subTest(pattern=pattern, path=path):
                scope = Scope(Rules.of([pattern]), tuple(path.split("/")[:-1]))
                is_excluded = scope.is_excluded(path.split("/")[-1], is_folder=is_folder)
                self.assertIs(is_excluded, expected)

    def test_capitals(self) -> None:
        """Threat 70: where capitals are small letters, what is left out has no other name."""
        (self.root / "É.tmp").write_bytes(b"")
        for is_folding in False, True:
            self.patch(rules, "folds", lambda _, is_folding=is_folding: is_folding)
            self.exclude("A.TXT", "/sub/deep/", "é.tmp")
            for name, is_folder in (("a.txt", False), ("e\u0301.tmp", False), ("sub", True)):
                fd = os.open(self.root, os.O_RDONLY)
                self.addCleanup(os.close, fd)
                top = Rules.of(["A.TXT", "/sub/deep/", "é.tmp"]).scope(fd)
                is_excluded = top.is_excluded(name, is_folder=is_folder)
                self.assertIs(is_excluded, is_folding and not is_folder, name)
            self.assertIs(top.enter("SUB", fd).is_excluded("deep", is_folder=True), is_folding)
            self.assertNotEqual(top.key, Rules.of(["A.TXT"]).scope(fd).key)

    def test_folds(self) -> None:
        """Whether capitals are small letters is found out by the names of a folder."""
        fd = os.open(self.root, os.O_RDONLY)
        self.addCleanup(os.close, fd)
        self.assertFalse(rules.folds(fd))
        for name in os.listdir(self.root):
            (self.root / name).rename(self.folder / name)
        self.assertFalse(rules.folds(fd))
        self.write("12")
        self.write("b")
        os.link(self.root / "b", self.root / "B")  # as the other name looks there
        self.assertTrue(rules.folds(fd))

    def test_links(self) -> None:
        """Threat 70: what is left out cannot be reached through a link, and a link can be left out itself."""
        for name, target in ("l1", "b.tmp"), ("l2", ".env"), ("l3", "build"), ("l4", "a.txt"):
            (self.root / name).symlink_to(target)
        self.exclude("b.tmp", "/build")
        self.assert_shared("a.txt", "l4", "sub/c.tmp", "sub/deep/d.txt")
        self.assertEqual(self.omitted("s"), dict.fromkeys(("l1", "l2", "l3"), Omitted.LINK))
        self.exclude("l*", "!l4")
        self.assert_shared("a.txt", "b.tmp", "l4", "sub/c.tmp", "sub/deep/d.txt", "build/e")
        self.assertEqual(self.omitted("s"), {})

    def test_counted(self) -> None:
        """The owner alone is told what patterns leave out; a folder counts once."""
        self.exclude("*.tmp", "build")
        survey = self.tree.survey("s")
        self.assertEqual((survey.excluded, survey.hidden), (3, 2))
        self.assertEqual(sorted(survey.excluded_examples), ["b.tmp", "build", "sub/c.tmp"])
        self.assertEqual(self.omitted("s"), {})

    def test_nothing_revealed(self) -> None:
        """Threat 70: a listing that begins behind a name tells nothing of what is left out, not even its kind."""
        os.mkfifo(self.root / "x.tmp")
        os.mkfifo(self.root / ".pipe")
        self.exclude("*.tmp")
        told = {
            name: self.tree.list(viewer_of("bob"), ("s",), (name, "below"), recursive=True)
            .omitted[0]
            .why
            for name in ("x.tmp", ".pipe", ".git", "b.tmp", "nothing")
        }
        self.assertEqual(set(told.values()), {Omitted.GONE})


class UnreadableTests(RulesTests):
    """Patterns that cannot be read leave everything out."""

    def assert_unreadable(self, reason: str) -> None:
        fd = os.open(self.root / "sub", os.O_RDONLY)
        self.addCleanup(os.close, fd)
        error = self.assertRaises(OSError, Rules().scope, fd)
        self.assertEqual(error.errno, errno.EIO)
        self.assertIn(reason, str(error))
        self.assertEqual(self.open_fault("s", "sub", "c.tmp"), Fault.UNREADABLE)
        self.assertEqual(self.open_fault("s", "sub", "deep", "d.txt"), Fault.UNREADABLE)
        self.assertEqual(self.omitted("s"), {"sub": Omitted.UNREADABLE})
        self.assertEqual(self.content("s", "a.txt"), b"public")

    def test_bounds(self) -> None:
        """Threat 70: a file that is too large or has too many lines is not read in part."""
        for lines in (
            [f"#{'x' * IGNORE_SIZE_MAX}"],
            ["x"] * (PATTERNS_MAX + 1),
            ["x" * (PATTERN_MAX + 1)],
        ):
            self.ignore("sub", *lines)
            self.assert_unreadable("has more than")

    def test_slow_patterns(self) -> None:
        """Threat 70: patterns with many wildcards take no longer to match long paths than others."""
        lines = ["**/a/**/a/**/b", "**/*a*a*a/**/*a*a*ab", "*a" * 500 + "b", "**/a*a/" * 100 + "b"]
        patterns = _compiled("\n".join(lines))
        for path in "a/" * 2000 + "c", f"{'a' * 64}/" * 63 + "c", "a" * 255:
            began = time.process_time()
            self.assertIsNone(patterns.verdict(path, is_folder=False, folds=False))
            self.assertLess(time.process_time() - began, 1.0)  # it was minutes

    def test_no_file(self) -> None:
        """A link and a folder are no files with patterns."""
        (self.root / "sub" / IGNORE_NAME).symlink_to("../a.txt")
        self.assert_unreadable("cannot be opened")
        (self.root / "sub" / IGNORE_NAME).unlink()
        (self.root / "sub" / IGNORE_NAME).mkdir()
        self.assert_unreadable("is no file")

    def test_no_pattern(self) -> None:
        """A line that is no pattern is an error, since it may have been meant to leave something out."""
        for line in "[a", "!", "/", "\\":
            self.ignore("sub", "fine", line)
            self.assert_unreadable("line 2")

    def test_many_files(self) -> None:
        """Threat 70: the number of files with patterns on the way to a folder is bounded."""
        path: tuple[str, ...] = ()
        for _ in range(IGNORE_FILES_MAX + 1):
            path += ("x",)
            self.ignore("/".join(path), "nothing")
        self.assertEqual(self.open_fault("s", *path, "a"), Fault.UNREADABLE)

    def test_no_descriptor(self) -> None:
        """Too many open files are a temporary fault."""
        self.ignore("sub", "x")
        genuine = os.open

        def opening(path: str, *args: object, **options: object) -> int:
            if path == IGNORE_NAME:
                raise OSError(errno.EMFILE, "too many")
            return genuine(path, *args, **options)  # type: ignore[arg-type]

        with patch("os.open", opening):
            self.assertEqual(self.open_fault("s", "sub", "c.tmp"), Fault.BUSY)

    def test_options(self) -> None:
        """An option that is no pattern is a wrong use."""
        for pattern in "", " ", "a\nb", "[a":
            self.assertRaises(WrongUsage, Rules.of, [pattern])
        self.assertRaises(WrongUsage, Rules.of, ["a"] * (PATTERNS_MAX + 1))
        self.assertEqual(Rules.of(["a"], hidden=True), Rules(("a",), True))


class ExpressionTests(TestCase):
    """The expressions that replace those of the library."""

    @given(
        st.lists(st.text("ab*?", max_size=5) | st.just("**"), max_size=5).map("/".join),
        st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=5).map("/".join),
    )
    def test_same_paths(self, pattern: str, path: str) -> None:
        """They match what the library matches, except for what is beneath a match."""
        matches = [
            each.regex.match(path)
            for each in GitIgnoreSpec.from_lines([pattern]).patterns
            if each.regex
        ]
        expected = [match is not None and not match.groupdict().get("ps_d") for match in matches]
        found = [regex.match(path) is not None for regex, _ in rules._regexes([pattern])]
        self.assertEqual(found, expected)
