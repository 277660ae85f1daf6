"""One congestion control for all TCP connections of a process, whatever its program asks for.

Linux has a default per network namespace, but a namespace may not choose a control that needs privileges. Root may
choose any control per socket. An accepted connection inherits that of the listening socket.
"""

from __future__ import annotations

import socket
from typing import Any

_set_option = socket.socket.setsockopt
_listen = socket.socket.listen


def control_all(control: bytes) -> None:
    """Use a congestion control such as b"bbr" for each socket that listens from now on or asks for another control."""

    def set_option(sock: socket.socket, level: int, option: int, *value: Any) -> None:
        is_choice = (level, option) == (socket.IPPROTO_TCP, socket.TCP_CONGESTION)
        _set_option(sock, level, option, *((control,) if is_choice else value))

    def listen(sock: socket.socket, *backlog: int) -> None:
        if sock.type == socket.SOCK_STREAM and sock.family in (socket.AF_INET, socket.AF_INET6):
            _set_option(sock, socket.IPPROTO_TCP, socket.TCP_CONGESTION, control)
        _listen(sock, *backlog)

    socket.socket.setsockopt = set_option  # type: ignore[method-assign,assignment]
    socket.socket.listen = listen  # type: ignore[method-assign,assignment]
