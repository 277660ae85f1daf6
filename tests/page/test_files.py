"""The files of a person on the page: folders, selection, downloads, the viewer, and files that mean harm."""

from __future__ import annotations

import json
import shutil
import zipfile

from selenium.webdriver.common.keys import Keys

from tests.page.files import HOSTILE_NAMES, hostile_share, picture, usual_share
from tests.page.page_case import SIZES, PageTestCase
from tests.page.world import until

LIST = "document.querySelector('.browse [data-virtual]')"
ROWS = "document.querySelectorAll('.browse [data-row]')"
NAMES = (
    f"[...{ROWS}].sort((a, b) => a.dataset.index - b.dataset.index)"
    ".map((row) => row.querySelector('.browse-name').textContent)"
)
CHOSEN = (
    f"[...{ROWS}].filter((row) => row.ariaSelected === 'true')"
    ".map((row) => Number(row.dataset.index)).sort((a, b) => a - b)"
)
ACTIVE = "document.querySelector('.virtual-row.active .browse-name')?.textContent"
STATUS = "document.querySelector('.browse-status')?.textContent"
FILM = """(async () => {
  const canvas = document.createElement("canvas"), parts = [];
  [canvas.width, canvas.height] = [64, 48];
  const context = canvas.getContext("2d");
  const recorder = new MediaRecorder(canvas.captureStream(20), {mimeType: "video/webm;codecs=vp8"});
  recorder.ondataavailable = (event) => parts.push(event.data);
  const end = new Promise((resolve) => (recorder.onstop = resolve));
  recorder.start();
  for (let hue = 0; hue < 360; hue += 30) {
    context.fillStyle = `hsl(${hue} 80% 50%)`;
    context.fillRect(0, 0, 64, 48);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  recorder.stop();
  await end;
  return [...new Uint8Array(await new Blob(parts).arrayBuffer())];
})()"""
"""Records a film of half a second with the browser."""
VIEWER = "document.querySelector('.viewer')"


class FilesTestCase(PageTestCase):
    """A page that shows files of bob."""

    def show_folder(self, path: str, first: str) -> None:
        """Show a folder in the page that is open, and wait for its first entry."""
        self.show(f"/people/bob/files/{path}")
        self.browser.wait(f"{NAMES}[0]", first)

    def view(self, path: str, name: str) -> None:
        """Show a file of a folder in the viewer."""
        self.show(f"/people/bob/files/{path}?show={name}")
        self.browser.wait(f"{VIEWER}?.querySelector('h2').textContent", name)

    def click_row(self, index: int, part: str = "", modifier: str = "") -> None:
        """Click into a row, on a part of it, and with a key held."""
        selector = f".browse [data-index='{index}'] {part}".strip()
        if modifier:
            self.browser.click_with(modifier, selector)
        else:
            self.browser.click(selector)


