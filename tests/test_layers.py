"""The layers of the project: the imports and calls that each module may have, read from its source."""

from __future__ import annotations

import ast
import gc
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
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
    {"web"},
    {"classic"},
    {"registry", "peer"},
    {"ui"},
    {"testing"},
)
"""From the bottom to the top; neighbours in one layer do not know each other."""

EXCEPTIONS = {
    ("peer", "p2pshare.registry.client"),
    ("peer", "p2pshare.registry.relay_client"),
    ("peer", "p2pshare.registry.signal_client"),
}
"""Imports between neighbours in a layer that are allowed."""

IMPURE = {
    "asyncio", "concurrent", "datetime", "multiprocessing", "os", "pathlib", "selectors", "shutil",
    "socket", "subprocess", "tempfile", "threading", "time", "twisted",
}  # fmt: skip
PURE = {
    *("p2pshare.wire", "p2pshare.core", "p2pshare.classic.core"),
    *(
        "p2pshare.registry.relay.turns",
        "p2pshare.classic.datagrams",
        "p2pshare.classic.registration",
    ),
}
"""Packages and modules without clock, sockets, files, threads and randomness."""

CLASSIC_SEAMS = {
    "p2pshare.peer.service",
    "p2pshare.registry.api.classic",
    "p2pshare.registry.client",
    "p2pshare.ui.verbs.classic",
}
"""The only modules outside `classic` that may import it; its docstring says what each of them does."""

LINES_MAX = 600
PARAMETERS_MAX = 8  # of a constructor; settings that belong together are a frozen dataclass
MODULES_MAX = 16  # at one level of the package
EMPTY_NAMES = {"utils", "helpers", "common", "manager", "handler"}
REDIS_USERS = {
    f"p2pshare.registry.redis.{each}" for each in ("channels", "connection", "link", "sentinel")
}
REACTOR_OWNERS = {
    "p2pshare.peer.tap", "p2pshare.registry.tap", "p2pshare.registry.workers.worker", "p2pshare.ui.main",
}  # fmt: skip

FILE_WRITERS = {
    "p2pshare.net.background",  # /dev/null
    "p2pshare.net.debug_log",  # the log that the user asks for
    "p2pshare.net.command_line",  # tries whether a service may write where it is told to
    "p2pshare.peer.control",  # its socket
    "p2pshare.registry.relay.links",  # the socket of a worker
    "p2pshare.registry.workers.supervisor",  # the folder of their sockets
    "p2pshare.ui.verbs.demo",  # what it shares, in a folder that it removes
    "p2pshare.ui.terminal.graphics",  # the terminal, which it asks
    "p2pshare.ui.terminal.hang_up",  # /dev/null
    "p2pshare.ui.verbs.key",  # a key that is exported, where the user says
    "p2pshare.ui.main",  # /dev/null
    "p2pshare.ui.terminal.passphrase",  # the terminal
}
"""Modules besides `storage` that write files. None of these files gets its name from another machine."""

FILE_CALLS = {
    *("link", "symlink", "rename", "renames", "replace", "mkdir", "makedirs", "mkfifo", "mknod"),
    *("unlink", "remove", "removedirs", "rmdir", "truncate", "creat"),
    *("O_CREAT", "O_WRONLY", "O_RDWR", "O_APPEND", "O_TRUNC", "O_TMPFILE"),
}
"""Names in `os` that create, open for writing, rename or remove files."""

PATH_CALLS = {
    *("write_bytes", "write_text", "touch", "mkdir", "unlink", "rmdir", "rename"),
    *("symlink_to", "hardlink_to", "mkdtemp", "mkstemp"),
}
"""Methods of paths that do the same. `replace` is distinguished from `str.replace` by its arguments."""

HARMLESS = {"shutil.which", "shutil.get_terminal_size", "tempfile.gettempdir"}

