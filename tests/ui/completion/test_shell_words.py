"""Tests for `p2pshare.ui.completion.shell_words`."""

from __future__ import annotations

import shlex

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.ui.completion.shell_words import Typed, replacements, split_line

BREAKS = " \t\n\"'@><=;|&(:"
NAMES = st.text(st.characters(exclude_categories=("C", "Z")) | st.just(" "), min_size=1)


class SplitTests(SynchronousTestCase):
    def test_lines(self) -> None:
        """Words are split as bash splits them, with the number of kept characters."""
        for line, typed in {
            "p get al": Typed(("p", "get"), "al", 0),
            "p get ": Typed(("p", "get"), "", 0),
            "p get alice:pho": Typed(("p", "get"), "alice:pho", 6),
            "p alice:a\\ b\\:c": Typed(("p",), "alice:a b:c", 6),
            'p "alice:a b': Typed(("p",), "alice:a b", 0, '"'),
            "p alice:'a b": Typed(("p",), "alice:a b", 6, "'"),
            'p "alice:x/"ca': Typed(("p",), "alice:x/ca", 0),
            "p 'a\\b' x": Typed(("p", "a\\b"), "x", 0),
            'p "a\\$\\b" ""': Typed(("p", "a$\\b"), "", 0),
            "p a\\": Typed(("p",), "a", 0),
        }.items():
            self.assertEqual(split_line(line, BREAKS), typed, line)

    @given(st.lists(NAMES, min_size=1, unique=True), st.sampled_from(["", '"', "'"]))
    def test_quoted(self, names: list[str], quote: str) -> None:
        """Bash reads any inserted name as exactly that name: threat 4, threat 40."""
        for name in names:
            (put_in,) = replacements(Typed((), "", 0, quote), [name])
            self.assertEqual(split_line(f"{quote}{put_in}{quote} ", "").words, (name,))
            if quote != '"':  # in which shlex knows fewer escapes than bash
                self.assertEqual(shlex.split(f"{quote}{put_in}{quote}"), [name])

    @given(st.lists(NAMES, min_size=2, unique=True))
    def test_common(self, names: list[str]) -> None:
        """Several candidates give their whole common beginning, or nothing if that would be cut."""
        typed = Typed((), "", 0)
        put_in = replacements(typed, names)
        if len(put_in) == 1:
            (common,) = shlex.split(put_in[0])
            self.assertTrue(common and all(name.startswith(common) for name in names))
        elif " " not in put_in:
            firsts = {each[:1] for each in put_in}
            self.assertGreater(len(firsts), 1)
