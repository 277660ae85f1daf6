"""The worker processes of a registry: their messages and their supervision."""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import CannotStart, FolderUnusable, KeyUnusable, StoreOfAnother
from p2pshare.net.child_process import LINE_MAX, RESTART_FIRST
from p2pshare.net.logs import Line
from p2pshare.registry.api.metrics import FOLDER_VARIABLE
from p2pshare.registry.configuration import RegistrySettings
from p2pshare.registry.listening import Ports
from p2pshare.registry.stun import StunPlace, StunPorts
from p2pshare.registry.workers.reports import Order, Report
from p2pshare.registry.workers.supervisor import STOP_TIMEOUT, Workers
from tests.net.fake_processes import FakeProcess, ProcessReactor

SETTINGS = RegistrySettings("redis://user:hunter2@host", Path("/data"), metrics_token="hunter3")


class ReportTests(SynchronousTestCase):
    """Messages in the pipes."""

    def test_order(self) -> None:
        """An order is one line, and survives the transfer."""
        order = Order(
            3,
            SETTINGS,
            (("tcp:8000", 8000), ("ssl:0", 8443)),
            (("tcp:1", 1),),
            (StunPlace("::", 8000),),
        )
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
            line = Report(error).to_line()
            self.assertNotIn("\n", line)
            report = Report.from_line(line)
            assert report is not None and report.error is not None
            self.assertIs(type(report.error), type(error))
            self.assertEqual(str(report.error), str(error))
            self.assertEqual(report.error.exit_code, error.exit_code)

    def test_no_report(self) -> None:
        """Other lines are not reports; an unknown error becomes `CannotStart`."""
        for line in ("", "x", "[]", "{}", '{"report": "well"}', "1"):
            self.assertIsNone(Report.from_line(line))
        for kind in ("Nothing", "inspect", None, "P2pshareError"):
            report = Report.from_line(json.dumps({"report": "failed", "error": kind}))
            assert report is not None
            self.assertIsInstance(report.error, CannotStart)


