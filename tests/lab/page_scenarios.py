"""What the page shows while the network changes: `trial tests.lab.page_scenarios`, as root on Linux, with Chromium.

The suite does not find this module, since its tests take minutes; `make lab` runs it.
"""

from __future__ import annotations

import filecmp
import time
from typing import Any

from twisted.trial.unittest import SkipTest

from tests.lab.homes import HomeKind
from tests.lab.scenarios import Scenario
from tests.lab.world import FILE, SIZE
from tests.page.browser import Browser, why_none

RATE = 200_000  # bytes per second: enough time for all that happens
SPOKEN = """(() => {
  const live = document.getElementById("live");
  window.spoken = [];
  new MutationObserver(() => window.spoken.push(live.textContent))
    .observe(live, {childList: true, characterData: true, subtree: true});
})()"""
"""Keeps what a screen reader would say."""
ROW = "document.querySelector('[data-job]')?.textContent ?? ''"
UNTIL_DIRECT_S = 150.0


class PageTests(Scenario):
    """Alice has her page open, in a browser on her own host, and downloads from bob."""

    def setUp(self) -> None:
        super().setUp()
        if why_none():
            raise SkipTest(why_none())
        self.homes(HomeKind.CONE, HomeKind.CONE)
        self.saved = self.world.folder / "saved"
        self.world.serve(self.alice, "alice", "--page", "8080", "--inbox-folder", str(self.saved))
        self.world.ask("bob", "settings_change", values={"limit": RATE})
        inside = self.alice.host.entered()
        inside.__enter__()  # the browser is started from this thread, and asked by it
        self.addCleanup(inside.__exit__, None, None, None)
        self.browser = Browser()
        self.addCleanup(self.browser.quit)
        self.browser.open(self.world.ask("alice", "page_open", to="/transfers")["url"])
        self.browser.wait("document.documentElement.dataset.connection", "live")
        self.browser.run(SPOKEN)

    def shows(self, words: str, within: float = 60.0) -> None:
        """Wait until the row of the download has some words."""
        self.until(f"({ROW}).includes({words!r})", within)

    def says(self, words: str, within: float = 60.0) -> None:
        """Wait until a screen reader has heard some words, and forget them."""
        self.until(f"spoken.some(text => text.includes({words!r}))", within)
        self.browser.run("void (spoken.length = 0)")

    def until(self, script: str, within: float) -> None:
        """Wait until an expression is true."""
        deadline = time.monotonic() + within
        while not self.browser.run(script):
            told = f"{script}: {self.browser.text('main')}\n{self.world.log('alice')[-4000:]}"
            self.assertLess(time.monotonic(), deadline, told)
            time.sleep(0.1)

    def job(self) -> dict[str, Any]:
        """Return the download as the peer has it."""
        (job,) = self.world.ask("alice", "jobs")["jobs"]
        return dict(job)

    def test_path_changes(self) -> None:
        """From the relay to a direct path and back, a cable that is pulled, a NAT that forgets: the page says so."""
        self.net.cut_direct()
        self.world.ask("alice", "get", name="bob", paths=[FILE])
        self.shows("Relay")
        self.net.mend()
        self.says("goes over a direct connection now", UNTIL_DIRECT_S)
        self.shows("Direct")
        self.net.cut_direct()
        self.says("goes over the relay now")
        self.shows("Relay")
        host = self.alice.host
        host.run("ip", "link", "set", "eth", "down")
        self.shows("connecting again")
        self.until("document.querySelector('.bars').textContent.includes('registry')", 60.0)
        self.net.mend()
        host.run("ip", "link", "set", "eth", "up")
        host.run("ip", "route", "replace", "default", "via", "192.168.1.1")
        self.until("document.querySelector('.bars').textContent === ''", 60.0)
        self.shows("kB/s")
        self.alice.forget_flows()
        self.bob.forget_flows()
        before = self.job()["bytes_done"]
        deadline = time.monotonic() + 60.0
        while self.job()["bytes_done"] < before + 2 * 2**20:
            self.assertLess(time.monotonic(), deadline, self.job())
            time.sleep(0.2)
        self.world.ask("bob", "settings_change", values={"limit": 0})
        self.says("is complete")
        self.assertEqual(self.job()["bytes_done"], SIZE)
        got = self.saved / "bob" / "film.bin"
        self.assertTrue(filecmp.cmp(got, self.world.folder / FILE, shallow=False))
        self.assertEqual([each.name for each in got.parent.iterdir()], ["film.bin"])
