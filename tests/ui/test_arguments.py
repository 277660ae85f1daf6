"""Tests for `p2pshare.ui.arguments`."""

from __future__ import annotations

import contextlib
import io
import re
from contextlib import redirect_stdout
from dataclasses import fields
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare import __version__
from p2pshare.errors import WrongUsage
from p2pshare.storage.settings import Settings
from p2pshare.ui.arguments import parse_arguments

PAGES = (
    (),
    ("users",),
    ("ls",),
    ("get",),
    ("peers",),
    ("peers", "forget"),
    ("status",),
    ("whoami",),
    ("key",),
    ("key", "export"),
    ("key", "import"),
    ("key", "rotate"),
    ("release",),
    ("invite",),
    ("demo",),
    ("completion",),
)
WORDS = st.one_of(
    st.sampled_from(
        [
            "users",
            "get",
            "ls",
            "peers",
            "key",
            "export",
            "demo",
            "--json",
            "--watch",
            "--name",
            "--registry",
            "--share",
            "--limit",
            "-R",
            "--",
            "-",
            "a:b",
        ]
    ),
    st.text(max_size=8).filter(lambda word: not word.startswith(("-h", "--h", "--v"))),
)


class ParseTests(SynchronousTestCase):
    def test_before_and_after_the_verb(self) -> None:
        """Flags of every verb may stand on either side of it; the later one wins."""
        for words in (
            ["--name", "carol", "--json", "users"],
            ["users", "--name", "carol", "--json"],
            ["--name", "bob", "users", "--name", "carol", "--json"],
            ["--name=carol", "users", "--json"],
        ):
            arguments = parse_arguments(words)
            self.assertEqual(
                (arguments.verb, arguments.name, arguments.json), ("users", "carol", True)
            )
            self.assertEqual(
                (arguments.registry, arguments.data, arguments.quiet), (None,) * 2 + (False,)
            )

    def test_get(self) -> None:
        """The words of `get` may stand before, behind and between its flags."""
        for words in (
            ["get", "--force", "alice:my_file.txt", "here"],
            ["get", "alice:my_file.txt", "here", "--force"],
            ["get", "alice:my_file.txt", "--force", "here"],
            ["get", "--limit", "5MB/s", "alice:my_file.txt", "--force", "here"],
        ):
            arguments = parse_arguments(words)
            self.assertEqual(arguments.words, ["alice:my_file.txt", "here"])
            self.assertTrue(arguments.force)

    def test_dialog(self) -> None:
        """Without a verb there are flags for what is shared."""
        arguments = parse_arguments(["--share", "a", "--share", "b", "--listen", "7"])
        self.assertIsNone(arguments.verb)
        self.assertEqual((arguments.share, arguments.listen), (["a", "b"], "7"))

    def test_transfers(self) -> None:
        """What concerns transfers may stand before or after the verbs that have some."""
        for words in (
            ["--limit", "5MB/s", "--timeout", "20", "get", "a:b"],
            ["get", "a:b", "--limit", "5MB/s", "--timeout", "20"],
        ):
            arguments = parse_arguments(words)
            self.assertEqual((arguments.limit, arguments.timeout), ("5MB/s", "20"))
            self.assertFalse(arguments.classic)
        for words in (["--classic", "get", "a:b"], ["get", "--classic", "a:b"]):
            self.assertTrue(parse_arguments(words).classic)

    def test_peers(self) -> None:
        """`peers` alone lists; `peers forget` forgets one key."""
        self.assertIsNone(parse_arguments(["peers"]).peers_verb)
        arguments = parse_arguments(["peers", "forget", "alice", "--name", "bob"])
        self.assertEqual((arguments.peers_verb, arguments.peer), ("forget", "alice"))
        self.assertRaises(WrongUsage, parse_arguments, ["key", "forget", "alice"])

    def test_ls(self) -> None:
        """A place is one word."""
        arguments = parse_arguments(["ls", "alice:photos", "-R"])
        self.assertEqual((arguments.where, arguments.recursive), ("alice:photos", True))
        self.assertFalse(parse_arguments(["ls", "alice"]).recursive)

    def test_wrong(self) -> None:
        """What cannot be understood is one sentence that says what to type."""
        for words, pattern in (
            (["uesrs"], r"There is no verb 'uesrs'.*'users'\? Type `p2pshare --help`"),
            (["lss"], r"There is no verb 'lss'.*'ls'\? "),
            (["xyzzy"], r"There is no verb 'xyzzy'.*users.*get.*demo.*`p2pshare --help`"),
            (["get", "a:b", "--forse"], r"'--forse' means nothing here.*--force\?.*`p2pshare get"),
            (["key", "export", "x", "--passfrase-file=y"], r"--passphrase-file\?"),
            (["--regisrty"], r"--registry\?"),
            (["get"], r"^PEER:PATH is missing\. Type `p2pshare get --help`"),
            (["users", "bob"], r"'bob' means nothing here.*`p2pshare users --help`"),
            (["users", "--froce"], r"'--froce' means nothing here.*--help"),
            (["--froce"], r"'--froce' means nothing here.*`p2pshare --help`"),
            (
                ["peers", "forget", "a", "b"],
                r"'b' means nothing here.*`p2pshare peers forget --help`",
            ),
            (["get", "a:my_file.txt", "--froce", "b"], r"--froce"),
            (["users", "--nam", "bob"], r"--nam"),
            (["users", "--name"], r"--name has no value"),
            (["--share", "x", "users"], r"--share is for the dialog"),
            (["get", "--classic", "--limit", "1MB/s", "a:b"], r"knows no --limit"),
            (["--classic", "ls", "a"], r"--classic is for the dialog"),
            (["--limit", "5MB/s", "users"], r"--limit is for the dialog"),
            (["ls"], r"PEER.*`p2pshare ls --help`"),
            (["ls", "a", "b"], r"'b' means nothing here"),
            (["peers", "froget"], r"'froget'.*forget.*`p2pshare peers --help`"),
            (["completion", "csh"], r"SHELL is 'csh', but must be one of 'bash'"),
            (["complete", "x"], r"'complete'"),
            (["--json"], r"need a verb"),
            (["key"], r"VERB.*`p2pshare key --help`"),
            (["key", "exprot"], r"'exprot'.*export.*`p2pshare key --help`"),
            (["key", "export"], r"FILE.*`p2pshare key export --help`"),
            (["release", "--invitation", "x"], r"--invitation"),
            (["invite", "--expires", "7"], r"'7' is no time such as 7d"),
            (["invite", "--expires", "367d"], r"up to 366d"),
            (["invite", "--count", "0"], r"'0' is no number from 1"),
            (["get", "alice:a", "--max-files", "0"], "'0' is not a number of files"),
            (["get", "alice:a", "--max-files", "many"], "'many' is not a number of files"),
            (["get", "--classic", "alice:a.txt", "--max-files", "9"], "omit --max-files"),
            (["--quiet"], r"need a verb"),
        ):
            with self.subTest(words=words):
                error = self.assertRaises(WrongUsage, parse_arguments, words)
                self.assertRegex(str(error), pattern)
                self.assertEqual(error.exit_code, 2)

    def test_invite(self) -> None:
        """Times are said in days, hours or minutes."""
        for text, seconds in (("7d", 604_800), ("12h", 43_200), ("30m", 1800)):
            arguments = parse_arguments(["invite", "--expires", text, "--count", "3"])
            self.assertEqual((arguments.expires, arguments.count), (seconds, 3))
        self.assertEqual(parse_arguments(["invite"]).expires, 604_800)

    @given(st.lists(WORDS, max_size=6))
    def test_anything(self, words: list[str]) -> None:
        """Any words are understood or are wrong usage."""
        try:
            parse_arguments(words)
        except WrongUsage as error:
            self.assertTrue(str(error))


