"""The command `p2pshare open`, from its words to the view in a browser."""

from __future__ import annotations

import json
import subprocess

from tests.integration.neighbourhood import P2PSHARE
from tests.page.page_case import PageTestCase

NAMES = (
    "[...document.querySelectorAll('.browse [data-row]')].sort((a, b) => a.dataset.index - b.dataset.index)"
    ".map((row) => row.querySelector('.browse-name').textContent)"
)


class OpenTests(PageTestCase):
    def run_open(self, *words: str) -> None:
        """Run the command of alice, and open what it prints in the browser."""
        alice = self.world["alice"]
        account = (
            "--registry",
            self.world.registry_url,
            "--name",
            "alice",
            "--data",
            str(alice.data),
        )
        command = [*P2PSHARE, "open", "--json", "--no-browser", *account, *words]
        said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        (event,) = map(json.loads, said.stdout.splitlines())
        self.assertEqual((event["event"], event["runs_here"]), ("page", False))
        self.browser.open(event["url"])
        self.browser.wait("document.documentElement.dataset.connection", "live")

    def test_where_it_leads(self) -> None:
        """A person, a folder and a file open at their place, by words and by the link on the registry's page."""
        title = "document.querySelector('main h1 bdi')?.textContent"
        self.run_open("bob:shared")
        self.browser.wait(f"{NAMES}[0]", "album")
        self.browser.open(self.world.registry_url)
        link = "document.querySelector('a[aria-label=\"Open bob in your p2pshare\"]')?.href"
        self.browser.wait_until(link)
        address = self.browser.run(link)
        self.run_open(address)
        self.browser.wait(title, "bob")
        self.run_open(f"{address}/shared/album")
        self.browser.wait(f"{NAMES}[0]", "IMG_0001.jpg")
        self.assert_calm()
        self.assertNotIn(
            "open=", self.browser.run("location.href")
        )  # also in a tab that was signed in
        self.run_open("bob:shared/album/IMG_0002.jpg")
        self.browser.wait("document.querySelector('.viewer h2')?.textContent", "IMG_0002.jpg")
