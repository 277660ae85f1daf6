"""Looks up the addresses of host names, within a bound, and says why there are none.

`socket.getaddrinfo` blocks in C for 10 s and more where no DNS server answers, and a thread cannot be interrupted. The
callers here stop waiting after `LOOK_UP_MAX`. The thread goes on, and later callers that ask for the same name share
it: a dead DNS server never takes more than one thread of the pool per name.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IProtocol,
    IProtocolFactory,
    IResolutionReceiver,
    IStreamClientEndpoint,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from p2pshare.net.shared_answer import SharedAnswer
from p2pshare.net.threads import run_in_thread
from p2pshare.storage.os_errors import plain_reason

LOOK_UP_MAX = 6.0  # seconds for one look-up: glibc asks the second DNS server after 5
FRESH_FOR = 5.0  # seconds that an answer is reused, so that look-up and connection ask once
KNOWN_MAX = 64  # names whose answers are kept
LEFT_MAX = 4  # look-ups that nobody waits for any more, each of which has a thread
NO_DNS = "DNS does not answer"
NO_SUCH_NAME = "there is no machine of this name"

Answer = tuple[str, ...]
"""IP addresses, the best first."""


class LookUpError(DNSLookupError):
    """A name has no address; `reason` says why, as `plain_reason` does."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        """Return the reason alone."""
        return self.reason


@implementer(IHostnameResolver)
class NameResolver:
    """Looks names up in the reactor's thread pool; one for each reactor: see `resolver_of`."""

    _log = Logger()

    def __init__(self, reactor: Any, getaddrinfo: Callable[..., Any] = socket.getaddrinfo) -> None:
        self._reactor = reactor
        self._getaddrinfo = getaddrinfo
        self._known: dict[str, tuple[float, Answer]] = {}
        self._asking: dict[str, SharedAnswer[Answer]] = {}
        self._left: set[SharedAnswer[Answer]] = set()

    def look_up(self, host: str) -> Deferred[Answer]:
        """Return all addresses of `host` within `LOOK_UP_MAX`; the Deferred fails with `LookUpError`."""
        if isIPAddress(host) or isIPv6Address(host):
            return succeed((host,))
        began = self._reactor.seconds()
        since, known = self._known.get(host, (0.0, ()))
        if known and began - since < FRESH_FOR:
            return succeed(known)
        asking = self._asking.get(host)
        if asking is None:
            found = run_in_thread(
                self._reactor, self._getaddrinfo, host, 0, socket.AF_UNSPEC, socket.SOCK_STREAM
            )
            found.addCallback(self._keep, host).addErrback(_raise_reason, host)
            asking = self._asking[host] = SharedAnswer(found)
            asking.wait().addBoth(self._answered, host, asking)

        def late(_result: Answer | Failure, seconds: float) -> Answer:
            raise LookUpError(
                f"the name {host} could not be looked up within {seconds:.0f} s: {NO_DNS}"
            )

        waiting = asking.wait().addTimeout(LOOK_UP_MAX, self._reactor, late)
        return waiting.addBoth(self._logged, host, began)

    def forget(self) -> None:
        """Ask anew from now on, as the network is another one.

        A look-up that runs may wait for a DNS server of the network before. It is left alone, as its thread cannot be
        stopped. Once `LEFT_MAX` are left, later callers share those that run.
        """
        self._known.clear()
        if len(self._left) + len(self._asking) <= LEFT_MAX:
            self._left.update(self._asking.values())
            self._asking.clear()

    def resolveHostName(  # noqa: N802 - the interface has it
        self,
        resolutionReceiver: IResolutionReceiver,  # noqa: N803
        hostName: str,  # noqa: N803
        portNumber: int = 0,  # noqa: N803
        addressTypes: Sequence[type[IAddress]] | None = None,  # noqa: N803
        transportSemantics: str = "TCP",  # noqa: N803
    ) -> IHostResolution:
        """Look a name up for Twisted's endpoints, which are not told a reason; see `LookedUpEndpoint`."""
        resolution = _Resolution(hostName)
        resolutionReceiver.resolutionBegan(resolution)

        def found(answer: Answer) -> None:
            for ip in answer:
                kind = IPv6Address if ":" in ip else IPv4Address
                if addressTypes is None or kind in addressTypes:
                    address = kind(transportSemantics, ip, portNumber)  # type: ignore[arg-type]
                    resolutionReceiver.addressResolved(address)

        looking_up = self.look_up(hostName).addCallback(found)
        looking_up.addErrback(lambda failure: failure.trap(DNSLookupError) and None)
        looking_up.addCallback(lambda _: resolutionReceiver.resolutionComplete())
        return resolution

    def _logged(self, result: Answer | Failure, host: str, began: float) -> Answer | Failure:
        if isinstance(result, Failure):
            event, outcome = "failed", f"why={result.getErrorMessage()}"
        else:
            event, outcome = "done", f"found={','.join(result)}"
        self._log.debug(
            "look-up {event}: host={host} s={s:.3f} {outcome}",
            event=event,
            host=host,
            s=self._reactor.seconds() - began,
            outcome=outcome,
        )
        return result

    def _answered(self, _answer: object, host: str, asking: SharedAnswer[Answer]) -> None:
        self._left.discard(asking)
        if self._asking.get(host) is asking:
            del self._asking[host]

    def _keep(self, found: list[tuple[Any, ...]], host: str) -> Answer:
        families = (socket.AF_INET, socket.AF_INET6)
        answer = tuple(str(address[0]) for family, *_, address in found if family in families)
        if not answer:
            raise LookUpError(NO_SUCH_NAME)
        self._known.pop(host, None)
        if len(self._known) >= KNOWN_MAX:
            del self._known[next(iter(self._known))]
        self._known[host] = (self._reactor.seconds(), answer)
        return answer


