"""The sending side of the page without a browser: drafts over HTTP, local folders, and who fetched what."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import deferLater

from tests.peer.page.page_case import Browser, PageTestCase, Told

LARGE = bytes(range(256)) * 8192  # 2 MiB, more than any buffer between


class ReceivedFilesTests(PageTestCase):
    async def test_saved(self) -> None:
        """Threat 144: the browser saves what an offer has brought, in ranges; no path and no link leads elsewhere."""
        _, browser = await self.page()
        bob, folder = await self.started("bob"), Path(self.mktemp()).absolute()
        folder.mkdir()
        (folder / "evil.html").write_bytes(LARGE)
        assert bob._control is not None
        wanted = {"paths": [str(folder / "evil.html")], "to": ["alice"]}
        sent = await bob._control.perform("send", wanted)
        while not (await browser.do("inbox")).fields["items"]:
            await deferLater(reactor, 0.02)
        offer_id, saved = sent["id"], folder / "saved"
        url = f"/api/v1/received/{offer_id}/0"
        self.assertEqual((await browser.ask("GET", url)).status, 404)
        await browser.do("accept_offer", id=offer_id, folder=str(saved))
        while (await browser.do("inbox")).fields["items"][0]["state"] != "done":
            await deferLater(reactor, 0.02)
        told = await browser.ask("GET", url)
        self.assertEqual((told.status, told.body), (200, LARGE))
        self.assertIn("attachment", told.headers["content-disposition"])
        self.assertIn("sandbox", told.headers["content-security-policy"])
        self.assertEqual(told.headers["content-type"], "application/octet-stream")
        told = await browser.ask("GET", url, Range="bytes=65530-65545")
        self.assertEqual((told.status, told.body), (206, LARGE[65530:65546]))
        known = f"/api/v1/received/{offer_id}"
        for other in (
            f"{known}/1",
            f"{known}/-1",
            f"{known}/00",
            f"{known}/%2E%2E",
            known,
            f"{known}/0/x",
            url[:-4] + "/0",
        ):
            self.assertIn((await browser.ask("GET", other)).status, (400, 404), other)
        (saved / "evil.html").unlink()
        (saved / "evil.html").symlink_to("/etc/passwd")
        self.assertNotEqual((await browser.ask("GET", url)).status, 200)
        self.assertEqual((await browser.ask("GET", url, Cookie=None)).status, 401)


class DraftRouteTests(PageTestCase):
    async def put(self, browser: Browser, draft: str, path: str, content: bytes = b"x") -> Told:
        """Bring a file."""
        return await browser.ask("PUT", f"/api/v1/draft/{draft}/{path}", content)

    def there(self, draft: str) -> dict[str, int]:
        """Return the files of a draft with their sizes."""
        folder = self.data_of("alice") / "outgoing" / draft
        found = (each for each in folder.rglob("*") if each.is_file())
        return {str(each.relative_to(folder)): each.stat().st_size for each in found}

    async def test_sent(self) -> None:
        """Dropped files and folders are sent with their names."""
        _, browser = await self.page()
        told = await browser.do("draft_begin", files=3, bytes=len(LARGE))
        draft = told.fields["draft"]
        for path, content in (("photos/caf%C3%A9%20%26%23.jpg", LARGE), ("a%25b.txt", b"")):
            told = await self.put(browser, draft, path, content)
            self.assertEqual((told.status, told.fields.get("bytes")), (200, len(content)), told)
        self.assertEqual((await self.put(browser, draft, "photos/empty/", b"")).status, 200)
        self.assertEqual(self.there(draft), {"photos/café &#.jpg": len(LARGE), "a%b.txt": 0})
        told = await browser.do("send", draft=draft, to=["bob"], check=True)
        counts = [told.fields[each] for each in ("files", "folders", "bytes")]
        self.assertEqual(counts, [2, 2, len(LARGE)])
        await self.started("bob")
        offer = (await browser.do("send", draft=draft, to=["bob"])).fields
        self.assertEqual([each["name"] for each in offer["items"]], ["a%b.txt", "photos"])
        told = await self.put(browser, draft, "late")
        self.assertEqual((told.status, told.fields["error"]), (400, "WrongUsage"))

    async def test_refused(self) -> None:
        """Threat 140: paths that lead elsewhere, drafts that do not exist, and other pages bring nothing."""
        _, browser = await self.page()
        draft = (await browser.do("draft_begin")).fields["draft"]
        for path in ("..%2Fx", "a/../b", "%00", "a//b", ".p2pshare-x", "%FF", "", "x" * 256):
            self.assertEqual((await self.put(browser, draft, path)).status, 400, path)
        for other in ("a" * 16, "..", "%2E%2E"):
            self.assertEqual((await self.put(browser, other, "x")).status, 400, other)
        foreign: list[dict[str, str]] = [{"X_CSRF_Token": ""}, {"Origin": "http://evil.example"}]
        for headers in foreign:
            told = await browser.ask("PUT", f"/api/v1/draft/{draft}/x", b"x", **headers)
            self.assertEqual(told.status, 403, headers)
        self.assertEqual(self.there(draft), {})
        self.assertEqual(os.listdir(self.data_of("alice") / "outgoing"), [draft])
        told = await browser.do("draft_begin", bytes=2**52)
        self.assertEqual(told.status, 400)
        self.assertEqual(os.listdir(self.data_of("alice") / "outgoing"), [draft])

    async def test_broken_off(self) -> None:
        """Threat 140: a browser that leaves in the middle of a file leaves nothing of it."""
        _, browser = await self.page()
        draft = (await browser.do("draft_begin")).fields["draft"]
        path = f"/api/v1/draft/{draft}/x"
        connection = await browser.send(browser.head("PUT", path, len(LARGE)) + LARGE[:100_000])
        await self.until(lambda: bool(self.there(draft)))
        connection.transport.abortConnection()
        await self.until(lambda: not self.there(draft))
        self.assertEqual((await self.put(browser, draft, "x", b"12")).status, 200)
        self.assertEqual((await browser.do("draft_discard", draft=draft)).status, 200)
        self.assertEqual(os.listdir(self.data_of("alice") / "outgoing"), [])

    async def test_folders(self) -> None:
        """A folder of this machine is listed in parts, and made; what fails is said in a sentence."""
        _, browser = await self.page()
        for number in range(1005):
            (self.saved / f"f{number:04}").mkdir()
        found: list[str] = []
        reply: dict[str, Any] = {"more": True}
        while reply["more"]:
            after = found[-1] if found else None
            reply = (await browser.do("local_folders", path=str(self.saved), after=after)).fields
            found += [each["name"] for each in reply["entries"]]
        self.assertEqual(found, [f"f{number:04}" for number in range(1005)])
        told = await browser.do("local_folder_make", path=str(self.saved / "new"))
        self.assertEqual((told.status, (self.saved / "new").is_dir()), (200, True))
        told = await browser.do("local_folder_make", path=str(self.saved / "new"))
        self.assertIn("something else has this name", told.fields["detail"])
        told = await browser.do("local_folders", path=str(self.saved / "gone"))
        self.assertEqual((told.status, told.fields["error"]), (409, "CannotRead"))
        self.assertIn("no such file or folder", told.fields["detail"])