class FolderTests(FilesTestCase):
    """Folders as a list and as a grid."""

    def test_walk(self) -> None:
        """Folders open by mouse and keys, breadcrumbs and Backspace lead back to where the user was; all is kept."""
        self.open(self.world["alice"], "/people/bob/files")
        self.browser.wait(NAMES, ["shared"])
        self.browser.keys(Keys.ARROW_DOWN)
        self.browser.wait(f"document.activeElement === {LIST}", True)
        self.click_row(0, ".browse-name")
        wanted = ["album", "documents", "music", "empty.txt", "large.bin"]
        self.browser.wait(NAMES, wanted)
        self.assertEqual(self.browser.text(".browse-crumbs"), "bob\nshared")
        self.browser.wait(STATUS, "5 entries · 8.4 MB")
        self.browser.keys("d", Keys.ENTER)  # the list has the focus still
        self.browser.wait(NAMES, ["2026", "notes.txt", "report.pdf"])
        self.browser.keys(Keys.BACKSPACE)
        self.browser.wait(NAMES, wanted)
        self.browser.wait(ACTIVE, "documents")
        self.assertTrue(self.browser.run(f"document.activeElement === {LIST}"))
        self.browser.click(".browse-crumbs a")
        self.browser.wait(NAMES, ["shared"])
        self.show_folder("shared/album", "IMG_0001.jpg")
        self.browser.click(".by-size")
        self.browser.wait(
            "document.querySelector('.by-size').ariaLabel", "Sorted by Size, descending"
        )
        shown = f"[...{ROWS}].map((row) => row.querySelector('.browse-size').textContent)"
        self.browser.wait(
            f"{shown}.every((size, at, all) => at === 0 || parseFloat(all[at - 1]) >= parseFloat(size))",
            True,
        )
        self.browser.click(".by-name")
        self.browser.keys("/")
        self.browser.keys("img_*2")
        self.browser.wait(NAMES, ["IMG_0002.jpg", "IMG_0012.jpg"])
        self.assertIn("2 of 13 match", self.browser.run(STATUS))
        self.browser.keys(Keys.ESCAPE)
        self.browser.wait(f"{ROWS}.length", 13)
        self.browser.click(".segments label:nth-child(2)")
        self.browser.wait(f"{LIST}.classList.contains('browse-grid')", True)
        self.browser.wait("document.querySelectorAll('.browse-thumb img.shown').length", 13)
        self.keep_looks("browse-grid")
        self.browser.run("void location.reload()")
        self.browser.wait(f"{LIST}?.classList.contains('browse-grid')", True)
        self.browser.click(".segments label:nth-child(1)")
        self.browser.wait("document.querySelectorAll('.browse-thumb img.shown').length", 13)
        self.browser.keys("/")  # right after the choice of a list
        self.browser.wait("document.activeElement.type", "search")
        self.click_row(1, ".browse-check")
        self.keep_looks("browse")
        self.assert_calm()

    def test_right_to_left(self) -> None:
        """In Persian the grid runs from right to left, and so do its keys."""
        self.open(self.world["alice"], "/people/bob/files/shared/album", language="fa")
        self.browser.wait_until(f"{ROWS}.length")
        self.browser.click(".segments label:nth-child(2)")
        self.browser.wait_until("document.querySelector('.browse-grid')")
        place = "document.querySelector(`[data-index='${a[0]}']`).getBoundingClientRect().left"
        self.assertGreater(self.browser.run(place, 0), self.browser.run(place, 1))
        self.browser.run(f"{LIST}.focus()")
        self.browser.keys(Keys.ARROW_LEFT)
        self.browser.wait(ACTIVE, "IMG_0002.jpg")
        self.browser.keys(Keys.ENTER)
        self.browser.wait(f"{VIEWER}?.querySelector('h2').textContent", "IMG_0002.jpg")
        self.browser.keys(Keys.ARROW_LEFT)
        self.browser.wait(f"{VIEWER}.querySelector('h2').textContent", "IMG_0003.jpg")
        self.check_accessibility()
        self.browser.keys(Keys.ESCAPE)
        self.browser.wait(VIEWER, None)
        self.click_row(0, ".browse-check")
        self.browser.keep("browse-grid-persian")
        self.check_accessibility()
        self.assert_calm()

    def test_selection(self) -> None:
        """A selection is made with the mouse, with Shift and Ctrl, with keys, and with a finger."""
        self.open(self.world["alice"], "/people/bob/files/shared/album")
        self.browser.wait(f"{ROWS}.length", 13)
        self.assertEqual(
            self.browser.run(f"[{LIST}.role, {LIST}.ariaMultiSelectable]"), ["listbox", "true"]
        )
        self.click_row(2)  # beside the name
        self.browser.wait(CHOSEN, [2])
        self.click_row(5, modifier=Keys.SHIFT)
        self.browser.wait(CHOSEN, [2, 3, 4, 5])
        self.click_row(3, modifier=Keys.CONTROL)
        self.browser.wait(CHOSEN, [2, 4, 5])
        self.click_row(8, ".browse-check")
        self.browser.wait(CHOSEN, [2, 4, 5, 8])
        self.assertIn("4 selected", self.browser.text(".browse-selection"))
        self.browser.wait("document.getElementById('live').textContent", "4 selected")
        self.browser.keys(Keys.ESCAPE)
        self.browser.wait(CHOSEN, [])
        self.browser.keys(Keys.HOME, Keys.ARROW_DOWN, " ")
        self.browser.press_with(Keys.SHIFT, Keys.ARROW_DOWN, Keys.ARROW_DOWN)
        self.browser.wait(CHOSEN, [1, 2, 3])
        self.browser.press_with(Keys.CONTROL, "a")
        self.browser.wait(f"{CHOSEN}.length", 13)
        self.browser.keys("t")
        self.browser.wait(ACTIVE, "turned.jpg")
        self.browser.click(
            ".by-size"
        )  # what is selected stays so in another order, and not behind a filter
        self.browser.wait(f"{CHOSEN}.length", 13)
        self.browser.keys("/")
        self.browser.keys("0001")
        self.browser.wait(CHOSEN, [0])
        self.assertIn("1 selected", self.browser.text(".browse-selection"))
        self.browser.keys(Keys.ESCAPE)
        self.browser.wait(f"{ROWS}.length", 13)
        self.browser.run(f"{LIST}.focus()")
        self.browser.press_with(Keys.SHIFT, Keys.F10)
        self.browser.wait("document.activeElement.role", "menuitem")
        self.check_accessibility()
        self.browser.keys(Keys.ESCAPE)
        self.browser.wait(f"document.activeElement === {LIST}", True)
        for expanded in ("true", "false", "true"):  # the button of a menu opens and closes it
            self.browser.click(".browse .page-actions .menu button")
            self.browser.wait(
                "document.querySelector('.browse .page-actions .menu button').ariaExpanded",
                expanded,
            )
        self.browser.keys(Keys.ESCAPE)
        self.browser.run(f"{LIST}.focus()")
        self.browser.keys(Keys.ESCAPE)
        self.browser.look_as(*SIZES["phone"])
        self.browser.wait(CHOSEN, [])
        self.browser.touch(".browse [data-index='2']", hold=0.7)
        self.browser.wait(CHOSEN, [2])
        self.browser.touch(".browse [data-index='3']")
        self.browser.wait(CHOSEN, [2, 3])
        self.browser.click(".browse-selection [aria-label='Clear the selection']")
        self.browser.wait(CHOSEN, [])
        self.browser.touch(".browse [data-index='3']")
        self.browser.wait_until(VIEWER)
        self.assert_calm()


