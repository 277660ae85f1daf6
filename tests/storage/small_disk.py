"""Real disks of a few MiB."""

from __future__ import annotations

import os
import subprocess
import tempfile
import unittest
from pathlib import Path

SIZE = 2 * 2**20  # bytes


def small_disk(case: unittest.TestCase) -> Path:
    """An empty disk of `SIZE` bytes, which goes with the test; where none can be had, the test is skipped."""
    return _mounted(case, "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs")


def made_disk(case: unittest.TestCase, size: int, *make: str) -> Path:
    """A disk with another file system, in a file of `size` bytes, likewise.

    Args:
        case: the test.
        size: bytes.
        make: the command that makes the file system, without the file: `"mkfs.ext4", "-q"`.
    """
    image = tempfile.NamedTemporaryFile(prefix="p2p-")  # noqa: SIM115 - until the end of the test
    case.addCleanup(image.close)
    os.ftruncate(image.fileno(), size)
    # Where users have no /usr/sbin in PATH, root may not have it either.
    environ = {**os.environ, "PATH": os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"}
    try:
        made = subprocess.run([*make, image.name], env=environ, capture_output=True, check=False)
    except FileNotFoundError:
        raise unittest.SkipTest(f"there is no {make[0]} here") from None
    if made.returncode != 0:
        raise unittest.SkipTest(f"{make[0]} made no disk")
    return _mounted(case, "-o", "loop", image.name)


def _mounted(case: unittest.TestCase, *words: str) -> Path:
    if os.geteuid() != 0:
        raise unittest.SkipTest("only root may mount a small disk")
    folder = tempfile.TemporaryDirectory(prefix="p2p-")
    case.addCleanup(folder.cleanup)
    mount = ["mount", *words, folder.name]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        raise unittest.SkipTest("no small disk can be mounted here")
    case.addCleanup(subprocess.run, ["umount", "-l", folder.name], check=True)
    return Path(folder.name)
