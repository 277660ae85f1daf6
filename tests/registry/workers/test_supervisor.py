"""The worker processes of a registry: what is said to them, and how they are supervised."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any, cast

from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.task import Clock
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import CannotStart, FolderUnusable, KeyUnusable, P2pshareError, StoreOfAnother
from p2pshare.net.logs import Line
from p2pshare.registry.api.metrics import FOLDER_VARIABLE
from p2pshare.registry.configuration import RegistrySettings
from p2pshare.registry.workers.reports import FAILED, READY, Order, Report
from p2pshare.registry.workers.supervisor import (
    LINE_MAX,
    RESTART_MAX,
    STEADY,
    STOP_TIMEOUT,
    Workers,
)

SETTINGS = RegistrySettings("redis://user:hunter2@host", Path("/data"), metrics_token="hunter3")


class FakeWorker:
    """A process that takes an order and signals, and ends when the test says so."""

    def __init__(self, protocol: Any, command: list[str], env: dict[str, str]) -> None:
        self.protocol, self.command, self.env = protocol, command, env
        self.signals: list[str] = []
        self.gone = False
        self.told = b""
        protocol.makeConnection(self)

    def write(self, data: bytes) -> None:
        self.told += data

    def signalProcess(self, name: str) -> None:  # noqa: N802
        if self.gone:
            raise ProcessExitedAlready
        self.signals.append(name)

    def say(self, line: str) -> None:
        self.protocol.outReceived(line.encode() + b"\n")

    def end(self, signal: int | None = None) -> None:
        self.gone = True
        reason = ProcessTerminated(signal=signal) if signal else ProcessDone(0)
        self.protocol.processEnded(Failure(reason))


class FakeReactor(Clock):
    """A clock that starts fake processes."""

    def __init__(self) -> None:
        super().__init__()
        self.workers: list[FakeWorker] = []
        self.spawn_error: OSError | None = None

    def spawnProcess(  # noqa: N802
        self, protocol: Any, executable: str, args: list[str], env: dict[str, str]
    ) -> None:
        if self.spawn_error:
            raise self.spawn_error
        self.workers.append(FakeWorker(protocol, args, env))


class ReportTests(SynchronousTestCase):
    """What goes through the pipes."""

    def test_order(self) -> None:
        """An order arrives as it was, in one line."""
        order = Order(3, SETTINGS, (("tcp:8000", 8000), ("ssl:0", 8443)), (("tcp:1", 1),))
        line = order.to_line()
        self.assertEqual(line.count(b"\n"), 1)
        self.assertEqual(Order.from_line(line), order)

    def test_errors(self) -> None:
        """An error keeps its sentence and its exit code."""
        for error in (
            StoreOfAnother(store="redis://h", owner="k", path=Path("/d/registry.key")),
            KeyUnusable(path=Path("/x"), reason="it is {odd}"),
            CannotStart(what="The registry", reason="no\nway"),
        ):
            line = Report(FAILED, error).to_line()
            self.assertNotIn("\n", line)
            report = Report.from_line(line)
            assert report is not None and report.error is not None
            self.assertIs(type(report.error), type(error))
            self.assertEqual(str(report.error), str(error))
            self.assertEqual(report.error.exit_code, error.exit_code)

    def test_no_report(self) -> None:
        """Anything else is none; an error of no known kind is one that says so."""
        for line in ("", "x", "[]", "{}", '{"report": "well"}', "1"):
            self.assertIsNone(Report.from_line(line))
        for kind in ("Nothing", "inspect", None, "P2pshareError"):
            report = Report.from_line(json.dumps({"report": FAILED, "error": kind}))
            assert report is not None
            self.assertIsInstance(report.error, CannotStart)


class WorkersTests(SynchronousTestCase):
    """Supervision, in virtual time."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="p2p-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name, "metrics")
        self.reactor = FakeReactor()
        orders = [Order(number, SETTINGS, (("tcp:0", 5),)) for number in (1, 2)]
        self.service = Workers(self.reactor, lambda: orders, self.folder)
        self.observer = EventLoggingObserver.createWithCleanup(cast(Any, self), globalLogPublisher)

    def start(self) -> list[FakeWorker]:
        self.service.startService()
        return self.reactor.workers

    def start_ready(self) -> list[FakeWorker]:
        for worker in self.start():
            worker.say(Report(READY).to_line())
        return self.reactor.workers

    def logged(self, key: str) -> list[Any]:
        return [event[key] for event in self.observer if key in event]

    def test_orders(self) -> None:
        """Threat 24: what they are told has secrets, which are not on their command line, nor in their environment."""
        first, second = self.start()
        for worker, number in ((first, 1), (second, 2)):
            self.assertEqual(Order.from_line(worker.told).number, number)
            self.assertEqual(Order.from_line(worker.told).settings, SETTINGS)
            self.assertIn(sys.executable, worker.command)
            self.assertEqual(worker.env[FOLDER_VARIABLE], str(self.folder))
            self.assertNotIn("hunter", " ".join([*worker.command, *worker.env.values()]))

    def test_ready(self) -> None:
        """The registry is ready when all of them are."""
        first, second = self.start()
        first.say(Report(READY).to_line())
        self.assertNoResult(self.service.ready)
        second.say(Report(READY).to_line())
        self.assertIsNone(self.successResultOf(self.service.ready))
        self.assertNoResult(self.service.lost)

    def test_cannot_start(self) -> None:
        """What keeps one of them from starting keeps the registry from it, with the same sentence."""
        first, second = self.start()
        error = CannotStart(what="The registry", reason="the port is in use")
        for worker in (second, first):
            worker.say(Report(FAILED, error).to_line())
            worker.end()
        failure = self.failureResultOf(self.service.lost, CannotStart)
        self.assertEqual(str(failure.value), str(error))
        self.assertNoResult(self.service.ready)

    def test_dead_at_once(self) -> None:
        """One that dies before it is ready keeps the registry from starting, and its last words are told."""
        first, _ = self.start()
        first.protocol.errReceived(b"Traceback\nImportError: nothing there")
        first.end()
        failure = self.failureResultOf(self.service.lost, CannotStart)
        self.assertIn("ImportError: nothing there", str(failure.value))

    def test_cannot_be_spawned(self) -> None:
        """The same if there can be no process at all."""
        self.reactor.spawn_error = OSError(11, "Resource temporarily unavailable")
        self.start()
        self.failureResultOf(self.service.lost, CannotStart)

    def test_folder(self) -> None:
        """What was counted by an earlier registry is forgotten; a folder that cannot be made is a sentence."""
        self.folder.mkdir()
        (self.folder / "counter_1.db").write_text("")
        self.start()
        self.assertEqual(list(self.folder.iterdir()), [])
        nowhere = Workers(self.reactor, lambda: [], self.folder / "none" / "there")
        nowhere.startService()
        self.failureResultOf(nowhere.lost, FolderUnusable)
        self.successResultOf(nowhere.stopService())

    def test_restarted(self) -> None:
        """One that dies is followed by another, later each time, soon after a steady life; it is said each time."""
        self.start_ready()
        waits = []
        for _ in range(8):
            count = len(self.reactor.workers)
            self.reactor.workers[-1].end(signal=9)
            started = self.reactor.seconds()
            while len(self.reactor.workers) == count:
                self.reactor.advance(0.05)
            waits.append(self.reactor.seconds() - started)
            self.reactor.workers[-1].say(Report(READY).to_line())
        self.assertEqual(waits, sorted(waits))
        self.assertLess(waits[0], 0.2)
        self.assertAlmostEqual(waits[-1], RESTART_MAX, delta=0.1)
        self.assertEqual(self.logged("reason"), ["by signal 9"] * 8)
        self.reactor.advance(STEADY + 1)
        self.reactor.workers[-1].end()
        self.reactor.advance(0.15)
        self.assertEqual(len(self.reactor.workers), 2 + 9)
        self.assertEqual(Order.from_line(self.reactor.workers[-1].told).number, 2)

    def test_restart_fails(self) -> None:
        """One that cannot start again is tried again, and the reason is in the log."""
        first, _ = self.start_ready()
        first.end(signal=11)
        self.reactor.advance(0.15)
        self.reactor.workers[-1].say(
            Report(FAILED, CannotStart(what="The registry", reason="no port")).to_line()
        )
        self.reactor.workers[-1].end()
        self.reactor.advance(0.25)
        self.assertEqual(len(self.reactor.workers), 4)
        (error,) = self.logged("error")
        self.assertIn("no port", str(error))
        self.assertNoResult(self.service.lost)

    def test_log(self) -> None:
        """Its log becomes part of ours, whole, however the pipe cuts it; what is none of it is quoted, in bounds."""
        first, second = self.start_ready()
        line = Line(12.5, "warn", "p2pshare.x", "it happened", {"name": "bob"}).to_json().encode()
        for byte in line:
            first.protocol.outReceived(bytes([byte]))
            second.protocol.outReceived(b".")
        first.protocol.outReceived(b"\n")
        (event,) = [event for event in self.observer if event.get("log_namespace") == "p2pshare.x"]
        self.assertEqual(
            (event["log_time"], event["log_level"].name, event["name"], event["worker"]),
            (12.5, "warn", "bob", 1),
        )
        second.protocol.outReceived(b"x" * (3 * LINE_MAX) + b"\n")
        (quoted,) = self.logged("line")
        self.assertLessEqual(len(quoted), LINE_MAX)
        first.protocol.errReceived(b"odd \xff\x1b[2J words\n")
        self.assertIn("odd", self.logged("line")[-1])

    def test_stopped(self) -> None:
        """All of them get SIGTERM, and the deaf SIGKILL; it is over when they are gone, and none is started again."""
        first, second = self.start_ready()
        stopping = self.service.stopService()
        first.end()
        self.assertEqual((first.signals, second.signals), (["TERM"], ["TERM"]))
        self.reactor.advance(STOP_TIMEOUT)
        self.assertEqual(second.signals, ["TERM", "KILL"])
        self.assertNoResult(stopping)
        second.end(signal=9)
        self.successResultOf(stopping)
        self.reactor.advance(60)
        self.assertEqual(len(self.reactor.workers), 2)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_stopped_between_two(self) -> None:
        """One that is to be started again later is not."""
        first, second = self.start_ready()
        first.end(signal=9)
        stopping = self.service.stopService()
        second.end()
        self.successResultOf(stopping)
        self.reactor.advance(60)
        self.assertEqual(len(self.reactor.workers), 2)

    def test_errors_of_no_kind(self) -> None:
        """A failure that does not say why has a sentence all the same."""
        first, _ = self.start()
        first.say('{"report": "failed"}')
        failure = self.failureResultOf(self.service.lost, P2pshareError)
        self.assertIn("does not say why", str(failure.value))
