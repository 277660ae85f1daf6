"""Health in a real browser: what works, what does not, and the way to somebody."""

from __future__ import annotations

from tests.page.page_case import PageTestCase

REGISTRY = "document.querySelector('[data-check=registry]')?.dataset.state"


class HealthTests(PageTestCase):
    """The view of the peer's health."""

    def test_registry_away(self) -> None:
        """The registry away is said within seconds, with what to do; so is its return. The way to a person is tried."""
        world, browser = self.own_world("alice", "bob"), self.browser
        self.open(world["alice"], "/health")
        browser.wait(REGISTRY, "good")
        self.keep_looks("health")
        browser.type(".health-path input", "bob")
        browser.click(".health-path .button")
        browser.wait_until("document.querySelector('.health-report .notice.good')")
        self.assertIn("bob", browser.text(".health-report"))
        browser.run("void document.querySelectorAll('details').forEach(each => (each.open = true))")
        browser.keep("health-path")
        self.check_accessibility()
        browser.run("void (document.querySelector('.health-path input').value = '')")
        browser.type(".health-path input", "nobody" + "\n")
        browser.wait_until("document.querySelector('.health-path .notice.bad')")
        world.lose_registry()
        browser.wait(REGISTRY, "bad")
        browser.wait_until("document.querySelector('[data-advice=registry_away]')")
        self.assertIn(world.registry_url, browser.text(".health-checks"))
        self.keep_looks("health-registry-away")
        world.restore_registry()
        browser.wait(REGISTRY, "good")
        browser.open("about:blank")
        self.open(world["alice"], "/health", language="fa")
        browser.wait(REGISTRY, "good")
        browser.keep("health-fa")
        self.check_accessibility()