class ViewerTests(FilesTestCase):
    """The viewer over the whole window."""

    def test_pictures(self) -> None:
        """A preview is there at once and gives way to the picture; keys, buttons and a swipe go to the next one."""
        self.open(self.world["alice"], "/people/bob/files/shared/album")
        self.browser.wait("document.querySelectorAll('.browse-thumb img.shown').length", 13)
        self.browser.run(
            """void (window.seen = [], new MutationObserver(() => {
            for (const layer of document.querySelectorAll(".viewer-layer")) {
              const state = layer.className.replace("viewer-layer ", "");
              if (!window.seen.includes(state)) window.seen.push(state);
            }}).observe(document.body, {subtree: true, childList: true, attributes: true}))"""
        )
        self.click_row(0, ".browse-name")
        self.browser.wait_until("document.querySelector('.viewer-layer.whole.shown')")
        self.assertEqual(self.browser.run("window.seen[0]"), "small loading")
        order = self.browser.run(
            "['small shown', 'whole shown'].map((each) => window.seen.indexOf(each))"
        )
        self.assertTrue(0 < order[0] < order[1], self.browser.run("window.seen"))
        title = f"{VIEWER}.querySelector('h2').textContent"
        self.browser.keys(Keys.ARROW_RIGHT)
        self.browser.wait(title, "IMG_0002.jpg")
        self.browser.keys(Keys.END)
        self.browser.wait(title, "turned.jpg")
        self.browser.wait_until("document.querySelector('.viewer-layer.whole.shown')")
        shape = "((box) => box.width < box.height)(document.querySelector('.viewer-box').getBoundingClientRect())"
        self.assertTrue(self.browser.run(shape), "the picture is turned by its EXIF data")
        self.browser.keys("+")
        self.browser.wait_until("document.querySelector('[data-zoomed]')")
        self.browser.keys("0", Keys.HOME)
        self.browser.wait(title, "IMG_0001.jpg")
        self.browser.click(".viewer-step.following")
        self.browser.wait(title, "IMG_0002.jpg")
        self.browser.wait_until("document.querySelector('.viewer-layer.whole.shown')")
        self.keep_looks("viewer")
        self.browser.look_as(*SIZES["phone"])
        self.browser.touch(".viewer-stage", across=-150)
        self.browser.wait(title, "IMG_0003.jpg")
        self.browser.touch(".viewer-stage", across=150)
        self.browser.wait(title, "IMG_0002.jpg")
        self.browser.keys(Keys.ESCAPE)
        self.browser.wait(VIEWER, None)
        self.browser.wait(ACTIVE, "IMG_0002.jpg")
        self.assertTrue(self.browser.run("location.hash").endswith("/shared/album"))
        with self.subTest("the keys go on where the viewer was closed"):
            self.browser.wait_until("document.activeElement.closest('[data-virtual]')")
            self.browser.keys(Keys.ENTER)
            self.browser.wait(f"{VIEWER} && {title}", "IMG_0002.jpg")
        with self.subTest("pictures that are passed are not fetched"):
            self.browser.run("performance.clearResourceTimings()")
            self.browser.keys(*[Keys.ARROW_RIGHT] * 7)
            self.browser.wait(title, "IMG_0009.jpg")
            self.browser.wait_until("document.querySelector('.viewer-layer.whole.shown')")
            fetched = (
                "performance.getEntriesByType('resource').map((each) => each.name)"
                ".filter((name) => name.includes('/file/') && /IMG_000[3-7]/.test(name))"
            )
            self.assertEqual(self.browser.run(fetched), [])
        self.assert_calm()

    def test_other_files(self) -> None:
        """Texts are shown, sound is played from where the user wants, and anything else is a card with downloads."""
        self.open(self.world["alice"], "/people/bob/files/shared/documents")
        self.browser.wait(f"{ROWS}.length", 3)
        self.view("shared/documents", "notes.txt")
        self.browser.wait(
            "document.querySelector('.viewer pre')?.textContent",
            "Notes of the summer.\nGrüße aus München.\n",
        )
        self.check_accessibility()
        self.browser.keys(Keys.ARROW_RIGHT)
        self.browser.wait_until("document.querySelector('.viewer-card')")
        self.assertIn("70 kB", self.browser.text(".viewer-card"))
        self.check_accessibility()
        self.browser.keys(Keys.ESCAPE)
        self.view("shared/music", "tone.wav")
        self.browser.wait("Math.round(document.querySelector('audio')?.duration)", 20)
        self.browser.run("void (document.querySelector('audio').currentTime = 17)")
        self.browser.wait_until(
            "document.querySelector('audio').currentTime >= 17 && !document.querySelector('audio').seeking"
        )
        self.check_accessibility()
        replies = (
            "performance.getEntriesByType('resource').filter((each) => each.name.includes('tone.wav'))"
            ".map((each) => each.responseStatus)"
        )
        self.assertIn(206, self.browser.run(replies))
        self.browser.keys(Keys.ESCAPE)
        film = self.world["bob"].shared / "music" / "film.webm"
        self.addCleanup(film.unlink)
        film.write_bytes(bytes(self.browser.run(FILM)))
        self.view("shared/music", "film.webm")
        self.browser.wait("document.querySelector('video')?.videoWidth", 64)
        self.browser.run("void document.querySelector('video').play()")
        self.browser.wait_until("document.querySelector('video').currentTime > 0")
        self.check_accessibility()
        self.browser.keys(Keys.ESCAPE)
        self.view("shared", "empty.txt")
        self.browser.wait_until("document.querySelector('.viewer-text .viewer-note')")
        self.assert_calm()
        self.browser.keys(Keys.ESCAPE)
        self.show("/people/bob/files/shared/documents/report.pdf")  # a link to a file
        self.browser.wait(f"{VIEWER}?.querySelector('h2').textContent", "report.pdf")
        self.browser.keys(Keys.ESCAPE)
        self.browser.wait(f"{ROWS}.length", 3)


