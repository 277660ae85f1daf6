"""A registry and some peers as real processes, with a page each."""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from p2pshare.storage.socket_paths import CONTROL_NAME, socket_address
from tests.integration.programs import HOST, Program
from tests.integration.test_registry_process import PATIENCE, TWISTD, Registry
from tests.page.files import usual_share, write

T = TypeVar("T")


def until(ask: Callable[[], T], patience: float = PATIENCE) -> T:
    """Repeat a question until its answer is true, and return that."""
    deadline = time.monotonic() + patience
    while not (answer := ask()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{ask} is still {answer!r}")
        time.sleep(0.05)
    return answer


class Person:
    """A peer in a process. It shares the folder `shared`, and saves into the folder `saved`."""

    def __init__(
        self,
        folder: Path,
        name: str,
        registry_url: str,
        *options: str,
        twistd: Sequence[str] = TWISTD[1:],
    ) -> None:
        self.name = name
        self.folder = folder / name
        self.shared = self.folder / "shared"
        self.saved = self.folder / "saved"
        self.data = self.folder / "data"
        self.config = self.folder / "config" / "p2pshare" / "config.toml"
        for each in (self.shared, self.saved):
            each.mkdir(parents=True, exist_ok=True)
        self._words = [
            *(*twistd, "p2ppeer", "--name", name, "--registry", registry_url),
            *("--data", str(self.data), "--share", f"shared={self.shared}"),
            *("--inbox-folder", str(self.saved), *options),
        ]
        self.program: Program | None = None

    def start(self) -> None:
        """Start the process, and wait until the peer has its name."""
        assert self.program is None, "it runs already"
        environ = {"XDG_CONFIG_HOME": str(self.config.parents[1])}
        self.program = Program(self.folder, *self._words, environ=environ)
        self.program.wait_for("registered: name=")

    def end(self, number: int = signal.SIGTERM) -> str:
        """End the process, and return what it has said."""
        assert self.program is not None, "it does not run"
        self.program.end(number)
        said, self.program = self.program.said(), None
        return said

    def pause(self) -> None:
        """Freeze the process."""
        assert self.program is not None
        os.kill(self.program.process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Let a frozen process run again."""
        assert self.program is not None
        os.kill(self.program.process.pid, signal.SIGCONT)

    def discard(self) -> None:
        """Kill the process if it still runs."""
        if self.program is not None:
            self.program.discard()
            self.program = None

    def ask(self, do: str, **fields: Any) -> dict[str, Any]:
        """Return the reply of the peer to an action of the control protocol; one that fails is an error of the test."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE)
            with socket_address(self.data / CONTROL_NAME) as address:
                connection.connect(address)
            connection.sendall(json.dumps({"do": do, **fields}).encode() + b"\n")
            with connection.makefile() as lines:
                reply: dict[str, Any] = json.loads(lines.readline())
        assert reply.pop("ok"), reply
        return reply

    def page_url(self, to: str = "") -> str:
        """Return the URL of a view of the page, with a fresh token for one browser."""
        return str(self.ask("page_open", **({"to": to} if to else {}))["url"])


class World:
    """A registry and the people in it; `discard` it in the end."""

    def __init__(
        self, names: tuple[str, ...], shares: Mapping[str, Mapping[str, bytes]] | None = None
    ) -> None:
        """Start a peer for each name, which shares what `shares` has for it, or the usual files."""
        self._temporary = tempfile.TemporaryDirectory(prefix="p2p-page-")
        self.folder = Path(self._temporary.name)
        self.registry = Registry(self.folder / "registry")
        self.people: dict[str, Person] = {}
        try:
            self.registry.wait_until_ready()
            for name in names:
                files = usual_share() if shares is None or name not in shares else shares[name]
                self.add(name, dict(files))
        except BaseException:
            self.discard()
            raise

    @property
    def registry_url(self) -> str:
        return f"http://{HOST}:{self.registry.port}"

    def lose_registry(self) -> None:
        """Kill the registry."""
        self.registry.end(signal.SIGKILL)
        self.registry.discard()

    def restore_registry(self) -> None:
        """Start it again, at the same address."""
        self.registry = Registry(self.folder / "registry", port=self.registry.port)
        self.registry.wait_until_ready()

    def add(
        self,
        name: str,
        files: dict[str, bytes],
        *options: str,
        twistd: Sequence[str] = TWISTD[1:],
    ) -> Person:
        """Start one more peer; `twistd` are the words of Python by which it runs."""
        person = self.people[name] = Person(
            self.folder, name, self.registry_url, *options, twistd=twistd
        )
        write(person.shared, files)
        person.start()
        return person

    def __getitem__(self, name: str) -> Person:
        """Return a person."""
        return self.people[name]

    def discard(self) -> None:
        """End all processes, and remove all files."""
        for person in self.people.values():
            person.discard()
        self.registry.discard()
        self._temporary.cleanup()


@cache
def the_world() -> World:
    """Return alice and bob, with whom all tests of a process work that leave them as they are."""
    world = World(("alice", "bob"))
    atexit.register(world.discard)
    return world
