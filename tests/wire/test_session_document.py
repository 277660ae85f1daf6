"""docs/protocol-sessions.md: its vectors are those of `session_vectors.json`, and its bounds those of the code."""

from __future__ import annotations

import json
import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.back_off import JITTER
from p2pshare.core.credit import CREDIT_WINDOW
from p2pshare.core.incoming_transfer import DIGESTS_AHEAD_MAX
from p2pshare.core.message_budget import MESSAGES_BURST, MESSAGES_PER_S
from p2pshare.core.receiver import RUNS_OF_BYTES_MAX
from p2pshare.core.session import (
    BEFORE_OPEN_MAX,
    EARLY_BYTES_MAX,
    EARLY_MAX,
    GREETING,
    IDLE,
    RETRY_AFTER,
    SILENCE,
)
from p2pshare.core.sharer_transfers import SharerLimits
from p2pshare.net.session import dialling as session_client
from p2pshare.net.session.driver import EARNING_BYTES
from p2pshare.peer.fetch.link import SLOWEST_READ
from p2pshare.peer.fetch.remote import PATIENCE, RETRY_MAX
from p2pshare.peer.share.acceptor import SessionLimits
from p2pshare.peer.share.admission import REMEMBER, REMEMBER_NO
from p2pshare.storage.shares.listing import LINKS_DEEP_MAX
from p2pshare.wire.blocks import BLOCK_SIZE
from p2pshare.wire.control_messages import ANSWERS, ANY_TIME, GREETINGS, REQUESTS
from p2pshare.wire.frames import CONTROL_MAX, PIECE_MAX
from p2pshare.wire.paths import DEPTH_MAX, PATH_MAX
from p2pshare.wire.session_messages import AGENT_MAX, ALPN, CAP_SESSIONS, Refusal
from p2pshare.wire.transfer_messages import (
    DIGESTS_MAX,
    DONE_MAX,
    OMITTED_MAX,
    PAGE_BYTES_MAX,
    PAGE_MAX,
    RUNS_MAX,
    TITLE_MAX,
    VERSION_MAX,
    Cancelled,
    Fault,
    Omitted,
)

DOCUMENT = (Path(__file__).parents[2] / "docs" / "protocol-sessions.md").read_text()
VECTORS = json.loads((Path(__file__).parent / "session_vectors.json").read_text())
PROSE, TABLES = DOCUMENT.split("## Vectors")
ROWS = [
    [cell.strip() for cell in line.strip("| ").split(" | ")]
    for line in TABLES.splitlines()
    if line.startswith("| ") and "|---" not in line
]
WORDS = " ".join(PROSE.split())


class SessionDocumentTests(SynchronousTestCase):
    """The vectors and numbers of the document."""

    def test_messages(self) -> None:
        """There is a row for each message of the vectors, and no other."""
        shown = [[cell.strip("`") for cell in row] for row in ROWS if "`{" in row[1]]
        self.assertEqual([[e["m"], e["json"], e["frame"]] for e in VECTORS["messages"]], shown)

    def test_piece(self) -> None:
        """The piece of a file is that of the vectors."""
        piece = VECTORS["piece"]
        row = [str(piece["transfer"]), str(piece["offset"]), f"`{piece['data']}`"]
        self.assertIn([*row, f"`{piece['frame']}`"], ROWS)

    def test_files(self) -> None:
        """The digests and roots are those of the vectors."""
        for file in VECTORS["files"]:
            digests = " ".join(f"`{digest}`" for digest in file["digests"])
            line = f"| `{file['byte']}` | {file['size']} | {digests} | `{file['root']}` |"
            self.assertIn(line.replace("|  |", "| |"), TABLES)

    def test_words(self) -> None:
        """The document names all messages, and all reasons in them."""
        told = set(re.findall(r"`([a-z_]+)`", PROSE))
        self.assertLessEqual(
            {each.WORD for each in (*GREETINGS, *ANY_TIME, *REQUESTS, *ANSWERS)}, told
        )
        for kind in (Refusal, Fault, Cancelled, Omitted):
            self.assertLessEqual({each.value for each in kind}, told)

    def test_bounds(self) -> None:
        """The numbers in the text are those of the code."""
        limits, serving = SessionLimits(), SharerLimits()
        for sentence in (
            f"A *block* is 1 MiB ({BLOCK_SIZE:_} bytes)".replace("_", " "),
            f"length <= {CONTROL_MAX:_}".replace("_", " "),
            f"length <= {PIECE_MAX + 12:_}".replace("_", " "),
            f"`{ALPN.decode()}`",
            f"`{CAP_SESSIONS}`",
            f"in up to {AGENT_MAX} characters",
            f"`limit` (1 to {PAGE_MAX})",
            f"these files, 1 to {DONE_MAX},",
            f"up to {RUNS_MAX} runs",
            f"the digests of 1 to {DIGESTS_MAX} consecutive blocks",
            f"At most {DIGESTS_AHEAD_MAX} digests that",
            f"outstanding ({CREDIT_WINDOW // BLOCK_SIZE} MiB) and {BLOCK_SIZE // 2**20} MiB for each",
            f"at most {RUNS_OF_BYTES_MAX:_} separate runs".replace("_", " "),
            f"`title` has up to {TITLE_MAX}",
            f"1 to {VERSION_MAX} characters that mean",
            f"not welcomed {GREETING:g} s after",
            f"timeout is {session_client.SILENCE:g} s (`--timeout`), for an acceptor {SILENCE:g} s",
            f"an opener may send up to {EARLY_MAX} messages of a requester",
            f"at most {EARLY_BYTES_MAX:_} bytes together".replace("_", " "),
            f"at most {BEFORE_OPEN_MAX} messages, early requests not counted",
            f"a budget of {MESSAGES_BURST} messages. It grows by {MESSAGES_PER_S:g} each second",
            f"with each {EARNING_BYTES // 1024} KiB of files",
            f"`pong` for {IDLE / 60:g} minutes",
            f"{limits.half_open} connections that are not welcomed yet, {limits.half_open_per_host} of them",
            f"{limits.total} sessions, {limits.per_key} of one key",
            f"{serving.transfers} transfers and {serving.lists} lists",
            f"{serving.answers} short answers",
            f"{serving.unconfirmed} files that were sent",
            f"p2pshare has {serving.open_files} files of more than a block open",
            f"at most {PATH_MAX} bytes of UTF-8 and {DEPTH_MAX} components",
            f"{PAGE_BYTES_MAX // 1024} KiB of paths",
            f"`omitted` has up to {OMITTED_MAX} times",
            f"behind up to {LINKS_DEEP_MAX} links on one path",
            f"takes 0 as {RETRY_AFTER}, and waits at most {RETRY_MAX * (1 + JITTER):g} s",
            f"as opener waits {GREETING:g} s for `welcome`",
            f"after {REMEMBER:g} s if it was let in, and after {REMEMBER_NO:g} s if",
            f"waited for an answer for {PATIENCE / 60:g} minutes",
            f"by 1 s for each {SLOWEST_READ // BLOCK_SIZE} MiB",
        ):
            self.assertIn(sentence, WORDS)
