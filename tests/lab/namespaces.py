"""Network namespaces, and cables between them. They need root on Linux.

Nothing of this outlives the process that made it: a namespace ends with the process that holds it, which ends when its
input closes, and a cable ends with either of its namespaces.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

TOOLS = "ip", "unshare", "nsenter"


@functools.cache
def why_not(*tools: str) -> str | None:
    """Return why namespaces cannot be made here, or which of `tools` is missing, as a sentence; None if all is well."""
    if sys.platform != "linux":
        return "The lab needs network namespaces, which only Linux has."
    if os.geteuid() != 0:
        return "The lab needs root, for network namespaces. Run it as root."
    for tool in (*TOOLS, *tools):
        if shutil.which(tool) is None:
            return f"The lab needs {tool}, which is not installed."
    tried = subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False)
    if tried.returncode:
        return "The lab needs network namespaces, which this system does not allow."
    return None


# The search for duplicates of an address takes a second or two, in which the address cannot be used.
_NO_DAD = "echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad;"
_FORWARDING = (
    "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding;"
)


class Namespace:
    """A network namespace, which lives as long as the process that holds it."""

    def __init__(self, *, forwards: bool = False) -> None:
        """Make one.

        Args:
            forwards: whether it is a router.
        """
        script = f"ip link set lo up; {_NO_DAD} {_FORWARDING if forwards else ''} echo; exec cat"
        self._holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._waiting: list[str] = []
        assert self._holder.stdout is not None
        self._holder.stdout.readline()  # once it is in the namespace

    @property
    def pid(self) -> int:
        """The process in it, as `ip link set DEVICE netns PID` takes it."""
        return self._holder.pid

    def command(self, *words: str) -> list[str]:
        """Return a command line that runs `words` in the namespace."""
        return ["nsenter", f"--net=/proc/{self.pid}/ns/net", "--", *words]

    def run(self, *words: str, input: str | None = None) -> str:
        """Run a command in the namespace, and return its output."""
        done = subprocess.run(
            self.command(*words), check=True, stdout=subprocess.PIPE, input=input, text=True
        )
        return done.stdout

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Put this thread into the namespace: sockets that it makes within the block stay there."""
        with open("/proc/thread-self/ns/net") as own, open(f"/proc/{self.pid}/ns/net") as other:
            _set_namespace(other.fileno())
            try:
                yield
            finally:
                _set_namespace(own.fileno())

    def join(self, device: str, other: Namespace, other_device: str) -> None:
        """Lay a cable to another namespace: a network interface at each end, which is up once it is configured."""
        self.run(
            *("ip", "link", "add", device, "type", "veth", "peer", "name", other_device),
            *("netns", str(other.pid)),
        )
        self.later(f"link set {device} up")
        other.later(f"link set {other_device} up")

    def later(self, command: str) -> None:
        """Let `configure` run a command of ip(8)."""
        self._waiting.append(command)

    def configure(self) -> None:
        """Run the commands that wait, all at once, since starting a program takes most of their time."""
        if self._waiting:
            self.run("ip", "-batch", "-", input="\n".join(self._waiting))
            self._waiting.clear()

    def close(self) -> None:
        """End the namespace."""
        assert self._holder.stdin is not None and self._holder.stdout is not None
        self._holder.stdin.close()
        self._holder.wait(10)
        self._holder.stdout.close()


def _set_namespace(descriptor: int) -> None:
    """Call setns(2), which `os` has since Python 3.12."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, 0):
        raise OSError(ctypes.get_errno(), "setns")
