"""The settings of a registry."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.registry.configuration import (
    DEFAULT_LIMITS,
    RateLimit,
    RegistrySettings,
    RelayLimits,
    read_limit,
    read_network,
)
from p2pshare.registry.workers.reports import Order
from p2pshare.storage.identity.identity import Portable
from p2pshare.wire.registry_answers import Granted


class SecretsTests(SynchronousTestCase):
    """Text that a log or a traceback could show."""

    def test_not_shown(self) -> None:
        """The representation of settings contains no secret."""
        settings = RegistrySettings(
            "redis://u:secret@h", Path("/data"), metrics_token="secret token"
        )
        for holder in (
            settings,
            Order(1, settings, ()),
            Granted("claimed", "session", b"secret", "receipt", "10.0.0.5"),
            Portable("bob", "http://h", b"secret", 1, None),
        ):
            self.assertNotIn("secret", f"{holder!r} {holder}")


class SettingsTests(SynchronousTestCase):
    """The settings that workers get."""

    def test_json(self) -> None:
        """They survive the transfer to another process."""
        for settings in (
            RegistrySettings("redis://u:p@h", Path("/data")),
            RegistrySettings(
                "unix:///s",
                Path("data", "ü"),
                urls=("https://a", "http://b:8000"),
                classic_lease=5,
                invite_only=True,
                replicas=2,
                trusted_proxies=("::1", "10.0.0.0/8"),
                limits={"key": RateLimit(0.5, 3, spares_loopback=False)},
                metrics_token="t",
                relay=None,
            ),
        ):
            line = Order(1, settings, ()).to_line()
            self.assertEqual(Order.from_line(line).settings, settings)


class LimitTests(SynchronousTestCase):
    """Limits on a command line."""

    def test_read(self) -> None:
        """A rate, with or without a burst; such a limit applies to this machine as well."""
        self.assertEqual(read_limit("claims=5:50"), ("claims", RateLimit(5, 50, False)))
        self.assertEqual(read_limit("names=0.5:1"), ("names", RateLimit(0.5, 1, False)))
        burst = DEFAULT_LIMITS["requests"].burst
        self.assertEqual(read_limit("requests=1.5"), ("requests", RateLimit(1.5, burst, False)))
        self.assertEqual(read_limit("requests=9999"), ("requests", RateLimit(9999, 9999, False)))
        self.assertEqual(read_limit("key=off"), ("key", None))

    def test_wrong(self) -> None:
        """Everything else is rejected."""
        for wrong in (
            "", "claims", "claims=", "x=1", "claims=0", "claims=-1", "claims=1:0", "claims=1:", "claims=1:x",
            "claims=nan", "claims=inf", "claims=1e9", "claims=1:1:1", "claims=OFF", "=1", "claims=1:1e3",
        ):  # fmt: skip
            with self.assertRaises(ValueError, msg=wrong):
                read_limit(wrong)


class RelayLimitTests(SynchronousTestCase):
    """Limits of the relay on a command line."""

    def test_read(self) -> None:
        """Each bound can be set, the last time counts, and the others keep their defaults."""
        options = [
            "pairs=8",
            "pairs-per-key=2",
            "rate=1MB/s",
            "rate-per-key=off",
            "idle=30",
            "pairs=9",
        ]
        limits = RelayLimits.from_options(options)
        self.assertEqual(limits, RelayLimits(9, 2, 1e6, None, 30.0))
        self.assertEqual(RelayLimits.from_options([]), RelayLimits())
        self.assertGreater(RelayLimits().rate_per_key or 0, 100e6)
        self.assertEqual(limits.shared_by(4), RelayLimits(3, 1, 250e3, None, 30.0))
        shares = [RelayLimits().shared_by(workers).pairs_per_key for workers in (1, 2, 8)]
        self.assertEqual(shares, [32, 32, 8])

    def test_wrong(self) -> None:
        """Everything else is rejected."""
        for wrong in (
            "", "pairs", "pairs=", "pairs=0", "pairs=1e9", "pairs=1000000", "pairs_per_key=1.5", "rate=1", "rate=none",
            "rate=nan", "idle=1", "idle=nan", "idle=off", "x=1", "pairs=off",
        ):  # fmt: skip
            with self.assertRaises(ValueError, msg=wrong):
                RelayLimits.from_options([wrong])


class NetworkTests(SynchronousTestCase):
    """Proxies on a command line."""

    def test_read(self) -> None:
        """An address, or a network."""
        for text, network in (
            ("10.0.0.1", "10.0.0.1"),
            ("10.0.0.1/32", "10.0.0.1"),
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("::1", "::1"),
            ("FD00::/8", "fd00::/8"),
        ):
            self.assertEqual(read_network(text), network)

    def test_wrong(self) -> None:
        """A name, or bits beyond the network's, are told apart."""
        for wrong in ("", "localhost", "10.0.0.1/8", "10.0.0.0/33", "10.0.0", "*"):
            with self.assertRaises(ValueError, msg=wrong):
                read_network(wrong)
