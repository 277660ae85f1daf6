"""A real disk that is soon full."""

from __future__ import annotations

import os
import subprocess
import tempfile
import unittest
from pathlib import Path

SIZE = 2 * 2**20  # bytes


def small_disk(case: unittest.TestCase) -> Path:
    """An empty disk of `SIZE` bytes, which goes with the test; where none can be had, the test is skipped."""
    if os.geteuid() != 0:
        raise unittest.SkipTest("only root may mount a small disk")
    folder = tempfile.TemporaryDirectory(prefix="p2p-")
    case.addCleanup(folder.cleanup)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", folder.name]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        raise unittest.SkipTest("no small disk can be mounted here")
    case.addCleanup(subprocess.run, ["umount", "-l", folder.name], check=True)
    return Path(folder.name)
