"""DNS-SD over multicast DNS: hears peers on the local network, and announces the own one.

The `zeroconf` library does the protocol. It runs an asyncio loop in a thread of its own, so nothing of it is called by
the reactor: blocking calls go through the reactor's thread pool, and what was heard comes back by `callFromThread`.

* The library's browser asks, and keeps asking with growing pauses. What it reports is not used: it reports changes
  alone, and calls a service gone when its pointer expires, which the library delays to a quarter of an hour. `_Ear`
  sees every record that arrives, also a repeated one, so `services` can tell who has fallen silent.
* A record arrives without the others at times. `_Ear` then asks for them, for a bounded number of services at once.
* What was heard is handed over every `HAND_OVER` seconds at most, and no more than `HEARD_MAX` peers each time. So a
  flood costs the reactor a bounded time. The library bounds its own cache and its queues.
* No service is checked for being unique: an instance has a part of its key. That saves half a second at the start.
* Questions ask for answers by multicast. An answer to this machine alone reaches only one of the programs on it that
  use the port of multicast DNS.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any

from twisted.logger import Logger
from zeroconf import DNSQuestionType as QuestionType
from zeroconf import (
    Error,
    RecordUpdate,
    RecordUpdateListener,
    ServiceInfo,
    Zeroconf,
)
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo

from p2pshare.errors import LanUnusable, RemoteProtocolError
from p2pshare.net.reach.interfaces import read_network
from p2pshare.net.sockets import IPeerReactor
from p2pshare.net.threads import run_in_thread
from p2pshare.peer.lan.announcement import SERVICE_TYPE, TEXT_MAX, Announcement, IPNetwork
from p2pshare.peer.lan.directory import Heard
from p2pshare.storage.os_errors import plain_reason
from p2pshare.wire.addresses import LAN

HAND_OVER = 0.05  # seconds until what was heard is handed over
HEARD_MAX = 128  # peers that are handed over at once; more are dropped, and heard again
ASKED_MAX = 16  # services whose missing records are asked for at once
ASK_TIMEOUT = 3000  # ms
LOOP_TIMEOUT = 2.0  # seconds for a step in the library's thread
HOST_TTL = 60  # seconds for which others keep port and addresses
PTR, TXT, SRV = 12, 16, 33  # types of records (RFC 1035, RFC 2782)
_SUFFIX = f".{SERVICE_TYPE}"


class DnsSd:
    """Hears and announces peers. Call `open` first, and `close` in any case."""

    _log = Logger()

    def __init__(self, reactor: IPeerReactor) -> None:
        self._reactor = reactor
        self._zeroconf: Zeroconf | None = None
        self._ear: _Ear | None = None
        self._announced: Announcement | None = None
        self._info: ServiceInfo | None = None
        self._ips: tuple[str, ...] = ()

    async def open(self, heard: Heard) -> None:
        """Begin to listen; call `heard` with what comes.

        Raises:
            LanUnusable: this machine is on no network, or the port of multicast DNS cannot be used.
        """
        await run_in_thread(self._reactor, self._open, heard, abandoned=lambda _: self._close())

    async def announce(self, announcement: Announcement | None) -> None:
        """Announce the own peer from now on, at all addresses of this machine; None to say farewell."""
        await run_in_thread(self._reactor, self._announce, announcement)

    async def repeat(self) -> None:
        """Look at the own addresses, and repeat the announcement."""
        await run_in_thread(self._reactor, self._repeat)

    async def close(self) -> None:
        """Say farewell, and stop listening. May be called at any time."""
        await run_in_thread(self._reactor, self._close)

    def _open(self, heard: Heard) -> None:
        networks = self._read_networks()
        if not networks:
            raise LanUnusable(registry=LAN, reason="it has no address in a network")
        try:
            zeroconf = self._zeroconf = Zeroconf(list(self._ips), use_asyncio=False)
            self._ear = _Ear(self._reactor, heard, networks)
            self._in_loop(self._ear.begin(zeroconf))
        except (OSError, Error, RuntimeError) as error:
            self._close()
            reason = plain_reason(error) if isinstance(error, OSError) else str(error)
            raise LanUnusable(registry=LAN, reason=reason) from error

    def _read_networks(self) -> list[IPNetwork]:
        """Return the networks of this machine, and remember its addresses."""
        addresses = read_network().addresses
        self._ips = tuple(each.ip for each in addresses)
        return [each.network for each in addresses]

    def _announce(self, announcement: Announcement | None) -> None:
        zeroconf = self._zeroconf
        if zeroconf is None:
            return
        before, self._info = self._info, None
        self._announced = announcement
        if announcement is not None:
            self._info = self._service(announcement)
        self._in_loop(self._replace(zeroconf, before, self._info))

    def _service(self, announcement: Announcement) -> ServiceInfo:
        name = f"{announcement.instance}{_SUFFIX}"
        host = f"{str(announcement.key)[:20]}.p2pshare.local."
        return ServiceInfo(
            SERVICE_TYPE,
            name,
            port=announcement.addresses[0].port,
            properties=announcement.text(),
            server=host,
            host_ttl=HOST_TTL,
            parsed_addresses=list(self._ips),
        )

    async def _replace(
        self, zeroconf: Zeroconf, before: ServiceInfo | None, now: ServiceInfo | None
    ) -> None:
        if before is not None:
            if now is None or before.name != now.name:
                zeroconf.async_send(zeroconf.generate_service_broadcast(before, 0))
            zeroconf.registry.async_remove(before)
        if now is not None:
            await zeroconf.async_register_service(now, cooperating_responders=True)

    def _repeat(self) -> None:
        zeroconf, ear, ips = self._zeroconf, self._ear, self._ips
        if zeroconf is None or ear is None:
            return
        ear.networks = self._read_networks()
        if self._ips != ips and self._ips:
            self._log.info("addresses changed: addresses={ips}", ips=",".join(self._ips))
            with suppress(OSError, Error, RuntimeError):
                self._in_loop(zeroconf.async_update_interfaces(list(self._ips)))
            self._announce(self._announced)
        elif self._info is not None:
            zeroconf.send(zeroconf.generate_service_broadcast(self._info, None))

    def _close(self) -> None:
        zeroconf = self._zeroconf
        if zeroconf is None:
            return
        with suppress(OSError, Error, RuntimeError, TimeoutError):
            self._announce(None)
        if self._ear is not None:
            self._ear.is_closed = True
        self._zeroconf = None
        with suppress(OSError, Error, RuntimeError):
            zeroconf.close()

    def _in_loop(self, work: Coroutine[Any, Any, object]) -> None:
        """Run a coroutine in the library's thread, and wait for it."""
        assert self._zeroconf is not None and self._zeroconf.loop is not None
        asyncio.run_coroutine_threadsafe(work, self._zeroconf.loop).result(LOOP_TIMEOUT)


