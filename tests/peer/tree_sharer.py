"""A real share behind sessions in memory: what is listed and sent is what a peer would list and send."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from p2pshare.core.wanted_blocks import named_blocks
from p2pshare.storage.shares.arguments import SharedPath
from p2pshare.storage.shares.digest_cache import BlockCache
from p2pshare.storage.shares.folder_index import FolderIndex
from p2pshare.storage.shares.tree import ShareTree, Unavailable
from p2pshare.wire import blocks
from p2pshare.wire.transfer_messages import Digests, End, Failed, FileHeader, Get, List, Listing
from tests.peer.memory_sharer import MemorySession, MemorySharer
from tests.storage.share_case import a_bit_later, opened, viewer_of


class TreeSharer(MemorySharer):
    """Alice, who shares a folder as `s`."""

    def __init__(self, folder: Path, page_max: int) -> None:
        super().__init__()
        shares = [SharedPath("s", folder)]
        self._page_max = page_max
        self.tree = ShareTree(shares, BlockCache(None), FolderIndex(None), a_bit_later)
        self.list_answer = self._list
        self.answer = self._give
        self.sent = 0
        """Bytes of files."""

    def _list(self, session: MemorySession, question: List) -> None:
        limit = min(question.limit, self._page_max)
        try:
            page = self.tree.list(
                viewer_of("bob"), question.path, question.after, limit, question.recursive
            )
        except Unavailable as error:
            session.say(Failed(question.id, error.why))
            return
        session.say(Listing(question.id, page.entries, page.more, page.omitted, page.unnamed))

    def _give(self, session: MemorySession, get: Get) -> None:
        try:
            file = opened(self.tree, "bob", get.path)
        except Unavailable as error:
            session.say(Failed(get.id, error.why))
            return
        try:
            self._send(session, get, file)
        except Unavailable as error:
            session.after_data(Failed(get.id, error.why))
        finally:
            file.close()

    def _send(self, session: MemorySession, get: Get, file: Any) -> None:
        header = FileHeader(get.id, file.size, file.mtime_ns, file.executable, file.version)
        session.say(header)
        wanted, _ = named_blocks(get, header)
        sent = 0
        for first, end in wanted:
            for index in range(first, end):
                data, digest = file.read_block(index)
                sent += len(data)
                session.after_data(Digests(get.id, index, (digest,)))
                session.data(get.id, index * blocks.BLOCK_SIZE, data)
        self.sent += sent
        session.after_data(End(get.id, file.finish(), sent))
