"""The sentences of errors."""

from __future__ import annotations

from string import Formatter

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import P2pshareError


def all_errors(of: type[P2pshareError] = P2pshareError) -> list[type[P2pshareError]]:
    """Return a class of errors and its subclasses."""
    return [of, *(each for below in of.__subclasses__() for each in all_errors(below))]


def said(kind: type[P2pshareError], value: str) -> str:
    """Return the sentence of an error whose fields all have one value."""
    fields = {field for _, field, _, _ in Formatter().parse(kind.__doc__ or "") if field}
    return str(kind(**dict.fromkeys(fields, value)))


class SentenceTests(SynchronousTestCase):
    def test_one_line(self) -> None:
        """Each class has its own sentence, on one line, with the fields filled in."""
        for kind in all_errors():
            self.assertRegex(said(kind, "it is so"), r"^(\S.*)?it is so[^\n]*$", kind)

    def test_ends(self) -> None:
        """The sentence ends with one full stop or question mark, with and without one at the end of its reason."""
        for kind in all_errors():
            for reason in ("it is so", "it is so."):
                self.assertRegex(said(kind, reason), r"[^.?][.?]$", kind)
