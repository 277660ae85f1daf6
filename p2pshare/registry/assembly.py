"""A registry's parts, put together: the same in the process that is alone, and in each worker."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from p2pshare.errors import StoreOfAnother, StoreUnavailable
from p2pshare.registry.api.authority import Authority
from p2pshare.registry.api.events import EventHub
from p2pshare.registry.api.metrics import MetricsRoutes, Pulse, RegistryMetrics, metrics_site
from p2pshare.registry.api.page import PageRoutes
from p2pshare.registry.api.routes import Routes
from p2pshare.registry.configuration import RegistrySettings
from p2pshare.registry.redis.marker import MarkerCopy
from p2pshare.registry.redis.store import RedisNameStore
from p2pshare.registry.redis.url import redis_at, without_password
from p2pshare.storage.identity.key_file import load_or_make
from p2pshare.storage.open_files import open_files_allowed
from p2pshare.web.client_addresses import Origins
from p2pshare.web.limits import Limits
from p2pshare.web.site import Site
from p2pshare.wire.keys import SigningKey

KEY_NAME = "registry.key"
ADOPT_INTERVAL = 0.5  # seconds until a store is asked again whose it is


def registry_key(folder: Path) -> SigningKey:
    """The key that is the registry's identity: it signs receipts and invitations, and outlives the store.

    Raises:
        KeyUnusable: the file is damaged, or others may read it.
    """
    return load_or_make(folder / KEY_NAME)


class Registry:
    """What answers."""

    def __init__(
        self,
        site: Site,
        metrics_site: Site,
        store: RedisNameStore,
        hub: EventHub,
        pulse: Pulse,
        key: SigningKey,
        settings: RegistrySettings,
        clock: IReactorTime,
    ) -> None:
        self.site = site
        """For clients."""
        self.metrics_site = metrics_site
        """For an endpoint of its own."""
        self._store = store
        self._hub = hub
        self._pulse = pulse
        self._key = key
        self._settings = settings
        self._clock = clock
        self._starting: Deferred[None] | None = None

    def start(self) -> Deferred[None]:
        """Begin to connect to the store, however long that takes.

        Fires when it was reached, unless `stop` comes before; fails with `StoreOfAnother`.
        """
        self._pulse.start()
        self._starting = Deferred.fromCoroutine(self._start())
        return self._starting.addErrback(_never_if_cancelled)

    async def _start(self) -> None:
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
        """End the streams, and leave the store."""
        if self._starting is not None:
            self._starting.cancel()
            self._pulse.stop()
        await self._hub.stop()
        await self._store.stop()


def _never_if_cancelled(failure: Failure) -> Deferred[None]:
    failure.trap(CancelledError)
    return Deferred()


def assemble(
    settings: RegistrySettings, key: SigningKey, reactor: Any, wall: Callable[[], float]
) -> Registry:
    """Build a registry; nothing is connected yet.

    Args:
        settings: what all its processes have in common.
        key: see `registry_key`.
        reactor: its clock should be monotonic.
        wall: Unix time, in seconds.

    Raises:
        BadSetting: the URL of the store means nothing.
    """
    store = RedisNameStore(
        redis_at(settings.redis, reactor),
        reactor,
        replicas=settings.replicas,
        marker=MarkerCopy(settings.data),
    )
    metrics = RegistryMetrics()
    routes = Routes(
        store,
        reactor,
        wall=wall,
        authority=Authority(key, wall, secrets.token_bytes),
        settings=settings,
        metrics=metrics,
    )
    hub = EventHub(store, reactor)
    origins = Origins(settings.trusted_proxies)
    routes.table.update(hub.table(origins.of))
    routes.table.update(PageRoutes(settings.download_url, origins).table())
    routes.table.update(MetricsRoutes(metrics, store, settings.metrics_token).table())
    limits = Limits()
    if settings.trusted_proxies:  # one address speaks for many
        limits = Limits(
            connections_per_address_max=limits.connections_max,
            long_replies_per_address_max=limits.long_replies_max,
        )
    limits = limits.within(open_files_allowed())
    site = Site(routes, reactor, limits, wall=wall)
    pulse = Pulse(metrics, reactor, lambda: len(site.connections), lambda: len(hub))
    measured = metrics_site(metrics, store, reactor, wall)
    return Registry(site, measured, store, hub, pulse, key, settings, reactor)