class TroubleTests(FilesTestCase):
    """Downloads, and what can go wrong."""

    def test_downloads_and_trouble(self) -> None:
        """Files are saved where the user wants them; a folder that changes, vanishes or is out of reach says so."""
        odd = "odd [1]*.txt"
        world = self.own_world(
            "alice", "bob", shares={"bob": {**usual_share(), f"odd/{odd}": b"odd"}}
        )
        alice, bob = world["alice"], world["bob"]
        (bob.shared / "documents" / "away").symlink_to("/etc/passwd")
        self.open(alice, "/people/bob/files/shared/odd")
        self.browser.wait(NAMES, [odd])
        with self.subTest("one file into the usual folder, whose name looks like a pattern"):
            self.click_row(0, ".browse-check")
            self.browser.click(".browse-selection .button.primary")
            self.browser.wait_until("document.querySelector('.toast')")
            until(
                lambda: [
                    path
                    for path in alice.saved.rglob("*.txt")
                    if path.name == odd and path.read_bytes() == b"odd"
                ]
            )
        with self.subTest("a selection into a chosen folder"):
            self.show_folder("shared/documents", "2026")
            self.assertIn(
                "1 entry of this folder cannot be sent", self.browser.text(".notice.warning")
            )
            target = world.folder / "chosen"
            target.mkdir()
            self.browser.run(f"localStorage.setItem('p2pshare.folder', {json.dumps(str(target))})")
            self.click_row(0, ".browse-check")
            self.click_row(1, ".browse-check")
            self.browser.click(".browse-selection .browse-actions .button:nth-of-type(2)")
            self.browser.wait_until("document.querySelector('dialog[open]')")
            self.check_accessibility()
            self.browser.wait_until(
                "!document.querySelector('dialog[open] .button.primary').disabled"
            )
            self.browser.click("dialog[open] .button.primary")
            until(lambda: {"plan.md", "notes.txt"} <= {path.name for path in target.rglob("*")})
        with self.subTest("through the browser: one file, and several in one archive"):
            kept = world.folder / "browser"
            kept.mkdir()
            self.browser.keep_downloads(kept)
            self.browser.click(".browse-selection .browse-actions .button:nth-of-type(3)")
            archive = until(lambda: list(kept.glob("*.zip")))[0]
            with zipfile.ZipFile(archive) as opened:
                names = {name.rpartition("/")[2] for name in opened.namelist()}
            self.assertLessEqual({"plan.md", "notes.txt"}, names)
            self.click_row(0, ".browse-check")
            self.browser.wait(CHOSEN, [1])
            self.browser.click(".browse-selection .browse-actions .button:nth-of-type(3)")
            until(
                lambda: (
                    (kept / "notes.txt").exists() and "Notes" in (kept / "notes.txt").read_text()
                )
            )
        with self.subTest("a folder that changes while it is shown"):
            (bob.shared / "documents" / "new.txt").write_text("new")
            (bob.shared / "documents" / "report.pdf").unlink()
            self.browser.click("[aria-label='Read the folder again']")
            self.browser.wait(NAMES, ["2026", "new.txt", "notes.txt"])
            self.browser.wait(CHOSEN, [2])  # still the notes
        with self.subTest("a folder that is not there"):
            shutil.rmtree(bob.shared / "documents")
            self.browser.click("[aria-label='Read the folder again']")
            self.browser.wait_until("document.querySelector('.notice.bad')")
            self.assertIn("not shared with you", self.browser.text(".notice.bad"))
            self.assertNotIn("`", self.browser.text(".notice.bad"))  # no command for a terminal
            self.browser.look_as(320)
            width = "document.querySelector('.notice-text').getBoundingClientRect().width"
            self.assertGreater(self.browser.run(width), 160)
            self.browser.look_as(*SIZES["desktop"])
            self.check_accessibility()
            self.browser.click(".notice.bad .button:nth-of-type(2)")
            self.browser.wait(f"{NAMES}.includes('album')", True)
        with self.subTest("a person who goes away, and comes back"):
            self.show_folder("shared/album", "IMG_0001.jpg")
            bob.end()
            self.browser.wait(
                "document.querySelector('.notice.warning')?.textContent.includes('bob is offline')",
                True,
            )
            self.browser.wait(f"{ROWS}.length", 13)
            self.show("/people/bob/files/shared/music")
            self.browser.wait(
                "document.querySelector('.notice')?.textContent.includes('as soon as bob is online')",
                True,
            )
            bob.start()
            self.browser.wait(NAMES, ["tone.wav"])

    def test_silent_sharer(self) -> None:
        """Threat 153: a sharer that does not answer keeps only some of the browser's six connections busy."""
        files = {f"{n:02}.jpg": picture(64, 48) + bytes([n]) * 450_000 for n in range(40)}
        world = self.own_world("alice", "bob", shares={"alice": {}, "bob": files})
        self.open(world["alice"], "/people/bob/files/shared")
        self.browser.wait_until(f"{ROWS}.length")
        ask = """const done = arguments[arguments.length - 1];
            setTimeout(() => done("late"), 12000);  // of the 30 s for which a request waits for a sharer
            const asked = Array.from({length: arguments[0]}, () => fetch("/api/v1/session"));
            Promise.all(asked).then(() => done("answered"));"""
        world["bob"].pause()
        try:
            for name in ("30.jpg", "33.jpg", "36.jpg"):
                self.show(f"/people/bob/files/shared?show={name}")
                self.browser.wait("document.querySelector('.viewer h2')?.innerText", name)
                self.browser.wait_until("document.querySelector('.viewer-layer')")
            self.assertEqual(self.browser.run_async(ask, 1), "answered")
            self.show("/transfers")
            self.browser.wait("document.querySelector('.viewer')", None)
            self.assertEqual(self.browser.run_async(ask, 5), "answered")
        finally:
            world["bob"].go_on()

    def test_hostile_files(self) -> None:
        """Names, pictures, texts and drawings of strangers run and break nothing: threats 150, 151 and 152."""
        world = self.own_world(
            "alice", "bob", shares={"bob": {**hostile_share(), "endless.txt": b"line\n" * 300_000}}
        )
        self.open(world["alice"], "/people/bob/files/shared")
        count = len(hostile_share()) + 1
        self.browser.wait(f"{ROWS}.length", count)
        for width, height in SIZES.values():
            self.browser.look_as(width, height)
            self.browser.wait("document.documentElement.scrollWidth <= innerWidth", True)
            heights = f"new Set([...{ROWS}].map((row) => row.offsetHeight)).size"
            self.assertEqual(self.browser.run(heights), 1)
        self.assertEqual(
            self.browser.run(
                f"{LIST}.querySelectorAll('script, [onerror], object, iframe').length"
            ),
            0,
        )
        names = self.browser.run(NAMES)
        self.assertNotIn("\u202e", "".join(names))
        self.assertNotIn("\n", "".join(names))
        self.assertLess({"\u2423", "a\ufffd", "a\ufffdb\ufffd.txt"}, set(names))
        self.assertIn(HOSTILE_NAMES[0], names)
        self.browser.look_as(*SIZES["desktop"])
        self.check_accessibility()
        cards = {
            "bomb.png": "30,000 \u00d7 30,000",
            "text.jpg": "not a picture",
            "svg.jpg": "not a picture",
        }
        for name, reason in cards.items():
            self.view("shared", name)
            self.browser.wait_until("document.querySelector('.viewer-card [role=alert]')")
            self.assertIn(reason, self.browser.text(".viewer-card"))
            self.browser.keys(Keys.ESCAPE)
        self.view("shared", "truncated.jpg")
        self.browser.wait_until("document.querySelector('.viewer-layer.whole')")
        self.browser.keys(Keys.ESCAPE)
        for name in ("script.svg", "page.html"):
            self.view("shared", name)
            self.browser.wait_until(
                "document.querySelector('.viewer pre')?.textContent.includes('window.evil')"
            )
            self.browser.keys(Keys.ESCAPE)
        self.view("shared", "endless.txt")
        for shown in (65_536, 262_144, 1_048_576):
            self.browser.wait(
                "document.querySelector('.viewer-text')?.textContent.match(/line/g).length",
                round(shown / 5),
            )
            self.assertEqual(
                shown < 1_048_576,
                self.browser.run("Boolean(document.querySelector('.viewer-text button'))"),
            )
            if shown < 1_048_576:
                self.browser.click(".viewer-text button")
        self.assertIs(self.browser.run("'evil' in window"), False)
        complaints = [each for each in self.browser.complaints() if "/api/v1/preview/" not in each]
        self.assertEqual(complaints, [])  # a picture without a preview is a reply 404