PROGRAM_STARTERS = {
    "p2pshare.net.background",  # forks, as the command that waits for its service
    "p2pshare.net.utf8_mode",  # itself, with the same words
    "p2pshare.net.end_with_parent",  # becomes the program that it was told to start
    "p2pshare.net.child_process",  # a Redis that was found at the start, workers, the services of the demonstration
    "p2pshare.ui.verbs.page.browser",  # the browser, with the address of the user's own page
    "p2pshare.ui.verbs.page.link_handler",  # xdg-mime and update-desktop-database, with names of ours
}
"""Modules that start a program."""

PROGRAM_MODULES = {
    *("subprocess", "webbrowser", "multiprocessing", "pty", "runpy", "code", "pickle", "marshal"),
    *("shelve", "ctypes.util", "twisted.internet.utils", "twisted.internet.process"),
}
PROGRAM_CALLS = re.compile(
    r"os\.(system|popen|startfile|exec\w+|spawn\w+|posix_spawn\w*|fork\w*)|importlib.import_module"
)


@cache
def nodes_of(source: str) -> tuple[ast.AST, ...]:
    """Return all syntax nodes of a module, outermost first."""
    return tuple(ast.walk(ast.parse(source)))


@dataclass(frozen=True, slots=True)
class Module:
    """A module: its full name and its source."""

    name: str
    source: str

    @property
    def part(self) -> str:
        """The first component below the package, such as `wire` or `errors`; "" for the package itself."""
        return part_of(self.name)

    def imports(self) -> Iterator[str]:
        """Yield the full name of each import, at any level of the source."""
        for node in nodes_of(self.source):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = self.name.split(".")[: -node.level] if node.level else []
                base += node.module.split(".") if node.module else []
                yield from (".".join([*base, alias.name]) for alias in node.names)

    def imported(self, names: set[str]) -> set[str]:
        """Return the modules among `names` that it imports. A package counts only if no module in it is imported."""
        found = {name if name in names else name.rpartition(".")[0] for name in self.imports()}
        return found & names - {self.name}

    def attributes(self) -> Iterator[str]:
        """Yield every dotted name in the source, such as `random.choice`."""
        for node in nodes_of(self.source):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                yield f"{node.value.id}.{node.attr}"

    def calls(self) -> Iterator[tuple[str, ast.Call]]:
        """Yield every call, with the last component of the name that is called."""
        for node in nodes_of(self.source):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
                called = node.func
                yield called.attr if isinstance(called, ast.Attribute) else called.id, node


Check = Callable[[Module], list[str]]
"""A check: it returns the faults of a module."""


def part_of(name: str) -> str:
    return [*name.split("."), ""][1]


def circle(imports: Mapping[str, set[str]]) -> list[str]:
    """Return modules of which each imports the next one, and the last is the first again; [] if there are none."""
    done: set[str] = set()
    for start in imports:
        path = [start]
        branches = [iter(imports[start] - done)]
        while branches:
            following = next(branches[-1], None)
            if following is None:
                branches.pop()
                done.add(path.pop())
            elif following in path:
                return [*path[path.index(following) :], following]
            elif following not in done:
                path.append(following)
                branches.append(iter(imports[following] - done))
    return []


