"""The ledger: durability at each step, and what is done with a damaged, newer or full one."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

from p2pshare.errors import LedgerUnusable
from p2pshare.storage.offers.incoming import IncomingOffer
from p2pshare.storage.offers.ledger import _ADDED_COLUMNS, Ledger
from p2pshare.wire.offers.messages import InboxState
from tests.storage.offers.ledger_case import LedgerTestCase, incoming, line
from tests.storage.small_disk import small_disk

KILLED = 9
STEPS_MAX = 100  # statements of the test below, and more


class CrashTests(LedgerTestCase):
    def killed_at(self, step: int, work: Callable[[], object]) -> bool:
        """Run `work` in a process that dies before the statement of that number; whether it has died."""
        child = os.fork()
        if child == 0:
            left = [step]

            def count(_: str) -> None:
                left[0] -= 1
                if left[0] < 0:
                    os._exit(KILLED)

            try:
                self.ledger.close()  # a connection must not be used across a fork
                self.begin()
                with self.ledger.changing() as database:
                    database.set_trace_callback(count)
                work()
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status) == KILLED

    def test_killed_at_each_step(self) -> None:
        """A step that belongs together is written as a whole or not at all, whenever the process is killed."""
        before = incoming(state=InboxState.ACCEPTED)
        done = replace(before, state=InboxState.DONE, root="00", receipt="r")
        seen = set()

        for step in range(STEPS_MAX):
            self.incoming.update(before)
            with self.ledger.changing() as database:
                database.execute("DELETE FROM history")
            has_died = self.killed_at(step, lambda: self.finish(done))
            self.again()
            (offer,), entries = self.incoming.all(), self.history.page(9)
            found = offer.state, len(entries)
            self.assertIn(found, {(InboxState.ACCEPTED, 0), (InboxState.DONE, 1)})
            seen.add(found)
            if not has_died:
                break
        self.assertFalse(has_died)
        self.assertEqual(len(seen), 2)

    def finish(self, done: IncomingOffer) -> None:
        with self.ledger.changing():
            self.incoming.update(done)
            self.history.add(line())

    def test_error_within(self) -> None:
        """An error within a change undoes all of it, also what belongs to a change around it."""

        def fail() -> None:
            with self.ledger.changing():
                self.incoming.add(incoming(1))
                with self.ledger.changing():
                    self.incoming.add(incoming(2))
                    raise RuntimeError

        self.assertRaises(RuntimeError, fail)
        self.assertEqual(self.incoming.all(), ())
        self.incoming.add(incoming(3))
        self.assertEqual(len(self.incoming.all()), 1)


class TroubleTests(LedgerTestCase):
    def assert_unusable(self, pattern: str) -> None:
        with self.assertRaisesRegex(LedgerUnusable, pattern):
            Ledger(self.path, wait=0.0).open()

    def test_private(self) -> None:
        """Nobody else can read the database."""
        self.incoming.add(incoming())
        for each in self.folder.iterdir():
            self.assertEqual(stat.S_IMODE(each.stat().st_mode), 0o600, each)

    def test_link(self) -> None:
        """A link in its place is not followed."""
        self.path = self.folder / "link"
        self.path.symlink_to("elsewhere")
        self.assert_unusable("symbolic link")

    def test_newer(self) -> None:
        """A database of a newer version is left as it is."""
        self.incoming.add(incoming())
        self.ledger.close()
        with closing(sqlite3.connect(self.path)) as database:
            database.execute("PRAGMA user_version = 2")
        before = self.path.read_bytes()
        self.assert_unusable("newer version of p2pshare. Use that version")
        self.assertEqual(self.path.read_bytes(), before)

    def test_older(self) -> None:
        """A database of an older version gets the columns that it lacks, and its rows keep their values."""
        self.incoming.add(incoming(is_paused=True, files_here=1, bytes_here=2))
        self.ledger.close()
        with closing(sqlite3.connect(self.path)) as database:
            for table, column in _ADDED_COLUMNS:
                database.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
        self.begin()
        self.assertEqual(self.incoming.all(), (incoming(),))

    def test_another(self) -> None:
        """A database of another program is left as it is."""
        self.path = self.folder / "another"
        with closing(sqlite3.connect(self.path)) as database:
            database.execute("CREATE TABLE t (x)")
        self.assert_unusable("it has other tables")

    def test_damaged(self) -> None:
        """A damaged database is an error wherever it is damaged, and is not emptied."""
        for number in range(50):
            self.incoming.add(incoming(number, note="x" * 900))
        self.ledger.close()
        whole = self.path.read_bytes()
        self.path.write_bytes(b"no database at all, but a text that is rather long" * 40)
        self.assert_unusable(r"it is damaged \(.*\). Move it away to go on without it")
        for at in (8192, len(whole) // 2):
            damaged = whole[:at] + b"\xff" * 4096 + whole[at + 4096 :]
            self.path.write_bytes(damaged)
            self.assert_unusable("it is damaged")
            self.assertEqual(self.path.read_bytes(), damaged)
        self.path.write_bytes(whole)
        self.begin()
        self.assertEqual(len(self.incoming.all()), 50)

    def test_wrong_values(self) -> None:
        """A row that makes no sense is damage, too."""
        self.incoming.add(incoming())
        for column, value in (("state", "x"), ("items", "[1]"), ("items", "{"), ("key", "x")):
            with self.ledger.changing() as database:
                ((before,),) = database.execute(f"SELECT {column} FROM incoming")
                database.execute(f"UPDATE incoming SET {column} = ?", (value,))
            with self.assertRaisesRegex(LedgerUnusable, "it is damaged"):
                self.incoming.all()
            with self.ledger.changing() as database:
                database.execute(f"UPDATE incoming SET {column} = ?", (before,))
        self.assertEqual(self.incoming.all(), (incoming(),))

    def test_in_use(self) -> None:
        """While another process writes, a change fails, and succeeds later."""
        with closing(sqlite3.connect(self.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            self.assertRaisesRegex(LedgerUnusable, "another process", self.incoming.add, incoming())
        self.incoming.add(incoming())

    def test_closed(self) -> None:
        """A closed ledger raises an error, and may be closed again."""
        self.ledger.close()
        self.ledger.close()
        self.assertRaisesRegex(LedgerUnusable, "closed", self.incoming.all)
        self.assertRaisesRegex(LedgerUnusable, "closed", self.incoming.add, incoming())

    def test_full_disk(self) -> None:
        """On a full disk a change fails as a whole; what was there is readable, and changes succeed with room again."""
        self.folder = small_disk(self)
        self.path = self.folder / "ledger"
        self.begin()
        self.incoming.add(incoming())
        filler = self.folder / "filler"
        free = os.statvfs(self.folder).f_bavail * os.statvfs(self.folder).f_frsize
        filler.write_bytes(bytes(free - 64 * 1024))

        def fill() -> None:
            for number in range(1, 500):
                with self.ledger.changing():
                    self.incoming.add(incoming(number, note="x" * 900))
                    self.history.add(line(number))

        self.assertRaisesRegex(LedgerUnusable, "the disk is full. Make room", fill)
        kept = len(self.incoming.all())
        self.assertEqual(len(self.history.page(1000)), kept - 1)
        filler.unlink()
        self.incoming.add(incoming(999))
        self.again()
        self.assertEqual(len(self.incoming.all()), kept + 1)
