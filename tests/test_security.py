"""docs/security.md: each defence in it has a test that names the threat."""

from __future__ import annotations

import re
from inspect import getdoc
from pathlib import Path

from twisted.python.reflect import namedAny
from twisted.trial.unittest import SynchronousTestCase

DOCUMENT = Path(__file__).parents[1] / "docs" / "security.md"
ROW = re.compile(r"^\| (\d+) \|.*\| (`tests\.[^|]*) \|$", re.MULTILINE)
REGISTRY = {11, 14, 19, 20, 21, 22, 24, 25, 26, 27, 28, 29, 38, 47}
"""Threats that concern a registry."""
SESSIONS = {
    1,
    2,
    3,
    4,
    6,
    7,
    8,
    9,
    10,
    12,
    13,
    15,
    16,
    17,
    18,
    30,
    31,
    32,
    33,
    34,
    35,
    36,
    39,
    40,
    41,
    42,
    43,
    44,
    45,
    46,
    80,
    81,
    83,
    85,
    86,
}
"""Threats that concern sessions and received files."""


class SecurityDocumentTests(SynchronousTestCase):
    """The table of threats."""

    def test_tests(self) -> None:
        """Each test in the last column exists, and its docstring names the threat."""
        rows = ROW.findall(DOCUMENT.read_text())
        self.assertLessEqual(REGISTRY | SESSIONS, {int(number) for number, _ in rows})
        for number, names in rows:
            for name in re.findall(r"`([^`]+)`", names):
                self.assertRegex(
                    getdoc(namedAny(name)) or "", rf"(?i)threats? (?:[\d, ]|and)*\b{number}\b", name
                )
