"""Run a registry in memory whose leases are short: `python -m tests.integration.hasty_registry PORT LEASE`.

SIGUSR1 makes it lose all its names and detect the loss.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from p2pshare.registry.api.authority import Authority
from p2pshare.registry.api.routes import Routes
from p2pshare.registry.configuration import RegistrySettings
from p2pshare.testing.memory_store import MemoryNameStore
from p2pshare.web.exchange import Query, Reply
from p2pshare.web.site import Site
from p2pshare.wire.keys import SigningKey
from p2pshare.wire.registry_answers import Granted


class HastyRoutes(Routes):
    """A registry that answers each claim with a short lease."""

    lease: int

    def answer(self, query: Query) -> Deferred[Reply]:
        answered = super().answer(query)
        return answered.addCallback(self._shortened) if query.method == b"PUT" else answered

    def _shortened(self, reply: Reply) -> Reply:
        if reply.status not in (200, 201):
            return reply
        granted = replace(Granted.parse(b"".join(reply.body)), lease=self.lease)
        return replace(reply, body=(granted.to_json(),))


def main(port: int, lease: int) -> None:
    from twisted.internet import reactor as global_reactor

    reactor: Any = global_reactor
    store = MemoryNameStore(reactor, presence_lease=lease)
    routes = HastyRoutes(
        store,
        reactor,
        wall=time.time,
        authority=Authority(SigningKey(bytes(32)), time.time, os.urandom),
        settings=RegistrySettings("", Path()),
    )
    routes.lease = lease
    site = Site(routes, reactor)
    reactor.callWhenRunning(
        signal.signal, signal.SIGUSR1, lambda *_: reactor.callFromThread(store.lose)
    )
    reactor.listenTCP(port, site, interface="127.0.0.1")
    reactor.callWhenRunning(print, "the hasty registry is ready")
    reactor.run()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
