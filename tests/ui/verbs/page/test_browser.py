"""Tests of `p2pshare.ui.verbs.page.browser`."""

from __future__ import annotations

import os
from pathlib import Path
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.ui.verbs.page.browser import has_browser, open_browser

URL = "http://127.0.0.1:1/#open=a&to=/people"


class BrowserTests(SynchronousTestCase):
    def test_where_it_would_be_seen(self) -> None:
        """A browser needs a display on this machine, or to be named; over ssh it would open on the wrong one."""
        for environ, platform, expected in (
            ({"DISPLAY": ":0"}, "linux", True),
            ({"WAYLAND_DISPLAY": "wayland-0"}, "linux", True),
            ({"BROWSER": "firefox"}, "linux", True),
            ({}, "linux", False),
            ({}, "darwin", True),
            ({"DISPLAY": ":10", "SSH_CONNECTION": "192.0.2.1 1 192.0.2.2 22"}, "linux", False),
            ({"SSH_TTY": "/dev/pts/1"}, "darwin", False),
        ):
            self.assertEqual(has_browser(environ, platform), expected, environ)

    def test_opened(self) -> None:
        """The browser gets the address as one word, and its noise goes nowhere; one that fails is not open."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        browser, opened = folder / "browser", folder / "opened"
        browser.write_text(f'#!/bin/sh\necho noise; echo noise >&2\necho "$#" "$1" > {opened}\n')
        browser.chmod(0o755)
        with patch.dict(os.environ, {"BROWSER": str(browser)}):
            self.assertTrue(open_browser(URL))
        self.assertEqual(opened.read_text(), f"1 {URL}\n")
        browser.write_text("#!/bin/sh\nexit 1\n")
        with patch.dict(os.environ, {"BROWSER": str(browser), "PATH": str(folder)}):
            self.assertFalse(open_browser(URL))
