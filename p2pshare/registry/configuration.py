"""How a registry is set up: what its command line says, and what a worker process is told."""

from __future__ import annotations

import ipaddress
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

CLASSIC_LEASE = 24 * 3600  # seconds, for those who ask for none


WORKERS_MAX = 64
REPLICAS_MAX = 16
RATE_MAX = 1e6  # tokens per second
BURST_MAX = 1_000_000_000  # tokens


@dataclass(frozen=True, slots=True)
class RateLimit:
    """A token bucket."""

    per_second: float
    burst: int
    spares_loopback: bool = True
    """Whether this machine's own addresses are not limited: a test or a proxy there may speak for many."""


DEFAULT_LIMITS: Mapping[str, RateLimit] = {
    "requests": RateLimit(50, 500),  # of any kind, per client address
    "claims": RateLimit(2, 100),  # signed ones, and classic ones, per client address
    "names": RateLimit(0.1, 100),  # new ones, per network of a client: /24, or /56 of IPv6
    "key": RateLimit(1, 30),  # claims and heartbeats, per key that has proven itself
}


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """All that the processes of one registry have in common."""

    redis: str = field(repr=False)  # it may hold a password
    """The URL."""
    data: Path
    """The folder with the registry's key."""
    urls: tuple[str, ...] = ()
    """Where others reach it, in canonical form: for people to read, nothing is judged by them."""
    classic_lease: int = CLASSIC_LEASE
    """Seconds."""
    invite_only: bool = False
    replicas: int = 0
    """How many replicas must have a claim before it is acknowledged."""
    trusted_proxies: tuple[str, ...] = ()
    """IP addresses or networks whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed."""
    limits: Mapping[str, RateLimit] = field(default_factory=lambda: dict(DEFAULT_LIMITS))
    """By what is limited; what is missing is not."""
    metrics_token: str | None = field(default=None, repr=False)
    """Opens `/metrics` on the public port; None closes it there."""
    download_url: str = ""
    """Where visitors of the page get the program; empty if nothing was set."""

    def to_json(self) -> str:
        """The settings for another process: they hold secrets, so not for its command line."""
        return json.dumps(asdict(self) | {"data": str(self.data)})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` writes."""
        values = json.loads(text)
        return cls(
            **values
            | {
                "data": Path(values["data"]),
                "urls": tuple(values["urls"]),
                "trusted_proxies": tuple(values["trusted_proxies"]),
                "limits": {what: RateLimit(**limit) for what, limit in values["limits"].items()},
            }
        )


def read_limit(text: str) -> tuple[str, RateLimit | None]:
    """What a limit on the command line says: `WHAT=RATE[:BURST]` or `WHAT=off`, which gives None.

    Raises:
        ValueError: it says nothing of the kind.
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
    """The canonical form of an IP address, or of a network in CIDR notation.

    Raises:
        ValueError: it is neither.
    """
    network = ipaddress.ip_network(text)
    return str(network.network_address if network.num_addresses == 1 else network)
