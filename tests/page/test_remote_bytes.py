"""Bytes of a person's files in Chromium: sound that plays and jumps while it arrives, a zip, and no scripts."""

from __future__ import annotations

import io
import random
import struct
import zipfile

from tests.page.page_case import PageTestCase
from tests.page.world import until

RATE = 48_000  # samples a second
SECONDS = 600
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" onload="window.evil=1"><script>window.evil=1</script></svg>'
HTML = (
    b"<html><script>window.evil=1; parent.evil=1</script><img src=x onerror='parent.evil=1'></html>"
)


def wave(seconds: int) -> bytes:
    """Return a WAV file of this length: a quiet noise on one channel, 16 bits a sample."""
    size = 2 * RATE * seconds
    head = struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        *(b"RIFF", 36 + size, b"WAVE", b"fmt ", 16, 1, 1, RATE, 2 * RATE, 2, 16, b"data", size),
    )
    second = bytes(each % 7 for each in random.Random(1).randbytes(2 * RATE))
    return head + second * seconds


class RemoteBytesTests(PageTestCase):
    """What a browser does with the bytes of another person."""

    def test_bytes(self) -> None:
        """A long sound plays at once and jumps without the rest of it; a zip is whole; nothing remote runs."""
        shares = {"bob": {"long.wav": wave(SECONDS), "x.svg": SVG, "x.html": HTML, "x.jpg": HTML}}
        world = self.own_world("alice", "bob", shares={"alice": {}, **shares})
        self.open(world["alice"])
        played = self.browser.run_async(
            """const [path, to, done] = arguments;
            const sound = document.createElement("video");  // which plays without a click if it is muted
            sound.muted = true;
            sound.src = path;
            const tell = (error) => done({at: sound.currentTime, length: sound.duration, error});
            sound.onerror = () => tell(sound.error.message);
            sound.onplaying = () => {
              sound.onplaying = null;
              sound.ontimeupdate = () => {
                if (sound.currentTime > to) {
                  tell(null);
                  sound.removeAttribute("src");
                  sound.load();
                } else if (sound.currentTime > 0.2 && sound.currentTime < to - 1) {
                  sound.currentTime = to;
                }
              };
            };
            sound.play().catch((error) => tell(String(error)));""",
            "/api/v1/file/bob/shared/long.wav",
            SECONDS - 100,
        )
        self.assertIsNone(played["error"])
        self.assertAlmostEqual(played["length"], SECONDS, delta=1)
        self.assertGreater(played["at"], SECONDS - 100)
        sent = sum(each["bytes"] for each in world["bob"].ask("status")["uploads"])
        self.assertLess(
            sent, 0.8 * 2 * RATE * SECONDS, "the part that was jumped over did not come"
        )

        size = self.browser.run_async(
            """const done = arguments[0];
            fetch("/api/v1/archive/bob?path=shared/x.svg&path=shared/x.html")
              .then((reply) => reply.arrayBuffer())
              .then((data) => done(Array.from(new Uint8Array(data))));"""
        )
        with zipfile.ZipFile(io.BytesIO(bytes(size))) as found:
            self.assertEqual(found.read("x.html"), HTML)

        for name in ("x.svg", "x.html", "x.jpg"):
            outcome = self.browser.run_async(
                """const [path, done] = arguments;
                const frame = document.createElement("iframe");
                const picture = new Image();
                picture.onload = () => done("a picture");
                picture.onerror = () => setTimeout(() => done("no picture"), 200);
                document.body.append(frame);
                frame.src = path;
                picture.src = path;""",
                f"/api/v1/file/bob/shared/{name}",
            )
            self.assertEqual(outcome, "no picture", name)
        self.assertIs(self.browser.run("'evil' in window"), False)
        self.browser.complaints()  # of the frames, which the policy does not allow
        until(lambda: not any(each["current"] for each in world["bob"].ask("status")["uploads"]))
