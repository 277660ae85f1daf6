"""Schemathesis against a running registry, with docs/openapi.json: `make check` runs it.

The registry is one in this process, over a store in memory, on a port of the loopback interface. Its key, its random
numbers and its time are those of the document's examples, so that the statements in them are good.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.internet import reactor as installed_reactor
from twisted.internet.threads import deferToThread

from p2pshare.registry.api.authority import Authority
from p2pshare.registry.api.routes import Routes
from p2pshare.registry.configuration import RegistrySettings
from p2pshare.testing.memory_store import MemoryNameStore
from p2pshare.web.site import Site
from tests.registry.connections import REGISTRY_KEY
from tests.registry.owners import NOW

HOST = "127.0.0.1"
EXAMPLES = 80  # of each operation
DURATION_MAX = 120  # seconds
DOCUMENT = Path(__file__).parents[2] / "docs" / "openapi.json"
CONFIGURATION = Path(__file__).with_name("schemathesis.toml")

EXCLUDED_CHECKS = {
    "positive_data_acceptance": "a statement that fits the schema is still signed by nobody",
    "ignored_auth": "what proves who asks is in the bodies",
}
EXCLUDED_PATHS = {"/v1/events": "a stream has no end"}


def command(url: str) -> list[str]:
    """The command line of Schemathesis."""
    return [
        str(Path(sys.executable).with_name("schemathesis")),
        *("--config-file", str(CONFIGURATION)),
        *("run", str(DOCUMENT), "--url", url, "--no-color", "--warnings", "off"),
        "--generation-deterministic",
        *("--max-examples", str(EXAMPLES), "--workers", "1", "--request-timeout", "10"),
        *("--checks", "all", "--exclude-checks", ",".join(EXCLUDED_CHECKS)),
        *(part for path in EXCLUDED_PATHS for part in ("--exclude-path", path)),
    ]


def main() -> None:
    """Run it; exit with its code."""
    reactor: Any = installed_reactor
    routes = Routes(
        MemoryNameStore(reactor),
        reactor,
        wall=lambda: NOW,
        authority=Authority(REGISTRY_KEY, lambda: NOW, lambda size: b"r" * size),
        settings=RegistrySettings("", Path()),
    )
    port = reactor.listenTCP(0, Site(routes, reactor), interface=HOST)
    codes: list[int] = []

    def run() -> int:
        url = f"http://{HOST}:{port.getHost().port}"
        return subprocess.run(command(url), timeout=DURATION_MAX, check=False).returncode

    running = deferToThread(run)
    running.addCallbacks(codes.append, lambda failure: failure.printTraceback())
    running.addBoth(lambda _: reactor.stop())
    reactor.run()
    sys.exit(codes[0] if codes else 1)


if __name__ == "__main__":
    main()
