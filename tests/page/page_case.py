"""What the tests of all views need: people, a browser that shows their pages, and a check of accessibility."""

from __future__ import annotations

import unittest
from collections.abc import Mapping
from pathlib import Path

from tests.page.browser import the_browser, why_none
from tests.page.world import Person, World, the_world

AXE = Path(__file__).parent / "axe" / "axe.min.js"
"""axe-core 4.14.1, the rules by which a page is accessible; from npm, with its licence beside it."""
SIZES = {"desktop": (1280, 800), "phone": (390, 844)}
"""Width and height in pixels."""
SCHEMES = ("light", "dark")
CHECKED = {("desktop", "light"), ("phone", "dark")}
FADING = "document.getAnimations().filter(each => each.effect?.target?.closest('.toast')).length"
STATE = "document.documentElement.dataset.connection"


class PageTestCase(unittest.TestCase):
    """The page of a peer in Chromium. `self.world` has alice and bob, whom tests must leave as they were."""

    def setUp(self) -> None:
        if why_none():
            raise unittest.SkipTest(why_none())
        self.browser = the_browser()
        self.browser.hasten(1)
        self.browser.language = "en"
        self.browser.look_as(*SIZES["desktop"])
        self.browser.forget_all()

    @property
    def world(self) -> World:
        """The people that are shared by all tests of the process."""
        return the_world()

    def own_world(
        self, *names: str, shares: Mapping[str, Mapping[str, bytes]] | None = None
    ) -> World:
        """Start people for this test alone, who may be killed."""
        world = World(names, shares)
        self.addCleanup(world.discard)
        return world

    def open(self, person: Person, to: str = "/people", *, language: str = "en") -> None:
        """Sign in to a person's page, and show a view of it."""
        self.browser.language = language
        self.browser.open(person.page_url(to))
        self.browser.wait(STATE, "live")
        self.browser.wait_until("document.querySelector('main h1')")

    def show(self, to: str) -> None:
        """Go to another view of the page that is open."""
        self.browser.run("void (location.hash = a[0])", f"#{to}")
        self.browser.wait_until("document.querySelector('main h1')")

    def check_accessibility(self) -> None:
        """Fail for each violation that axe-core finds on the page as it is, with toasts that are wholly there."""
        self.browser.wait(FADING, 0)
        found = self.browser.violations(AXE.read_text())
        self.assertEqual(found, [])

    def keep_looks(self, name: str) -> None:
        """Take screenshots of the view in both sizes and both themes, and check the accessibility.

        What axe-core finds depends on the size or on the theme. So two checks see as much as four.
        """
        for size, (width, height) in SIZES.items():
            for scheme in SCHEMES:
                self.browser.look_as(width, height, scheme)
                self.browser.wait("document.documentElement.scrollWidth <= innerWidth", True)
                self.browser.keep(f"{name}-{size}-{scheme}")
                if (size, scheme) in CHECKED:
                    self.check_accessibility()
        self.browser.look_as(*SIZES["desktop"])

    def assert_calm(self) -> None:
        """Fail if hostile content has run, or if the browser has complained of anything."""
        self.assertIs(self.browser.run("'evil' in window"), False)
        self.assertEqual(self.browser.complaints(), [])
