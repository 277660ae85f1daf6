"""Processes of the project that fork from a preloaded one, which saves half a second of processor time each.

Theory of operation
-------------------
A test of processes spends most of its processor time on importing Twisted and the project, once per process. So one
process, the *forkserver*, imports everything once and forks whenever a test starts `python -c CODE WORDS`. The fork
gets the arguments, the folder, the environment and the three streams, and runs CODE as Python would. It is a normal
process: it has a pid, receives signals and can be killed. Its parent is a process of the forkserver, which passes the
exit status on. If it were a child of the test, the test would have to adopt all orphans, daemons included.

The fork has the state that the forkserver's interpreter read at its start. So a command of another shape, with another
locale or with other variables of Python, starts normally. So does every command while coverage is measured, or where
there is no `fork`.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import inspect
import io
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import p2pshare

_FIXED = ("LC_", "LANG", "PYTHON", "COVERAGE")  # what variables begin with that count at the start
_FILES_MAX = 1024  # that the forkserver has open
_HARMLESS = {"PYTHONPATH", "PYTHONUNBUFFERED"}
_ROOT = str(Path(p2pshare.__file__).parents[1])
_INHERITED_PATH = os.environ.get("PYTHONPATH")  # trial sets it in each process of `--jobs`
_FORKED_PATHS = {None, _ROOT, _INHERITED_PATH}
_ENDS = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
_Request: TypeAlias = dict[str, Any]


class Popen(subprocess.Popen[Any]):
    """A process that is forked if that makes no difference, and started normally otherwise."""

    _status: int | None = None  # a pipe with the exit code

    def _execute_child(self, *args: Any, **kwargs: Any) -> None:
        usual: Any = super()
        asked = inspect.signature(subprocess.Popen._execute_child).bind(self, *args, **kwargs)  # type: ignore[attr-defined]
        of = asked.arguments
        if not _is_forkable(of):
            usual._execute_child(*args, **kwargs)
            return
        request = {
            "argv": [os.fspath(each) for each in of["args"]],
            "cwd": os.path.abspath(of["cwd"] or "."),
            "env": dict(os.environ if of["env"] is None else of["env"]),
        }
        theirs = [of[each] for each in ("p2cread", "c2pwrite", "errwrite")]
        streams = [number if each == -1 else each for number, each in enumerate(theirs)]
        self.pid, self._status = _forkserver().start(request, streams)
        self._child_created = True
        usual._close_pipe_fds(*(of[each] for each in _ENDS))

    def _internal_poll(self, *args: Any, **kwargs: Any) -> int | None:
        if self._status is None:
            usual: Any = super()
            return usual._internal_poll(*args, **kwargs)  # type: ignore[no-any-return]
        return self._read_status(0.0)

    def _wait(self, timeout: float | None) -> int:
        if self._status is None and self.returncode is None:
            usual: Any = super()
            return usual._wait(timeout=timeout)  # type: ignore[no-any-return]
        code = self._read_status(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        return code

    def _read_status(self, timeout: float | None) -> int | None:
        if self._status is not None and select.select([self._status], [], [], timeout)[0]:
            self.returncode = int(os.read(self._status, 16) or b"1")
            os.close(self._status)
            self._status = None
        return self.returncode


def run(
    command: list[str], *, input: str | None, timeout: float, **kwargs: Any
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, and return its output, as `subprocess.run` does."""
    streams: Any = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    process: Any = Popen(command, text=True, **streams, **kwargs)
    with process:
        try:
            out, error = process.communicate(input, timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, error)


def _is_forkable(asked: Mapping[str, Any]) -> bool:
    command, environ = asked["args"], os.environ if asked["env"] is None else asked["env"]
    return (
        sys.platform == "linux"
        and not any(name.startswith("COVERAGE_") for name in os.environ)
        and isinstance(command, list)
        and command[:2] == [sys.executable, "-c"]
        and _fixed(environ) == _fixed(os.environ)
        and environ.get("PYTHONPATH") in _FORKED_PATHS
        and not any(asked[each] for each in ("preexec_fn", "start_new_session", "pass_fds"))
    )


def _fixed(environ: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environ.items()
        if name.startswith(_FIXED) and name not in _HARMLESS
    }


