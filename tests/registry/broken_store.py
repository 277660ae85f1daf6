"""A store that fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from twisted.internet.defer import Deferred, fail

from p2pshare.registry.store import NameStore


class BrokenStore:
    """A store of which every call fails."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __getattr__(self, name: str) -> Callable[..., Deferred[Any]]:  # noqa: D105
        return lambda *args, **kwargs: fail(self.error)


def broken_store(error: Exception) -> NameStore:
    """A store of which every call fails with an error."""
    return cast(NameStore, BrokenStore(error))