class DocumentTests(SynchronousTestCase):
    document = (Path(__file__).parents[2] / "docs" / "command-line.md").read_text()

    def test_flags(self) -> None:
        """The document has every flag and every verb of the parser."""
        flags = {flag for words in PAGES for flag in _flags(words)}
        self.assertIn("--recursive", flags)
        missing = [flag for flag in flags if not re.search(rf"{flag}\b", self.document)]
        self.assertEqual(missing, [])
        verbs = [
            words
            for words in PAGES
            if len(words) == 1 and f"## p2pshare {words[0]}\n" not in self.document
        ]
        self.assertEqual(verbs, [])

    def test_settings(self) -> None:
        """It has every setting in its three forms."""
        for field in fields(Settings):
            flag = field.name.replace("_", "-")
            row = rf"\| `--{flag}\b.*`P2PSHARE_{field.name.upper()}`.*`{field.name} = "
            self.assertRegex(self.document, row)


class HelpTests(SynchronousTestCase):
    def printed(self, *words: str) -> str:
        out = io.StringIO()
        with redirect_stdout(out):
            ended = self.assertRaises(SystemExit, parse_arguments, words)
        self.assertEqual(ended.code, 0)
        return out.getvalue()

    def test_fits(self) -> None:
        """Every page of help fits into 80 columns, and shows an example."""
        for words in PAGES:
            text = self.printed(*words, "--help")
            self.assertLessEqual(max(map(len, text.splitlines())), 80)
            self.assertIn("p2pshare " + " ".join(words), text)

    def test_verbs(self) -> None:
        """The first page names every verb on a line of its own, and the exit codes."""
        text = self.printed("--help")
        for verb, *below in PAGES[1:]:
            if not below:
                self.assertRegex(text, rf"\n    {verb}  +\w+")
        self.assertIn("5 unreachable", text)

    def test_version(self) -> None:
        """`--version` says which it is."""
        self.assertEqual(self.printed("--version"), f"p2pshare {__version__}\n")


def _flags(words: tuple[str, ...]) -> list[str]:
    """The flags that a page of help has."""
    out = io.StringIO()
    with redirect_stdout(out), contextlib.suppress(SystemExit):
        parse_arguments([*words, "--help"])
    return re.findall(r"--[a-z]+(?:-[a-z]+)*", out.getvalue().split("examples:")[0])
