"""Many live names, written directly into a registry's Redis, because claims would take minutes."""

from __future__ import annotations

import base64
import random
import socket
import time
from collections.abc import Iterator
from urllib.request import urlopen

from p2pshare.registry.redis.keys import INDEX_KEYS, key_of
from p2pshare.registry.redis.owned_names import LOCATION_LIFE
from p2pshare.wire.keys import PublicKey, SigningKey
from p2pshare.wire.reach.candidates import Candidate
from p2pshare.wire.registry_answers import OWNERSHIP_LEASE, RegistryInfo
from p2pshare.wire.statements import Location, Record, digest_of

Command = tuple[object, ...]
BATCH = 1000  # commands
PRESENT = 3600  # seconds for which they are present: the benchmark sends no heartbeats for them
ADDRESS = "10.0.0.5 50000"

_INDEX = {key.rpartition(":")[2]: key for key in INDEX_KEYS}


def used_memory(path: str) -> int:
    """Return the bytes that the Redis on a Unix socket has allocated."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        connection.sendall(b"INFO memory\r\n")
        text = b""
        while b"used_memory_rss" not in text:
            text += connection.recv(65536)
    return int(text.partition(b"used_memory:")[2].split()[0])


def registry_key(port: int) -> PublicKey:
    """Return the key of the registry on a port of this machine."""
    with urlopen(f"http://127.0.0.1:{port}/v1/") as reply:
        return RegistryInfo.parse(reply.read()).key


def fill(path: str, names: int, registry: PublicKey) -> None:
    """Create live names `peer-0000000` and so on through the Unix socket `path`, as claims would."""
    signer = SigningKey(bytes(32))
    rng = random.Random(0)
    now = time.time_ns() // 10**6
    seconds = now // 1000
    location = Location("s" * 22, (Candidate.parse(f"host/{ADDRESS.replace(' ', ':')}"),)).to_text()
    record = Record(
        "peer-0000000",
        signer.public,
        now,
        seconds,
        seconds + 30 * 86400,
        registry,
        digest_of(location),
        ("classic",),
    ).sign(signer)
    seen = now + (PRESENT - 90) * 1000
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        commands: list[Command] = []
        mark = _mark(connection)
        for number in range(names):
            key = base64.b32encode(rng.randbytes(32)).decode().rstrip("=").lower()
            name = f"peer-{number:07}"
            commands += _claimed(name, key, record, location, now, seen, mark)
            if len(commands) > BATCH:
                _run(connection, commands)
                commands = []
        _run(connection, commands)


def _mark(connection: socket.socket) -> str:
    """Return the store's mark as owners store it."""
    connection.sendall(f"GET {_INDEX['store']}\r\n".encode())
    id, born, _kind = connection.recv(4096).split(b"\r\n")[1].decode().split(" ")
    return f"{born} {id}"


def _claimed(
    name: str, key: str, record: str, location: str, now: int, seen: int, mark: str
) -> Iterator[Command]:
    owner, life = key_of(name, "owner"), OWNERSHIP_LEASE * 1000
    session = f"{now // 1000}.AAAAAAAAAAAAAAAAAAAAAA"
    fields = {
        "key": key,
        "seq": now,
        "claim": now,
        "session": session,
        "beat": 7,
        "seen": seen,
        "since": now,
    }
    fields |= {"until": seen + 90000, "originals": 1, "mark": mark}
    yield ("HSET", owner, *(word for field in fields.items() for word in field))
    yield ("PEXPIRE", owner, life)
    yield ("SET", key_of(name, "signed"), record, "PX", life)
    kept = f"{ADDRESS}\n{location}"
    yield ("SET", key_of(name, "location"), kept, "PX", LOCATION_LIFE * 1000)
    yield ("SET", key_of(name, "classic"), f"{ADDRESS} =", "PX", PRESENT * 1000)
    yield ("SET", key_of(f"key:{key}", "name"), name, "PX", life)
    for word in ("names", "here", "originals"):
        yield ("ZADD", _INDEX[word], 0, name)
    yield ("ZADD", _INDEX["presence"], seen, name)
    yield ("HSET", _INDEX["since"], name, now)


def _run(connection: socket.socket, commands: list[Command]) -> None:
    """Send commands whose replies are one line each, and wait for the replies."""
    out = []
    for command in commands:
        words = [str(word).encode() for word in command]
        out.append(b"*%d\r\n" % len(words))
        out += [b"$%d\r\n%b\r\n" % (len(word), word) for word in words]
    connection.sendall(b"".join(out))
    replies = 0
    while replies < len(commands):
        received = connection.recv(65536)
        if b"-ERR" in received or b"-OOM" in received or not received:
            raise SystemExit(f"Redis refused: {received[:200]!r}")
        replies += received.count(b"\n")
