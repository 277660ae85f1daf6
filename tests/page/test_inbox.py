"""The view Inbox: what others offer, and where it goes."""

from __future__ import annotations

from typing import Any

from tests.page.files import EVIL, write
from tests.page.page_case import PageTestCase
from tests.page.world import Person, until

WAITING = "document.querySelectorAll('.inbox-item.waiting').length"
NOTE = f"{EVIL}\nsecond line \u202egpj"
RECORD = """void (window.told = [], window.Notification = class {
  static permission = "granted";
  constructor(title, {body}) {
    told.push([title, body]);
    if (told.length > 1) throw new TypeError("Illegal constructor");  // as browsers of phones do
  }
  addEventListener() {}
})"""


class InboxTests(PageTestCase):
    def setUp(self) -> None:
        super().setUp()
        world = self.own_world("alice", "bob", shares={"alice": {"a": b"1"}, "bob": {"b": b"1"}})
        self.world_of_test = world
        self.alice, self.bob = world["alice"], world["bob"]
        self.saved = self.alice.saved / "bob"

    def send(self, **fields: Any) -> str:
        """Let bob offer something; return the selector of it in alice's inbox."""
        offer = self.bob.ask("send", to=["alice"], **fields)
        return f'[data-offer="{offer["id"]}"]'

    def await_state(self, offer: str, state: str) -> None:
        """Wait until an offer has a state."""
        self.browser.wait_until(f"document.querySelector('{offer}')?.classList.contains('{state}')")

    def states(self, person: Person) -> list[str]:
        """Return the states of the offers of a person."""
        return [each["to"][0]["state"] for each in person.ask("offers")["offers"]]

    def test_offers(self) -> None:
        """Threat 142: offers are noticed, accepted into the usual folder or another, and declined; texts are shown."""
        self.open(self.alice, "/inbox")
        self.browser.wait_until("document.querySelector('.inbox .empty')")
        self.browser.run(RECORD)
        self.browser.click_text(".page-actions button", "Notify me")
        self.browser.wait("document.querySelector('.page-actions button').ariaPressed", "true")
        self.show("/people")
        files = self.bob.folder / "files"
        write(files, {f"{EVIL}.txt": b"harmless", "film/part 1.bin": b"x" * 300_000})
        usual = self.send(paths=[str(each) for each in files.iterdir()], note=NOTE)
        self.browser.wait_until("document.title.startsWith('(1)')")
        self.browser.wait("told.length", 1)
        (title, body) = self.browser.run("told[0]")
        self.assertIn("bob wants to send you something", title)
        self.assertNotIn("\u202e", body)
        self.show("/inbox")
        page = "https://example.org/a?b=1"
        lines = (
            f"{EVIL}\nsecond line\n{page}.\nhttps://example.org@evil.example/ javascript:alert(1)"
        )
        text = self.send(text=lines)
        unwanted = self.send(text="unwanted")
        elsewhere = self.send(paths=[str(files / "film")])
        self.browser.wait(WAITING, 4)
        self.browser.wait("document.querySelector('.nav [href=\"#/inbox\"] .badge').innerText", "4")
        self.assertIn(EVIL, self.browser.text(f"{usual} .note"))
        self.keep_looks("inbox")

        self.browser.click(f"{usual} .button.primary")
        self.await_state(usual, "done")
        self.assertEqual((self.saved / f"{EVIL}.txt").read_bytes(), b"harmless")
        self.assertIn(str(self.saved / "film"), self.browser.text(f"{usual} .inbox-places"))

        link = f"document.querySelector('{usual} .inbox-places a')"
        self.browser.wait(link, None)  # there is a folder among it

        self.browser.click(f"{text} .button.primary")
        self.browser.wait(f"document.querySelector('{text} pre')?.textContent", lines)
        links = f"[...document.querySelectorAll('{text} pre a')].map(each => [each.href, each.rel])"
        self.assertEqual(self.browser.run(links), [[page, "noopener noreferrer"]])
        read = f"fetch(document.querySelector('{text} .inbox-places a').href).then(reply => reply.text())"
        self.assertEqual(self.browser.run(read), lines)

        self.browser.click_text(f"{unwanted} .button", "Decline")
        self.await_state(unwanted, "declined")
        self.browser.wait("document.activeElement.className", "inbox-list")  # its button has gone
        until(lambda: "declined" in self.states(self.bob))

        chosen = self.alice.folder / "chosen"
        self.browser.click(f"{elsewhere} .menu button")
        self.browser.click_text("[role=menuitem]", "into a folder")
        self.browser.wait_until("document.querySelector('.chooser-list')")
        self.browser.fill(".chooser-bar input", f"{self.alice.folder}\ue007")
        self.browser.wait_until("document.querySelector('.chooser-name')")
        for typed in ("unwanted\ue00c", "chosen\ue007"):  # Escape, Enter
            self.browser.click_text(".chooser-places button", "New folder")
            self.browser.wait(
                "document.activeElement.matches('.chooser-places + .chooser-bar input')", True
            )
            self.browser.press(typed)
            self.browser.wait("document.querySelectorAll('.chooser-bar').length", 1)
            self.browser.wait("document.activeElement.matches('.dialog-actions .primary')", True)
        self.browser.wait("document.querySelector('.chooser-bar input').value", str(chosen))
        self.assertFalse((self.alice.folder / "unwanted").exists())
        self.browser.click("dialog .button.primary")
        self.await_state(elsewhere, "done")
        self.assertEqual((chosen / "film" / "part 1.bin").read_bytes(), b"x" * 300_000)
        self.check_accessibility()
        self.assert_calm()
        with self.subTest("removed from the list"):
            earlier = "document.querySelectorAll('.inbox-item:not(.waiting, .accepted)').length"
            self.browser.wait(earlier, 4)
            self.browser.click(f"{text} .inbox-head .icon-button")
            self.browser.wait(earlier, 3)
            self.browser.click_text(".list-head .button", "Clear finished")
            self.browser.wait_until("document.querySelector('.inbox .empty')")
            self.assertEqual(self.alice.ask("inbox")["items"], [])
            self.assertEqual((self.saved / f"{EVIL}.txt").read_bytes(), b"harmless")
        for number in range(9):
            last = self.send(text=f"text {number}")
        self.browser.wait(WAITING, 9)
        self.assertLessEqual(self.browser.run("told.length"), 5)
        with self.subTest("of somebody who has gone"):
            self.bob.end()
            self.browser.click(f"{last} .button.primary")
            self.browser.wait_until(f"document.querySelector('{last} .notice')")
            said = self.browser.text(f"{last} .notice")
            self.assertIn("The peer tries again by itself.", said)
            self.assertNotIn("`", said)  # no command for a terminal

    def test_always(self) -> None:
        """Who is always accepted is not asked about again, except if the inbox would grow beyond its quota."""
        self.open(self.alice, "/inbox")
        first = self.send(text="first")
        self.browser.wait(WAITING, 1)
        self.browser.click(f"{first} .menu button")
        self.browser.click_text("[role=menuitem]", "Always accept")
        self.await_state(first, "done")
        second = self.send(text="second")
        self.await_state(second, "done")
        self.alice.end()
        self.alice.start()
        third = self.send(text="third")
        self.await_state(third, "done")

        options = ("--accept-from", "bob", "--inbox-quota", "100k")
        carol = self.world_of_test.add("carol", {"c": b"1"}, *options)
        (self.bob.folder / "large").write_bytes(bytes(300_000))
        path = str(self.bob.folder / "large")
        offer = f'[data-offer="{self.bob.ask("send", paths=[path], to=["carol"])["id"]}"]'
        self.browser.open("about:blank")
        self.open(carol, "/inbox")
        self.await_state(offer, "waiting")
        self.browser.wait_until(f"document.querySelector('{offer} .notice.warning')")
        self.assertIn("beyond its quota", self.browser.text(f"{offer} .notice"))
        self.check_accessibility()
        self.browser.click(f"{offer} .button.primary")
        self.await_state(offer, "done")
        self.assertEqual((carol.saved / "bob" / "large").stat().st_size, 300_000)
