"""Transfers in a real browser, between real peers: what moves, pauses, fails, waits and comes back."""

from __future__ import annotations

import signal
from functools import partial
from typing import Any

from selenium.webdriver.common.keys import Keys

from tests.page.page_case import PageTestCase
from tests.page.world import Person, World, until

MB = 1_000_000
STILL = """(() => {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync("* { transition: none !important; animation: none !important; }");
  document.adoptedStyleSheets = [sheet];
})()"""
"""Shows each state at once, so that a screenshot can be taken while something moves."""
PUT_PATH = """import(document.querySelector("script[type=module]").src.replace("app.js", "lib/store.js"))
  .then(store => {
    const job = store.peek().jobs.map.get(a[0]);
    store.put("jobs", {...job, path: {...job.path, ...a[1]}});
  })"""
HOSTILE = "<img src=x onerror=evil=1>\u202egpj.\u05d0&quot;.jpg"
SPOKEN = """(() => {
  const live = document.getElementById("live");
  window.spoken = [];
  new MutationObserver(() => window.spoken.push(live.textContent))
    .observe(live, {childList: true, characterData: true, subtree: true});
})()"""
"""Keeps what a screen reader would say."""
GROUPS = "[...document.querySelectorAll('.transfers-group')].map(each => each.dataset.group)"


def row(job: dict[str, Any], rest: str = "") -> str:
    """Return a selector of the row of a transfer, or of something in it."""
    return f'[data-job="{job["id"]}"]{rest}'


