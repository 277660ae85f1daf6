"""The verb `demo`: a registry and two peers as processes on this machine, fetches between them, and a clean end."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import socket
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from colorama import Fore, Style
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import deferLater

from p2pshare.errors import CannotStart, NoSuchPeer, P2pshareError, Unreachable
from p2pshare.net.child_process import ChildProcess, Program
from p2pshare.net.threads import run_in_thread
from p2pshare.peer.find.directory import Directory
from p2pshare.pictures.decoding import read_picture
from p2pshare.storage.settings import VARIABLE_PREFIX, Settings
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.verbs.classic import get_classic
from p2pshare.ui.verbs.demo_files import sample_text, write_sample_picture
from p2pshare.ui.verbs.get import get
from p2pshare.ui.verbs.ls import ls
from p2pshare.ui.verbs.users import users
from p2pshare.ui.verbs.whoami import whoami
from p2pshare.wire.registry_answers import Presence

READY_TIMEOUT = 20.0  # seconds until a service must be ready
READY_INTERVAL = 0.1  # seconds between two checks
STOP_TIMEOUT = 3.0  # seconds from SIGTERM to SIGKILL
LAST_LINES = 5  # lines of a service's output that are kept for the error message
HURRY = 0.1  # seconds from SIGTERM to SIGKILL after the demo got a signal

PEERS = ("alice", "bob")
SHARE, TEXT, PICTURE = "photos", "my_file.txt", "my_file.jpg"
PEER_WORDS = (("--share", f"{SHARE}=alice", "--classic"), ())
"""The arguments of each peer, besides its name and folder."""
REGISTRY_VARIABLE = f"{VARIABLE_PREFIX}REGISTRY"
_TWISTD = "from twisted.scripts.twistd import run; run()"


async def demo(invocation: Invocation, environ: Mapping[str, str]) -> int:
    """Run the demo; return the exit code.

    Args:
        invocation: the run of the command line; its settings and its folder are not used.
        environ: the environment of the services; variables of p2pshare are removed.

    Raises:
        P2pshareError: a step failed, or a fetched file differs from the shared one.
    """
    folder = Path(tempfile.mkdtemp(prefix="p2pshare-demo-"))
    services = _Demo(invocation, folder, environ)
    patience = STOP_TIMEOUT
    try:
        await services.run()
    except CancelledError:
        patience = HURRY
        raise
    finally:
        await services.end(patience)
        shutil.rmtree(folder, ignore_errors=True)
    invocation.output.line(
        "Every file arrived unchanged. All services are stopped, and all files are removed.",
        Fore.GREEN,
    )
    return 0


class _Service(ChildProcess):
    """A registry or a peer, and the last lines of its output."""

    def __init__(self, reactor: Any) -> None:
        self.lines: deque[str] = deque(maxlen=LAST_LINES)
        super().__init__(reactor, self.lines.append)


class _Demo:
    """The services of the demo, and its steps."""

    def __init__(self, invocation: Invocation, folder: Path, environ: Mapping[str, str]) -> None:
        self._port = _free_port()
        self._url = f"http://127.0.0.1:{self._port}"
        self._folder = folder
        self._environ = _service_environ(environ, folder, self._url)
        self._registry: _Service | None = None
        self._peers: list[_Service] = []
        self._invocation = dataclasses.replace(
            invocation, settings=Settings(registry=self._url), cwd=folder
        )

    async def run(self) -> None:
        """Run all steps; `end` follows in any case."""
        self._invocation.output.line(
            "# A text and a picture to share, in the folder alice", Style.DIM
        )
        await run_in_thread(self._invocation.reactor, _make_shares, self._folder)
        async with self._invocation.registry() as client:
            await self._start_services(client)
        await self._users()
        await self._whoami(PEERS[0])
        self._be(PEERS[1])
        self._show_command("p2pshare", "ls", f"alice:{SHARE}")
        await ls(self._invocation, f"alice:{SHARE}", recursive=False)
        await self._get(f"alice:{SHARE}/{TEXT}", f"alice:{SHARE}/{PICTURE}")
        for kind, name in (("text", TEXT), ("picture", PICTURE)):
            await self._compare(
                kind, name, name, _have_same_bytes, "byte for byte, in an encrypted session"
            )
        await self._get("--classic", f"alice:{PICTURE}")
        await self._compare(
            "picture",
            PICTURE,
            "alice.png",
            _have_same_pixels,
            "pixel for pixel, unencrypted over UDP",
        )
        await self._stop(PEERS[1])
        await self._users()

    async def end(self, patience: float) -> None:
        """Stop the peers and then the registry; kill each of them after `patience` seconds."""
        await gatherResults([Deferred.fromCoroutine(peer.end(patience)) for peer in self._peers])
        if self._registry is not None:
            await self._registry.end(patience)

    async def _start_services(self, client: Directory) -> None:
        listen = f"tcp:{self._port}:interface=127.0.0.1"
        self._registry = self._start("p2pregistry", "--listen", listen, "--data", "names")
        await self._until_ready(client, "The registry", self._registry)
        self._show_command("export", f"{REGISTRY_VARIABLE}={self._url}")
        for name, extra in zip(PEERS, PEER_WORDS, strict=True):
            self._peers.append(
                self._start("p2ppeer", "--name", name, *extra, "--data", f"{name}/data")
            )
        for name, peer in zip(PEERS, self._peers, strict=True):
            await self._until_ready(client, f"The peer {name}", peer, name)

    def _start(self, *words: str) -> _Service:
        self._show_command("twistd", "-n", *words, "&")
        command = [sys.executable, "-c", _TWISTD, "-n", *words]
        service = _Service(self._invocation.reactor)
        service.start(Program(command, self._folder, self._environ))
        return service

    async def _until_ready(
        self, client: Directory, what: str, service: _Service, name: str | None = None
    ) -> None:
        """Wait until the registry answers and, if a name is given, shows it online."""
        reactor = self._invocation.reactor
        deadline = reactor.seconds() + READY_TIMEOUT
        while not service.ended.called and reactor.seconds() < deadline:
            with contextlib.suppress(Unreachable, NoSuchPeer):
                if name is None:
                    await client.list_names()
                    return
                if (await client.look_up_peer(name)).summary.presence is Presence.ONLINE:
                    return
            await deferLater(reactor, READY_INTERVAL, lambda: None)
        lines = "\n".join(service.lines)
        raise CannotStart(what=what, reason=f"its last output was {lines!r}.")

    async def _get(self, *words: str) -> None:
        """Fetch files, in the classic protocol if the first word is its flag.

        Raises:
            P2pshareError: a file was not fetched.
        """
        self._show_command("p2pshare", "get", *words)
        flags = [word for word in words if word.startswith("--")]
        way = get_classic if flags else get
        if await way(self._invocation, words[len(flags) :], overwrite=False):
            raise P2pshareError(reason="a file was not fetched.")

    def _be(self, name: str) -> None:
        """Act as a user from now on."""
        data = f"{name}/data"
        variables = {f"{VARIABLE_PREFIX}NAME": name, f"{VARIABLE_PREFIX}DATA": data}
        self._show_command("export", *(f"{key}={value}" for key, value in variables.items()))
        self._invocation = self._invocation_of(name, data)

    def _invocation_of(self, name: str, data: str) -> Invocation:
        settings = dataclasses.replace(
            self._invocation.settings, name=name, data=self._folder / data
        )
        return dataclasses.replace(self._invocation, settings=settings)

    async def _users(self) -> None:
        self._show_command("p2pshare", "users")
        await users(self._invocation)

    async def _whoami(self, name: str) -> None:
        data = f"{name}/data"
        self._show_command("p2pshare", "whoami", "--name", name, "--data", data)
        await whoami(self._invocation_of(name, data))

    async def _stop(self, name: str) -> None:
        """Stop a peer; its key keeps the name."""
        self._show_command("kill", f"%{PEERS.index(name) + 2}", f" # {name}'s peer")
        await self._peers[PEERS.index(name)].end(STOP_TIMEOUT)

    async def _compare(
        self, kind: str, shared: str, got: str, are_same: Callable[[Path, Path], bool], how: str
    ) -> None:
        path = self._folder / got
        same = await run_in_thread(
            self._invocation.reactor, are_same, self._folder / PEERS[0] / shared, path
        )
        self._invocation.output.event("compared", path=path, kind=kind, same=same)
        if not same:
            raise P2pshareError(reason=f"the fetched {kind} differs from the shared one.")
        self._invocation.output.line(f"Compared {got}: the same {how}.", Fore.GREEN)

    def _show_command(self, *words: str) -> None:
        command = " ".join(words)
        self._invocation.output.event("command", command=command)
        self._invocation.output.line(f"$ {command}", Style.BRIGHT)


def _free_port() -> int:
    """Return a TCP port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _service_environ(environ: Mapping[str, str], folder: Path, registry: str) -> dict[str, str]:
    """Return an environment that keeps the services away from the user's settings and folders."""
    kept = {key: value for key, value in environ.items() if not key.startswith(VARIABLE_PREFIX)}
    own = {
        "XDG_CONFIG_HOME": str(folder / "config"),
        "XDG_DATA_HOME": str(folder / "data"),
        REGISTRY_VARIABLE: registry,
    }
    return kept | own


def _make_shares(folder: Path) -> None:
    shared = folder / PEERS[0]
    shared.mkdir()
    (shared / TEXT).write_bytes(sample_text())
    with open(shared / PICTURE, "wb") as file:
        write_sample_picture(file)


def _have_same_bytes(one: Path, other: Path) -> bool:
    return one.read_bytes() == other.read_bytes()


def _have_same_pixels(one: Path, other: Path) -> bool:
    with open(one, "rb") as first, open(other, "rb") as second:
        return np.array_equal(read_picture(first), read_picture(second))
