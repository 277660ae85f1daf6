"""docs/protocol-datagrams.md: its vectors, words and numbers are those of the code."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.datagram import rtt
from p2pshare.core.datagram.connection import LINGER, ConnectionSettings
from p2pshare.core.datagram.contents import control_stream, incoming, outgoing
from p2pshare.core.datagram.endpoint import EndpointSettings
from p2pshare.core.datagram.protection import cookies, phases
from p2pshare.core.datagram.protection.keys import (
    AES_128_GCM,
    CHACHA20_POLY1305,
    EXPORTER_LABEL,
    KeyPair,
)
from p2pshare.wire.blocks import FILE_SIZE_MAX
from p2pshare.wire.datagrams import DATAGRAM_MAX, frames, packets
from p2pshare.wire.datagrams.frames import CloseCode, Frame, parse_frames, serialize
from p2pshare.wire.datagrams.packets import OPEN_SIZE, HandshakeHeader, Packet, parse_packet

DOCUMENT = (Path(__file__).parents[3] / "docs" / "protocol-datagrams.md").read_text()
KEY_VECTORS = json.loads(
    (
        Path(__file__).parents[2] / "core" / "datagram" / "protection" / "key_vectors.json"
    ).read_text()
)
AEADS = {"AES-128-GCM": AES_128_GCM, "ChaCha20-Poly1305": CHACHA20_POLY1305}

PROSE = DOCUMENT.partition("\n## Vectors\n")[0]

PACKET_NAMES: dict[str, type[Packet]] = {
    "OPEN": packets.Open,
    "COOKIE": packets.Cookie,
    "HANDSHAKE": packets.HandshakeHeader,
    "PROTECTED": packets.ProtectedHeader,
}
FRAME_NAMES: dict[str, type[Frame]] = {
    "PING": frames.Ping,
    "ACK": frames.Ack,
    "SIZE": frames.Size,
    "ACK_SIZE": frames.AckSize,
    "MISSING": frames.Missing,
    "FIN": frames.Fin,
    "COMPLETE": frames.Complete,
    "CREDIT": frames.Credit,
    "CHALLENGE": frames.Challenge,
    "RESPONSE": frames.Response,
    "CLOSE": frames.Close,
    "CONTROL": frames.Control,
    "CRYPTO": frames.Crypto,
    "DATA": frames.Data,
}
LIMITS: dict[str, float] = {
    "OPEN_SIZE": OPEN_SIZE,
    "COOKIE_MAX": packets.COOKIE_MAX,
    "PACKET_NUMBER_MAX": packets.PACKET_NUMBER_MAX,
    "CRYPTO_STREAM_MAX": frames.CRYPTO_STREAM_MAX,
    "CONTROL_WINDOW": control_stream.WINDOW,
    "CONTROL_STREAM_MAX": frames.CONTROL_STREAM_MAX,
    "EARLY": outgoing.EARLY,
    "FILE_SIZE_MAX": FILE_SIZE_MAX,
    "MISSING_RANGES_MAX": frames.MISSING_RANGES_MAX,
    "REASON_MAX": frames.REASON_MAX,
    "DATAGRAM_MAX": DATAGRAM_MAX,
    "COOKIE_LIFETIME": cookies.LIFETIME,
    "SECRET_LIFETIME": cookies.ROTATION,
    "HANDSHAKE_TIMEOUT": ConnectionSettings().handshake_timeout,
    "LINGER": LINGER,
    "HALF_OPEN_MAX": EndpointSettings().half_open_max,
    "TRANSFERS_MAX": incoming.TRANSFERS_MAX,
    "MAX_ACK_DELAY": rtt.ACK_DELAY_MAX,
    "INITIAL_RTT": rtt.INITIAL_RTT,
    "UPDATE_AFTER": phases.UPDATE_AFTER,
    "SEALED_MAX": phases.SEALED_MAX,
    "RETAINED": phases.RETAINED,
    "REJECTED_MAX": phases.REJECTED_MAX,
}


def table(heading: str) -> list[list[str]]:
    """Return the cells of all tables below a heading, such as "## Limits", up to the next heading."""
    return rows(DOCUMENT.partition(f"\n{heading}\n")[2].partition("\n#")[0])


def rows(text: str) -> list[list[str]]:
    """Return the cells of all tables in a text, without their heads."""
    lines = text.splitlines()
    return [
        [cell.strip().strip("`") for cell in line.strip("|").split("|")]
        for line, following in zip(lines, [*lines[1:], ""], strict=True)
        if line.startswith("| ") and not following.startswith("|---")
    ]


def shown(value: Packet | Frame) -> dict[str, Any]:
    """Return the fields of a value as the document shows them."""
    fields = {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
    return {
        name: bytes(each).hex()
        if isinstance(each, bytes | memoryview)
        else [list(run) for run in each]
        if isinstance(each, tuple)
        else each
        for name, each in fields.items()
    }


class DatagramDocumentTests(SynchronousTestCase):
    """What a stranger reads is what the code does."""

    def test_packets(self) -> None:
        """Each packet of the vectors is parsed as the fields beside it, and serializes to the same bytes."""
        seen = set()
        for name, fields, data in table("### Packets"):
            head = bytes.fromhex(data)
            fill = bytes(OPEN_SIZE - len(head)) if name == "OPEN" else b""
            sealed = bytes(packets.SEALED_MIN) if name in ("HANDSHAKE", "PROTECTED") else b""
            packet = parse_packet(memoryview(head + fill + sealed))
            self.assertIs(type(packet), PACKET_NAMES[name])
            self.assertEqual(shown(packet), json.loads(fields))
            self.assertEqual(packet.serialize(), head + fill)
            seen.add(name)
        self.assertEqual(seen, set(PACKET_NAMES))

    def test_frames(self) -> None:
        """So is each frame."""
        seen = set()
        for name, fields, data in table("### Frames"):
            payload = memoryview(bytes.fromhex(data))
            (frame,) = parse_frames(payload, in_handshake=name == "CRYPTO")
            self.assertIs(type(frame), FRAME_NAMES[name])
            self.assertEqual(shown(frame), json.loads(fields))
            self.assertEqual(serialize(frame), payload)
            seen.add(name)
        self.assertEqual(seen, set(FRAME_NAMES))

    def test_frame_types(self) -> None:
        """The table of frames has all types."""
        types = {row[1]: int(row[0], 16) for row in table("## Frames") if len(row) == 5}
        expected = {name: kind.TYPE for name, kind in FRAME_NAMES.items()}
        self.assertEqual(types, {"PADDING": frames.PADDING, **expected})

    def test_keys(self) -> None:
        """All keys are those of the vectors of the key schedule."""
        found = [row[1] for row in table("### Key schedule")]
        self.assertEqual(
            sorted(found),
            sorted(_texts(KEY_VECTORS["handshake"]) + _texts(KEY_VECTORS["session"])),
        )

    def test_sealed_handshake(self) -> None:
        """The sealed HANDSHAKE packets are sealed with the keys of the vectors."""
        vector = KEY_VECTORS["handshake"]
        random, cid = bytes.fromhex(vector["random"]), bytes.fromhex(vector["opener_cid"])
        (opened, answered) = (row for row in table("### Sealed packets") if len(row) == 4)
        for (who, number, payload, data), is_opener in ((opened, True), (answered, False)):
            packet = bytes.fromhex(data)
            header = parse_packet(memoryview(packet))
            assert isinstance(header, HandshakeHeader)
            self.assertEqual((header.from_opener, who == "opener"), (is_opener, is_opener))
            self.assertEqual(header.number, int(number))
            keys = KeyPair.for_handshake(random, cid, is_opener=not is_opener).opening
            plain = keys.open(header.number, packet[header.size :], packet[: header.size])
            self.assertEqual(plain, bytes.fromhex(payload))
            self.assertNotEqual(list(parse_frames(memoryview(plain or b""), in_handshake=True)), [])

    def test_sealed_protected(self) -> None:
        """So are the sealed PROTECTED packets, in both phases and with both ciphers."""
        secret = bytes.fromhex(KEY_VECTORS["session"]["secret"])
        found = [row for row in table("### Sealed packets") if len(row) == 5]
        self.assertEqual(len(found), 4)
        for aead, phase, number, payload, data in found:
            packet = bytes.fromhex(data)
            header = parse_packet(memoryview(packet))
            assert isinstance(header, packets.ProtectedHeader)
            self.assertEqual((header.key_phase, header.number), (int(phase), int(number)))
            keys = KeyPair.for_session(secret, AEADS[aead], is_opener=False).opening
            keys = keys.next() if header.key_phase else keys
            plain = keys.open(header.number, packet[header.size :], packet[: header.size])
            self.assertEqual(plain, bytes.fromhex(payload))

    def test_limits(self) -> None:
        """The limits are those of the code."""
        found = {row[0]: row[1].replace(" ", "").replace("^", "**") for row in table("## Limits")}
        for name, value in LIMITS.items():
            self.assertEqual(_number(found[name]), value, name)
        used = set(re.findall(r"`([A-Z][A-Z_]+)`", PROSE)) - set(
            re.findall(r"TLS_\w+|UDP_\w+", PROSE)
        )
        self.assertEqual(used, set(found))
        self.assertEqual(set(found), set(LIMITS))

    def test_words(self) -> None:
        """The labels and the codes of CLOSE are those of the code."""
        self.assertIn(f'"{EXPORTER_LABEL.decode()}"', PROSE)
        codes = [(row[0], row[1]) for row in table("## End") if len(row) == 3]
        self.assertEqual(codes, [(str(each.value), each.name) for each in CloseCode])


def _number(text: str) -> float:
    """Return the value of a number of the table, which may be a power of two, less one."""
    power = re.fullmatch(r"2\*\*(\d+)(-1)?", text)
    return 2 ** int(power[1]) + int(power[2] or 0) if power else float(text)


def _texts(value: Any) -> list[str]:
    """Return all texts in nested dictionaries."""
    if isinstance(value, dict):
        return [text for each in value.values() for text in _texts(each)]
    return [value]