class TransfersTests(PageTestCase):
    """Alice, who may receive 4 MB per second, has her page open; bob shares files."""

    def begin(self, **files: bytes) -> tuple[World, Person, Person]:
        """Start both, and open the page."""
        world = self.own_world()
        alice = world.add("alice", {"song.ogg": bytes(30 * MB)})
        self.limit(alice, 4 * MB)
        bob = world.add("bob", {"film.mkv": b"film" * (5 * MB), **files})
        self.open(alice, "/transfers")
        self.browser.run(SPOKEN)
        return world, alice, bob

    def limit(self, person: Person, rate: int) -> None:
        """Limit what a person sends and receives, in bytes per second; 0 is no limit."""
        person.ask("settings_change", values={"limit": rate})

    def await_state(self, job: dict[str, Any], state: str) -> None:
        """Wait until the row of a transfer has a state."""
        self.browser.wait(f"document.querySelector('{row(job)}')?.dataset.state", state)

    def part(self, job: dict[str, Any]) -> int:
        """Return how many per cent of a transfer the page shows."""
        value = f"document.querySelector('{row(job, ' [role=progressbar]')}')?.ariaValueNow"
        return int(self.browser.run(value) or 0)

    def await_part(self, job: dict[str, Any], least: int) -> None:
        """Wait until the page shows that so many per cent are there."""
        value = f"Number(document.querySelector('{row(job, ' [role=progressbar]')}')?.ariaValueNow ?? 0)"
        self.browser.wait(f"{value} >= {least}", True)

    def click(self, job: dict[str, Any], action: str) -> None:
        """Click on a button of a row."""
        self.browser.click(row(job, f" [data-action={action}]"))

    def is_heard(self, put: str, heard: str) -> bool:
        """Change a row, and return whether a screen reader has heard of such a change."""
        self.browser.run(put)
        return bool(self.browser.run(heard))

    def await_spoken(self, words: str) -> None:
        """Wait until a screen reader has heard some words."""
        self.browser.wait(f"spoken.some(text => text.includes({words!r}))", True)

    def test_download(self) -> None:
        """A download is paused, goes on, is cancelled, tried again and done, by mouse and keys; others fail or wait."""
        browser = self.browser
        _, alice, _ = self.begin(**{HOSTILE: b"picture"})
        self.assertIn("Nothing is on its way", browser.text("main"))
        self.keep_looks("transfers-empty")
        film = alice.ask("get", name="bob", paths=["shared/film.mkv"])
        self.await_state(film, "running")
        self.await_part(film, 10)
        facts = r"/film\.mkvfrom bob(Local network · (TCP|UDP))?[\d.]+ MB of 20 MB · [\d.]+ MB\/s · \d+ sec left/"
        text = f"document.querySelector('{row(film)}').textContent.replace(/\\s+/g, ' ')"
        browser.wait(f"{facts}.test({text})", True)
        browser.wait(r"/\d MB\/s · Transfers .+ alice/.test(document.title)", True)
        browser.wait(
            "document.querySelector('[data-rate=down]').textContent.endsWith('MB/s')", True
        )

        # It must not be complete before it is cancelled, however long the looks take.
        self.limit(alice, MB // 2)
        self.click(film, "pause")
        self.await_state(film, "paused")
        self.await_spoken("is paused")
        paused = self.part(film)
        self.assertGreaterEqual(paused, 10)
        browser.run(f"document.querySelector('{row(film)}').closest('[data-row]').focus()")
        browser.keys(Keys.DELETE)
        browser.wait_until("document.querySelector('dialog[open] .danger')")
        self.check_accessibility()
        browser.keys(Keys.ESCAPE)
        browser.wait("document.querySelector('dialog')", None)
        browser.keys("p")
        self.await_state(film, "running")
        browser.wait(
            f"document.activeElement.contains(document.querySelector('{row(film)}'))", True
        )
        self.await_part(film, paused + 1)
        browser.keys(Keys.DELETE)
        browser.wait_until("document.querySelector('dialog[open] .danger')")
        browser.click("dialog .danger")
        self.await_state(film, "cancelled")
        self.click(film, "retry")
        self.await_state(film, "running")

        picture = alice.ask("get", name="bob", paths=[f"shared/{HOSTILE}", "shared/none"])
        nobody = alice.ask("get", name="zoe", paths=["x"])
        for job in (picture, nobody):
            self.await_state(job, "failed")
        self.limit(alice, MB // 10)  # however long the looks take, the rows stay as they are
        more = [
            alice.ask("get", name="bob", paths=["shared/film.mkv"], folder=str(alice.folder / word))
            for word in "abc"
        ]
        self.await_state(more[0], "running")
        for number, job in enumerate(more[1:], 1):
            self.await_state(job, "waiting")
            self.assertIn(f"Number {number} in the queue", browser.text(row(job)))
        alice.ask("job_pause", id=more[1]["id"])
        browser.run(STILL)
        self.keep_looks("transfers")
        self.assertEqual(
            browser.run(
                "[...document.querySelectorAll('h2')].map(each => each.textContent.split(' ')[0])"
            ),
            ["Running", "Waiting", "Paused", "Finished"],
        )

        browser.click(row(picture, " .transfer-title"))
        browser.wait_until("document.querySelectorAll('.transfer-failures li').length === 1")
        details = browser.text("dialog")
        self.assertIn(str(alice.saved / "bob"), details)
        self.assertIn("shared/none", details)
        browser.run(STILL)
        self.keep_looks("transfers-details")
        browser.keys(Keys.ESCAPE)
        browser.wait("document.querySelector('dialog')", None)

        put_path = PUT_PATH.replace("a[0]", repr(film["id"]))
        for path, words in (("{kind: 'relay'}", "the relay"), ("{carrier: 'other'}", "OTHER")):
            heard = f"spoken.some(text => text.includes('goes over {words} now'))"
            put = put_path.replace("a[1]", path)
            until(partial(self.is_heard, put, heard))  # the next event takes it back
        self.limit(alice, 0)
        for each in more:
            alice.ask("job_cancel", id=each["id"])
        self.await_state(film, "done")
        self.await_spoken("is complete")
        self.assertEqual((alice.saved / "bob" / "film.mkv").stat().st_size, 20 * MB)
        browser.run("[...document.querySelectorAll('.page-actions button')].at(-1).click()")
        browser.wait("document.querySelectorAll('[data-row]').length", 0)
        self.assertEqual(alice.ask("jobs")["jobs"], [])
        self.assert_calm()

    def test_both_ends(self) -> None:
        """Who shares sees an upload, and may end it; an offer has a row at both ends, and declining it ends both."""
        browser = self.browser
        _, alice, bob = self.begin()
        self.limit(alice, MB // 2)
        film = alice.ask("get", name="bob", paths=["shared/film.mkv"])
        self.await_part(film, 2)
        self.open(bob, "/transfers")
        browser.wait_until("document.querySelector('.transfer.up[data-state=running]')")
        self.assertIn("film.mkv\nto alice", browser.text(".transfer.up"))
        browser.click(".transfer.up [data-action=cancel]")
        browser.wait_until("document.querySelector('dialog[open] .danger')")
        browser.click("dialog .danger")
        browser.wait_until("document.querySelector('.transfer.up[data-state=cancelled]')")
        offer = bob.ask("send", to=["alice"], paths=[str(bob.shared / "film.mkv")])
        self.browser.forget_all()
        self.open(alice, "/transfers")
        self.await_state(film, "failed")
        self.assertIn("bob no longer shares it", browser.text(row(film)))
        alice.ask("accept_offer", id=offer["id"])
        browser.wait_until("document.querySelector('.transfer.down[data-state=running]')")
        browser.click(".transfer.down[data-state=running] [data-action=pause]")
        browser.wait_until("document.querySelector('.transfer.down[data-state=paused]')")
        self.show("/inbox")
        browser.wait("document.querySelector('.inbox-progress .progress.paused') !== null", True)
        self.assertIn("Paused · ", browser.text(".inbox-progress"))
        self.check_accessibility()
        browser.click_text(".inbox-item.accepted .button", "Resume")
        browser.wait_until("document.querySelector('.inbox-progress .progress.running')")
        self.show("/transfers")
        browser.wait_until("document.querySelector('.transfer.down[data-state=running]')")
        browser.click(".transfer.down[data-state=running] [data-action=cancel]")
        browser.wait_until("document.querySelector('dialog[open] .danger')")
        self.assertIn("is declined", browser.text("dialog"))
        browser.click("dialog .danger")
        browser.wait("document.querySelectorAll('.transfer[data-state=running]').length", 0)
        self.assertEqual(alice.ask("inbox")["items"][0]["state"], "declined")
        self.assert_calm()

    def test_recovery(self) -> None:
        """A sharer leaves and comes back, a peer is killed and restarted: the page says so, and all goes on."""
        browser = self.browser
        _, alice, bob = self.begin()
        film = alice.ask("get", name="bob", paths=["shared/film.mkv"])
        self.await_part(film, 5)
        bob.end()
        self.await_state(film, "waiting")
        browser.wait(
            f"document.querySelector('{row(film)}').textContent.includes('bob is offline')", True
        )
        self.await_spoken("waits for")
        bob.start()
        self.await_state(film, "running")
        before = self.part(film)
        self.await_part(film, before + 5)

        alice.end(signal.SIGKILL)
        browser.wait("document.documentElement.dataset.connection", "lost")
        self.assertIsNotNone(browser.run(f"document.querySelector('{row(film)}')"))
        alice.start()
        browser.wait("document.documentElement.dataset.connection", "live")
        self.await_state(film, "running")
        self.await_part(film, before)
        self.await_state(film, "done")
        self.assertEqual((alice.saved / "bob" / "film.mkv").stat().st_size, 20 * MB)

        bob.end()
        for number in range(999):
            alice.ask("get", name="bob", paths=[f"shared/{number}"])
        browser.wait(
            "document.querySelector('[data-group=waiting] h2')?.textContent", "Waiting (999)"
        )
        self.assertLess(browser.run("document.querySelectorAll('[data-row]').length"), 80)
        browser.run("document.querySelector('.page-actions button').click()")
        browser.wait(
            "document.querySelector('[data-group=paused] h2')?.textContent", "Paused (999)"
        )
        browser.run("document.querySelector('[data-group=paused] [data-row]').focus()")
        browser.keys(Keys.END)
        browser.wait("document.activeElement.ariaPosInSet", "999")