class WorkersTests(SynchronousTestCase):
    """Supervision, in virtual time."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="p2p-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name, "metrics")
        self.reactor = ProcessReactor()
        self.settings = replace(SETTINGS, data=self.folder.parent)
        self.service = Workers(self.reactor, self.settings, 2)
        self.observer = EventLoggingObserver.createWithCleanup(cast(Any, self), globalLogPublisher)

    def start(self) -> list[FakeProcess]:
        self.started = self.service.start(Ports([], [], StunPorts(self.reactor)))
        return self.reactor.processes

    def start_ready(self) -> list[FakeProcess]:
        for worker in self.start():
            worker.say(Report().to_line())
        return self.reactor.processes

    def logged(self, key: str) -> list[Any]:
        return [event[key] for event in self.observer if key in event]

    def test_orders(self) -> None:
        """Threat 24: secrets in orders are neither on a command line nor in the environment."""
        first, second = self.start()
        for worker, number in ((first, 1), (second, 2)):
            self.assertEqual(Order.from_line(worker.told).number, number)
            self.assertEqual(Order.from_line(worker.told).settings, self.settings)
            self.assertIn(sys.executable, worker.command)
            assert worker.env is not None
            self.assertEqual(worker.env[FOLDER_VARIABLE], str(self.folder))
            self.assertNotIn("hunter", " ".join([*worker.command, *worker.env.values()]))

    def test_ready(self) -> None:
        """The start succeeds when all workers are ready."""
        first, second = self.start()
        first.say(Report().to_line())
        self.assertNoResult(self.started)
        second.say(Report().to_line())
        self.assertIsNone(self.successResultOf(self.started))

    def test_cannot_start(self) -> None:
        """An error of one worker is the error of the start."""
        first, second = self.start()
        error = CannotStart(what="The registry", reason="the port is in use")
        for worker in (second, first):
            worker.say(Report(error).to_line())
            worker.end()
        failure = self.failureResultOf(self.started, CannotStart)
        self.assertEqual(str(failure.value), str(error))

    def test_dead_at_once(self) -> None:
        """If a worker dies before it is ready, the start fails with its last line."""
        first, _ = self.start()
        first.protocol.childDataReceived(2, b"Traceback\nImportError: nothing there")
        first.end()
        failure = self.failureResultOf(self.started, CannotStart)
        self.assertIn("ImportError: nothing there", str(failure.value.fields["reason"]))

    def test_cannot_be_spawned(self) -> None:
        """The start fails if no process can be created."""
        self.reactor.spawn_error = OSError(11, "Resource temporarily unavailable")
        self.start()
        self.failureResultOf(self.started, CannotStart)

    def test_folder(self) -> None:
        """The folder of the metrics is emptied; a folder that cannot be made is an error."""
        self.folder.mkdir()
        (self.folder / "counter_1.db").write_text("")
        self.start()
        self.assertEqual(list(self.folder.iterdir()), [])
        nowhere = Workers(self.reactor, replace(SETTINGS, data=self.folder / "none"), 1)
        self.failureResultOf(nowhere.start(Ports([], [], StunPorts(self.reactor))), FolderUnusable)
        self.successResultOf(Deferred.fromCoroutine(nowhere.stop()))

    def test_restarted(self) -> None:
        """A worker that ends is restarted with its order."""
        _, second = self.start_ready()
        second.end(signal=9)
        self.reactor.advance(RESTART_FIRST)
        self.assertEqual(self.logged("reason"), ["signal 9"])
        (_, _, third) = self.reactor.processes
        self.assertEqual(third.told, second.told)

    def test_restart_fails(self) -> None:
        """A restart that fails is logged and repeated."""
        first, _ = self.start_ready()
        first.end(signal=11)
        self.reactor.advance(0.15)
        self.reactor.processes[-1].say(
            Report(CannotStart(what="The registry", reason="no port")).to_line()
        )
        self.reactor.processes[-1].end()
        self.reactor.advance(0.25)
        self.assertEqual(len(self.reactor.processes), 4)
        (error,) = self.logged("error")
        self.assertIn("no port", str(error))

    def test_log(self) -> None:
        """Lines of its log join that of the registry, however the pipe splits them; other output is quoted."""
        first, second = self.start_ready()
        line = Line(12.5, "warn", "p2pshare.x", "it happened", {"name": "bob"}).to_json().encode()
        for byte in line:
            first.protocol.childDataReceived(1, bytes([byte]))
            second.protocol.childDataReceived(1, b".")
        first.protocol.childDataReceived(1, b"\n")
        (event,) = [event for event in self.observer if event.get("log_namespace") == "p2pshare.x"]
        self.assertEqual(
            (event["log_time"], event["log_level"].name, event["name"], event["worker"]),
            (12.5, "warn", "bob", 1),
        )
        second.protocol.childDataReceived(1, b"x" * (3 * LINE_MAX) + b"\n")
        (quoted,) = self.logged("line")
        self.assertLessEqual(len(quoted), LINE_MAX)
        first.protocol.childDataReceived(2, b"odd \xff\x1b[2J words\n")
        self.assertIn("odd", self.logged("line")[-1])

    def test_stopped(self) -> None:
        """All workers get SIGTERM, then SIGKILL; `stop` returns when they are gone."""
        first, second = self.start_ready()
        stopping = Deferred.fromCoroutine(self.service.stop())
        first.end()
        self.assertEqual((first.signals, second.signals), (["TERM"], ["TERM"]))
        self.reactor.advance(STOP_TIMEOUT)
        self.assertEqual(second.signals, ["TERM", "KILL"])
        self.assertNoResult(stopping)
        second.end(signal=9)
        self.successResultOf(stopping)
        self.reactor.advance(60)
        self.assertEqual(len(self.reactor.processes), 2)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_stopped_between_two(self) -> None:
        """A pending restart is cancelled."""
        first, second = self.start_ready()
        first.end(signal=9)
        stopping = Deferred.fromCoroutine(self.service.stop())
        second.end()
        self.successResultOf(stopping)
        self.reactor.advance(60)
        self.assertEqual(len(self.reactor.processes), 2)

    def test_errors_of_no_kind(self) -> None:
        """A report without an error is an error as well."""
        first, _ = self.start()
        first.say('{"report": "failed"}')
        self.failureResultOf(self.started, CannotStart)
