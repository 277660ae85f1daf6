"""Settings in a real browser: what is changed, kept and used, and what cannot be changed."""

from __future__ import annotations

import tomllib
from typing import Any

from selenium.webdriver.common.keys import Keys

from tests.page.page_case import PageTestCase


def setting(name: str) -> str:
    return f"[data-setting={name}]"


def element(selector: str) -> str:
    return f"document.querySelector('{selector}')"


class SettingsTests(PageTestCase):
    """The view of settings."""

    def test_change(self) -> None:
        """Changes are kept in config.toml and used at once; what waits for a restart says so; errors stand in place."""
        world, browser = self.own_world("alice"), self.browser
        alice = world["alice"]
        self.open(alice, "/settings")
        browser.wait_until(element(f"{setting('limit')} select"))
        self.keep_looks("settings")
        licences = "[...document.querySelectorAll('a[href*=LICENSE]')].map(each => each.href)"
        self.assertEqual(browser.run(f"{licences}.length"), 2)
        fetched = f"Promise.all({licences}.map(url => fetch(url)))"
        browser.run(f"void {fetched}.then(all => (window.found = all.map(each => each.status)))")
        browser.wait("window.found", [200, 200])
        self.choose("limit", "2000000")
        browser.wait_until(element(".toast.good"))
        self.assertEqual(self.rows(alice)["limit"]["in_use"], 2e6)
        browser.wait_until(element(f"{setting('limit')} .setting-notes .quiet"))
        self.choose("limit", "own")
        browser.wait(f"document.activeElement === {element(setting('limit') + ' input')}", True)
        browser.press("fast" + Keys.ENTER)
        browser.wait_until(element(f"{setting('limit')} [role=alert]"))
        self.assertIn("500 kB/s", browser.text(f"{setting('limit')} [role=alert]"))
        said = f"{element(setting('limit') + ' [role=alert]')}.id"
        self.assertTrue(
            browser.run(
                element(f"{setting('limit')} [aria-invalid=true]")
                + f".matches(`[aria-describedby~='${{{said}}}']`)"
            )
        )
        self.check_accessibility()
        browser.run(f"void ({element(setting('limit') + ' input')}.value = '')")
        browser.type(f"{setting('limit')} input", "\u06f1\u066b\u06f5 MB/s" + Keys.ENTER)
        browser.wait(element(f"{setting('limit')} input"), None)
        self.assertEqual(self.rows(alice)["limit"]["in_use"], 1.5e6)
        browser.click(f"{setting('private')} .switch")
        browser.wait_until(element(f"{setting('private')} .tag.warning"))
        browser.wait_until(element(".settings-waiting li"))
        self.assertFalse(self.rows(alice)["private"]["in_use"])
        kept = tomllib.loads(alice.config.read_text())
        self.assertEqual((kept["limit"], kept["private"]), ("1500000", "true"))
        self.assertTrue(browser.run(f"{element(setting('inbox_folder') + ' button')}.disabled"))
        self.assertIn("--inbox-folder", browser.text(setting("inbox_folder")))
        alice.ask("settings_change", values={"offers": "nobody"})  # by another program
        browser.wait(f"{element(setting('offers') + ' select')}.value", "nobody")
        browser.open("about:blank")
        self.open(alice, "/settings", language="fa")
        browser.wait_until(element(f"{setting('limit')} select"))
        browser.keep("settings-fa")
        self.check_accessibility()
        self.assert_calm()

    def test_end(self) -> None:
        """Signing out closes the page here; stopping asks first, and ends the peer."""
        world, browser = self.own_world("alice"), self.browser
        alice = world["alice"]
        self.open(alice, "/settings")
        out = "[...document.querySelectorAll('button')].find(each => each.innerText === 'Sign out')"
        browser.wait_until(out)
        browser.run(f"{out}.click()")
        browser.wait("document.documentElement.dataset.connection", "ended")
        browser.wait_until("document.body.innerText.includes('p2pshare open')")
        browser.open("about:blank")
        self.open(alice, "/settings")
        browser.wait_until(element(".setting-buttons .danger"))
        browser.click(".setting-buttons .danger")
        browser.wait_until(element("dialog[open] .danger"))
        browser.wait(
            f"document.activeElement === {element('dialog[open] .dialog-actions .plain')}", True
        )
        self.assertIn("p2pshare open --name alice --registry", browser.text("dialog[open]"))
        browser.click("dialog[open] .danger")
        browser.wait("document.documentElement.dataset.connection", "lost")
        assert alice.program is not None
        alice.program.process.wait(20)

    def choose(self, name: str, value: str) -> None:
        """Choose a value in the drop-down of a setting."""
        self.browser.click(f"{setting(name)} option[value='{value}']")

    def rows(self, person: Any) -> dict[str, Any]:
        return {each["name"]: each for each in person.ask("settings")["settings"]}
