"""Tests of `p2pshare.peer.fetch.plan` alone: what a job asks for, whatever is listed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import P2pshareError, RemoteNotFound, RemotePathTooLong, RemoteProtocolError
from p2pshare.peer.fetch.plan import JobItem, JobPlan, Wanted, WantedFile
from p2pshare.peer.fetch.remote_faults import error_of
from p2pshare.wire.paths import DEPTH_MAX, PATH_MAX, RemotePath, is_within_bounds, parse_path
from p2pshare.wire.transfer_messages import Entry, EntryKind, Fault, Listing


class Sharer:
    """Lists what a test wants, page by page."""

    name = "alice"

    def __init__(self, folders: dict[str, list[Entry]], page: int = 2) -> None:
        self.folders = folders
        self.page = page
        self.asked: list[RemotePath] = []

    async def list(
        self, path: RemotePath, after: RemotePath = (), limit: int = 0, *, recursive: bool = False
    ) -> Listing:
        self.asked.append(path)
        found = self.folders.get("/".join(path))
        if found is None:
            raise RemoteNotFound(name="alice", path="/".join(path))
        left = [each for each in found if each.path > after and (recursive or len(each.path) == 1)]
        return Listing(1, tuple(left[: self.page]), len(left) > self.page)


def entry(*path: str, kind: EntryKind = EntryKind.FILE) -> Entry:
    return Entry(path, kind, 0, 0)


class PlanTests(SynchronousTestCase):
    def plan(self, sharer: Any, *paths: str) -> tuple[list[str], dict[str, P2pshareError]]:
        """The files that are wanted, and what failed."""
        failed: dict[str, P2pshareError] = {}
        items = [JobItem(parse_path(path), Path("/inbox")) for path in paths]
        plan = JobPlan(sharer, items, lambda path, error: failed.update({"/".join(path): error}))

        async def all_pages() -> list[Wanted]:
            return [wanted async for page in plan.pages() for wanted in page.wanted()]

        wanted = self.successResultOf(Deferred.fromCoroutine(all_pages()))
        return ["/".join(each.path) for each in wanted if isinstance(each, WantedFile)], failed

    def test_too_deep(self) -> None:
        """An entry whose path is too long for any message fails alone: requesting it would end the session."""
        deep, long = ("d",) * DEPTH_MAX, ("x" * 255,) * (PATH_MAX // 256)
        self.assertTrue(is_within_bounds(deep) and is_within_bounds(long))
        listed = [entry(*deep), entry("fine"), entry("late"), entry(*long)]
        for item in "s", "?":
            sharer = Sharer({"s": listed, "": [entry("s", kind=EntryKind.FOLDER)]})
            wanted, failed = self.plan(sharer, item)
            self.assertEqual(wanted, ["s/fine", "s/late"])
            self.assertEqual(set(failed), {"/".join(("s", *deep)), "/".join(("s", *long))})
            for error in failed.values():
                self.assertIsInstance(error, RemotePathTooLong)

    def test_globs_too_deep(self) -> None:
        """A glob whose meaning would be too long is not asked about; what it means otherwise is."""
        short, long = "a", "a" * 255
        rest = "/".join(["r" * 255] * 15)
        sharer = Sharer(
            {
                "": [entry(short, kind=EntryKind.FOLDER), entry(long, kind=EntryKind.FOLDER)],
                f"{short}/{rest}": [entry("s" * 250, kind=EntryKind.FOLDER)],
                f"{short}/{rest}/{'s' * 250}": [entry("in"), entry("i" * 255)],
            }
        )
        wanted, failed = self.plan(sharer, f"*/{rest}/{'s' * 250}")
        self.assertEqual(wanted, [f"{short}/{rest}/{'s' * 250}/in"])
        self.assertEqual([len(each) for each in failed], [2 + 15 * 256 + 250 + 1 + 255])
        self.assertTrue(all(map(is_within_bounds, sharer.asked)))
        _, failed = self.plan(sharer, f"??*/{rest}/{'s' * 250}")
        (error,) = failed.values()
        self.assertIsInstance(error, RemoteNotFound)

    def test_top_is_a_file(self) -> None:
        """Threat 16: a sharer whose shares are said to be a file fails by itself, with a sentence."""

        class Liar:
            name = "alice"

            async def list(self, path: RemotePath, *_: object, **__: object) -> Listing:
                raise error_of(Fault.IS_FILE, "alice", path)

        wanted, failed = self.plan(Liar(), "", "*", "x")
        self.assertEqual(wanted, ["*", "x"])
        self.assertIsInstance(failed.pop(""), RemoteProtocolError)
        self.assertEqual(failed, {})
