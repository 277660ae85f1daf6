"""What may import what: the layers of the project, read from the source of every module."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

PACKAGE = Path(__file__).parents[1] / "p2pshare"

LAYERS = (
    {"_version", "errors"},
    {"names"},
    {"wire"},
    {"core"},
    {"storage", "pictures"},
    {"net"},
    {"registry", "peer"},
    {"ui"},
    {"testing"},
)
"""From the bottom to the top; neighbours in one layer do not know each other."""

EXCEPTIONS = {("peer", "p2pshare.registry.client")}
"""What a layer may import of its neighbour's."""

IMPURE = {
    "asyncio", "concurrent", "datetime", "multiprocessing", "os", "pathlib", "selectors", "shutil",
    "socket", "subprocess", "tempfile", "threading", "time", "twisted",
}  # fmt: skip
LINES_MAX = 400
EMPTY_NAMES = {"utils", "helpers", "common", "manager", "handler"}
REDIS_USERS = {
    f"p2pshare.registry.redis_{each}" for each in ("connection", "link", "replicas", "sentinel")
}
REACTOR_OWNERS = {
    "p2pshare.peer.tap", "p2pshare.registry.tap", "p2pshare.registry.worker", "p2pshare.ui.main",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Module:
    """A module, by its full name, and its source."""

    name: str
    source: str

    @property
    def part(self) -> str:
        """The part of the package that it belongs to: `wire`, `errors`; "" for the package itself."""
        return part_of(self.name)

    def imports(self) -> Iterator[str]:
        """The full name of everything that it imports, wherever in its source."""
        for node in ast.walk(ast.parse(self.source)):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = self.name.split(".")[: -node.level] if node.level else []
                base += node.module.split(".") if node.module else []
                yield from (".".join([*base, alias.name]) for alias in node.names)

    def attributes(self) -> Iterator[str]:
        """Every dotted name that it uses, such as `random.choice`."""
        for node in ast.walk(ast.parse(self.source)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                yield f"{node.value.id}.{node.attr}"


Check = Callable[[Module], list[str]]
"""What is wrong with a module."""


def part_of(name: str) -> str:
    return [*name.split("."), ""][1]


def is_under(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def rank(part: str) -> int:
    (found,) = (number for number, layer in enumerate(LAYERS) if part in layer)
    return found


def upward_imports(module: Module) -> list[str]:
    """Imports that do not point down."""
    own = [name for name in module.imports() if name.startswith("p2pshare.") and "__" not in name]
    if not module.part:
        return [name for name in own if rank(part_of(name)) > 0]
    return [
        name
        for name in own
        if part_of(name) != module.part
        and rank(part_of(name)) >= rank(module.part)
        and not any(module.part == part and is_under(name, allowed) for part, allowed in EXCEPTIONS)
    ]


def taps(module: Module) -> list[str]:
    """Imports of what only a plugin may name: a service's command line."""
    return [name for name in module.imports() if is_under(name, "p2pshare") and ".tap" in name]


def impurities(module: Module) -> list[str]:
    """Imports by which a pure module could reach the clock, a socket, a file or chance."""
    if module.part not in ("wire", "core"):
        return []
    imported = [
        name
        for name in module.imports()
        if name.split(".")[0] in IMPURE
        or (is_under(name, "random") and name not in ("random", "random.Random"))
    ]
    return imported + [
        name
        for name in module.attributes()
        if name == "np.random" or (is_under(name, "random") and name != "random.Random")
    ]


def redis_users(module: Module) -> list[str]:
    """Imports of the Redis client outside of what connects the store."""
    if module.name in REDIS_USERS:
        return []
    return [name for name in module.imports() if is_under(name, "txredisapi")]


def reactor_users(module: Module) -> list[str]:
    """Imports of the global reactor outside the command lines."""
    if module.name in REACTOR_OWNERS:
        return []
    return [name for name in module.imports() if is_under(name, "twisted.internet.reactor")]


def wall_clocks(module: Module) -> list[str]:
    """Readings of the wall clock, but by a command line, which hands it to those who need a date."""
    if module.name in REACTOR_OWNERS:
        return []
    found = [name for name in module.attributes() if name in ("time.time", "datetime.now")]
    return found + [name for name in module.imports() if name == "time.time"]


def size_and_name(module: Module) -> list[str]:
    """A module that is too long, or whose name says nothing."""
    lines = len(module.source.splitlines())
    found = [f"{lines} lines"] if lines > LINES_MAX else []
    return found + sorted(EMPTY_NAMES.intersection(module.name.split(".")))


def modules() -> list[Module]:
    """All modules of the package."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found.append(Module(name, path.read_text()))
    return found


class LayerTests(SynchronousTestCase):
    """Each check passes on every module of the project, and finds what is planted for it."""

    def check_all(self, check: Check, *planted: tuple[str, str]) -> None:
        for name, source in planted:
            self.assertNotEqual(check(Module(name, source)), [], source)
        found = {module.name: check(module) for module in modules()}
        self.assertEqual({name: wrong for name, wrong in found.items() if wrong}, {})

    def test_every_module_is_seen(self) -> None:
        """The modules are found, under their names, and every part has its layer."""
        names = {module.name for module in modules()}
        self.assertLessEqual(
            {"p2pshare", "p2pshare.errors", "p2pshare.core", "p2pshare.core.sending"}, names
        )
        parts = {part_of(name) for name in names} - {""}
        self.assertEqual(parts, set().union(*LAYERS))

    def test_imports_point_down(self) -> None:
        """Nothing imports from above, nor from beside; nothing imports `ui` or `testing`."""
        self.check_all(
            upward_imports,
            ("p2pshare.wire.x", "from p2pshare.core.rtt import RttEstimator"),
            ("p2pshare.core.x", "import p2pshare.net.driver"),
            ("p2pshare.core.x", "def f():\n    from p2pshare import net"),
            ("p2pshare.core.x", "from ..net import driver"),
            ("p2pshare.pictures.x", "from p2pshare.storage.share import Share"),
            ("p2pshare.registry.x", "from p2pshare.peer.service import PeerService"),
            ("p2pshare.peer.x", "from p2pshare.registry.store import NameStore"),
            ("p2pshare.peer.x", "from p2pshare.registry import store"),
            ("p2pshare.peer.x", "from p2pshare.ui.main import main"),
            ("p2pshare.ui.x", "from p2pshare.testing import VirtualNetwork"),
            ("p2pshare", "from p2pshare.wire import classic"),
        )

    def test_what_may_be_imported(self) -> None:
        """The check lets pass what points down, and the peer to the registry's client."""
        for name, source in (
            ("p2pshare.peer.x", "from p2pshare.registry.client import RegistryClient"),
            ("p2pshare.ui.x", "from p2pshare.peer.service import PeerService"),
            ("p2pshare.core.x", "from . import rtt\nfrom p2pshare.errors import NotFound"),
            ("p2pshare", "from p2pshare._version import __version__"),
        ):
            self.assertEqual(upward_imports(Module(name, source)), [], source)

    def test_taps(self) -> None:
        """Only twistd imports a service's command line."""
        self.check_all(
            taps,
            ("p2pshare.ui.x", "from p2pshare.peer.tap import Options"),
            ("p2pshare.ui.x", "from p2pshare.registry import tap"),
        )

    def test_purity(self) -> None:
        """What parses and what decides has no access to time, sockets, files, threads and chance."""
        self.check_all(
            impurities,
            ("p2pshare.core.x", "from twisted.internet.task import Clock"),
            ("p2pshare.wire.x", "import socket"),
            ("p2pshare.core.x", "def f():\n    import time"),
            ("p2pshare.core.x", "from os import path"),
            ("p2pshare.core.x", "import random\nrandom.choice([1])"),
            ("p2pshare.core.x", "import numpy as np\nnp.random.default_rng()"),
            ("p2pshare.core.x", "from random import choice"),
        )
        draws = "import random\ndef f(rng: random.Random) -> float: return rng.random()"
        self.assertEqual(impurities(Module("p2pshare.core.x", draws)), [])
        self.assertEqual(impurities(Module("p2pshare.net.x", "import socket")), [])

    def test_redis(self) -> None:
        """Only the connection of the store knows the Redis client."""
        self.check_all(redis_users, ("p2pshare.registry.x", "import txredisapi as redis"))

    def test_reactor(self) -> None:
        """Nobody but a command line takes the global reactor."""
        self.check_all(
            reactor_users,
            ("p2pshare.net.x", "from twisted.internet import reactor"),
            ("p2pshare.net.x", "def f():\n    import twisted.internet.reactor"),
        )

    def test_wall_clock(self) -> None:
        """No interval is measured with a clock that can be set."""
        self.check_all(
            wall_clocks,
            ("p2pshare.net.x", "import time\ntime.time()"),
            ("p2pshare.net.x", "from time import time\ntime()"),
        )

    def test_size_and_name(self) -> None:
        """Modules are short enough to read, and are called after what they do."""
        self.check_all(
            size_and_name,
            ("p2pshare.net.x", "\n" * (LINES_MAX + 1)),
            ("p2pshare.net.utils", ""),
            ("p2pshare.common.x", ""),
        )
