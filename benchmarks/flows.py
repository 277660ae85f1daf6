"""Flows of bytes without meaning, each end as a process of its own, to check a network before p2pshare uses it.

python -m benchmarks.flows receive-udp IP PORT
    prints a line, and at the end of a flow a JSON object: packets, bytes per second, one-way delays in seconds
python -m benchmarks.flows send-udp IP PORT RATE SECONDS
    sends datagrams at RATE bytes per second on the line
python -m benchmarks.flows receive-tcp IP PORT
    prints a line, and at the end of a flow a JSON object: bytes per second
python -m benchmarks.flows send-tcp IP PORT CONTROL SECONDS
    sends as fast as the congestion control CONTROL allows
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import statistics
import struct
import sys
import time
from collections.abc import Callable

PAYLOAD = 1472  # bytes: a packet of 1500
HEADERS = 28  # bytes of IPv4 and UDP
STEP = 0.001  # seconds between bursts of the flow of constant rate
SILENCE = 1.5  # seconds without a datagram that end a flow
BUFFER = 8 * 1024 * 1024  # bytes
PRIORITY = 1  # of SCHED_RR
HEAD = struct.Struct("!Qd")  # number, time of sending


def be_punctual() -> None:
    """Run before other processes, so that a delay is the network's. This needs root (sched(7))."""
    os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(PRIORITY))


def receive_udp(ip: str, port: str) -> None:
    """Count the datagrams of a flow. Both ends have the same clock, so one-way delays are exact."""
    be_punctual()
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.bind((ip, int(port)))
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
    print("ready", flush=True)
    times: list[float] = []
    delays: list[float] = []
    try:
        while True:
            data = receiver.recv(PAYLOAD)
            receiver.settimeout(SILENCE)
            now = time.monotonic()
            times.append(now)
            delays.append(now - HEAD.unpack_from(data)[1])
    except TimeoutError:
        pass
    seconds = times[-1] - times[0]
    report = {
        "packets": len(times),
        "rate": (len(times) - 1) * (PAYLOAD + HEADERS) / seconds,
        "delay_min": min(delays),
        "delay_median": statistics.median(delays),
        "delay_max": max(delays),
    }
    print(json.dumps(report), flush=True)


def send_udp(ip: str, port: str, rate: str, seconds: str) -> None:
    """Send at a constant rate."""
    be_punctual()
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.connect((ip, int(port)))
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
    padding = bytes(PAYLOAD - HEAD.size)
    packets = int(float(rate) * float(seconds) / (PAYLOAD + HEADERS))
    started, number = time.monotonic(), 0
    while number < packets:
        now = time.monotonic()
        due = min(packets, int((now - started) * float(rate) / (PAYLOAD + HEADERS)) + 1)
        for each in range(number, due):
            sender.send(HEAD.pack(each, now) + padding)
        number = due
        time.sleep(STEP)
    print(json.dumps({"packets": packets}), flush=True)


def receive_tcp(ip: str, port: str) -> None:
    """Count the bytes of a connection."""
    listener = socket.create_server((ip, int(port)))
    print("ready", flush=True)
    receiver, _ = listener.accept()
    started, count = time.monotonic(), 0
    buffer = bytearray(1 << 20)
    with contextlib.suppress(ConnectionResetError):
        while got := receiver.recv_into(buffer):
            count += got
    print(json.dumps({"rate": count / (time.monotonic() - started)}), flush=True)


def send_tcp(ip: str, port: str, control: str, seconds: str) -> None:
    """Send for some time, and then close the connection without the bytes that are not sent yet."""
    sender = socket.socket()
    sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, control.encode())
    sender.connect((ip, int(port)))
    sender.settimeout(0.5)
    data = bytes(1 << 16)
    deadline = time.monotonic() + float(seconds)
    while time.monotonic() < deadline:
        try:
            sender.send(data)
        except TimeoutError:
            continue
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    print("{}", flush=True)


def main(what: str, *arguments: str) -> None:
    """Run the command line."""
    ends: dict[str, Callable[..., None]] = {
        "receive-udp": receive_udp,
        "send-udp": send_udp,
        "receive-tcp": receive_tcp,
        "send-tcp": send_tcp,
    }
    ends[what](*arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])
