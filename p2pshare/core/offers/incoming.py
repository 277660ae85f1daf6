"""What a receiver does with a new offer: whether it is kept, by the owner's policy and within bounds.

Anybody whose session is admitted can offer, and a key costs nothing where there is no registry. So there are three
bounds, each for one key and in all: how many offers are kept, how fast new ones come, and how large each is. An offer
that is known already costs none of them.

Strangers take no place from people whom the owner knows: all of them together have a part of the places, and the bound
on the rate of all keys is for them.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from p2pshare.core.rate import RateLimit
from p2pshare.wire.blocks import FILE_SIZE_MAX
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.offers.messages import Offer, OfferFault

KEPT_MAX = 1000  # offers that are kept
KEPT_OF_STRANGERS_MAX = 500  # beyond which an offer is kept only if its sender is known
KEPT_PER_KEY_MAX = 50  # of them of one key
FILES_MAX = 1_000_000  # files and folders of an offer
FOLDERS_MAX = 100_000  # folders among them
BYTES_MAX = FILE_SIZE_MAX  # bytes of an offer
PER_KEY_S = 1 / 3  # new offers of one key, each second
PER_KEY_BURST = 50  # new offers of one key at once
TOTAL_S = 2.0  # new offers of all strangers, each second
TOTAL_BURST = 200  # new offers of all strangers at once
KEYS_MAX = 1024  # keys whose rates are remembered


class OffersPolicy(enum.Enum):
    """From whom offers are taken."""

    EVERYONE = "everyone"
    KNOWN = "known"
    """Keys that were met before, or that the owner has named."""
    ALLOWED = "allowed"
    """Names that the owner has named, in `--allow` or `--accept-from`."""
    NOBODY = "nobody"


@dataclass(frozen=True, slots=True)
class Sender:
    """Who offers, as far as it is known."""

    name: str
    key: PublicKey
    is_known: bool
    """Whether the key is pinned: it was met before this session, or is accepted."""
    is_allowed: bool
    """Whether the owner has named this person, and the key has proven the name."""


@dataclass(frozen=True, slots=True)
class Kept:
    """The offers that are kept and not over."""

    total: int
    of_key: int
    """Those of the sender's key."""


@dataclass(frozen=True, slots=True)
class GateLimits:
    """The bounds on new offers."""

    kept: int = KEPT_MAX
    kept_of_strangers: int = KEPT_OF_STRANGERS_MAX
    """Offers beyond which one is kept only if its sender is known."""
    kept_per_key: int = KEPT_PER_KEY_MAX
    files: int = FILES_MAX
    """Files and folders of an offer."""
    folders: int = FOLDERS_MAX
    """Folders among them."""
    bytes: int = BYTES_MAX
    per_key_s: float = PER_KEY_S
    """New offers of one key, each second."""
    per_key_burst: int = PER_KEY_BURST
    total_s: float = TOTAL_S
    """New offers of all strangers, each second."""
    total_burst: int = TOTAL_BURST
    keys: int = KEYS_MAX
    """Keys whose rates are remembered."""


class IncomingGate:
    """Decides about new offers."""

    def __init__(self, now: float, limits: GateLimits = GateLimits()) -> None:
        """Begin at `now`, in s, with no offer so far."""
        self._limits = limits
        self._total = _rate(limits.total_s, limits.total_burst, now)
        self._of_key: dict[PublicKey, RateLimit] = {}  # the one that was used last at the end

    def fault(
        self, policy: OffersPolicy, sender: Sender, offer: Offer, kept: Kept, now: float
    ) -> OfferFault | None:
        """Return why a new offer is refused, or None if it is kept. Call it once for each new offer.

        Args:
            policy: the owner's.
            sender: who offers.
            offer: what is offered.
            kept: the offers that are kept now.
            now: in seconds.
        """
        if not _is_welcome(policy, sender):
            return OfferFault.POLICY
        limits = self._limits
        entries = offer.files + offer.folders
        if entries > limits.files or offer.folders > limits.folders or offer.bytes > limits.bytes:
            return OfferFault.TOO_LARGE
        is_stranger = not (sender.is_known or sender.is_allowed)
        most = min(limits.kept, limits.kept_of_strangers) if is_stranger else limits.kept
        if kept.total >= most or kept.of_key >= limits.kept_per_key:
            return OfferFault.FULL
        buckets = [self._bucket(sender.key, now), *([self._total] if is_stranger else [])]
        if not all(each.available(now) for each in buckets):
            return OfferFault.RATE
        for each in buckets:
            each.spend(1, now)
        return None

    def _bucket(self, key: PublicKey, now: float) -> RateLimit:
        bucket = self._of_key.pop(key, None)
        if bucket is None:
            bucket = _rate(self._limits.per_key_s, self._limits.per_key_burst, now)
            while len(self._of_key) >= self._limits.keys:
                del self._of_key[next(iter(self._of_key))]
        self._of_key[key] = bucket
        return bucket


def _is_welcome(policy: OffersPolicy, sender: Sender) -> bool:
    match policy:
        case OffersPolicy.EVERYONE:
            return True
        case OffersPolicy.KNOWN:
            return sender.is_known or sender.is_allowed
        case OffersPolicy.ALLOWED:
            return sender.is_allowed
        case OffersPolicy.NOBODY:
            return False


def _rate(per_second: float, burst: int, now: float) -> RateLimit:
    return RateLimit(per_second, now, burst_time=0.0, burst_min=burst)
