"""What the processes of `trial --jobs` report."""

from __future__ import annotations

import unittest
from typing import Any, cast

from twisted.internet.defer import Deferred, succeed
from twisted.trial._dist.managercommands import AddFailure
from twisted.trial._dist.workerreporter import WorkerReporter
from twisted.trial.unittest import SynchronousTestCase


class _Parts(unittest.TestCase):
    """A test of two parts."""

    def runTest(self) -> None:  # noqa: N802 - unittest calls it
        with self.subTest("the first"):
            self.assertEqual(1, 2)
        with self.subTest("the second"):
            self.assertEqual(1, 1)


class _Manager:
    """Stands for the connection to the main process."""

    def __init__(self) -> None:
        self.commands: list[type] = []

    def callRemote(self, command: type, **_: object) -> Deferred[dict[str, int]]:  # noqa: N802 - of AMP
        self.commands.append(command)
        return succeed({"streamId": 1})


class WorkerReporterTests(SynchronousTestCase):
    def test_sub_test(self) -> None:
        """A part that fails is a failure of the test."""
        manager = _Manager()
        reporter = WorkerReporter(cast(Any, manager))
        with reporter.gatherReportingResults():
            _Parts().run(cast(Any, reporter))
        self.assertIn(AddFailure, manager.commands)
