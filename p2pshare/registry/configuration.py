"""The settings of a registry, from its command line; workers get the same."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self, TypeVar

from p2pshare.storage.settings import rate_of

CLASSIC_LEASE = 24 * 3600  # seconds, for registrations that ask for none
WORKERS_MAX = 64
REPLICAS_MAX = 16
RATE_MAX = 1e6  # tokens per second
BURST_MAX = 1_000_000_000  # tokens
RELAY_PAIRS_MAX = 100_000
RELAY_RATE_MIN = 10_000.0  # bytes per second
RELAY_IDLE_MIN, RELAY_IDLE_MAX = 10.0, 3600.0  # seconds; sessions send something every 5

_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True, slots=True)
class RateLimit:
    """A token bucket."""

    per_second: float
    burst: int
    spares_loopback: bool = True
    """Whether loopback addresses are exempt: a test or a proxy there may act for many clients."""


DEFAULT_LIMITS: Mapping[str, RateLimit] = {
    "requests": RateLimit(50, 500),  # per client address
    "claims": RateLimit(2, 100),  # signed and classic, per client address
    "names": RateLimit(0.1, 100),  # new ones, per network of a client: /24, or /56 for IPv6
    "key": RateLimit(1, 30),  # claims and heartbeats, per proven key
    "access": RateLimit(20, 400),  # streams of signals, signals, relays, per client address
    "access-key": RateLimit(10, 120),  # the same, per proven key
    "signals": RateLimit(5, 100),  # to one name, per network of a client
    "inbox": RateLimit(50, 500),  # signals to one name, in all
}


@dataclass(frozen=True, slots=True)
class RelayLimits:
    """The bounds of the relay."""

    pairs: int = 256
    """Pairs of peers at once; two ends that still wait count as one."""
    pairs_per_key: int = 32
    """Pairs of one key at once, with those that it waits for."""
    rate: float | None = 500e6
    """Bytes per second in all, both directions together; None is no limit."""
    rate_per_key: float | None = 250e6
    """The same for the pairs of one key."""
    idle: float = 60.0
    """Seconds without a byte after which a pair is closed."""

    @classmethod
    def from_options(cls, options: Sequence[str]) -> Self:
        """Read `WHAT=VALUE` for each field, with dashes in its name; a rate may be `off`.

        Raises:
            ValueError: one is malformed, or out of bounds.
        """
        given: dict[str, float | None] = {}
        for option in options:
            what, _, value = option.partition("=")
            name = what.replace("-", "_")
            if name in ("pairs", "pairs_per_key"):
                given[name] = _between(int(value), 1, RELAY_PAIRS_MAX)
            elif name in ("rate", "rate_per_key"):
                given[name] = (
                    None if value == "off" else _between(rate_of(value), RELAY_RATE_MIN, math.inf)
                )
            elif name == "idle":
                given[name] = _between(float(value), RELAY_IDLE_MIN, RELAY_IDLE_MAX)
            else:
                raise ValueError(option)
        return cls(**given)  # type: ignore[arg-type]

    def shared_by(self, processes: int) -> Self:
        """Return the share of each of several processes, so that together they keep these bounds.

        That of `pairs_per_key` is twice as large, as the kernel does not spread the connections of a key evenly.
        """
        own = min(self.pairs_per_key, math.ceil(2 * self.pairs_per_key / processes))
        return replace(
            self,
            pairs=math.ceil(self.pairs / processes),
            pairs_per_key=own,
            rate=self.rate and self.rate / processes,
            rate_per_key=self.rate_per_key and self.rate_per_key / processes,
        )


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """Settings that all processes of one registry have in common."""

    redis: str = field(repr=False)  # it may hold a password
    """The URL."""
    data: Path
    """The folder with the registry's key."""
    urls: tuple[str, ...] = ()
    """URLs to show to people, in canonical form."""
    classic_lease: int = CLASSIC_LEASE
    """Seconds."""
    invite_only: bool = False
    replicas: int = 0
    """How many replicas must have a claim before it is acknowledged."""
    trusted_proxies: tuple[str, ...] = ()
    """IP addresses or networks whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed."""
    limits: Mapping[str, RateLimit] = field(default_factory=lambda: dict(DEFAULT_LIMITS))
    """By kind; a kind that is missing is not limited."""
    metrics_token: str | None = field(default=None, repr=False)
    """Opens `/metrics` on the public port; None closes it there."""
    download_url: str = ""
    """Where visitors of the page get the program; empty if that is unknown."""
    stun: tuple[str, ...] | None = None
    """Where peers ask for their address over UDP, `PORT` or `HOST:PORT`; None for the numbers of the TCP ports."""
    relay: RelayLimits | None = field(default_factory=RelayLimits)
    """The bounds of the relay of each process; None if there is no relay."""

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        """Read the result of `dataclasses.asdict` from JSON."""
        limits = {what: RateLimit(**limit) for what, limit in values["limits"].items()}
        lists = {name: tuple(values[name]) for name in ("urls", "trusted_proxies")}
        relay = values["relay"] and RelayLimits(**values["relay"])
        stun = None if values["stun"] is None else tuple(values["stun"])
        own = {"stun": stun, "data": Path(values["data"]), "limits": limits, "relay": relay}
        return cls(**{**values, **lists, **own})


def read_limit(text: str) -> tuple[str, RateLimit | None]:
    """Read a limit from the command line: `WHAT=RATE[:BURST]`, or `WHAT=off`, which gives None.

    Raises:
        ValueError: it is malformed.
    """
    what, equals, limit = text.partition("=")
    if not equals or what not in DEFAULT_LIMITS:
        raise ValueError(text)
    if limit == "off":
        return what, None
    rate_text, colon, burst_text = limit.partition(":")
    rate = float(rate_text)
    if not (math.isfinite(rate) and 0 < rate <= RATE_MAX):
        raise ValueError(text)
    burst = int(burst_text) if colon else max(DEFAULT_LIMITS[what].burst, math.ceil(rate))
    if not 1 <= burst <= BURST_MAX:
        raise ValueError(text)
    return what, RateLimit(rate, burst, spares_loopback=False)


def read_network(text: str) -> str:
    """Return the canonical form of an IP address, or of a network in CIDR notation.

    Raises:
        ValueError: it is neither.
    """
    network = ipaddress.ip_network(text)
    return str(network.network_address if network.num_addresses == 1 else network)


def _between(value: _Number, least: _Number, most: _Number) -> _Number:
    if not least <= value <= most:
        raise ValueError(value)
    return value
