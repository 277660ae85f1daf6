"""One end of a transfer by aioquic, as a process of its own. It imports nothing of p2pshare.

python -m benchmarks.quic_process serve BYTES DATAGRAM FOLDER
    answers each request with BYTES bytes, in datagrams of DATAGRAM bytes; prints its port
python -m benchmarks.quic_process fetch PORT DATAGRAM FILE
    fetches into FILE, and prints the seconds from the request to the last byte
"""

from __future__ import annotations

import asyncio
import datetime
import json
import socket
import ssl
import sys
import time
from pathlib import Path

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.asyncio.server import serve
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import QuicEvent, StreamDataReceived
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HOST = "127.0.0.1"
ALPN = "benchmark"
WINDOW = 1 << 30  # bytes: flow control is not to limit
BUFFER = 8 << 20  # bytes


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Write a certificate and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(days=1))
    certificate = builder.not_valid_after(now + datetime.timedelta(days=1)).sign(
        key, hashes.SHA256()
    )
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    paths[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, *plain))
    return paths


def enlarge_buffers(transport: asyncio.BaseTransport | None) -> None:
    """Give a socket the buffers that p2pshare asks for, so that aioquic loses nothing for want of room."""
    assert transport is not None
    sock: socket.socket = transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)


class Server(QuicConnectionProtocol):
    """Answers each stream."""

    answer = b""

    def quic_event_received(self, event: QuicEvent) -> None:
        """Send all bytes when the request is complete."""
        if isinstance(event, StreamDataReceived) and event.end_stream:
            self._quic.send_stream_data(event.stream_id, self.answer, end_stream=True)
            self.transmit()


class Client(QuicConnectionProtocol):
    """Writes what it receives into a file."""

    def fetch(self, path: Path) -> asyncio.Future[float]:
        """Send a request; the result is the seconds that it took."""
        self._file = path.open("wb", buffering=0)
        self._done: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._started = time.perf_counter()
        stream = self._quic.get_next_available_stream_id()
        self._quic.send_stream_data(stream, b"get", end_stream=True)
        self.transmit()
        return self._done

    def quic_event_received(self, event: QuicEvent) -> None:
        """Write the bytes of the answer."""
        if isinstance(event, StreamDataReceived):
            self._file.write(event.data)
            if event.end_stream:
                self._file.close()
                self._done.set_result(time.perf_counter() - self._started)


async def answer_requests(size: str, datagram: str, folder: str) -> None:
    """Serve until the process is ended."""
    Server.answer = bytes(range(256)) * (int(size) // 256)
    configuration = QuicConfiguration(
        is_client=False, alpn_protocols=[ALPN], max_datagram_size=int(datagram)
    )
    configuration.load_cert_chain(*make_certificate(Path(folder)))
    server = await serve(HOST, 0, configuration=configuration, create_protocol=Server)
    enlarge_buffers(server._transport)
    assert server._transport is not None
    print(server._transport.get_extra_info("sockname")[1], flush=True)
    await asyncio.Event().wait()


async def fetch(port: str, datagram: str, path: str) -> None:
    """Fetch once."""
    configuration = QuicConfiguration(
        is_client=True,
        alpn_protocols=[ALPN],
        max_datagram_size=int(datagram),
        verify_mode=ssl.CERT_NONE,
        max_data=WINDOW,
        max_stream_data=WINDOW,
    )
    async with connect(
        HOST, int(port), configuration=configuration, create_protocol=Client
    ) as client:
        assert isinstance(client, Client)
        enlarge_buffers(client._transport)
        print(json.dumps({"seconds": await client.fetch(Path(path))}), flush=True)


if __name__ == "__main__":
    asyncio.run({"serve": answer_requests, "fetch": fetch}[sys.argv[1]](*sys.argv[2:]))
