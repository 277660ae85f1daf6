"""The parts of a registry, put together: the same in a registry of one process and in each worker."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from p2pshare.errors import StoreOfAnother, StoreUnavailable
from p2pshare.registry.api.authority import ID_SIZE, Authority
from p2pshare.registry.api.events import EventHub
from p2pshare.registry.api.metrics import MetricsRoutes, Pulse, RegistryMetrics, metrics_site
from p2pshare.registry.api.page import PageRoutes
from p2pshare.registry.api.routes import Routes
from p2pshare.registry.api.signals import SignalHub
from p2pshare.registry.configuration import RegistrySettings
from p2pshare.registry.listening import Ports
from p2pshare.registry.redis.loss_mark import MarkerCopy
from p2pshare.registry.redis.store import RedisNameStore
from p2pshare.registry.redis.url import redis_at, without_password
from p2pshare.registry.relay.links import WorkerLinks
from p2pshare.registry.relay.relay import Relay
from p2pshare.registry.relay.rooms import Rooms
from p2pshare.registry.relay.routes import Enter, RelayRoutes
from p2pshare.storage.identity.key_file import load_or_make
from p2pshare.storage.identity.private_file import REGISTRY_KEY
from p2pshare.storage.open_file_limit import open_files_allowed
from p2pshare.web.client_addresses import Origins
from p2pshare.web.limits import Limits
from p2pshare.web.site import Site
from p2pshare.wire.keys import SigningKey

KEY_NAME = REGISTRY_KEY
ADOPT_INTERVAL = 0.5  # seconds between two attempts to learn the owner of a store


def registry_key(folder: Path) -> SigningKey:
    """Return the key that is the registry's identity: it signs receipts and invitations, and outlives the store.

    Raises:
        KeyUnusable: the file is damaged, or others may read it.
    """
    return load_or_make(folder / KEY_NAME)


def make_store(settings: RegistrySettings, reactor: Any) -> RedisNameStore:
    """Return the store of a registry; it is not connected yet.

    Raises:
        BadSetting: its URL is malformed.
    """
    return RedisNameStore(
        redis_at(settings.redis, reactor),
        reactor,
        replicas=settings.replicas,
        marker=MarkerCopy(settings.data),
    )


class Registry:
    """Answers requests in this process."""

    def __init__(
        self,
        store: RedisNameStore,
        settings: RegistrySettings,
        key: SigningKey,
        reactor: Any,
        wall: Callable[[], float],
        worker: int | None = None,
    ) -> None:
        """Build it; nothing is connected yet.

        Args:
            store: see `make_store`.
            settings: the same for all processes of the registry.
            key: see `registry_key`.
            reactor: its clock should be monotonic.
            wall: returns Unix time, in seconds.
            worker: the number of this process, if it is one of several.
        """
        self._store = store
        self._settings = settings
        self._key = key
        self._clock = reactor
        self._starting: Deferred[None] | None = None
        self._hub = EventHub(store, reactor)
        self._metrics = metrics = RegistryMetrics()
        self._routes = routes = Routes(
            store,
            reactor,
            wall=wall,
            authority=Authority(key, wall, secrets.token_bytes),
            settings=settings,
            metrics=metrics,
        )
        origins = Origins(settings.trusted_proxies)
        routes.table.update(self._hub.table(origins.of))
        self._signals = SignalHub(
            routes.access,
            routes.limiter,
            store.channels,
            reactor,
            id=secrets.token_urlsafe(ID_SIZE),
            count_signal=metrics.signal,
        )
        routes.table.update(self._signals.table())
        routes.table.update(PageRoutes(settings.download_url, origins).table())
        routes.table.update(MetricsRoutes(metrics, store, settings.metrics_token).table())
        self._relay: Relay | None = None
        self._links: WorkerLinks | None = None
        if settings.relay is not None:
            self._relay = relay = Relay(reactor, settings.relay, metrics.relay)
            self._rooms = Rooms(relay, reactor)
            enter: Enter = self._rooms.enter
            if worker is not None:
                self._links = WorkerLinks(reactor, worker, settings.data, store, relay, self._rooms)
                enter = self._links.enter
            relay_routes = RelayRoutes(
                routes.access,
                enter,
                metrics.relay_refused,
                origin=origins.of,
                per_address_max=settings.relay.pairs,
            )
            routes.table.update(relay_routes.table())
        limits = Limits()
        if settings.trusted_proxies:  # many clients have the address of the proxy
            limits = Limits(
                connections_per_address_max=limits.connections_max,
                long_replies_per_address_max=limits.long_replies_max,
            )
        self.site = Site(routes, reactor, limits.within(open_files_allowed()), wall=wall)
        """For clients."""
        self.metrics_site = metrics_site(metrics, store, reactor, wall)
        """For endpoints with the metrics only."""
        self._pulse = Pulse(
            metrics,
            reactor,
            connections=lambda: len(self.site.connections),
            streams=lambda: len(self._hub),
            signal_streams=lambda: len(self._signals),
        )

    def start(self, ports: Ports | None = None) -> Deferred[None]:
        """Begin to connect to the store, however long that takes. The `ports` serve already.

        The Deferred fires when the store is reached, unless `stop` comes before. It fails with `StoreOfAnother`, or
        with `FolderUnusable` if a worker cannot make its socket there.
        """
        self._pulse.start()
        if ports is not None:
            self._routes.v1.stun = ports.stun.told
            ports.stun.responder.count = self._metrics.stun
        if self._relay is not None:
            self._relay.start()
        self._starting = Deferred.fromCoroutine(self._start())
        return self._starting.addErrback(_never_if_cancelled)

    async def _start(self) -> None:
        if self._links is not None:
            self._links.listen()
        await self._store.start()
        ours, owner = str(self._key.public), None
        while owner is None:
            try:
                owner = await self._store.adopt(ours)
            except StoreUnavailable:
                await deferLater(self._clock, ADOPT_INTERVAL)
        if owner != ours:
            where = without_password(self._settings.redis)
            raise StoreOfAnother(store=where, owner=owner, path=self._settings.data / KEY_NAME)

    async def stop(self) -> None:
        """End the event streams and the relay, and disconnect from the store."""
        if self._starting is not None:
            self._starting.cancel()
            self._pulse.stop()
        if self._links is not None:
            await self._links.stop()
        if self._relay is not None:
            self._rooms.stop()
            self._relay.stop()
        await gatherResults([self._hub.stop(), self._signals.stop()])
        await self._store.stop()


def _never_if_cancelled(failure: Failure) -> Deferred[None]:
    failure.trap(CancelledError)
    return Deferred()