class _Forkserver:
    """The client of the forkserver."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs:
            # As a script, so that it does not import the package of the tests, which makes warnings errors.
            command = [sys.executable, "-P", __file__, str(theirs.fileno())]
            paths = (_ROOT, _INHERITED_PATH)
            self._process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
            )

    def start(self, request: _Request, streams: list[int]) -> tuple[int, int]:
        """Start a program. Returns its pid, and a pipe that will carry its exit code."""
        reading, writing = os.pipe()
        with tempfile.TemporaryFile() as file:
            file.write(json.dumps(request).encode())
            file.flush()
            socket.send_fds(self._socket, [b"+"], [*streams, writing, file.fileno()])
        os.close(writing)
        return int(self._socket.recv(16)), reading

    def end(self) -> None:
        self._socket.close()
        self._process.wait()


@functools.cache
def _forkserver() -> _Forkserver:
    """Return the forkserver that all tests of this process share."""
    server = _Forkserver()
    atexit.register(server.end)
    return server


def _serve(control: socket.socket) -> _Request:
    """Start the requested processes. Returns in each new process, never in the forkserver."""
    while True:
        told, received, _, _ = socket.recv_fds(control, 1, 5)
        if not told:
            os._exit(0)
        *streams, status, file = received
        reading, writing = os.pipe()
        if os.fork() == 0:  # the parent of the program
            program = os.fork()
            if program == 0:
                os.lseek(file, 0, os.SEEK_SET)
                with open(file, "rb", closefd=False) as request:
                    asked: _Request = json.load(request)
                for number, stream in enumerate([os.dup(each) for each in streams]):
                    os.dup2(stream, number)
                control.detach()
                os.closerange(3, _FILES_MAX)
                return asked
            os.write(writing, b"%d" % program)
            os.closerange(0, 3)
            for each in (*streams, reading, writing, control.fileno()):
                _close(each)
            _, ended = os.waitpid(program, 0)
            os.write(status, b"%d" % os.waitstatus_to_exitcode(ended))
            os._exit(0)
        os.close(writing)
        control.send(os.read(reading, 16))
        for each in (reading, *received):
            os.close(each)
        _reap()


def _close(file: int) -> None:
    with suppress(OSError):  # it is closed already: two streams were one
        os.close(file)


def _reap() -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _import_all() -> None:
    """Import every module that does not import the reactor, since each process needs its own reactor."""
    sys.modules["txredisapi"] = None  # type: ignore[assignment]  # it does
    for module in pkgutil.walk_packages(p2pshare.__path__, "p2pshare."):
        with suppress(ImportError):
            importlib.import_module(module.name)
    del sys.modules["txredisapi"]
    for name in ("twisted.scripts.twistd", "twisted.internet.epollreactor", "twisted.plugins"):
        importlib.import_module(name)
    assert "twisted.internet.reactor" not in sys.modules
    # Otherwise each process would examine all these objects again, and copy the memory in which they are.
    gc.collect()
    gc.freeze()


def _become(asked: _Request) -> None:
    """Set up the interpreter's state as Python does at its start."""
    # A shell lets a command in the background ignore it, such as the run of the tests.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    command = asked["argv"]
    sys.orig_argv = command
    sys.argv = [command[1], *command[3:]]
    unbuffered = bool(os.environ.get("PYTHONUNBUFFERED"))
    sys.stdin = sys.__stdin__ = _stream(0, "r", "strict")  # type: ignore[misc]
    sys.stdout = sys.__stdout__ = _stream(1, "w", "strict", unbuffered)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _stream(2, "w", "backslashreplace", unbuffered)  # type: ignore[misc]


def _stream(number: int, mode: str, errors: str, through: bool = False) -> Any:
    file: Any = io.FileIO(number, mode, closefd=False)
    line_buffering = number == 2 or file.isatty()
    if not through:
        file = io.BufferedReader(file) if mode == "r" else io.BufferedWriter(file)
    return io.TextIOWrapper(file, "utf-8", errors, None, line_buffering, through)


if __name__ == "__main__":
    _import_all()
    asked = _serve(socket.socket(fileno=int(sys.argv[1])))
    _become(asked)
    exec(compile(asked["argv"][2], "<string>", "exec"), {"__name__": "__main__"})
