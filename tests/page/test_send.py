"""The view Send: people, files, folders and texts, what is left out, and what becomes of an offer."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from tests.page.files import EVIL, picture, write
from tests.page.page_case import PageTestCase
from tests.page.world import Person, until
from tests.storage.small_disk import small_disk

SEND = ".send-actions .button.primary"
FIRST = ".sent-offer"
STATES = (
    "[...document.querySelectorAll('.sent-offer:first-child .recipient')].map(e => e.innerText)"
)


class SendTests(PageTestCase):
    def offers(self, person: Person, state: str = "waiting") -> list[dict[str, Any]]:
        """Return what is in the inbox of a person, in a state."""
        return [each for each in person.ask("inbox")["items"] if each["state"] == state]

    def offer(self, person: Person) -> dict[str, Any]:
        """Wait for an offer to a person."""
        (found,) = until(lambda: self.offers(person))
        return found

    def await_state(self, name: str, state: str) -> None:
        """Wait until the newest offer has a state at a person."""
        self.browser.wait_until(
            f"{STATES}.some(text => text.includes('{name}') && text.includes('{state}'))"
        )

    def spool(self, person: Person) -> list[str]:
        """Return what waits to be sent."""
        folder = person.data / "outgoing"
        return os.listdir(folder) if folder.exists() else []

    def test_dropped(self) -> None:
        """Threat 142: files and folders with hostile names arrive after a look at what is left out."""
        world = self.own_world("alice", "bob", shares={"alice": {"a": b"1"}, "bob": {"b": b"1"}})
        alice, bob = world["alice"], world["bob"]
        self.open(alice, "/people")
        self.browser.wait_until("document.querySelector('[data-drop-person=bob]')")
        self.browser.drop("[data-drop-person=bob]", {f"{EVIL}.txt": b"harmless", "a.txt": b"1"})
        self.browser.wait("location.hash", "#/send?to=bob")
        self.browser.wait("document.querySelectorAll('.send-items li').length", 2)
        self.assertIn(EVIL, self.browser.text(".send-items"))
        pressed = "document.querySelector('.picker-person[data-drop-person=bob]').ariaPressed"
        self.browser.wait(pressed, "true")
        folder = world.folder / "trip & <b>"
        content = {"day 1/cat.jpg": picture(300, 200), ".hidden": b"?", "100%#?.txt": b"odd"}
        write(folder, content)
        (folder / "empty").mkdir()
        self.browser.drag_in(".drop-zone", folder)
        self.browser.wait("document.querySelectorAll('.send-items li').length", 3)
        self.browser.type("#send-note", f"{EVIL}\n\u202enote")
        self.keep_looks("send")
        self.browser.click(SEND)
        self.browser.wait_until("document.querySelector('dialog[open] .left-out')")
        self.assertEqual(bob.ask("inbox")["items"], [])
        self.assertIn("1 hidden", self.browser.text("dialog"))
        self.check_accessibility()
        self.browser.click("dialog .button.primary")
        self.browser.wait_until(f"document.querySelector('{FIRST}')")
        item = self.offer(bob)
        self.assertEqual((item["files"], item["folders"]), (4, 3))
        self.await_state("bob", "Not answered yet")
        bob.ask("accept_offer", id=item["id"])
        self.await_state("bob", "Received")
        self.browser.wait_until("document.activeElement.closest('.sent')")
        saved = bob.saved / "alice"
        self.assertEqual((saved / folder.name / "day 1/cat.jpg").read_bytes(), picture(300, 200))
        self.assertEqual((saved / folder.name / "100%#?.txt").read_bytes(), b"odd")
        self.assertTrue((saved / folder.name / "empty").is_dir())
        self.assertFalse((saved / folder.name / ".hidden").exists())
        until(lambda: not self.spool(alice))
        self.assert_calm()

    def test_people(self) -> None:
        """A text reaches people when they come; who declines is seen; an offer is withdrawn, and sent again."""
        names = ("alice", "bob", "carol")
        world = self.own_world(*names, shares={name: {"a": b"1"} for name in names})
        alice, bob, carol = world["alice"], world["bob"], world["carol"]
        carol.end()
        self.open(alice, "/send?to=bob")
        self.browser.paste("a\ud83d\ude00b\n<b>")
        self.browser.wait("document.querySelector('#send-text').value", "a\U0001f600b\n<b>")
        self.browser.type(".people-picker input", "carol\ue007")  # Enter: she is not in the list
        self.browser.wait(
            "document.querySelectorAll('.picker-person[aria-pressed=true]').length", 2
        )
        self.browser.click(SEND)
        self.browser.wait_until(f"document.querySelector('{FIRST}')")
        self.await_state("carol", "Waiting")
        self.await_state("bob", "Not answered yet")
        bob.ask("decline_offer", id=self.offer(bob)["id"])
        self.await_state("bob", "Declined")
        carol.start()
        self.await_state("carol", "Not answered yet")
        item = self.offer(carol)
        self.assertTrue(item["text"])
        carol.ask("accept_offer", id=item["id"])
        self.await_state("carol", "Received")
        text = carol.ask("offer_text", id=item["id"])["text"]
        self.assertEqual(text, "a\U0001f600b\n<b>")
        # From the disk of the peer, without a copy.
        write(alice.folder, {"own/file.txt": b"12345"})
        self.browser.click("[data-drop-person=bob]")
        self.browser.click_text(".send-sources button", "disk")
        self.browser.wait_until("document.querySelector('.chooser-list')")
        self.check_accessibility()
        self.browser.fill(".chooser-bar input", str(alice.folder))
        self.browser.press("\ue007")
        row = "[...document.querySelectorAll('.chooser-name')].find(e => e.innerText == 'own')"
        self.browser.wait_until(row)
        self.browser.run(f"void {row}.closest('li').querySelector('input').click()")
        self.browser.click("dialog .button.primary")
        self.browser.wait("document.querySelectorAll('.send-items li').length", 1)
        self.browser.click(SEND)
        self.await_state("bob", "Not answered yet")
        self.assertEqual(len(self.spool(alice)), 1)  # the text, which could be sent to bob again
        self.browser.click(f"{FIRST} .menu button")
        self.browser.click_text("[role=menuitem]", "Withdraw")
        self.browser.click("dialog .button.danger")
        self.await_state("bob", "Withdrawn")
        self.browser.click(f"{FIRST} .menu button")
        self.browser.click_text("[role=menuitem]", "Send again")
        self.browser.wait("document.querySelector('dialog .picker-person').ariaPressed", "true")
        (alice.folder / "own" / ".new").write_bytes(b"1")
        self.browser.click("dialog .button.primary")
        self.browser.wait_until("document.querySelector('dialog .left-out')")
        self.check_accessibility()
        self.browser.click("dialog .button.primary")
        item = self.offer(bob)
        self.assertEqual((item["items"][0]["name"], item["files"]), ("own", 1))
        with self.subTest("removed from the list"):
            count = "document.querySelectorAll('.sent-offer').length"
            self.browser.wait(count, 3)
            self.browser.click_text(".sent .list-head .button", "Clear finished")
            self.browser.wait(count, 1)
            until(lambda: self.spool(alice) == [])
            bob.ask("decline_offer", id=item["id"])
            self.await_state("bob", "Declined")
            self.browser.click(f"{FIRST} .menu button")
            self.browser.click_text("[role=menuitem]", "Remove from the list")
            self.browser.wait_until("document.querySelector('.sent .empty')")
        self.assert_calm()

    def tab_to(self, selector: str) -> None:
        """Press Tab until an element has the focus."""
        for _ in range(60):
            self.browser.keys("\ue004")
            if self.browser.run("document.activeElement.matches(a[0])", selector):
                return
        self.fail(f"Tab does not come to {selector}")

    def test_restart(self) -> None:
        """A peer that is killed before the offer is made gets the files again; and all is done by keyboard alone."""
        shares = {name: {"a": b"1"} for name in ("alice", "bob")}
        world = self.own_world("alice", "bob", shares=shares)
        alice, bob = world["alice"], world["bob"]
        self.open(alice, "/people/bob")
        write(world.folder / "trip", {".hidden": b"1", "a.txt": b"12"})
        self.browser.drag_in("main h1", world.folder / "trip")  # in the view of bob
        self.browser.wait("document.querySelectorAll('.send-items li').length", 1)
        self.browser.wait_until(
            "document.querySelector('[data-drop-person=bob][aria-pressed=true]')"
        )
        self.browser.click(SEND)
        self.browser.wait_until("document.querySelector('dialog[open] .left-out')")
        alice.end(signal.SIGKILL)
        self.browser.wait("document.documentElement.dataset.connection", "lost")
        alice.start()
        self.browser.wait("document.documentElement.dataset.connection", "live")
        self.browser.click("dialog .button.primary")
        item = self.offer(bob)
        bob.ask("accept_offer", id=item["id"])
        self.await_state("bob", "Received")
        self.assertEqual((bob.saved / "alice" / "trip" / "a.txt").read_bytes(), b"12")

        self.browser.run("void document.querySelector('main h1').focus()")
        self.tab_to(".people-picker input")
        self.browser.keys("bo", "\ue007")
        self.browser.wait_until(
            "document.querySelector('[data-drop-person=bob][aria-pressed=true]')"
        )
        self.tab_to(".send-sources button:nth-of-type(3)")
        self.browser.keys("\ue007")
        self.browser.wait_until("document.querySelector('.chooser-list')")
        self.tab_to(".chooser-bar input")
        self.browser.fill(":focus", f"{alice.folder}\ue007")
        shared = (
            "[...document.querySelectorAll('.chooser-name')].some(e => e.innerText == 'shared')"
        )
        self.browser.wait_until(shared)
        self.tab_to(".chooser-name")
        self.browser.keys("s", "s", "\ue007")  # saved, shared
        self.browser.wait_until(
            "document.querySelector('.chooser-name')?.innerText.startsWith('a')"
        )
        self.browser.wait_until("document.activeElement.innerText.startsWith('a')")
        self.browser.keys(" ")
        self.tab_to(".dialog-actions .primary")
        self.browser.keys("\ue007")
        self.browser.wait("document.querySelectorAll('.send-items li').length", 1)
        self.tab_to(SEND)
        self.browser.keys("\ue007")
        item = self.offer(bob)
        self.assertEqual([each["name"] for each in item["items"]], ["a"])

    def test_room(self) -> None:
        """A disk without room is said in a sentence, and an upload that is cancelled leaves nothing."""
        world = self.own_world("alice", shares={"alice": {"a": b"1"}})
        alice = world["alice"]
        self.open(alice, "/send?to=bob")
        for _ in range(2):  # a second one of the same name gets another
            self.browser.paste("", picture(60, 40))
        self.browser.choose_files("#send-files", alice.shared / "a")
        names = "[...document.querySelectorAll('.send-item-name')].map(e => e.innerText)"
        self.browser.wait(names, ["image.png", "image (2).png", "a"])
        self.browser.wait("document.querySelectorAll('.send-item-icon img').length", 2)
        self.browser.click_text(".send-actions button", "Clear")
        self.browser.wait("document.querySelectorAll('.send-items li').length", 0)
        self.browser.slow_uploads(100_000)
        self.browser.drop("main", {"large.bin": bytes(3_000_000)})
        self.browser.wait("document.querySelectorAll('.send-items li').length", 1)
        self.browser.click(SEND)
        self.browser.wait_until(
            "document.querySelector('.send-progress progress, .send-progress [role=progressbar]')"
        )
        until(lambda: self.spool(alice))
        self.browser.drop("main", {"later.txt": b"1"})  # is no part of the offer that is being made
        self.assertEqual(self.browser.run("document.querySelectorAll('.send-items li').length"), 1)
        self.browser.click_text(".send-actions button", "Cancel")
        self.browser.wait("document.querySelectorAll('.send-items li').length", 2)
        until(lambda: not self.spool(alice))
        self.browser.slow_uploads(None)
        disk: Path = small_disk(self)
        (alice.data / "outgoing").rmdir()
        (alice.data / "outgoing").symlink_to(disk)
        self.browser.click(SEND)
        self.browser.wait_until("document.querySelector('.notice.bad')")
        self.assertIn(
            "needs 2.9 MiB, but the disk of this peer has only", self.browser.text(".notice.bad")
        )
        self.assertEqual(self.spool(alice), [])
