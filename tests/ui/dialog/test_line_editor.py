"""Tests for `p2pshare.ui.dialog.line_editor`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.ui.dialog.line_editor import (
    ESCAPE_MAX,
    HISTORY_MAX,
    LINE_MAX,
    InputEnded,
    LineEditor,
    LineEntered,
)
from p2pshare.wire.display import display

KEYS = st.text(
    st.sampled_from("ab c\x1b[ADCHO3~;\x01\x04\x05\x08\x0b\x15\x17\r\n写é") | st.characters()
)


class KeysTests(SynchronousTestCase):
    def typed(self, keys: str) -> str:
        """Return the line that these keys and Enter give."""
        editor = LineEditor()
        editor.receive(keys + "\r")
        event = editor.next_event()
        assert isinstance(event, LineEntered)
        return event.text

    def test_keys(self) -> None:
        """Each key does what it does in readline."""
        for keys, text in {
            "alice": "alice",
            "Zoë 写真": "Zoë 写真",
            "alixx\x7f\x08ce": "alice",
            "lice\x01a": "alice",
            "lice\x1b[Ha\x1b[F!": "alice!",
            "lice\x1b[1~a\x1b[4~!": "alice!",
            "aice\x1b[D\x1b[D\x1b[Dl": "alice",
            "aice\x02\x02\x02l\x06\x06\x06!": "alice!",
            "alicee\x1b[D\x1b[3~": "alice",
            "alicee\x02\x04": "alice",
            "wrong\x15alice": "alice",
            "alice wrong\x17": "alice ",
            "alice wrong  \x17\x17bob": "bob",
            "alicexx\x02\x02\x0b": "alice",
            "a\x00\x07\tl\x1b[15~\x1bxi\x1b[Zce": "alice",
            "a\u202el\u200bice": "alice",
        }.items():
            with self.subTest(keys=keys):
                self.assertEqual(self.typed(keys), text)

    def test_history(self) -> None:
        """The history has the lines before, without empty ones and repeats."""
        before = "alice\rbob\r \rbob\r"
        for keys, text in {
            "\x1b[A": "bob",
            "\x1bOA\x10": "alice",
            "\x1b[A\x1b[A\x1b[A\x1b[A": "alice",
            "\x1b[A\x1b[A\x1b[B": "bob",
            "\x1b[A\x0e": "",
            "\x1b[B": "",
        }.items():
            with self.subTest(keys=keys):
                editor = LineEditor()
                editor.receive(f"{before}{keys}\r")
                events = [editor.next_event() for _ in range(5)]
                self.assertEqual(events[-1], LineEntered(text))

    def test_end(self) -> None:
        """Ctrl+D ends the input on an empty line only; an unfinished line counts at the end."""
        editor = LineEditor()
        editor.receive("a\x02\x04\x04")
        self.assertEqual(editor.next_event(), InputEnded())
        editor.receive("alice")
        self.assertIsNone(editor.next_event())
        self.assertEqual(editor.finish(), LineEntered("alice"))
        self.assertIsNone(editor.finish())

    def test_limits(self) -> None:
        """A line, an escape sequence and the history are bounded."""
        self.assertEqual(self.typed("x" * (LINE_MAX + 9)), "x" * LINE_MAX)
        editor = LineEditor()
        editor.receive("\x1b[" + "1" * ESCAPE_MAX)
        self.assertIsNone(editor.next_event())
        editor.receive("bob\r")
        self.assertEqual(editor.next_event(), LineEntered("bob"))
        editor.receive("".join(f"{n}\r" for n in range(HISTORY_MAX + 9)))
        while editor.next_event():
            pass
        editor.receive("\x1b[A" * (HISTORY_MAX + 9) + "\r")
        self.assertEqual(editor.next_event(), LineEntered("9"))

    @given(KEYS, st.integers(1, 20))
    def test_anything(self, keys: str, columns: int) -> None:
        """After any keys the line is printable, and the visible part fits."""
        editor = LineEditor()
        editor.receive(keys)
        while editor.next_event():
            pass
        self.assertTrue(0 <= editor.cursor <= len(editor.text) <= LINE_MAX)
        self.assertEqual(display(editor.text), editor.text)
        before, behind = editor.visible(columns)
        self.assertIn(before + behind, editor.text)
        self.assertLess(cell_len(before + behind), max(columns, 1) if before + behind else 1)

    @given(KEYS, st.data())
    def test_any_parts(self, keys: str, data: st.DataObject) -> None:
        """Keys give the same lines, however their bytes are split."""
        cut = data.draw(st.integers(0, len(keys)))
        whole, parts = LineEditor(), LineEditor()
        whole.receive(keys)
        expected = list(iter(whole.next_event, None))
        found = []
        for part in (keys[:cut], keys[cut:]):
            parts.receive(part)
            found += list(iter(parts.next_event, None))
        if len(max(keys.split("\x1b"), key=len)) < ESCAPE_MAX:
            self.assertEqual((found, parts.text), (expected, whole.text))
