"""DNS-SD over multicast DNS: hears peers on the local network, and announces the own one.

The `zeroconf` library does the protocol. It runs an asyncio loop in a thread of its own, so nothing of it is called by
the reactor: blocking calls go through the reactor's thread pool, and what was heard comes back by `callFromThread`.

* The library's browser asks, and keeps asking with growing pauses. What it reports is not used: it reports changes
  alone, and calls a service gone only when its pointer expires. `_Ear` sees every record that arrives, also a
  repeated one, so `services` can tell who has fallen silent.
* A record arrives without the others at times. `_Ear` then asks for them, for a bounded number of services at once.
* What was heard is handed over every `HAND_OVER` seconds at most, and no more than `HEARD_MAX` peers each time. So a
  flood costs the reactor a bounded time. The library bounds its own cache and its queues. A full cache evicts what
  expires first, so no record is kept longer than `TTL_MAX`: records of a flood that are valid for years would keep
  those of real peers out for as long as the process runs.
* No service is checked for being unique: an instance has a part of its key. That saves half a second at the start.
* Questions ask for answers by multicast. An answer to this machine alone reaches only one of the programs on it that
  use the port of multicast DNS.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from threading import Lock
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
HOST_PART = 20  # characters of the key in the name of the host
HOST_TTL = 60  # seconds for which others keep port and addresses
TTL_MAX = 120  # seconds for which a record is kept, whatever it says
PTR, TXT, SRV = 12, 16, 33  # types of records (RFC 1035, RFC 2782)
_SUFFIX = f".{SERVICE_TYPE}"


class DnsSd:
    """Hears and announces peers. Call `open` first, and `close` in any case."""

    _log = Logger()

    def __init__(self, reactor: IPeerReactor) -> None:
        self._reactor = reactor
        self._lock = Lock()  # held by the threads of the pool, one at a time
        self._heard: Heard | None = None  # while open
        self._zeroconf: Zeroconf | None = None  # while this machine is on a network
        self._ear: _Ear | None = None
        self._announced: Announcement | None = None
        self._info: ServiceInfo | None = None
        self._ips: tuple[str, ...] = ()

    async def open(self, heard: Heard) -> None:
        """Begin to listen; call `heard` with what comes.

        Raises:
            LanUnusable: this machine is on no network, or the port of multicast DNS cannot be used.
        """
        await self._in_thread(self._open, heard)

    async def announce(self, announcement: Announcement | None) -> None:
        """Announce the own peer from now on, at all addresses of this machine; None to say farewell."""
        await self._in_thread(self._announce, announcement)

    async def repeat(self) -> None:
        """Look at the own addresses, and repeat the announcement."""
        await self._in_thread(self._repeat)

    async def close(self) -> None:
        """Say farewell, and stop listening. May be called at any time."""
        await self._in_thread(self._close)

    async def _in_thread(self, work: Callable[..., None], *given: object) -> None:
        def locked() -> None:
            with self._lock:
                work(*given)

        await run_in_thread(self._reactor, locked)

    def _open(self, heard: Heard) -> None:
        networks = self._read_networks()
        if not networks:
            raise LanUnusable(registry=LAN, reason="this machine has no address in a network")
        self._heard = heard
        try:
            self._start(networks)
        except (OSError, Error, RuntimeError, TimeoutError) as error:
            self._close()
            reason = plain_reason(error) if isinstance(error, OSError) else str(error)
            raise LanUnusable(registry=LAN, reason=reason) from error

    def _read_networks(self) -> list[IPNetwork]:
        """Return the networks of this machine, and remember its addresses."""
        addresses = read_network().addresses
        self._ips = tuple(each.ip for each in addresses)
        return [each.network for each in addresses]

    def _start(self, networks: Sequence[IPNetwork]) -> None:
        assert self._heard is not None
        self._zeroconf = Zeroconf(list(self._ips), use_asyncio=False)
        self._ear = _Ear(self._reactor, self._heard, networks)
        self._in_loop(self._ear.begin(self._zeroconf))

    def _announce(self, announcement: Announcement | None) -> None:
        self._announced = announcement
        if self._follow_addresses():
            return
        before, self._info = self._info, None
        if announcement is not None:
            self._info = self._service(announcement)
        if self._zeroconf is not None:
            self._in_loop(self._replace(self._zeroconf, before, self._info))

    def _service(self, announcement: Announcement) -> ServiceInfo:
        return ServiceInfo(
            SERVICE_TYPE,
            f"{announcement.instance}{_SUFFIX}",
            port=announcement.addresses[0].port,
            properties=announcement.text(),
            server=f"{str(announcement.key)[:HOST_PART]}.p2pshare.local.",
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
        if not self._follow_addresses() and self._zeroconf is not None and self._info is not None:
            self._zeroconf.send(self._zeroconf.generate_service_broadcast(self._info, None))

    def _follow_addresses(self) -> bool:
        """Begin again if the addresses of this machine have changed; return whether they have.

        The library can follow changes, too, but does nothing if an interface was away and has returned. Its socket is
        then on no network.
        """
        before = self._ips
        networks = self._read_networks()
        if self._heard is None or self._ips == before:
            return False
        self._log.info("addresses changed: addresses={ips}", ips=",".join(self._ips) or "none")
        self._stop()
        if networks:
            try:
                self._start(networks)
            except (OSError, Error, RuntimeError, TimeoutError) as error:
                self._log.warn("local network unusable: why={why!r}", why=str(error))
                self._stop()
                self._ips = ()  # so that the next look tries again
            else:
                self._announce(self._announced)
        return True

    def _close(self) -> None:
        self._announced = None
        with suppress(OSError, Error, RuntimeError, TimeoutError):
            if self._zeroconf is not None:
                self._in_loop(self._replace(self._zeroconf, self._info, None))
        self._heard = None
        self._stop()

    def _stop(self) -> None:
        if self._ear is not None:
            self._ear.is_closed = True
        zeroconf, self._zeroconf, self._ear, self._info = self._zeroconf, None, None, None
        if zeroconf is not None:
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
            record = each.new  # it is not in the cache yet
            record.ttl = min(record.ttl, TTL_MAX)
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
