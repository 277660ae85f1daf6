"""The frame of the page in a real browser: routes, lost connections, languages, and what the first view costs."""

from __future__ import annotations

import signal

from selenium.webdriver.common.keys import Keys

from tests.page.page_case import STATE, PageTestCase
from tests.page.world import until

BYTES_MAX = 100_000  # of the first view, compressed
FOCUS = "document.activeElement"
HEADING = "document.querySelector('main h1')"
ROWS = "[...document.querySelectorAll('[data-row] .person-name bdi')].map(each => each.textContent)"
LOCKS = """const done = arguments[0];
  navigator.locks.query().then(({held, pending}) => done([held.length, pending.length]));"""
NEW_FILES = """(() => { const channel = new BroadcastChannel("p2pshare.events");
  channel.postMessage({kind: "hello", data: {assets: "others", boot: "x", actions: []}}); channel.close(); })()"""
SIZE = """[...performance.getEntriesByType("resource"), ...performance.getEntriesByType("navigation")]
  .map(each => each.encodedBodySize).reduce((one, other) => one + other, 0)"""


class ShellTests(PageTestCase):
    """What all views share."""

    def test_frame(self) -> None:
        """The first view is small and lists keys; the focus follows the route; a broken view leaves the others."""
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
        browser.keys("?")
        browser.wait_until("document.querySelector('.shortcuts kbd')")
        self.check_accessibility()
        browser.click(".shortcuts .switch")
        browser.keys(Keys.ESCAPE)
        browser.wait("document.querySelector('dialog')", None)
        browser.wait(f"{FOCUS}.id", "main")
        browser.keys("?", "/")
        self.assertEqual(browser.run(f"{FOCUS}.id"), "main")
        browser.run("localStorage.clear()")
        browser.keys("\u061f")
        browser.wait_until("document.querySelector('.shortcuts')")
        browser.keys(Keys.ESCAPE)
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
        # A browser that takes no more changes of the address for now.
        browser.run(
            "void (history.pushState = () => { throw new DOMException('', 'SecurityError'); })"
        )
        browser.keys("b", Keys.ENTER)
        browser.wait_until("document.querySelector('.person-head')")
        browser.run("delete history.pushState")

    def test_restart(self) -> None:
        """The page says that the peer, or the registry, is gone, keeps what it shows, and recovers by itself."""
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
        world.registry.end(signal.SIGKILL)
        browser.wait_until("document.querySelector('.bars .notice.warning')")
        browser.wait_until("document.querySelector('nav .badge.dot')")
        self.assertEqual(browser.run(ROWS), ["emil", "fred"])
        self.assertEqual(browser.run(STATE), "live")
        browser.wait_until("document.querySelector('.people-list.old')")
        self.assertIn("may have changed since", browser.text(".tools ~ .notice.warning"))
        self.check_accessibility()
        browser.keep("registry-away")

    def test_tabs(self) -> None:
        """All tabs share one stream; when its tab is closed, another one follows. New files of the page are loaded."""
        browser, alice = self.browser, self.world["alice"]
        self.open(alice)
        browser.new_tab()
        self.addCleanup(browser.close_tabs)
        self.open(alice, "/people/bob")
        self.assertEqual(browser.run_async(LOCKS), [1, 1])
        browser.use_tab(0)
        browser.open("about:blank")
        browser.use_tab(1)
        browser.wait(STATE, "live")
        until(lambda: browser.run_async(LOCKS) == [1, 0])
        browser.use_tab(0)
        self.open(alice)
        browser.wait(ROWS, ["bob"])
        browser.type(".search input", "b")
        browser.run("window.marker = 1")
        browser.run(NEW_FILES)
        browser.wait_until("document.querySelector('.bars .notice .primary')")
        self.assertEqual(browser.run("window.marker"), 1)
        browser.click(".bars .notice .primary")
        browser.wait("window.marker", None)
        browser.wait(STATE, "live")
        browser.wait("document.querySelector('.bars .notice')", None)
        browser.run("sessionStorage.clear(), document.activeElement.blur(), window.marker = 1")
        browser.run(NEW_FILES)
        browser.wait("window.marker", None)
        browser.wait(STATE, "live")

    def test_languages_and_themes(self) -> None:
        """Persian runs from right to left with its own digits; theme and language are kept."""
        browser = self.browser
        self.open(self.world["alice"], language="fa")
        browser.wait("document.documentElement.dir", "rtl")
        browser.wait(ROWS, ["bob"])
        browser.wait("document.querySelector('.summary')?.textContent.includes('\u06f1')", True)
        self.assertTrue(
            browser.run(
                "document.querySelector('nav')?.getBoundingClientRect().left > innerWidth / 2"
            )
        )
        texts = "import(new URL('lib/texts.js', document.querySelector('script[type=module]').src))"
        words = "[m.rate(30.3e6), m.duration(3900), m.percent(0.45), m.plainDigits('\u06f1\u066b\u06f5 MB \u0663')]"
        self.assertEqual(
            browser.run(f"{texts}.then(m => {words})"),
            [
                "\u06f3\u06f0\u066b\u06f3 \u0645\u06af\u0627\u0628\u0627\u06cc\u062a/\u062b",
                "\u06f1 \u0633\u0627\u0639\u062a \u0648 \u06f5 \u062f\u0642\u06cc\u0642\u0647",
                "\u06f4\u06f5\u066a",
                "1.5 MB 3",
            ],
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
        """Without a session the page says how to open it. A link that was used opens nothing; a new one does.

        A tab that is signed out gives the stream of events back.
        """
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
        self.open(alice, "/settings")
        browser.wait_until("document.querySelector('.looks .button')")
        browser.run("void document.querySelector('.looks .button').click()")
        browser.wait_until("document.querySelector('.signin .command')")
        command = browser.text(".signin .command code")
        self.assertIn(f"p2pshare open --name alice --registry {self.world.registry_url}", command)
        until(lambda: browser.run_async(LOCKS) == [0, 0])
        browser.open("about:blank")
        self.open(alice)
        browser.wait(ROWS, ["bob"])
        with self.subTest("a browser that cannot run the page says what the page needs"):
            browser.open("about:blank")
            browser.refuse("*/app.js*")
            self.addCleanup(browser.refuse)
            browser.open(alice.page_url())
            browser.wait("document.getAnimations().length", 1)
            browser.run("document.getAnimations()[0].finish()")
            self.assertIn("JavaScript, cookies", browser.text("#unfit"))
            browser.refuse()
            browser.open("about:blank")
            self.open(alice)
            self.assertEqual(browser.text("#unfit"), "")
