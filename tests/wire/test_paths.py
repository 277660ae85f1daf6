"""Tests for `p2pshare.wire.paths`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import RemoteProtocolError
from p2pshare.wire.paths import (
    COMPONENT_MAX,
    DEPTH_MAX,
    PATH_MAX,
    component_fault,
    format_path,
    is_reserved,
    parse_path,
)

COMPONENTS = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=20
).filter(lambda text: text not in (".", "..") and not is_reserved(text))
HOSTILE = (
    *("/", "//", "/etc/passwd", "a/", "a//b", "./a", "..", "../a", "a/..", "a/../../b"),
    *(".p2pshareignore", "a/.P2PShare-0123456789abcdef.part", ".x.p2pshare-01234567.part"),
    *(".p2p\u017fhareignore", "a/\u200b.p2psh\u00adareignore"),
    *("a/./b", "a\0b", "\0", "a/\0", "\ud800", "a/b\udfff"),
    *("x" * (COMPONENT_MAX + 1), "ü" * (COMPONENT_MAX // 2 + 1), "/".join("a" * (DEPTH_MAX + 1))),
    *("a/" * PATH_MAX, "/".join(["y" * COMPONENT_MAX] * 17), "/".join(["€" * 80] * 18)),
)


class PathTests(SynchronousTestCase):
    def test_hostile(self) -> None:
        """Threats 1 and 6: a path that climbs, is reserved, absolute, too long or not Unicode is rejected."""
        for text in HOSTILE:
            with self.assertRaises(RemoteProtocolError, msg=repr(text[:40])):
                parse_path(text)

    def test_boundaries(self) -> None:
        """The longest and the deepest paths are paths, in every script."""
        for path in (
            (),
            ("a",),
            ("x" * COMPONENT_MAX,),
            (".ssh", "id_ed25519"),
            ("a", ".git", "...", "..a", "x.p2pshare-y"),
            ("日本語", "Ünïcödé", "a b", "c:\\d", "-rf", "\x1b[2J"),
            ("a",) * DEPTH_MAX,
            ("y" * COMPONENT_MAX,) * 16,
        ):
            self.assertEqual(parse_path(format_path(path)), path)

    @given(st.lists(COMPONENTS, max_size=10).map(tuple))
    def test_round_trip(self, path: tuple[str, ...]) -> None:
        """Parsing is the inverse of formatting."""
        self.assertEqual(parse_path(format_path(path)), path)

    @given(st.text(alphabet=st.sampled_from("a./\0\ud800ü"), max_size=12) | st.text())
    def test_anything(self, text: str) -> None:
        """Any text is a path without a fault in it, or an error."""
        try:
            path = parse_path(text)
        except RemoteProtocolError:
            return
        self.assertEqual(format_path(path), text)
        self.assertEqual([each for each in path if component_fault(each) is not None], [])