def resolver_of(reactor: Any) -> NameResolver:
    """Return the resolver of a reactor, and let every endpoint on that reactor use it."""
    resolver = reactor.nameResolver
    if not isinstance(resolver, NameResolver):
        resolver = NameResolver(reactor)
        reactor.installNameResolver(resolver)
    return resolver


def forget_names(reactor: Any) -> None:
    """Look names up anew from now on, as the network is another one."""
    resolver_of(reactor).forget()


async def look_up(reactor: Any, host: str) -> Answer:
    """Return all addresses of a machine, the best first.

    Raises:
        LookUpError: the machine has no address, or DNS does not answer.
    """
    return await resolver_of(reactor).look_up(host)


@implementer(IStreamClientEndpoint)
class LookedUpEndpoint:
    """A `HostnameEndpoint` whose look-up is bounded, and fails with `LookUpError`."""

    def __init__(self, reactor: Any, host: str, port: int, timeout: float) -> None:
        self._resolver = resolver_of(reactor)
        self._host = host
        self._endpoint = HostnameEndpoint(reactor, host, port, timeout)

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:  # noqa: N803
        """Look the name up, and connect."""
        looking_up = self._resolver.look_up(self._host)
        return looking_up.addCallback(lambda _: self._endpoint.connect(protocolFactory))


def connect_reason(error: ConnectError | DNSLookupError) -> str:
    """Return why a connection could not be made, in the words of `plain_reason`."""
    if isinstance(error, DNSLookupError):
        return error.reason if isinstance(error, LookUpError) else NO_SUCH_NAME
    number = error.osError  # the errno, in spite of its name
    return plain_reason(OSError(number, "")) if number else "it did not answer in time"


@implementer(IHostResolution)
class _Resolution:
    def __init__(self, name: str) -> None:
        self.name = name

    def cancel(self) -> None:
        """Do nothing: the look-up ends by its bound."""


def _raise_reason(failure: Failure, host: str) -> NoReturn:
    error = failure.value
    if isinstance(error, LookUpError):
        raise error
    is_away = isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN
    reason = f"the name {host} could not be looked up: {NO_DNS}" if is_away else NO_SUCH_NAME
    raise LookUpError(reason) from error
