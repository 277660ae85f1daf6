"""Work that may block, off the reactor's thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorThreads
from twisted.internet.threads import deferToThreadPool

T = TypeVar("T")


def run_in_thread(reactor: IReactorThreads, work: Callable[..., T], *args: object) -> Deferred[T]:
    """Call `work(*args)`, which may block, in the reactor's thread pool."""
    return deferToThreadPool(reactor, reactor.getThreadPool(), work, *args)
