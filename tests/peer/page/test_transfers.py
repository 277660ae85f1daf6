"""Downloads and uploads by the API of the page: each reply and each event is as its document says."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import deferLater

from tests.peer.page.page_case import PageTestCase


class TransferTests(PageTestCase):
    """Alice downloads from bob, by her page."""

    async def event(self, stream: Any, holds: Any) -> dict[str, Any]:
        """Return the first event `job` for which something holds."""
        while True:
            for kind, fields in stream.events:
                if kind == "job" and holds(fields):
                    return dict(fields)
            await deferLater(self.real_reactor, 0.02)

    async def test_jobs(self) -> None:
        """A download is asked for, followed by events at both ends, repeated, and removed."""
        (self.shared / "cat.jpg").write_bytes(b"miaow")
        _, browser = await self.page("alice")
        await self.started("bob")
        other = await self.browser("bob")
        stream, others = await browser.follow(), await other.follow()
        asked = await browser.do(
            "get", name="bob", paths=["stuff/cat.jpg", "stuff/none"], folder=str(self.saved)
        )
        self.assertEqual((asked.status, asked.fields["title"]), (200, "stuff/cat.jpg and 1 more"))
        known_by = {"id": asked.fields["id"]}
        failed = await self.event(stream, lambda job: job["state"] == "failed")
        self.assertEqual((failed["why"], failed["files_done"]), ("some_failed", 1))
        self.assertEqual((self.saved / "cat.jpg").read_bytes(), b"miaow")
        up = await self.event(others, lambda job: job["direction"] == "up")
        self.assertEqual((up["kind"], up["name"]), ("upload", "alice"))
        (failure,) = (await browser.do("job", **known_by)).fields["failures"]
        self.assertEqual((failure["path"], failure["why"]), ("stuff/none", "not_found"))
        (self.shared / "none").write_bytes(b"here")
        self.assertEqual((await browser.do("job_retry", **known_by)).status, 200)
        await self.event(stream, lambda job: job["state"] == "done")
        refused = await browser.do("job_pause", **known_by)
        self.assertEqual((refused.status, refused.fields["error"]), (403, "JobNotSo"))
        self.assertEqual(
            [each["id"] for each in (await browser.do("jobs")).fields["jobs"]], [known_by["id"]]
        )
        for action in ("jobs_pause", "jobs_go_on"):
            self.assertEqual((await browser.do(action)).fields, {"count": 0})
        self.assertGreater(max((await browser.do("traffic")).fields["down"]), 0)
        self.assertEqual((await browser.do("jobs_clear")).fields, {"count": 1})
        await self.event(stream, lambda job: job.get("removed"))
        missing = await browser.do("job_remove", **known_by)
        self.assertEqual((missing.status, missing.fields["error"]), (404, "NoSuchJob"))
        stream.close()
        others.close()
