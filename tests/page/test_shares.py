"""The view My shares: what is shared and with whom, and who has fetched it."""

from __future__ import annotations

from tests.page.files import EVIL, write
from tests.page.page_case import SIZES, PageTestCase
from tests.page.world import until

VISITS = "[...document.querySelectorAll('.visit')].map(e => e.innerText)"


class SharesTests(PageTestCase):
    def test_shares(self) -> None:
        """A folder is shared with one person, who fetches it; then with everyone, and then no more."""
        world = self.own_world(
            "alice", "bob", shares={"alice": {"a.txt": b"1"}, "bob": {"b": b"1"}}
        )
        alice, bob = world["alice"], world["bob"]
        folder = alice.folder / "my photos"
        write(
            folder, {"cat.jpg": b"x" * 1000, f"{EVIL}.txt": b"1", ".secret": b"1", "old.tmp": b"1"}
        )
        self.open(alice, "/shares")
        self.browser.wait("document.querySelectorAll('.share').length", 1)
        self.assertIn("from the command line", self.browser.text(".share"))
        self.browser.click(".page-actions .primary")
        self.browser.wait_until("document.querySelector('.share-add')")
        self.check_accessibility()
        self.browser.click(".share-path .button")
        self.browser.wait_until("document.querySelector('.chooser-list')")
        self.browser.fill(".chooser-bar input", f"{folder}\ue007")
        self.browser.wait_until("document.querySelectorAll('.chooser-entry').length == 3")
        self.check_accessibility()
        for _ in range(2):  # only one of them can be chosen, and then none
            self.browser.click(".chooser-entry:first-child input")
            self.browser.click(".chooser-entry:last-child input")
            self.browser.wait("document.querySelectorAll('.chooser-entry.chosen').length", 1)
        self.browser.click(".chooser-entry:last-child input")
        self.browser.wait("document.querySelectorAll('.chooser-entry.chosen').length", 0)
        self.browser.click(".folder-chooser .button.primary")
        self.browser.wait("document.querySelectorAll('.share-add input')[1].value", "my photos")
        self.browser.click(".share-add .segments label:last-child")
        self.browser.wait_until("document.querySelector('.share-add [data-drop-person=bob]')")
        self.browser.click(".share-add [data-drop-person=bob]")
        self.browser.click(".share-rules summary")
        self.browser.type("#share-exclude", "*.tmp")
        self.browser.click(".share-add .dialog-actions .primary")
        mine = "document.querySelector('[data-share=\"my photos\"]')"
        self.browser.wait_until(f"{mine}?.innerText.includes('2 names are left out')")
        self.assertIn("Only bob", self.browser.run(f"{mine}.innerText"))
        shares = {each["name"]: each for each in alice.ask("shares")["shares"]}
        self.assertEqual(shares["my photos"]["allow"], ["bob"])
        self.assertEqual(shares["my photos"]["exclude"], ["*.tmp"])

        job = bob.ask("get", name="alice", paths=["my photos"], folder=str(bob.saved))
        until(lambda: bob.ask("job", id=job["id"])["state"] == "done")
        self.browser.wait(f"{VISITS}.length", 1)
        self.browser.wait_until(
            f"{VISITS}[0].includes('bob') && {VISITS}[0].includes('and 1 more')"
        )
        self.browser.wait_until(f"{mine}.innerText.includes('1 download')")
        self.keep_looks("shares")

        self.browser.click('[data-share="my photos"] .menu button')
        self.browser.click_text("[role=menuitem]", "Change who may see it")
        self.browser.wait_until("document.querySelector('dialog .segments')")
        self.browser.click("dialog .segments label:first-child")
        self.browser.click("dialog .button.primary")
        self.browser.wait_until(f"{mine}.innerText.includes('Everyone')")
        self.browser.click('[data-share="my photos"] .menu button')
        self.browser.click_text("[role=menuitem]", "Stop sharing")
        self.browser.wait_until("document.querySelector('dialog .danger')")
        self.check_accessibility()
        self.browser.click("dialog .button.danger")
        self.browser.wait("document.querySelectorAll('.share').length", 1)
        self.assertTrue((folder / "cat.jpg").exists())
        self.assert_calm()

        self.open(bob, "/people/alice/files/shared?show=a.txt")
        self.browser.wait("document.querySelector('.viewer pre')?.textContent", "1")
        self.open(alice, "/shares")
        self.browser.wait_until(f"{VISITS}.some((each) => /shared\\s+parts of files/.test(each))")

        self.browser.open("about:blank")
        self.open(alice, "/shares", language="fa")
        self.browser.wait("document.dir", "rtl")
        self.browser.look_as(*SIZES["phone"])
        for view in ("shares", "inbox", "send"):
            self.show(f"/{view}")
            self.browser.wait_until(f"document.querySelector('main .{view}')")
            self.browser.wait("document.documentElement.scrollWidth <= innerWidth", True)
            self.check_accessibility()
        self.browser.look_as(*SIZES["desktop"])
        self.show("/shares")

        self.browser.click(".page-actions .primary")
        self.browser.wait_until("document.querySelector('.share-add')")
        self.browser.fill(".share-path input", "/nowhere/at all")
        self.browser.click(".share-add .dialog-actions .primary")
        self.browser.wait_until("document.querySelector('.share-add .notice.bad')")
        self.assertIn("nothing to share", self.browser.text(".share-add .notice.bad"))
