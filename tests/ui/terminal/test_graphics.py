"""Tests of `p2pshare.ui.terminal.graphics`, with pseudo-terminals that answer as real terminals do."""

from __future__ import annotations

import fcntl
import io
import os
import struct
import termios
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.ui.terminal.capabilities import Terminal
from p2pshare.ui.terminal.graphics import (
    ANSWERS_MAX,
    ATTRIBUTES_QUERY,
    LOCAL_WAIT,
    QUERY,
    REMOTE_WAIT,
    Answers,
    detect_graphics,
)
from p2pshare.ui.terminal.picture_form import Graphics, PictureForm
from tests.ui.screens import COLOURFUL, FakeTty, RealTerminal, real_terminal

KITTY = "\x1b_Gi=31;OK\x1b\\\x1b[6;20;10t\x1b[?62;c"
FOOT = "\x1b[6;16;8t\x1b[?62;4;22c"
XTERM = "\x1b[?64;1;2;6;9;15;16;17;18;21;22;28c"


class AnswersTests(SynchronousTestCase):
    def test_of_terminals(self) -> None:
        """The answers of kitty, foot, xterm, and of one that refuses pictures of kitty."""
        for data, has_kitty, has_sixel, cell in (
            (KITTY, True, False, (10, 20)),
            (FOOT, False, True, (8, 16)),
            (XTERM, False, False, None),
            ("\x1b_Gi=31;EINVAL:no\x1b\\\x1b[?4c", False, False, None),
            ("\x1b[6;9999;0t\x1b[?1;4c", False, True, None),
        ):
            with self.subTest(data=data):
                answers = Answers.parse(data.encode())
                self.assertEqual(answers, Answers(has_kitty, has_sixel, cell, True, b""))

    def test_keys_between(self) -> None:
        """Keys before, between and behind the answers are those of the user."""
        data = b"l" + KITTY[:12].encode() + b"s" + KITTY[12:].encode() + b" \x1b[A\r"
        self.assertEqual(Answers.parse(data).typed, b"ls \x1b[A\r")
        self.assertEqual(Answers.parse(b"ls\x1b[?62;").typed, b"ls")
        self.assertEqual(Answers.parse(b"ls\x1b_Gi=3").typed, b"ls")

    @given(st.binary(max_size=200))
    def test_anything(self, data: bytes) -> None:
        """Any bytes are read, and keys are not invented."""
        self.assertLessEqual(len(Answers.parse(data).typed), len(data))


class DetectTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = cast(Any, MemoryReactorClock())

    def detect(
        self, terminal: Terminal, choice: str = "auto", **environ: str
    ) -> Deferred[Graphics]:
        return Deferred.fromCoroutine(detect_graphics(self.reactor, terminal, choice, environ))

    def on(self, real: RealTerminal) -> Terminal:
        return Terminal.detect(real.stream, COLOURFUL)

    def answer(self, real: RealTerminal, text: str) -> None:
        real.type(text)
        for reader in list(self.reactor.readers):
            reader.doRead()

    def assert_forms(self, answer: str, choice: str, form: PictureForm, **environ: str) -> None:
        with real_terminal(80) as real:
            before = termios.tcgetattr(real.stream.fileno())
            found = self.detect(self.on(real), choice, **environ)
            self.assertNoResult(found)
            self.answer(real, answer)
            self.assertIs(self.successResultOf(found).form, form)
            self.assertEqual(termios.tcgetattr(real.stream.fileno()), before)
            self.assertFalse(self.reactor.readers or self.reactor.getDelayedCalls())

    def test_of_terminals(self) -> None:
        """The best form that the terminal has is taken, or the one that is set."""
        self.assert_forms(KITTY, "auto", PictureForm.KITTY)
        self.assert_forms(FOOT, "auto", PictureForm.SIXEL)
        self.assert_forms(XTERM, "auto", PictureForm.BLOCKS)
        self.assert_forms(KITTY.replace("62;c", "62;4c"), "sixel", PictureForm.SIXEL)
        self.assert_forms(XTERM, "kitty", PictureForm.KITTY)
        self.assert_forms("\x1b[?1;4c", "auto", PictureForm.BLOCKS)  # no size of a cell

    def test_never_asked(self) -> None:
        """No terminal is asked that is none, is dumb, or whose form is set."""
        for terminal, choice in (
            (Terminal.detect(io.StringIO(), COLOURFUL), "auto"),
            (Terminal.detect(FakeTty(), COLOURFUL), "auto"),  # without a descriptor
            (Terminal.detect(FakeTty(), {"TERM": "dumb"}), "kitty"),
        ):
            self.assertIs(
                self.successResultOf(self.detect(terminal, choice)).form, PictureForm.BLOCKS
            )
        with real_terminal(80) as real:
            for choice in ("blocks", "off"):
                found = self.successResultOf(self.detect(self.on(real), choice))
                self.assertEqual(found.form, choice)
            self.assertEqual(real.show(), [""])

    def test_no_answer(self) -> None:
        """The wait is bounded, longer over ssh, and a terminal that is closed ends it."""
        for environ, wait in (({}, LOCAL_WAIT), ({"SSH_CONNECTION": "192.0.2.1"}, REMOTE_WAIT)):
            with real_terminal(80) as real:
                found = self.detect(self.on(real), **environ)
                self.reactor.advance(wait - 0.01)
                self.assertNoResult(found)
                self.reactor.advance(0.01)
                self.assertIs(self.successResultOf(found).form, PictureForm.BLOCKS)
        with real_terminal(80) as real:
            found = self.detect(self.on(real))
            self.answer(real, "x" * (ANSWERS_MAX + 1))
            self.answer(real, "")
            self.assertIs(self.successResultOf(found).form, PictureForm.BLOCKS)

    def test_cancelled(self) -> None:
        """A command that is stopped meanwhile leaves the terminal as it was."""
        with real_terminal(80) as real:
            before = termios.tcgetattr(real.stream.fileno())
            found = self.detect(self.on(real))
            self.assertNotEqual(termios.tcgetattr(real.stream.fileno()), before)
            found.cancel()
            self.failureResultOf(found)
            self.assertEqual(termios.tcgetattr(real.stream.fileno()), before)
            self.assertFalse(self.reactor.readers or self.reactor.getDelayedCalls())

    def test_typed_ahead(self) -> None:
        """Nothing is asked while keys wait to be read, and they stay, also those of a line without its end."""
        for keys in ("ls\n", "ls"):
            with real_terminal(80) as real:
                fd = real.stream.fileno()
                real.type_ahead(keys)
                found = self.successResultOf(self.detect(self.on(real)))
                self.assertIs(found.form, PictureForm.BLOCKS)
                real.type("\n")
                read = os.read(fd, 10)
                while not read.endswith(b"\n"):
                    read += os.read(fd, 10)
                self.assertEqual(read.split(b"\n")[0], b"ls")

    def test_what_is_asked(self) -> None:
        """GNU screen, the Linux console and Apple's terminal are not sent kitty's query."""
        for environ, has_query in (
            ({}, True),
            ({"TMUX": "/tmp/tmux", "STY": "1"}, True),
            ({"STY": "1.pts"}, False),
            ({"TERM": "linux"}, False),
            ({"TERM_PROGRAM": "Apple_Terminal"}, False),
        ):
            with self.subTest(environ=environ), real_terminal(80) as real:
                found = self.detect(self.on(real), **environ)
                asked = real.written()
                self.assertEqual(asked.startswith(QUERY), has_query)
                self.assertTrue(asked.endswith(ATTRIBUTES_QUERY))
                self.answer(real, XTERM)
                self.successResultOf(found)

    def test_size_of_the_window(self) -> None:
        """If the terminal does not tell the size of a cell, the kernel may know that of the window."""
        with real_terminal(80) as real:
            size = struct.pack("HHHH", 24, 80, 80 * 9, 24 * 18)
            fcntl.ioctl(real.stream.fileno(), termios.TIOCSWINSZ, size)
            found = self.detect(self.on(real))
            self.answer(real, "\x1b[?62;4c")
            self.assertEqual(self.successResultOf(found), Graphics(PictureForm.SIXEL, (9, 18)))
