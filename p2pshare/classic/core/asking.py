"""The first step of every fetch: the word that asks for it, repeated until the sharer answers."""

from __future__ import annotations

from p2pshare.classic.datagrams import Kind, Word, parse_word

REPEAT_EVERY = 0.2  # seconds
ASK_FOR = 5.0  # seconds
ASK_OURS_FOR = 0.5  # seconds of IMG2, to which only ours answer, before IMG


class Asking:
    """The words to send to a welcome port, and when."""

    def __init__(self, kind: Kind, now: float) -> None:
        """Start asking at `now` (seconds)."""
        if kind is Kind.TEXT:
            self._schedule = _times(Word.TXT, now, now + ASK_FOR)
        else:
            common = now + ASK_OURS_FOR
            self._schedule = _times(Word.IMG2, now, common) + _times(
                Word.IMG, common, common + ASK_FOR
            )
        self._next = 0
        self.gives_up_at = self._schedule[-1][0] + REPEAT_EVERY
        """Seconds: when there has been no answer for long enough."""
        self.only_ours_asked = kind is Kind.PICTURE
        """Whether no word went out yet that an original understands."""

    def get_timer(self) -> float:
        """When the next word is due, or when to give up."""
        return (
            self._schedule[self._next][0] if self._next < len(self._schedule) else self.gives_up_at
        )

    def due(self, now: float) -> list[bytes]:
        """The word that is due now, once."""
        word = None
        while self._next < len(self._schedule) and self._schedule[self._next][0] <= now:
            word = self._schedule[self._next][1]
            self._next += 1
        if word is None:
            return []
        self.only_ours_asked = word is Word.IMG2
        return [word.value]


def parse_answer(data: bytes) -> Word | None:
    """ACK or ACK2, or None if `data` is neither."""
    word = parse_word(data)
    return word if word in (Word.ACK, Word.ACK2) else None


def _times(word: Word, start: float, end: float) -> list[tuple[float, Word]]:
    count = round((end - start) / REPEAT_EVERY + 0.4)
    return [(start + n * REPEAT_EVERY, word) for n in range(count)]
