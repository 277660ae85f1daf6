"""Five people at once: files come and go between all of them, one is away, and one peer is killed."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.page.files import album, usual_share
from tests.page.page_case import SIZES, PageTestCase
from tests.page.world import World, until

FILM = bytes(range(250)) * 120_000  # 30 MB
CALM = """(() => {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync("* { transition: none !important; animation: none !important; }");
  document.adoptedStyleSheets = [sheet];
})()"""
"""Shows each state at once, so that a screenshot can be taken while something moves."""
RUNNING = "document.querySelectorAll('[data-group=running] [data-job]').length"
OVER = "document.querySelectorAll('[data-group=over] [data-job]').length"
RECIPIENTS = (
    "[...document.querySelectorAll('.sent-offer:first-child .recipient')].map(e => e.innerText)"
)


class FiveTests(PageTestCase):
    """Alice looks at her page. Bob and Emil share, Carol fetches from Alice, and Dora is away at first."""

    def begin(self) -> World:
        """Start all of them."""
        small = {"notes.txt": b"notes"}
        shares = {"alice": usual_share(), "carol": small, "dora": small}
        world = self.own_world("alice", "carol", "dora", shares=shares)
        world.add("bob", {"films/holiday.mkv": FILM}, "--limit", "3M")
        world.add("emil", album(), "--limit", "4M")
        return world

    def await_state(self, name: str, state: str) -> None:
        """Wait until the newest offer has a state at a person."""
        self.browser.wait_until(
            f"{RECIPIENTS}.some(text => text.includes('{name}') && text.includes('{state}'))"
        )

    def keep_calm(self, name: str) -> None:
        """Take a screenshot of something that moves."""
        self.browser.run(CALM)
        self.browser.keep(name)

    def saved(self, folder: Path, files: dict[str, bytes]) -> bool:
        """Whether all files are in a folder, as they were."""
        paths = {name: folder / name for name in files}
        return all(
            path.exists() and path.read_bytes() == files[name] for name, path in paths.items()
        )

    def test_five(self) -> None:
        """Alice fetches from two, and one from her; she sends to three; all arrives though her peer is killed."""
        world = self.begin()
        alice, carol, dora, emil = (world[name] for name in ("alice", "carol", "dora", "emil"))
        browser = self.browser
        self.open(alice)
        browser.wait("document.querySelectorAll('[data-row]').length", 4)
        dora.end()
        browser.wait("document.querySelectorAll('.person-row.online').length", 3)
        self.show("/people/emil/files/shared")
        browser.run("localStorage.setItem('p2pshare.browse', JSON.stringify({layout: 'grid'}))")
        self.show("/people")
        self.show("/people/emil/files/shared")
        browser.wait("[...document.querySelectorAll('.browse img')].every(e => e.complete)", True)
        browser.wait("document.querySelectorAll('.browse [data-row] img').length", len(album()))
        self.keep_calm("five-album")

        self.show("/transfers")
        film = alice.ask("get", name="bob", paths=["shared/films"], folder=str(alice.saved))
        alice.ask("get", name="emil", paths=["shared"], folder=str(alice.saved / "emil"))
        carol.ask("get", name="alice", paths=["shared"], folder=str(carol.saved))
        browser.wait(f"{RUNNING} > 0 && {OVER} > 0", True)
        self.keep_calm("five-transfers")

        self.show("/send")
        browser.paste("Shall we meet on Sunday?")
        browser.click("[data-drop-person=carol]")
        browser.click("[data-drop-person=emil]")
        browser.type(".people-picker input", "dora\ue007")
        browser.click(".send-actions .button.primary")
        for name, state in (
            ("carol", "Not answered yet"),
            ("emil", "Not answered yet"),
            ("dora", "Waiting"),
        ):
            self.await_state(name, state)
        browser.wait_until("/^Offline/.test(document.querySelector('.recipient-why').innerText)")
        (item,) = carol.ask("inbox")["items"]
        carol.ask("decline_offer", id=item["id"])
        self.await_state("carol", "Declined")

        self.show("/transfers")
        browser.wait(OVER, 2)  # Emil's album, and what went to Carol
        browser.wait(RUNNING, 1)  # the film
        alice.end(signal.SIGKILL)
        browser.wait("document.documentElement.dataset.connection", "lost")
        dora.start()
        alice.start()
        browser.wait("document.documentElement.dataset.connection", "live")
        browser.wait(f"document.querySelector('[data-job=\"{film['id']}\"]').dataset.state", "done")
        self.assertTrue(self.saved(alice.saved / "films", {"holiday.mkv": FILM}))
        self.assertTrue(self.saved(alice.saved / "emil" / "shared", album()))
        self.assertTrue(self.saved(carol.saved / "shared", usual_share()))
        self.show("/send")
        self.await_state("dora", "Not answered yet")

        self.open(emil, "/inbox")
        browser.wait_until("document.querySelector('.inbox-item.waiting')")
        self.assertIn("alice", browser.text(".inbox-item.waiting"))
        browser.look_as(*SIZES["phone"], "dark")
        self.keep_calm("five-inbox")
        browser.click(".inbox-item .button.primary")
        browser.wait(
            "document.querySelector('.inbox-item.done pre')?.textContent",
            "Shall we meet on Sunday?",
        )
        until(lambda: emil.ask("inbox")["items"][0]["state"] == "done")
        self.assert_calm()
