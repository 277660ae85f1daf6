"""The limit of open files."""

from __future__ import annotations

import resource
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import TooFewOpenFiles
from p2pshare.storage.open_file_limit import (
    FILES_RESERVED,
    allow_open_files,
    open_files_allowed,
    share_of_files,
)


class OpenFilesTests(SynchronousTestCase):
    """It is raised where that is possible, and never lowered."""

    def setUp(self) -> None:
        self.before = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, self.before)
        self.hard = self.before[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, self.hard))

    def soft(self) -> int:
        return resource.getrlimit(resource.RLIMIT_NOFILE)[0]

    def test_raised(self) -> None:
        """The limit is raised to the wanted number."""
        self.assertEqual(allow_open_files(600), 600)
        self.assertEqual(self.soft(), 600)

    def test_enough(self) -> None:
        """A sufficient limit is not changed."""
        self.assertEqual(allow_open_files(100), 100)
        self.assertEqual(self.soft(), 512)

    def test_no_more(self) -> None:
        """The system's own limit is the end."""
        if self.hard == resource.RLIM_INFINITY:
            self.assertEqual(allow_open_files(4096), 4096)
        else:
            self.assertEqual(allow_open_files(self.hard + 1), self.hard)

    def test_least(self) -> None:
        """Where the system grants fewer than the least, the error names both numbers."""
        self.patch(resource, "setrlimit", lambda *_: None)
        with patch.object(resource, "getrlimit", return_value=(30, 30)):
            error = self.assertRaises(TooFewOpenFiles, allow_open_files, 600, 32)
            self.assertEqual(error.fields, {"allowed": 30, "least": 32})
            self.assertEqual(allow_open_files(600, 30), 30)

    def test_share(self) -> None:
        """The wanted number is granted, or a part of the limit, and never 0."""
        for limit, share in ((4096, 100), (FILES_RESERVED + 40, 10), (FILES_RESERVED, 1), (10, 1)):
            with patch.object(resource, "getrlimit", return_value=(limit, limit)):
                self.assertEqual(share_of_files(100, 4), share)
        unlimited = resource.RLIM_INFINITY
        with patch.object(resource, "getrlimit", return_value=(unlimited, unlimited)):
            self.assertEqual(share_of_files(100, 4), 100)

    def test_allowed(self) -> None:
        """The current limit is returned."""
        self.assertEqual(open_files_allowed(), 512)
        allow_open_files(600)
        self.assertEqual(open_files_allowed(), 600)
