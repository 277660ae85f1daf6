"""How a registry is set up: what its command line says, and what a worker process is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

CLASSIC_LEASE = 24 * 3600  # seconds, for those who ask for none


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

    redis: str
    """The URL."""
    data: Path
    """The folder with the registry's key."""
    urls: tuple[str, ...] = ()
    """What a record's `aud` may be; empty for any URL that names an address of this machine."""
    classic_lease: int = CLASSIC_LEASE
    """Seconds."""
    invite_only: bool = False
    replicas: int = 0
    """How many replicas must have a claim before it is acknowledged."""
    trusted_proxies: tuple[str, ...] = ()
    """IP addresses or networks whose `X-Forwarded-For` is believed."""
    limits: Mapping[str, RateLimit] = field(default_factory=lambda: dict(DEFAULT_LIMITS))
    metrics_token: str | None = None
    """Opens `/metrics` on the public port; None closes it there."""
