"""Names: each has exactly one spelling."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import IllegalName
from p2pshare.names import (
    NAME_MAX,
    RESERVED,
    can_begin_name,
    canonical,
    check_name,
    did_you_mean,
    is_name,
    read_name,
)


class NameTests(SynchronousTestCase):
    """The strings that are valid names."""

    def test_legal(self) -> None:
        """A name has ASCII letters in lower case and digits, with dots, dashes and underscores between them."""
        for name in ("a", "7", "bob", "bob.smith", "a-b_c.d", "x" * NAME_MAX, "0-0"):
            self.assertEqual(check_name(name), name)

    def test_no_look_alikes(self) -> None:
        """A string that looks like "bob", or is normalised to it, is no name (threat 21)."""
        for variant in (
            "Bob", "BOB", " bob", "bob ", "bob\n", "bob\t", "bob\0", "\ufeffbob", "bob\u200b",
            "bob\u00a0", "\uff42\uff4f\uff42", "b\u043eb", "b\u03bfb", "bo\u0431", "bób", "b\u0301ob", "bob\u0301",
            "\u202ebob", "bob.", ".bob", "-bob", "bob-", "_bob", "bob_", "b/ob", "b%6fb", "b\\ob",
            "bob@x", "b o b", "ⓑⓞⓑ", "\U0001d41b\U0001d428\U0001d41b", "bob\r\nX: y", "{bob}", "bob:x", "",
            "x" * (NAME_MAX + 1),
        ):  # fmt: skip
            self.assertFalse(is_name(variant), ascii(variant))
            with self.assertRaises(IllegalName):
                check_name(variant)

    def test_beginnings(self) -> None:
        """A valid prefix of a name is accepted even if it is no name itself."""
        for text, can in (("a", True), ("bob.", True), ("list", True), (".", False), ("é", False)):
            self.assertIs(can_begin_name(text), can, text)

    def test_reserved(self) -> None:
        """The words of the routes are not valid names."""
        for word in RESERVED:
            self.assertFalse(is_name(word), word)
            error = self.assertRaises(IllegalName, check_name, word)
            self.assertIn("reserved", error.fields["reason"])
        error = self.assertRaises(IllegalName, check_name, "two words")
        self.assertNotIn("reserved", error.fields["reason"])

    def test_read(self) -> None:
        """A name in upper case is accepted from a user and folded to lower case."""
        self.assertEqual([read_name(text) for text in ("Bob", " bob ", "BOB")], ["bob"] * 3)
        for text in ("List", "b b", ""):
            self.assertRaises(IllegalName, read_name, text)

    def test_did_you_mean(self) -> None:
        """The most similar known word is suggested, if one is similar enough."""
        self.assertEqual(did_you_mean("alcie", ["bob", "alice", "albert"]), "alice")
        self.assertIsNone(did_you_mean("xyz", ["bob", "alice"]))

    @given(st.text(max_size=40))
    def test_canonical(self, text: str) -> None:
        """A name is its own canonical form, so no two names share one."""
        if is_name(text):
            self.assertEqual(canonical(text), text)
            self.assertTrue(text.isascii())
        else:
            self.assertRaises(IllegalName, check_name, text)
