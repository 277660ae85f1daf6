"""Tests of `p2pshare.ui.verbs.offers.sources`."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import P2pshareError, SendingToOneself
from p2pshare.ui.verbs.offers import sources
from p2pshare.ui.verbs.offers.sources import Sources, read_sources
from p2pshare.wire.offers import messages


class SourcesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.cwd = Path(self.mktemp()).absolute()
        self.cwd.mkdir()
        for name in ("a.txt", "bob"):
            (self.cwd / name).write_text("x")

    def read(self, *words: str, text: str | None = None, as_name: str | None = None) -> Sources:
        return read_sources(words, "alice", self.cwd, text=text, as_name=as_name)

    def error(self, *words: str, text: str | None = None, as_name: str | None = None) -> str:
        error = self.assertRaises(P2pshareError, self.read, *words, text=text, as_name=as_name)
        self.assertEqual(error.exit_code, 3 if isinstance(error, SendingToOneself) else 2)
        return str(error)

    def test_paths(self) -> None:
        """The last word has the names, in any case of letters; the others are paths."""
        read = self.read("a.txt", "bob", "Carol,dave,carol")
        self.assertEqual(read.paths, (str(self.cwd / "a.txt"), str(self.cwd / "bob")))
        self.assertEqual(read.to, ("carol", "dave"))

    def test_file_like_a_person(self) -> None:
        """A file with the name of a person disturbs nothing if there is another word."""
        self.assertEqual(self.read("bob", "bob").to, ("bob",))
        self.assertIn("'bob' is a file here, and NAME is missing", self.error("bob"))

    def test_wrong(self) -> None:
        """Each mistake has an error that names the remedy."""
        (self.cwd / "lost").symlink_to("nowhere")
        (self.cwd / "My Cat.jpg").write_text("x")
        for words, part in (
            ((), "NAME is missing"),
            (("carol",), "PATH is missing"),
            (("dave", "carol"), "by a comma: dave,carol"),
            (("no/file", "carol"), "There is no file or folder 'no/file' here."),
            (("lost", "carol"), "leads nowhere"),
            (("a.txt", "My Cat.jpg"), "is a name, but 'My Cat.jpg' is a file"),
            (("a.txt", ","), "NAME is missing"),
            (("a.txt", "alice"), "your own name"),
            (("a.txt", "no name"), "no name"),
            (("-", "a.txt", "carol"), "alone"),
        ):
            self.assertIn(part, self.error(*words))
        self.assertIn("one by one", self.error("a.txt", "bob", "carol", as_name="x"))
        many = ",".join(f"n{number}" for number in range(sources.NAMES_MAX + 1))
        self.assertIn(str(sources.NAMES_MAX), self.error("a.txt", many))

    def test_text(self) -> None:
        """A text is sent alone, and has a bound."""
        self.assertEqual(self.read("carol", text="hi").text, "hi")
        self.assertIn("omit 'a.txt'", self.error("a.txt", "carol", text="hi"))
        self.assertIn("empty", self.error("carol", text=""))
        self.assertIn("65537 bytes", self.error("carol", text="x" * 65537))

    def test_stdin(self) -> None:
        """Standard input has a name."""
        self.assertEqual(self.read("-", "carol").as_name, "stdin")
        self.assertEqual(self.read("-", "carol", as_name="x.tar").as_name, "x.tar")

    def test_bounds(self) -> None:
        """The bounds are those of the messages."""
        self.assertEqual(sources.NOTE_MAX, messages.NOTE_MAX)
        self.assertEqual(sources.TEXT_MAX, messages.SNIPPET_MAX)
