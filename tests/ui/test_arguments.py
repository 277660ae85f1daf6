"""Tests for `p2pshare.ui.arguments`."""

from __future__ import annotations

import inspect
import io
import os
import re
import shlex
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
from p2pshare.ui.commands.command import COMMON
from p2pshare.ui.commands.table import COMMANDS, DIALOG
from p2pshare.ui.main import function_of

PAGES = tuple(tuple(command.name.split()) for command in COMMANDS)
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


DOCS = Path(__file__).parents[2] / "docs"


class ParseTests(SynchronousTestCase):
    def test_before_and_after_the_verb(self) -> None:
        """A common flag may stand before or after the verb; the later one wins."""
        for words in (
            ["--name", "carol", "--json", "users"],
            ["users", "--name", "carol", "--json"],
            ["--name", "bob", "users", "--name", "carol", "--json"],
            ["--name=carol", "users", "--json"],
        ):
            arguments = parse_arguments(words)
            self.assertEqual(
                (arguments.command.name, arguments.name, arguments.json), ("users", "carol", True)
            )
            self.assertEqual(
                (arguments.registry, arguments.data, arguments.quiet), (None,) * 2 + (False,)
            )

    def test_get(self) -> None:
        """The words of `get` may stand before, after and between its flags."""
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
        """Without a verb there are flags for shares."""
        arguments = parse_arguments(["--share", "a", "--share", "b", "--listen", "7"])
        self.assertIs(arguments.command, DIALOG)
        self.assertEqual((arguments.share, arguments.listen), (["a", "b"], "7"))

    def test_transfers(self) -> None:
        """A flag that the dialog and a verb have may stand before or after the verb."""
        for words in (
            ["--limit", "5MB/s", "--timeout", "20", "get", "a:b"],
            ["get", "a:b", "--limit", "5MB/s", "--timeout", "20"],
        ):
            arguments = parse_arguments(words)
            self.assertEqual((arguments.limit, arguments.timeout), ("5MB/s", "20"))
            self.assertFalse(arguments.classic)
        for words in (["--classic", "get", "a:b"], ["get", "--classic", "a:b"]):
            self.assertTrue(parse_arguments(words).classic)

    def test_private(self) -> None:
        """Each verb that starts a peer, if none runs, can do so without publishing an address."""
        for words in (
            *("send notes.txt bob", "inbox", "inbox accept k6xw", "inbox decline k6xw", "history"),
            *("inbox pause k6xw", "inbox resume k6xw", "inbox clear", "send --clear"),
            *("share", "share list", "share add notes.txt", "share allow a bob", "share remove a"),
        ):
            for place in f"--private {words}", f"{words} --private":
                self.assertTrue(parse_arguments(place.split()).private, place)

    def test_peers(self) -> None:
        """`peers` alone lists; `peers forget` forgets one key."""
        self.assertEqual(parse_arguments(["peers"]).command.name, "peers")
        arguments = parse_arguments(["peers", "forget", "alice", "--name", "bob"])
        self.assertEqual((arguments.command.name, arguments.peer), ("peers forget", "alice"))
        self.assertRaises(WrongUsage, parse_arguments, ["key", "forget", "alice"])

    def test_ls(self) -> None:
        """`ls` has one word."""
        arguments = parse_arguments(["ls", "alice:photos", "-R"])
        self.assertEqual((arguments.where, arguments.recursive), ("alice:photos", True))
        self.assertFalse(parse_arguments(["ls", "alice"]).recursive)

    def test_wrong(self) -> None:
        """Wrong usage is an error that names the wrong word and the help to read."""
        for words, pattern in (
            (["uesrs"], r"^'uesrs' .*'users'\? Type `p2pshare --help`"),
            (["lss"], r"^'lss' .*'ls'\? "),
            (["xyzzy"], r"^'xyzzy' .*users.*get.*demo.*`p2pshare --help`"),
            (["get", "a:b", "--forse"], r"'--forse' .*--force\?.*`p2pshare get --help`"),
            (["key", "export", "x", "--passfrase-file=y"], r"--passphrase-file\?"),
            (["--regisrty"], r"--registry\?"),
            (["get"], r"^PEER:PATH is missing\. Type `p2pshare get --help`"),
            (["users", "bob"], r"'bob' .*`p2pshare users --help`"),
            (["users", "--froce"], r"'--froce' .*--help"),
            (["--froce"], r"'--froce' .*`p2pshare --help`"),
            (
                ["peers", "forget", "a", "b"],
                r"'b' .*`p2pshare peers forget --help`",
            ),
            (["get", "a:my_file.txt", "--froce", "b"], r"--froce"),
            (["users", "--nam", "bob"], r"--nam"),
            (["users", "--name"], r"--name has no value"),
            (["--share", "x", "users"], r"^--share .*without a verb"),
            (["get", "--classic", "--limit", "1MB/s", "a:b"], r"--limit: omit it"),
            (["--classic", "ls", "a"], r"^--classic .*without a verb"),
            (["--limit", "5MB/s", "users"], r"^--limit .*without a verb"),
            (["ls"], r"PEER.*`p2pshare ls --help`"),
            (["ls", "a", "b"], r"'b' .*`p2pshare ls --help`"),
            (["peers", "froget"], r"'froget'.*forget.*`p2pshare peers --help`"),
            (["completion", "csh"], r"SHELL is 'csh', but must be one of 'bash'"),
            (["complete", "x"], r"'complete'"),
            (["--json"], r"--json.*verb"),
            (["key"], r"VERB.*`p2pshare key --help`"),
            (["key", "exprot"], r"'exprot'.*export.*`p2pshare key --help`"),
            (["key", "export"], r"FILE.*`p2pshare key export --help`"),
            (["release", "--invitation", "x"], r"--invitation"),
            (["invite", "--expires", "7"], r"'7' .*7d"),
            (["invite", "--expires", "367d"], r"up to 366d"),
            (["invite", "--count", "0"], r"'0' .* 1 to 1000"),
            (["get", "alice:a", "--max-files", "0"], "--max-files.*'0' "),
            (["get", "alice:a", "--max-files", "many"], "--max-files.*'many' "),
            (["get", "--classic", "alice:a.txt", "--max-files", "9"], "--max-files: omit it"),
            (["--quiet"], r"--quiet.*verb"),
        ):
            with self.subTest(words=words):
                error = self.assertRaises(WrongUsage, parse_arguments, words)
                self.assertRegex(str(error), pattern)
                self.assertEqual(error.exit_code, 2)

    def test_invite(self) -> None:
        """The lifetime of an invitation is in days, hours or minutes."""
        for text, seconds in (("7d", 604_800), ("12h", 43_200), ("30m", 1800)):
            arguments = parse_arguments(["invite", "--expires", text, "--count", "3"])
            self.assertEqual((arguments.life, arguments.count), (seconds, 3))
        bare = parse_arguments(["invite"])
        self.assertEqual((bare.life, bare.count, bare.place), (None, None, None))
        self.assertEqual(parse_arguments(["invite", "alice:photos"]).place, "alice:photos")

    @given(st.lists(WORDS, max_size=6))
    def test_anything(self, words: list[str]) -> None:
        """Any words are parsed or are wrong usage."""
        try:
            parse_arguments(words)
        except WrongUsage as error:
            self.assertTrue(str(error))


