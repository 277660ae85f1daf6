"""People in a real browser: who is online, by mouse and keyboard, and the comparison of keys."""

from __future__ import annotations

import json
from urllib.request import urlopen

from selenium.webdriver.common.keys import Keys

from tests.page.page_case import PageTestCase
from tests.page.world import until

HEADING = "document.querySelector('main h1')?.textContent"
ROWS = "[...document.querySelectorAll('[data-row] .person-name bdi')].map(each => each.textContent)"
ACTIVE = "document.querySelector('.virtual-row.active bdi')?.textContent"
COMPARE = "document.querySelector('#person-key')?.parentElement.querySelector('button')"
PUT_PEOPLE = """import(document.querySelector("script[type=module]").src.replace("app.js", "lib/store.js"))
  .then(store => { for (let n = 0; n < 10000; n += 1) store.put("people", {
    name: "n" + String(n).padStart(5, "0"), online: n % 2 === 0, since: 1700000000 + n,
    own: false, key: null, trust: "new", path: null}); })"""

PUT_ASKING = """import(document.querySelector("script[type=module]").src.replace("app.js", "lib/store.js"))
  .then(store => store.put("people", {
    name: "zoe", online: true, since: null, own: false, key: null, trust: "waiting", path: null}))"""
NAVIGATION = "document.querySelector('.nav').textContent"


class PeopleTests(PageTestCase):
    """The views of people."""

    def test_list_and_person(self) -> None:
        """Who is online is shown; keys alone lead from the list to a person and back; both sides compare one code."""
        browser = self.browser
        self.open(self.world["alice"])
        browser.wait(ROWS, ["bob"])
        browser.wait(
            "document.querySelector('.person-when')?.textContent.startsWith('Online')", True
        )
        with urlopen(f"{self.world.registry_url}/v1/peers/bob") as reply:
            since = json.loads(reply.read())["since"]
        self.assertEqual(
            browser.run("Date.parse(document.querySelector('time').dateTime)"), since * 1000
        )
        browser.wait(
            "document.querySelector('.summary')?.textContent", "1 person online · 1 person in all"
        )
        self.keep_looks("people")
        browser.keys("/")
        browser.wait("document.activeElement.type", "search")
        browser.keys("zz")
        browser.wait_until("document.querySelector('.empty')")
        browser.keys(Keys.BACKSPACE, Keys.BACKSPACE, "ob")
        browser.wait(ROWS, ["bob"])
        browser.keys(Keys.ESCAPE, "b", Keys.ENTER)
        browser.wait("location.hash", "#/people/bob")
        browser.wait(f"{HEADING}.endsWith('bob')", True)
        browser.wait("document.activeElement === document.querySelector('main h1')", True)
        browser.wait("document.title", "bob \u2013 alice \u2013 p2pshare")
        browser.wait_until("document.querySelector('.fingerprint')")
        key = self.world["alice"].ask("person", name="bob")["fingerprint"]
        self.assertEqual(browser.text(".fingerprint"), key)
        self.keep_looks("person")
        codes = []
        for one, other in (("alice", "bob"), ("bob", "alice")):
            self.open(self.world[one], f"/people/{other}")
            browser.wait_until(COMPARE)
            browser.run(f"{COMPARE}.click()")
            browser.wait_until("document.querySelector('dialog[open] .qr path')")
            codes.append(browser.text(".compare-code").split())
            self.check_accessibility()
        self.assertEqual(codes[0], codes[1])
        self.assertEqual({len(group) for group in codes[0]}, {5})
        browser.keep("compare-keys")
        browser.run("document.querySelector('.dialog-actions .primary').click()")
        browser.wait("document.querySelector('dialog')", None)
        browser.wait(
            "document.querySelector('.person-trust .tag')?.classList.contains('good')", True
        )
        self.assertEqual(self.world["bob"].ask("person", name="alice")["trust"], "compared")
        browser.click("[aria-haspopup=menu]")
        browser.wait("document.activeElement.role", "menuitem")
        browser.keys(Keys.ENTER)
        browser.wait_until("document.querySelector('dialog[open] .danger')")
        browser.keys(Keys.ESCAPE)
        browser.wait("document.querySelector('dialog')", None)
        browser.wait("document.activeElement.ariaHasPopup", "menu")
        browser.click("[aria-haspopup=menu]")
        browser.keys(Keys.ENTER)
        browser.wait_until("document.querySelector('dialog[open] .danger')")
        browser.click("dialog .danger")
        until(lambda: self.world["bob"].ask("person", name="alice")["trust"] == "new")
        browser.wait(
            "document.querySelector('.person-trust .tag')?.classList.contains('good')", False
        )
        self.assert_calm()
        with self.subTest(
            "without a registry: somebody who wants to be let in is told of in every view"
        ):
            self.show("/settings")
            browser.run_async(f"const done = arguments[0]; {PUT_ASKING}.then(() => done())")
            browser.wait_until(f"{NAVIGATION}.includes('1 person wants access')")
        with self.subTest("shares that could not be read are asked for again"):
            browser.open("about:blank")
            browser.refuse("*/do/list")
            self.addCleanup(browser.refuse)
            self.open(self.world["alice"], "/people/bob")
            button = "#person-shares ~ .person-buttons button"
            browser.wait_until(f"document.querySelector('{button}')")
            browser.click(button)  # looks, at the first contact
            browser.wait_until(
                "document.querySelector('#person-shares ~ .quiet')?.textContent.includes('answer')"
            )
            browser.refuse()
            browser.click(button)
            browser.wait_until("document.querySelector('.person-shares a')")
            self.show("/people")
            browser.wait("document.querySelector('.person-shared')?.textContent", "Shares shared")

    def test_ten_thousand(self) -> None:
        """A list of 10 000 people has few elements, and keys reach its end."""
        browser = self.browser
        self.open(self.world["alice"])
        browser.wait(ROWS, ["bob"])
        browser.run(PUT_PEOPLE)
        browser.wait("document.querySelector('[data-row]')?.getAttribute('aria-setsize')", "10001")
        browser.keys(Keys.ARROW_DOWN)
        browser.wait("document.activeElement.role", "listbox")
        browser.keys(Keys.END)
        browser.wait(ACTIVE, "n09999")
        self.assertLess(browser.run("document.querySelectorAll('[data-row]').length"), 60)
        self.assertTrue(
            browser.run(
                "document.querySelector('.virtual-row.active')?.getBoundingClientRect().bottom <= innerHeight"
            )
        )
        browser.keys("n042")
        browser.wait(ACTIVE, "n04200")
        self.check_accessibility()
        self.assert_calm()
