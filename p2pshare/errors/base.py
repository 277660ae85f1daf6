"""The error that all others derive from, and one class for each exit code."""

from __future__ import annotations

import inspect
from typing import ClassVar, Self


class P2pshareError(Exception):
    """Something went wrong: {reason}"""

    exit_code: ClassVar[int] = 1

    def __init__(self, **fields: object) -> None:
        self.fields = fields
        sentence = " ".join(inspect.cleandoc(type(self).__doc__ or type(self).__name__).split())
        said = sentence.format(**fields)
        super().__init__(said if said.endswith("?") else f"{said.rstrip('.')}.")

    @classmethod
    def retold(cls, sentence: str) -> Self:
        """Return an error with the sentence of an error in another process of this program; it has no fields."""
        error = cls.__new__(cls, sentence)
        error.fields = {}
        return error


class WrongUsage(P2pshareError):
    """{reason}"""

    exit_code = 2


class Refused(P2pshareError):
    """{reason}"""

    exit_code = 3


class NotFound(P2pshareError):
    """{reason}"""

    exit_code = 4


class Unreachable(P2pshareError):
    """{reason}"""

    exit_code = 5


class TransferFailed(P2pshareError):
    """{reason}"""


class LocalProtocolError(P2pshareError):
    """A bug in p2pshare, please report it: {reason}"""


class RemoteProtocolError(P2pshareError):
    """The other side violated the protocol: {reason}"""
