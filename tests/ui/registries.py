"""A registry in memory, for tests of verbs."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from p2pshare.errors import NoSuchPeer, RegistryHasNoOwners
from p2pshare.registry.event_client import OnLink
from p2pshare.storage.settings import Settings
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.output import Output
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.keys import PublicKey, SigningKey
from p2pshare.wire.registry_answers import NameKind, PeerSummary, PeerView, Presence, RegistryInfo
from p2pshare.wire.session_messages import CAP_SESSIONS
from p2pshare.wire.statements import CAP_CLASSIC, Record, digest_of
from tests.wire.statements import location_of

URL = "http://192.0.2.1:8000"
NOW = 1_800_000_000
REGISTRY_KEY = SigningKey(bytes(32)).public


class MemoryRegistry:
    """A registry with given answers; an original one if `info` is None."""

    def __init__(self, *views: PeerView) -> None:
        self.url = URL
        self.views = {view.summary.name: view for view in views}
        self.infos: RegistryInfo | None = RegistryInfo("1", NOW, REGISTRY_KEY, (), False)
        self.error: Callable[[str], Exception] | None = None
        self.listed = 0
        self.known: PublicKey | None = None
        self.key: PublicKey | None = None
        self.clock_ahead_s: float | None = None
        self.keeps_names = True
        self.on_event: Callable[[PeerSummary], object] = lambda _: None
        self.on_reset: Callable[[], object] = lambda: None
        self.on_link: OnLink = lambda *_: None
        self.refusal: Deferred[None] = Deferred()

    async def info(self) -> RegistryInfo | None:
        if self.infos is not None:
            self.key = self.infos.key
        return self.infos

    async def prove(self) -> PublicKey:
        info = await self.info()
        if info is None:
            raise RegistryHasNoOwners(registry=URL)
        return info.key

    def check(self, name: str, view: PeerView) -> None:
        """Accept every answer as verified."""

    async def list_names(self) -> list[str]:
        return list(self.views)

    async def look_up(self, name: str) -> PeerAddress:
        ip, _, port = (await self.look_up_peer(name)).addresses[0].rpartition(":")
        return PeerAddress(ip, int(port))

    async def look_up_peer(self, name: str, *, by_registry_clock: bool = False) -> PeerView:
        if self.error is not None:
            raise self.error(name)
        if name not in self.views:
            raise NoSuchPeer(name=name)
        return self.views[name]

    async def peers(self, prefix: str = "", online: bool = False) -> AsyncIterator[PeerSummary]:
        self.listed += 1
        if self.error is not None:
            raise self.error("")
        for name in sorted(self.views):
            summary = self.views[name].summary
            if name.startswith(prefix) and (not online or summary.presence is not Presence.OFFLINE):
                yield summary

    async def watch(
        self,
        names: Sequence[str],
        on_event: Callable[[PeerSummary], object],
        on_reset: Callable[[], object] = lambda: None,
        *,
        on_link: OnLink = lambda *_: None,
        rng: object = None,
    ) -> None:
        self.on_event, self.on_reset, self.on_link = on_event, on_reset, on_link
        on_link(True, None)
        on_reset()
        await self.refusal


class ThreadlessClock(Clock):
    """A clock that works as a reactor for `run_in_thread`, and runs the work at once."""

    def getThreadPool(self) -> Any:
        return self

    def callFromThread(self, call: Callable[..., object], *args: object) -> None:
        call(*args)

    def callInThreadWithCallback(
        self, on_result: Callable[[bool, object], object], work: Callable[..., object], *args: Any
    ) -> None:
        try:
            result = work(*args)
        except Exception:
            on_result(False, Failure())
        else:
            on_result(True, result)


class MemoryInvocation:
    """The parts of an invocation that verbs need, with a registry in memory."""

    rng: random.Random | None = None

    def __init__(self, registry: MemoryRegistry, output: Output, cwd: Path) -> None:
        self._registry = registry
        self.reactor = ThreadlessClock()
        self.settings = Settings(registry=URL, name="bob", data=cwd / "data")
        self.output = output
        self.cwd = cwd

    def wall(self) -> float:
        return NOW

    def with_settings(self, **changes: Any) -> Self:
        changed = copy(self)
        changed.settings = replace(self.settings, **changes)
        return changed

    async def prepare_pictures(self) -> None:
        """Pictures are shown in half blocks."""

    @asynccontextmanager
    async def registry(
        self, *, known: PublicKey | None = None, timeout: float = 0
    ) -> AsyncIterator[MemoryRegistry]:
        self._registry.url, self._registry.known = self.settings.registry, known
        yield self._registry

    remember = Invocation.remember


def view_of(
    name: str,
    key: PublicKey | None,
    presence: Presence = Presence.ONLINE,
    ago: int = 5,
    rotations: tuple[str, ...] = (),
    addresses: tuple[str, ...] = ("192.0.2.7:50000",),
    caps: tuple[str, ...] = (CAP_SESSIONS, CAP_CLASSIC),
    signed: int = NOW,
    seal: str = "",
) -> PeerView:
    """Return the registry's answer about a peer, which is a classic one without a key.

    The client verifies signatures, so here anyone may have signed. A peer that is offline has no address.
    """
    if key is None:
        summary = PeerSummary(name, NameKind.CLASSIC, Presence.UNKNOWN, None)
    else:
        summary = PeerSummary(name, NameKind.OWNED, presence, NOW - ago)
        signer = SigningKey(bytes(32))
        location = location_of(*addresses).to_text()
        told = digest_of(location) if addresses else ""
        expires = signed + 9_999
        record = Record(name, key, 1, signed, expires, REGISTRY_KEY, told, caps, seal).sign(signer)
        if presence is Presence.OFFLINE or not addresses:
            return PeerView(summary, key, record, rotations, ())
        return PeerView(summary, key, record, rotations, addresses, location)
    return PeerView(summary, None, None, rotations, addresses)
