"""Tests of `p2pshare.ui.verbs.fetching.updating`, and of the destinations of a job that is repeated."""

from __future__ import annotations

import io
import json
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import ChangedHere, WrongUsage
from p2pshare.peer.fetch.job import FetchJob
from p2pshare.peer.fetch.plan import JobItem
from p2pshare.peer.fetch.survey import UpdateCounts, UpdateSurvey
from p2pshare.storage.incoming.saved_files import SavedFiles
from p2pshare.ui.arguments import parse_arguments
from p2pshare.ui.output import Output
from p2pshare.ui.terminal.capabilities import Terminal
from p2pshare.ui.verbs.fetching.updating import UpdateJob, sentence_of
from p2pshare.ui.verbs.job import Destinations
from tests.peer.memory_sharer import MemorySharer


class UpdateJobTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.alice = MemorySharer()
        self.alice.put("s/a", b"a")
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.saved = SavedFiles(self.folder.with_suffix(".sqlite"))
        self.addCleanup(self.saved.close)
        self.opening = Destinations(self.saved, portable_names=False)
        self.addCleanup(self.opening.close)
        self.stdout = io.StringIO()

    def run_job(self, make_job: Any) -> Any:
        self.opening.begin_job("alice")
        items = [JobItem(("s",), self.folder, update=True)]
        failed: list[Exception] = []
        job = make_job(self.alice.remote(), items, on_failed=lambda _, why: failed.append(why))
        running = Deferred.fromCoroutine(job.run())
        self.alice.pass_time(1)
        progress = self.successResultOf(running)
        self.assertEqual((job.progress, job.files_total), (progress, progress.files_total))
        return progress, failed

    def test_told_first(self) -> None:
        """People and programs hear how many files there are of each kind, before one is replaced."""
        terminal = Terminal.detect(self.stdout, {})
        for json_wanted in (True, False):
            survey = partial(UpdateSurvey, open_folder=self.opening)
            output = Output(terminal, terminal, json=json_wanted)
            maker = partial(FetchJob, open_folder=self.opening)
            make = partial(UpdateJob, survey=survey, make_job=maker, output=output)
            self.run_job(make)
        told, said = self.stdout.getvalue().splitlines()
        counts = {"new": 1, "changed": 0, "doubtful": 0, "kept": 0, "up_to_date": 0, "bytes": 1}
        self.assertEqual(json.loads(told), {"event": "update", "from": "alice", **counts})
        self.assertEqual(said, "alice: 1 up to date.")
        self.alice.put("s/a", b"other")
        self.alice.versions["s", "a"] = "v2"
        (self.folder / "s" / "a").write_bytes(b"mine")
        _, (error,) = self.run_job(make)
        self.assertIsInstance(error, ChangedHere)
        self.assertIn("alice: 1 kept, since", self.stdout.getvalue())

    def test_repeated(self) -> None:
        """The names of a job are free for it when it is repeated, and for nobody else."""
        make = partial(FetchJob, open_folder=self.opening)
        for _ in range(2):
            self.run_job(make)
        self.assertEqual([each.name for each in (self.folder / "s").iterdir()], ["a"])

    def test_sentences(self) -> None:
        """A sentence has only what there is."""
        for counts, sentence in (
            (UpdateCounts(), "0 up to date."),
            (
                UpdateCounts(new=2, changed=1, size=2048),
                "2 new and 1 changed files to fetch, 2.0 KiB.",
            ),
            (UpdateCounts(doubtful=3, up_to_date=5), "3 to compare; 5 up to date."),
        ):
            self.assertEqual(sentence_of(counts), sentence)

    def test_flags(self) -> None:
        """Standard output, previews and the classic protocol have no update."""
        for words in (["a:b", "-"], ["a:b", "--preview"], ["a:b", "--classic"]):
            self.assertRaises(WrongUsage, parse_arguments, ["get", "--update", *words])