class DispatchTests(SynchronousTestCase):
    def test_parameters(self) -> None:
        """The parameters of each function are arguments of its verb, or parts of the invocation."""
        parts = {"arguments", "invocation", "settings", "output", "wall", "environ"}
        for command in COMMANDS:
            if command.run is None:
                continue
            run = function_of(command)
            own = {each.dest for each in (*command.arguments, *COMMON)}
            self.assertLessEqual(set(inspect.signature(run).parameters), own | parts, command.name)


class DocumentTests(SynchronousTestCase):
    document = (DOCS / "command-line.md").read_text()

    def test_flags(self) -> None:
        """The document has every flag and every verb of the table."""
        for command in COMMANDS:
            for flag in command.flags:
                self.assertRegex(self.document, rf"{flag}\b")
            if len(command.name.split()) < 2:
                self.assertIn(f"## p2pshare {command.name}".rstrip() + "\n", self.document)

    def test_examples(self) -> None:
        """Each command in a block of code of the pages for users and for scripts is understood."""
        pages = [self.document, (DOCS / "how-to" / "scripts.md").read_text()]
        blocks = [
            block for page in pages for block in re.findall(r"^```\n(.*?)^```", page, re.M | re.S)
        ]
        commands = re.findall(
            r"(?:^|[ (])p2pshare ([a-z][^|;)&<>#\n]*?)(?:  .*)?$", "\n".join(blocks), re.M
        )
        self.assertGreater(len(commands), 20)
        for command in commands:
            with self.subTest(command=command):
                parse_arguments(shlex.split(command))

    def test_settings(self) -> None:
        """The document has every setting in its three forms."""
        for field in (each for each in fields(Settings) if each.compare):  # `origin` is none
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
        """Every page of help fits, and a flag has one line in 80 columns."""
        for columns in (80, 40):
            self.patch(os, "environ", {**os.environ, "COLUMNS": str(columns)})
            for command in COMMANDS:
                text = self.printed(*command.name.split(), "--help")
                page, _, _ = text.partition("examples:")
                self.assertLess(max(map(len, page.splitlines())), columns)
                self.assertIn(f"p2pshare {command.name}".rstrip(), text)
                if columns == 80:
                    self.assertLess(max(map(len, text.splitlines())), 80)
                    for argument in (*command.arguments, *COMMON):
                        if argument.flags:
                            self.assertRegex(
                                page, rf"\n  .*{argument.flags[-1]}.*  {re.escape(argument.help)}\n"
                            )

    def test_verbs(self) -> None:
        """The first page has a line for every verb, and the exit codes."""
        text = self.printed("--help")
        for verb, *below in PAGES[1:]:
            if not below:
                self.assertRegex(text, rf"\n    {verb}  +\w+")
        self.assertIn("5 unreachable", text)

    def test_version(self) -> None:
        """`--version` prints the version."""
        self.assertEqual(self.printed("--version"), f"p2pshare {__version__}\n")
