"""A peer's name in the registry: taken, kept while the peer runs, given up when it stops."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from p2pshare.errors import Unreachable
from p2pshare.registry.client import RegistryClient
from p2pshare.wire.registration import PeerAddress, Registration

LEASE = 90  # seconds until the registry takes a peer that went silent for gone
RENEW_EVERY = 30.0  # seconds
RETRY_FIRST = 0.5  # seconds until the registry is tried again
RETRY_MAX = 15.0  # seconds
JITTER = 0.2  # of each wait, so that peers do not come all at once
RELEASE_TIMEOUT = 1.0  # seconds that stopping waits for the registry


class NameKeeper:
    """Registers a name again and again, so that its lease never ends while the peer runs."""

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        client: RegistryClient,
        rng: random.Random,
        name: str,
        token: str,
        find_address: Callable[[], Awaitable[PeerAddress]],
    ) -> None:
        """Keep `name`; `find_address` says where the peer is, and is asked each time."""
        self._clock = clock
        self._client = client
        self._rng = rng
        self._name = name
        self._token = token
        self._find_address = find_address
        self._registered: PeerAddress | None = None

    async def take(self) -> PeerAddress:
        """Register once, and return the address that is registered now.

        Raises:
            NameTaken: somebody else has the name.
            Unreachable: the registry is away.
        """
        address = await self._find_address()
        await self._client.register(Registration(self._name, address, self._token, LEASE))
        if address != self._registered:
            self._log.info("{name} is registered at {address}", name=self._name, address=address)
        self._registered = address
        return address

    async def take_patiently(self) -> PeerAddress:
        """Register as soon as the registry is there.

        Raises:
            NameTaken: somebody else has the name.
        """
        wait = RETRY_FIRST
        while True:
            try:
                return await self.take()
            except Unreachable as error:
                self._log.warn("{error} Trying again in {wait:.1f} s.", error=error, wait=wait)
            await self._pause(wait)
            wait = min(RETRY_MAX, 2 * wait)

    async def keep(self) -> None:
        """Renew for ever; cancel it to stop.

        Raises:
            NameTaken: the registry lost the name, and somebody else took it.
        """
        while True:
            await self._pause(RENEW_EVERY)
            await self.take_patiently()

    async def give_up(self) -> None:
        """Let the name go, if that can be done at once; otherwise its lease ends by itself."""
        if self._registered is None:
            return
        gone = Registration(self._name, self._registered, self._token, lease=0)
        giving_up: Deferred[None] = Deferred.fromCoroutine(self._client.register(gone))
        giving_up.addTimeout(RELEASE_TIMEOUT, self._clock)
        try:
            await giving_up
        except Exception as error:  # whatever it is, it must not keep the peer from stopping
            self._log.debug("the name was not given up: {error}", error=error)

    async def _pause(self, seconds: float) -> None:
        jitter = self._rng.uniform(1 - JITTER, 1 + JITTER)
        await deferLater(self._clock, seconds * jitter, lambda: None)
