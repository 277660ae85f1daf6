"""The link with which somebody joins a registry: `p2pshare:` and base32, short enough for a QR code.

`p2pshare invite` prints it, `p2pshare join` reads it, and `docs/join-links.md` has the bytes::

    link  = "p2pshare:" base32(body)
    body  = version fields checksum
    field = tag (1 byte) length (2 bytes) value

The checksum is there for accidents: a link that lost its end, or a character. It proves nothing. Whoever makes a link
chooses the registry, so the one who follows it has to trust its source; the registry's key in it then proves that the
registry is the one that was meant. Base32 is not the shortest text, but case does not matter in it: in upper case it
takes the compact alphanumeric mode of QR codes, and a link that is read aloud stays right.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

from p2pshare.errors import IllegalName, JoinLinkExpired, JoinLinkUnusable, RemoteProtocolError
from p2pshare.names import check_name
from p2pshare.wire.addresses import URL_MAX, registry_url
from p2pshare.wire.datagrams.fields import U8, U16, FieldReader
from p2pshare.wire.keys import KEY_SIZE, SIGNATURE_SIZE, PublicKey, from_base64url, to_base64url
from p2pshare.wire.paths import parse_path
from p2pshare.wire.quantities import ago_text
from p2pshare.wire.statements import Invitation

SCHEME = "p2pshare:"
VERSION = 1
LINK_MAX = 8192  # characters
URLS_MAX = 4
CHECKSUM_SIZE = 4  # bytes
EXPIRES_SIZE = 8  # bytes, at most

_KEY, _HTTP, _HTTPS, _INVITATION, _PLACE, _EXPIRES = range(1, 7)
_OPTIONAL = 128
"""Readers skip unknown fields whose tag has this bit."""
_SCHEMES = {_HTTP: "http://", _HTTPS: "https://"}
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class JoinLink:
    """What somebody needs to join a registry."""

    key: PublicKey
    """The key that the registry must prove."""
    urls: tuple[str, ...]
    """1 to 4 URLs of the registry in canonical form, the best first."""
    invitation: str | None = None
    """An `Invitation` that the key has signed, if the registry requires one. It is a secret."""
    place: str | None = None
    """`PEER` or `PEER:PATH`: where to go after joining."""
    expires: int | None = None
    """Unix time in s after which the link is of no use."""

    def __str__(self) -> str:
        """Return the link."""
        body = U8.pack(VERSION) + b"".join(
            U8.pack(tag) + U16.pack(len(value)) + value for tag, value in self._fields()
        )
        return framed(body)

    def _fields(self) -> Iterator[tuple[int, bytes]]:
        yield _KEY, self.key.raw
        for url in self.urls:
            tag = _HTTPS if url.startswith(_SCHEMES[_HTTPS]) else _HTTP
            yield tag, url.removeprefix(_SCHEMES[tag]).encode()
        if self.invitation is not None:
            payload, _, signature = self.invitation.partition(".")
            yield _INVITATION, from_base64url(signature) + from_base64url(payload)
        if self.place is not None:
            yield _PLACE, self.place.encode()
        if self.expires is not None:
            yield _EXPIRES, self.expires.to_bytes(EXPIRES_SIZE, "big").lstrip(b"\0")

    @classmethod
    def parse(cls, text: str, now: float) -> Self:
        """Read a link; white space in it, such as line breaks of a mail, and case do not matter.

        Args:
            text: from anybody.
            now: Unix time in s.

        Raises:
            JoinLinkExpired: its time is over.
            JoinLinkUnusable: it is no link, damaged, or of a later version; the reason says which.
        """
        body = _body_of(_SPACE.sub("", text))
        try:
            link = cls._from_fields(body)
        except (RemoteProtocolError, IllegalName, ValueError) as error:
            why = error.fields["reason"] if isinstance(error, RemoteProtocolError) else error
            if isinstance(error, UnicodeDecodeError):
                why = "a text in it is not UTF-8"
            raise JoinLinkUnusable(reason=f"it is not valid: {why}") from None
        if link.expires is not None and link.expires <= now:
            raise JoinLinkExpired(ago=ago_text(now - link.expires))
        return link

    @classmethod
    def _from_fields(cls, body: bytes) -> Self:
        reader = FieldReader(memoryview(body))
        found: dict[int, bytes] = {}
        urls: list[str] = []
        while reader.left:
            tag = reader.number(U8)
            value = bytes(reader.take(reader.number(U16)))
            if tag in _SCHEMES:
                urls.append(_url(_SCHEMES[tag], value))
            elif tag in found:
                raise RemoteProtocolError(reason=f"the field {tag} stands twice")
            elif tag > _EXPIRES and tag < _OPTIONAL:
                raise JoinLinkUnusable(reason=TOO_NEW)
            else:
                found[tag] = value
        if not 1 <= len(urls) <= URLS_MAX or len(set(urls)) < len(urls):
            raise RemoteProtocolError(reason=f"it has not 1 to {URLS_MAX} different URLs")
        key = _key(found.get(_KEY, b""))
        return cls(
            key,
            tuple(urls),
            _invitation(found[_INVITATION], key) if _INVITATION in found else None,
            _place(found[_PLACE]) if _PLACE in found else None,
            _expires(found[_EXPIRES]) if _EXPIRES in found else None,
        )


def framed(body: bytes) -> str:
    """Return the link with these bytes: the version, and the fields."""
    text = base64.b32encode(body + _checksum(body)).decode().rstrip("=").lower()
    return SCHEME + text


TOO_NEW = "it was made by a later version of p2pshare. Update p2pshare"
DAMAGED = "it is damaged: its end or some characters are missing or changed. Copy all of it again"
NO_LINK = f"it is not a link of `p2pshare invite`, which begins with {SCHEME}"


def _body_of(text: str) -> bytes:
    """Return the fields of a link whose frame is right."""
    if text[: len(SCHEME)].lower() != SCHEME:
        raise JoinLinkUnusable(reason=NO_LINK)
    encoded = text[len(SCHEME) :].upper()
    if len(text) > LINK_MAX:
        raise JoinLinkUnusable(reason=f"it has more than {LINK_MAX} characters")
    try:
        body = base64.b32decode(encoded + "=" * (-len(encoded) % 8))
    except (binascii.Error, ValueError):
        raise JoinLinkUnusable(reason=DAMAGED) from None
    checked, checksum = body[:-CHECKSUM_SIZE], body[-CHECKSUM_SIZE:]
    is_canonical = base64.b32encode(body).decode().rstrip("=") == encoded
    if not checked or not is_canonical or _checksum(checked) != checksum:
        raise JoinLinkUnusable(reason=DAMAGED)
    if checked[0] != VERSION:
        raise JoinLinkUnusable(reason=TOO_NEW)
    return checked[1:]


def _checksum(body: bytes) -> bytes:
    return hashlib.sha256(b"p2pshare-join-link\0" + body).digest()[:CHECKSUM_SIZE]


def _key(raw: bytes) -> PublicKey:
    key = PublicKey(raw)
    if len(raw) != KEY_SIZE or key.is_anybodys:
        raise RemoteProtocolError(reason="it has no usable key of the registry")
    return key


def _url(scheme: str, rest: bytes) -> str:
    url, canonical = scheme + rest.decode("ascii"), ""
    with suppress(ValueError):
        canonical = registry_url(url)
    if len(url) > URL_MAX or canonical != url:
        raise ValueError(f"{url[:URL_MAX]!r} is not the URL of a registry")
    return url


def _invitation(value: bytes, registry: PublicKey) -> str:
    signature, payload = value[:SIGNATURE_SIZE], value[SIGNATURE_SIZE:]
    text = f"{to_base64url(payload)}.{to_base64url(signature)}"
    Invitation.read(text, registry)
    return text


def _place(value: bytes) -> str:
    text = value.decode()
    peer, colon, path = text.partition(":")
    check_name(peer)
    if colon and not parse_path(path):
        raise RemoteProtocolError(reason="the path in it is empty")
    return text


def _expires(value: bytes) -> int:
    if not 0 < len(value) <= EXPIRES_SIZE or value[0] == 0:
        raise RemoteProtocolError(reason="its expiry is not a number in the shortest form")
    return int.from_bytes(value, "big")
