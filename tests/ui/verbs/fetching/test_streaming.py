"""Tests of `p2pshare.ui.verbs.fetching.streaming`."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import LinkGivenUp, P2pshareError, WrongUsage
from p2pshare.peer.fetch.plan import JobItem
from p2pshare.ui.arguments import parse_arguments
from p2pshare.ui.output import Output
from p2pshare.ui.terminal.capabilities import Terminal
from p2pshare.ui.verbs.fetching.streaming import goes_to_stdout, stream_maker, write_all
from p2pshare.wire.blocks import BLOCK_SIZE
from p2pshare.wire.paths import RemotePath
from tests.peer.memory_sharer import MemorySession, MemorySharer, give

PATH = ("s", "film")


class WordsTests(SynchronousTestCase):
    def test_last_word(self) -> None:
        """The last word `-` is standard output, also behind a flag; `./-` is a file."""
        for words, expected in ((["a:b", "-"], True), (["a:b", "./-"], False), (["-"], False)):
            self.assertEqual(goes_to_stdout(words), expected)
        self.assertEqual(parse_arguments(["get", "a:b", "--quiet", "-"]).words, ["a:b", "-"])

    def test_flags(self) -> None:
        """What has no meaning for a stream of bytes is wrong usage."""
        for flag in ("--force", "--preview", "--classic"):
            error = self.assertRaises(WrongUsage, parse_arguments, ["get", "a:b", "-", flag])
            self.assertIn(flag, str(error))

    def test_one_file(self) -> None:
        """Standard output takes one item, and no glob."""
        item, glob = (JobItem(("s", name), Path()) for name in ("a", "*"))
        for jobs in ({"a": [item, item]}, {"a": [item], "b": [item]}, {"a": [glob]}):
            self.assertRaises(WrongUsage, stream_maker, jobs, None, bytes)

    def test_terminal(self) -> None:
        """Threat 4: the bytes of a file are not written to a terminal, which would obey control characters."""
        screen = io.StringIO()
        screen.isatty = lambda: True  # type: ignore[method-assign]
        output = Output(Terminal.detect(screen, {}), Terminal.detect(io.StringIO(), {}))
        self.assertRaises(WrongUsage, output.give_stdout)


class JobTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.alice = MemorySharer()
        self.stderr = io.StringIO()
        file = open(self.mktemp(), "w+")  # noqa: SIM115 - it is closed after the test
        self.addCleanup(file.close)
        self.output = Output(Terminal.detect(file, {}), Terminal.detect(self.stderr, {}))
        self.fd = self.output.give_stdout()

    def run_job(self, path: RemotePath) -> Deferred[Any]:
        jobs = {"alice": [JobItem(path, Path())]}
        maker = stream_maker(jobs, self.output, lambda data: write_all(self.fd, data))
        job = maker(self.alice.remote(patience=5), jobs["alice"])
        running = Deferred.fromCoroutine(job.run())
        self.alice.pass_time(20)
        return running

    def test_written(self) -> None:
        """The descriptor of stdout gets the bytes; people read the rest on stderr."""
        self.alice.put("s/film", b"abc")
        self.successResultOf(self.run_job(PATH))
        self.output.line("Hello.")
        self.output.result("a result")
        self.assertEqual(os.pread(self.fd, 9, 0), b"abc")
        self.assertEqual(self.stderr.getvalue(), "Hello.\na result\n")

    def test_folder(self) -> None:
        """A folder is wrong usage."""
        self.alice.put("s/film/a", b"")
        error = self.failureResultOf(self.run_job(PATH), WrongUsage)
        self.assertIn("'alice:s/film' is a folder", error.getErrorMessage())

    def test_cut_short(self) -> None:
        """If the rest does not come, people read how much was written."""

        def vanish(session: MemorySession, get: Any) -> None:
            give(session, get, until=2)
            self.alice.refusals = [LinkGivenUp(name="alice", reason="x", patience=1)] * 99
            self.alice.reactor.callLater(1.0, self.alice.lose)

        self.alice.put("s/film", bytes(3 * BLOCK_SIZE))
        self.alice.answers[PATH] = vanish
        self.failureResultOf(self.run_job(PATH), P2pshareError)
        self.assertIn("2097152 bytes were written", self.stderr.getvalue())


class WriteTests(SynchronousTestCase):
    def test_pipe(self) -> None:
        """All bytes go through a pipe that takes a few at a time, also one that does not block."""
        data, got = os.urandom(300_000), bytearray()
        for blocks in (True, False):
            got.clear()
            reader, writer = os.pipe()
            os.set_blocking(writer, blocks)

            def read(end: int = reader) -> None:
                with open(end, "rb") as pipe:
                    got.extend(pipe.read())

            thread = threading.Thread(target=read)
            thread.start()
            write_all(writer, memoryview(data))
            os.close(writer)
            thread.join()
            self.assertTrue(bytes(got) == data)

    def test_nobody_reads(self) -> None:
        """A pipe without a reader is an error of the system."""
        reader, writer = os.pipe()
        os.close(reader)
        self.assertRaises(BrokenPipeError, write_all, writer, memoryview(b"x"))
        os.close(writer)