def is_under(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def rank(part: str) -> int:
    (found,) = (number for number, layer in enumerate(LAYERS) if part in layer)
    return found


def upward_imports(module: Module) -> list[str]:
    """Return the imports that do not point down."""
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
    """Return the imports of a tap, which only a twistd plugin may name."""
    return [name for name in module.imports() if is_under(name, "p2pshare") and ".tap" in name]


def impurities(module: Module) -> list[str]:
    """Return the imports that give a pure module access to a clock, a socket, a file or randomness."""
    if not any(is_under(module.name, each) for each in PURE):
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
    """Return the imports of the Redis client outside the store's connection."""
    if module.name in REDIS_USERS:
        return []
    return [name for name in module.imports() if is_under(name, "txredisapi")]


def classic_users(module: Module) -> list[str]:
    """Return imports of the original protocol outside its seams."""
    if module.part == "classic" or module.name in CLASSIC_SEAMS:
        return []
    return [name for name in module.imports() if is_under(name, "p2pshare.classic")]


def reactor_users(module: Module) -> list[str]:
    """Return the imports of the global reactor outside the command lines."""
    if module.name in REACTOR_OWNERS:
        return []
    return [name for name in module.imports() if is_under(name, "twisted.internet.reactor")]


def wall_clocks(module: Module) -> list[str]:
    """Return the uses of the wall clock. Only a command line reads it, and passes it on."""
    if module.name in REACTOR_OWNERS:
        return []
    found = [name for name in module.attributes() if name in ("time.time", "datetime.now")]
    return found + [name for name in module.imports() if name == "time.time"]


def file_writers(module: Module) -> list[str]:
    """Return the uses that create, write, rename or remove files outside `storage`."""
    if module.part == "storage" or module.name in FILE_WRITERS:
        return []
    used = [*module.attributes(), *module.imports()]
    found = [
        name
        for name in used
        if (name.startswith("os.") and name[3:] in FILE_CALLS)
        or (name.startswith(("shutil.", "tempfile.")) and name not in HARMLESS)
        or name == "sqlite3.connect"
    ]
    return found + [name for name, call in module.calls() if _writes(name, call)]


def _writes(name: str, call: ast.Call) -> bool:
    """Whether a call is a method of a path or an `open` that writes a file."""
    if name in PATH_CALLS:
        return isinstance(call.func, ast.Attribute)
    if name == "replace":
        return len(call.args) == 1 and not call.keywords
    if name != "open":
        return False
    is_method = isinstance(call.func, ast.Attribute)
    modes = [each.value for each in call.keywords if each.arg == "mode"]
    modes += call.args[:1] if is_method else call.args[1:2]
    if is_method:
        modes = [mode for mode in modes if isinstance(mode, ast.Constant)]
    return any(
        not isinstance(mode, ast.Constant) or bool(set("wax+").intersection(str(mode.value)))
        for mode in modes
    )


def program_starters(module: Module) -> list[str]:
    """Return the uses that start a program, open a file in a program, or execute data as code."""
    if module.name in PROGRAM_STARTERS:
        return []
    found = [
        name for name in module.imports() if any(is_under(name, each) for each in PROGRAM_MODULES)
    ]
    used = [*module.attributes(), *module.imports()]
    found += [name for name in used if PROGRAM_CALLS.fullmatch(name)]
    return found + [
        name
        for name, call in module.calls()
        if name == "spawnProcess"
        or (name in ("eval", "exec", "__import__") and isinstance(call.func, ast.Name))
    ]


def size_and_name(module: Module) -> list[str]:
    """Return the length of a module that is too long, and a name without meaning."""
    lines = len(module.source.splitlines())
    found = [f"{lines} lines"] if lines > LINES_MAX else []
    return found + sorted(EMPTY_NAMES.intersection(module.name.split(".")))


def long_constructors(module: Module) -> list[str]:
    """Return the classes whose constructor takes too many parameters besides `self`."""
    found = []
    for node in nodes_of(module.source):
        for each in node.body if isinstance(node, ast.ClassDef) else ():
            if isinstance(each, ast.FunctionDef) and each.name == "__init__":
                arguments = each.args
                taken = arguments.posonlyargs + arguments.args[1:] + arguments.kwonlyargs
                if len(taken) > PARAMETERS_MAX:
                    found.append(f"{node.name}: {len(taken)} parameters")  # type: ignore[attr-defined]
    return found


@cache
def modules(below: str = "") -> list[Module]:
    """Return all modules of the package, or of a folder below it, parsed."""
    found = []
    gc.collect()
    gc.disable()  # otherwise it examines all nodes again and again, here and in all later tests
    for path in sorted((PACKAGE / below).rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found.append(Module(name, path.read_text()))
        nodes_of(found[-1].source)
    gc.freeze()
    gc.enable()
    return found


class LayerTests(SynchronousTestCase):
    """Each check accepts every module of the project and finds the faults that are planted for it."""

    def check_all(self, check: Check, *planted: tuple[str, str]) -> None:
        for name, source in planted:
            self.assertNotEqual(check(Module(name, source)), [], source)
        found = {module.name: check(module) for module in modules()}
        self.assertEqual({name: wrong for name, wrong in found.items() if wrong}, {})

    def test_every_module_is_seen(self) -> None:
        """All modules are found under their names, and every part belongs to a layer."""
        names = {module.name for module in modules()}
        self.assertLessEqual(
            {"p2pshare", "p2pshare.errors", "p2pshare.core", "p2pshare.classic.core.row_sender"},
            names,
        )
        parts = {part_of(name) for name in names} - {""}
        self.assertEqual(parts, set().union(*LAYERS))

    def test_imports_point_down(self) -> None:
        """No module imports from a higher layer or from a neighbour."""
        self.check_all(
            upward_imports,
            ("p2pshare.wire.x", "from p2pshare.classic.core.round_trips import RttEstimator"),
            ("p2pshare.core.x", "import p2pshare.classic.net.datagram_driver"),
            ("p2pshare.core.x", "def f():\n    from p2pshare import net"),
            ("p2pshare.core.x", "from ..net import driver"),
            ("p2pshare.pictures.x", "from p2pshare.classic.shared_files import Share"),
            ("p2pshare.registry.x", "from p2pshare.peer.service import PeerService"),
            ("p2pshare.peer.x", "from p2pshare.registry.store import NameStore"),
            ("p2pshare.peer.x", "from p2pshare.registry import store"),
            ("p2pshare.peer.x", "from p2pshare.ui.main import main"),
            ("p2pshare.ui.x", "from p2pshare.testing.network import VirtualNetwork"),
            ("p2pshare", "from p2pshare.wire import classic"),
        )

    def test_what_may_be_imported(self) -> None:
        """The check accepts imports that point down, and imports of the registry's client by the peer."""
        for name, source in (
            ("p2pshare.peer.x", "from p2pshare.registry.client import RegistryClient"),
            ("p2pshare.ui.x", "from p2pshare.peer.service import PeerService"),
            ("p2pshare.core.x", "from . import rtt\nfrom p2pshare.errors import NotFound"),
            ("p2pshare", "from p2pshare._version import __version__"),
        ):
            self.assertEqual(upward_imports(Module(name, source)), [], source)

    def test_no_circles(self) -> None:
        """No two modules import each other, directly or through others, even for types only."""
        self.assertEqual(circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}), ["b", "c", "b"])
        self.assertEqual(circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}), [])
        names = {module.name for module in modules()}
        self.assertEqual(circle({each.name: each.imported(names) for each in modules()}), [])

    def test_taps(self) -> None:
        """Only a twistd plugin imports a tap."""
        self.check_all(
            taps,
            ("p2pshare.ui.x", "from p2pshare.peer.tap import Options"),
            ("p2pshare.ui.x", "from p2pshare.registry import tap"),
        )

    def test_purity(self) -> None:
        """Parsers and state machines have no access to clocks, sockets, files, threads and randomness."""
        self.check_all(
            impurities,
            ("p2pshare.core.x", "from twisted.internet.task import Clock"),
            ("p2pshare.classic.core.x", "import time"),
            ("p2pshare.classic.datagrams", "import socket"),
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
        """Only the store's connection imports the Redis client."""
        self.check_all(redis_users, ("p2pshare.registry.x", "import txredisapi as redis"))

    def test_classic(self) -> None:
        """Only four modules know the original protocol, and each of them does."""
        self.check_all(
            classic_users,
            (
                "p2pshare.peer.registration",
                "from p2pshare.classic.registration import Registration",
            ),
            ("p2pshare.ui.verbs.get", "def f():\n    import p2pshare.classic.datagrams"),
        )
        known = {module.name for module in modules() if classic_users(Module("x.x", module.source))}
        self.assertEqual({name for name in known if part_of(name) != "classic"}, CLASSIC_SEAMS)

    def test_reactor(self) -> None:
        """Only command lines import the global reactor."""
        self.check_all(
            reactor_users,
            ("p2pshare.net.x", "from twisted.internet import reactor"),
            ("p2pshare.net.x", "def f():\n    import twisted.internet.reactor"),
        )

    def test_wall_clock(self) -> None:
        """No interval is measured with the wall clock."""
        self.check_all(
            wall_clocks,
            ("p2pshare.net.x", "import time\ntime.time()"),
            ("p2pshare.net.x", "from time import time\ntime()"),
        )

    def test_file_writers(self) -> None:
        """Threat 1: received data is written by `storage` only; the modules listed above write other files."""
        self.check_all(
            file_writers,
            ("p2pshare.peer.x", "open(name, 'wb')"),
            ("p2pshare.peer.x", "open(name, mode=mode)"),
            ("p2pshare.peer.x", "def f(path):\n    with path.open('r+b') as file: pass"),
            ("p2pshare.net.x", "import os\nos.open(name, os.O_CREAT)"),
            ("p2pshare.net.x", "from os import rename"),
            ("p2pshare.registry.x", "path.write_text('')"),
            ("p2pshare.registry.x", "path.replace(other)"),
            ("p2pshare.ui.x", "import shutil\nshutil.move(one, other)"),
            ("p2pshare.ui.x", "from tempfile import NamedTemporaryFile"),
            ("p2pshare.ui.x", "import sqlite3\nsqlite3.connect(name)"),
        )
        for source in (
            "open(name)",
            "open(name, 'rb')",
            "path.open('rb')",
            "tree.open(path)",
            "import shutil\nshutil.which('redis-server')",
            "text.replace('a', 'b')",
            "import dataclasses\ndataclasses.replace(it, a=1)",
        ):
            self.assertEqual(file_writers(Module("p2pshare.ui.x", source)), [], source)

    def test_program_starters(self) -> None:
        """Threat 40: received data is never opened or executed. Few modules start programs, and none uses a shell."""
        self.check_all(
            program_starters,
            ("p2pshare.ui.x", "import subprocess"),
            ("p2pshare.ui.x", "def f():\n    from webbrowser import open"),
            ("p2pshare.storage.x", "import os\nos.system('xdg-open cat.jpg')"),
            ("p2pshare.storage.x", "from os import execv"),
            ("p2pshare.peer.x", "reactor.spawnProcess(child, name, [name])"),
            ("p2pshare.peer.x", "eval(text)"),
            ("p2pshare.peer.x", "import pickle"),
        )
        for each in ("shell=True", "/bin/sh", "os.system", "os.popen"):
            found = [module.name for module in modules() if each in module.source]
            self.assertEqual(found, [], each)

    def test_exceptions_are_needed(self) -> None:
        """Each module that is listed as a writer of files or a starter of programs is one."""
        sources = {module.name: module.source for module in modules()}
        for check, names in ((file_writers, FILE_WRITERS), (program_starters, PROGRAM_STARTERS)):
            for name in names:
                self.assertNotEqual(check(Module("p2pshare.ui.x", sources[name])), [], name)

    def test_rooms(self) -> None:
        """No package has more than the maximum number of modules at its own level."""
        levels = Counter(
            path.parent.relative_to(PACKAGE).as_posix()
            for path in PACKAGE.rglob("*.py")
            if path.name != "__init__.py"
        )
        full = {level: count for level, count in levels.items() if count > MODULES_MAX}
        self.assertEqual(full, {})

    def test_constructors(self) -> None:
        """No constructor takes more than eight parameters."""
        names = ", ".join("abcdefghi")
        source = "class X:\n    def __init__(self, {}): pass"
        self.check_all(
            long_constructors,
            ("p2pshare.net.x", source.format(names)),
            ("p2pshare.net.x", source.format(f"*, {names}")),
        )
        self.assertEqual(long_constructors(Module("p2pshare.net.x", source.format("*, a, b"))), [])

    def test_size_and_name(self) -> None:
        """No module is too long or has a name without meaning."""
        self.check_all(
            size_and_name,
            ("p2pshare.net.x", "\n" * (LINES_MAX + 1)),
            ("p2pshare.net.utils", ""),
            ("p2pshare.common.x", ""),
        )
