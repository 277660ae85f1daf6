"""The tests: run them with `make test`."""

from __future__ import annotations

import gc
import os
import warnings
from collections.abc import Awaitable, Iterable
from itertools import groupby
from pathlib import Path
from typing import Any
from unittest import TestCase, TestSuite

from hypothesis import HealthCheck, settings
from hypothesis.configuration import set_hypothesis_home_dir
from twisted.python import log
from twisted.trial._asyncrunner import _iterateTests
from twisted.trial._dist import disttrial
from twisted.trial._dist.worker import LocalWorkerAMP
from twisted.trial._dist.workerreporter import WorkerReporter

warnings.simplefilter("error")  # also in the processes among which trial divides them

IS_THOROUGH = "P2PSHARE_THOROUGH" in os.environ
"""Whether each property is tried with all its examples, as `make check` does; otherwise with an eighth of them."""


def examples(count: int) -> int:
    """Return how many examples to try of a property for which `count` are thorough.

    Each run draws others, so many short runs find what one long run finds.
    """
    return count if IS_THOROUGH else -(-count // 8)


# Hypothesis reads the constants of all our modules, which takes 2 s. Here all processes and runs find the result; by
# default each process of `trial --jobs` would keep its own in the folder in which trial starts it.
set_hypothesis_home_dir(Path(__file__).parents[1] / ".hypothesis")

# How fast a machine is just now is no property of the code. No run depends on what an earlier one has stored.
settings.register_profile(
    "any machine",
    max_examples=examples(100),
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("any machine")


# All modules stay in memory, and examining them takes 0.1 s. With Python's 10, that happens a hundred times.
gc.set_threshold(gc.get_threshold()[0], gc.get_threshold()[1], 100)


def _keep_logs_in_workers() -> None:
    """Do not send log lines from a process of `trial --jobs` to the main one.

    Nobody reads that file, each line costs both processes 0.5 ms, and a test run has some 60 000. A run
    without `--jobs` still writes them to `test.log`.
    """
    for observer in log.theLogPublisher.observers:
        if type(getattr(observer, "__self__", None)).__name__ == "WorkerLogObserver":
            log.removeObserver(observer)


def _count_sub_tests_in_workers() -> None:
    """Let a part of a test that fails, in a block of `subTest`, fail the test in a process of `trial --jobs`, too.

    The reporter there inherits the method that collects such failures, and sends none of them to the main process. A
    reporter without that method makes `unittest` end the test at the failure.
    """

    def missing(_: object) -> None:
        raise AttributeError("addSubTest")

    setattr(WorkerReporter, "addSubTest", property(missing))  # noqa: B010 - no type has it so


_LONG = ("tests.page.", "tests.integration.", "tests.peer.")
"""The packages whose tests take longest."""


def _give_modules_to_workers() -> None:
    """Give each process of `trial --jobs` a module at a time, and begin with the packages that take longest.

    So one process alone imports a module and starts what its tests share, and at the end no process is alone with a
    long module. The order among modules, and in each module, stays random.
    """
    drive = disttrial.DistTrialRunner._driveWorker

    def modules_of(suite: TestCase | TestSuite) -> list[list[Any]]:
        tests = groupby(_iterateTests(suite), lambda test: type(test).__module__)
        modules = [(name, list(each)) for name, each in tests]
        modules.sort(key=lambda each: not each[0].startswith(_LONG))
        return [each for _, each in modules]

    def drive_by_module(
        runner: Any, result: Any, modules: Iterable[list[Any]], worker: LocalWorkerAMP
    ) -> Awaitable[None]:
        return drive(runner, result, (test for module in modules for test in module), worker)

    setattr(disttrial, "_iterateTests", modules_of)  # noqa: B010 - its type is that of one test after the other
    setattr(disttrial.DistTrialRunner, "_driveWorker", drive_by_module)  # noqa: B010


_keep_logs_in_workers()
_count_sub_tests_in_workers()
_give_modules_to_workers()
