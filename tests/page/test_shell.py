"""The frame of the page in a real browser: routes, lost connections, languages, and what the first view costs."""

from __future__ import annotations

import signal

from selenium.webdriver.common.keys import Keys

from tests.page.page_case import STATE, PageTestCase

BYTES_MAX = 100_000  # of the first view, compressed
FOCUS = "document.activeElement"
HEADING = "document.querySelector('main h1')"
ROWS = "[...document.querySelectorAll('[data-row] .person-name bdi')].map(each => each.textContent)"
SIZE = """[...performance.getEntriesByType("resource"), ...performance.getEntriesByType("navigation")]
  .map(each => each.encodedBodySize).reduce((one, other) => one + other, 0)"""


class ShellTests(PageTestCase):
    """What all views share."""

    def test_frame(self) -> None:
        """The first view is small; the focus follows the route; a view that breaks leaves the others."""
        browser = self.browser
        self.open(self.world["alice"])
        browser.wait(ROWS, ["bob"])
        self.assertLess(browser.run(SIZE), BYTES_MAX)
        self.assertGreater(browser.run(SIZE), 10_000)
        self.assertNotIn("open=", browser.run("location.href"))
        for landmark in ("header", "nav", "main"):
            self.assertEqual(browser.run("document.querySelectorAll(a[0]).length", landmark), 1)
        browser.keys(Keys.TAB)
        browser.wait(f"{FOCUS}.className", "skip")
        browser.keys(Keys.ENTER)
        browser.wait(f"{FOCUS}.id", "main")
        browser.refuse("*/views/person.js*")
        self.addCleanup(browser.refuse)
        self.show("/people/bob")
        browser.wait_until("document.querySelector('main .notice.bad button')")
        browser.wait(f"{FOCUS} === {HEADING}", True)
        self.check_accessibility()
        self.show("/people")
        browser.wait(ROWS, ["bob"])
        browser.refuse()
        self.show("/people/bob")
        browser.wait("document.querySelector('main .notice.bad')", None)
        browser.run("history.back()")
        browser.wait(ROWS, ["bob"])
        browser.wait(f"{FOCUS} === {HEADING}", True)

    def test_restart(self) -> None:
        """A peer that is killed and started again: the page says so, keeps what it shows, and recovers by itself."""
        world = self.own_world("dora", "emil")
        dora, browser = world["dora"], self.browser
        self.open(dora)
        browser.wait(ROWS, ["emil"])
        browser.type(".search input", "em")
        browser.run("window.marker = 1")
        dora.end(signal.SIGKILL)
        browser.wait(STATE, "lost")
        browser.wait_until("document.querySelector('.bars .notice.warning')")
        self.assertEqual(browser.run(ROWS), ["emil"])
        self.check_accessibility()
        browser.keep("peer-lost")
        dora.start()
        browser.wait(STATE, "live")
        browser.wait("document.querySelector('.bars .notice')", None)
        world.add("fred", {})
        browser.run("void (document.querySelector('.search input').value)")
        self.assertEqual(browser.run("document.querySelector('.search input').value"), "em")
        browser.keys(Keys.ESCAPE)
        browser.wait(ROWS, ["emil", "fred"])
        self.assertEqual(browser.run("window.marker"), 1)

    def test_languages_and_themes(self) -> None:
        """Persian runs from right to left with its own digits; theme and language are kept."""
        browser = self.browser
        self.open(self.world["alice"], language="fa")
        browser.wait("document.documentElement.dir", "rtl")
        browser.wait(ROWS, ["bob"])
        self.assertIn("\u06f1", browser.text(".summary"))
        self.assertTrue(
            browser.run(
                "document.querySelector('nav').getBoundingClientRect().left > innerWidth / 2"
            )
        )
        self.keep_looks("people-fa")
        self.show("/people/bob")
        browser.wait_until("document.querySelector('.fingerprint')")
        self.keep_looks("person-fa")
        browser.run(
            "localStorage.setItem('p2pshare.language', 'en'), localStorage.setItem('p2pshare.theme', 'dark')"
        )
        browser.run("location.reload()")
        browser.wait(STATE, "live")
        browser.wait("document.documentElement.lang", "en")
        browser.wait("getComputedStyle(document.body).colorScheme", "dark")
        self.assert_calm()

    def test_signed_out(self) -> None:
        """Without a session the page says how to open it. A link that was used opens nothing; a new one does."""
        browser, alice = self.browser, self.world["alice"]
        url = alice.page_url("/people")
        browser.open(url)
        browser.wait(STATE, "live")
        browser.forget_all()
        browser.open(url)
        browser.wait_until("document.querySelector('.signin .command')")
        self.check_accessibility()
        browser.keep("signed-out")
        browser.open("about:blank")
        self.open(alice)
        browser.wait(ROWS, ["bob"])