class _Ear(RecordUpdateListener):
    """Listens to records in the library's thread."""

    def __init__(self, reactor: IPeerReactor, heard: Heard, networks: Sequence[IPNetwork]) -> None:
        self.networks = networks
        """Those of this machine."""
        self.is_closed = False
        self._reactor = reactor
        self._heard = heard
        self._touched: dict[str, None] = {}  # names of services whose records have just come
        self._left: dict[str, None] = {}  # names of services that have said farewell
        self._news: dict[str, Announcement] = {}
        self._asking: set[asyncio.Task[None]] = set()
        self._is_due = False
        self._browser: AsyncServiceBrowser | None = None
        self._zeroconf: Zeroconf | None = None

    async def begin(self, zeroconf: Zeroconf) -> None:
        """Ask for peers, and listen."""
        await zeroconf.async_wait_for_start()
        self._zeroconf = zeroconf
        zeroconf.async_add_listener(self, None)
        self._browser = AsyncServiceBrowser(
            zeroconf, SERVICE_TYPE, [lambda **_: None], question_type=QuestionType.QM
        )

    def async_update_records(self, zc: Zeroconf, now: float, records: list[RecordUpdate]) -> None:
        """Note which services the records are about; see the library."""
        for each in records:
            record = each.new
            name: str = record.name
            if record.type == PTR and name.lower() == SERVICE_TYPE:
                name = record.alias  # type: ignore[attr-defined]
            elif record.type not in (TXT, SRV):
                continue
            if name.endswith(_SUFFIX):
                noted = self._left if record.is_expired(now) else self._touched
                if len(noted) < HEARD_MAX:
                    noted[name] = None

    def async_update_records_complete(self) -> None:
        """Read the services that were noted, whose records are in the cache now; see the library."""
        assert self._zeroconf is not None
        touched, self._touched = self._touched, {}
        for name in touched:
            if name in self._left or len(self._news) >= HEARD_MAX:
                continue
            with suppress(Error):
                info = AsyncServiceInfo(SERVICE_TYPE, name)
                if info.load_from_cache(self._zeroconf):
                    self._read(info)
                elif len(self._asking) < ASKED_MAX:
                    asking = asyncio.ensure_future(self._ask(info))
                    self._asking.add(asking)
                    asking.add_done_callback(self._asking.discard)
        self._hand_over_soon()

    async def _ask(self, info: AsyncServiceInfo) -> None:
        """Ask for the missing records of a service."""
        assert self._zeroconf is not None
        with suppress(Error):
            if await info.async_request(self._zeroconf, ASK_TIMEOUT):
                self._read(info)
                self._hand_over_soon()

    def _read(self, info: ServiceInfo) -> None:
        """Read a service; what is not the announcement of a peer is ignored."""
        if len(info.text) > TEXT_MAX:
            return
        with suppress(RemoteProtocolError):
            instance = info.name.removesuffix(_SUFFIX)
            self._news[instance] = Announcement.read(
                instance, info.properties, info.parsed_addresses(), info.port, self.networks
            )

    def _hand_over_soon(self) -> None:
        if (self._news or self._left) and not self._is_due and not self.is_closed:
            self._is_due = True
            asyncio.get_running_loop().call_later(HAND_OVER, self._hand_over)

    def _hand_over(self) -> None:
        self._is_due = False
        news, self._news = self._news, {}
        left, self._left = self._left, {}
        if not self.is_closed:
            instances = [name.removesuffix(_SUFFIX) for name in left]
            self._reactor.callFromThread(self._heard, tuple(news.values()), instances)
