"""URLs of a Redis, of one server or of Sentinels."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificates
from twisted.internet.endpoints import UNIXClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates

from p2pshare.errors import BadSetting
from p2pshare.net.dns import LookedUpEndpoint
from p2pshare.registry.redis.connection import Login, RedisConnector
from p2pshare.registry.redis.sentinel import SENTINEL_PORT, SENTINELS_MAX, Address, SentinelEndpoint
from p2pshare.storage.os_errors import plain_reason
from p2pshare.storage.socket_paths import SOCKET_PATH_MAX
from p2pshare.storage.text_files import plain_ascii

PORT = 6379
CONNECT_TIMEOUT = 1.5  # seconds
CA_MAX = 1 << 20  # bytes
_PATH_MAX = 107 if sys.platform == "linux" else SOCKET_PATH_MAX  # bytes
FORMS = (
    "redis://[user:password@]host[:port][/db], rediss://... for TLS,"
    " redis+sentinel://[user:password@]host[:port],.../name[/db] or unix://[user:password@]/path[?db=1]"
    f" with a path of up to {_PATH_MAX} bytes"
)

_URL = re.compile(
    r"(rediss?)(\+sentinel)?://(?:([^/?#]*)@)?([^/?#@]+)(?:/([^?#]*))?(?:\?(.*))?", re.IGNORECASE
)
_UNIX_URL = re.compile(r"unix://(?:([^/?#]*)@)?(/[^?#]+)(?:\?(.*))?")
_SENTINEL_OPTIONS = {"sentinel_user", "sentinel_password"}


def without_password(url: str) -> str:
    """Return a URL without its passwords."""
    scheme, mark, rest = url.partition("://")
    shown = scheme + mark + rest.rpartition("@")[2]
    return re.sub(r"(sentinel_password=)[^&]*", r"\1...", shown)


def redis_at(url: str, reactor: Any) -> RedisConnector:
    """Return the Redis at a URL; nothing is connected yet.

    Args:
        url: `redis://[user:password@]host[:port][/db]`, `unix://[user:password@]/path/of/socket[?db=1]`,
            or `redis+sentinel://[user:password@]host[:port],host[:port].../name[/db]` with the hosts of Sentinels and
            the name of their primary. The Sentinels may have a `?sentinel_password=...` and a `sentinel_user=...` of
            their own. `rediss` in place of `redis` is TLS. The certificate is verified with the authorities in the
            file of `?ca=/path.pem`, or else with those that this machine trusts.
        reactor: makes connections.

    Raises:
        BadSetting: the URL has another form, or the file of `?ca` cannot be used.
    """
    shown = without_password(url)
    try:
        endpoint, login = _unix(url, reactor) or _network(url, reactor)
    except ValueError:
        raise BadSetting(source="--redis", setting="the URL", value=shown, expected=FORMS) from None
    return RedisConnector(endpoint, login, shown)


def _unix(url: str, reactor: Any) -> tuple[IStreamClientEndpoint, Login] | None:
    """Read the URL of a Unix socket; None if it has another form.

    Raises:
        ValueError: it is malformed, or the path is too long.
    """
    match = _UNIX_URL.fullmatch(url)
    if match is None:
        return None
    user, path, query = match.groups()
    database, path = _options(query, {"db"}).get("db", ""), unquote(path)
    if len(os.fsencode(path)) > _PATH_MAX:
        raise ValueError(path)  # Twisted would log a traceback at each attempt to connect
    return UNIXClientEndpoint(reactor, path, timeout=CONNECT_TIMEOUT), _login(user, database)


def _network(url: str, reactor: Any) -> tuple[IStreamClientEndpoint, Login]:
    """Read the URL of a server or of Sentinels.

    Raises:
        ValueError: it is malformed.
    """
    match = _URL.fullmatch(url)
    if match is None:
        raise ValueError(url)
    scheme, sentinel, user, hosts, path, query = match.groups()
    scheme = scheme.lower()
    known = {"ca"} if scheme == "rediss" else set[str]()
    options = _options(query, known | _SENTINEL_OPTIONS if sentinel else known)
    make = _maker(scheme, options.get("ca"), reactor)
    if not sentinel:
        return make(*_address(hosts, PORT)), _login(user, path)
    name, _, database = (path or "").partition("/")
    sentinels = [_address(each, SENTINEL_PORT) for each in hosts.split(",")]
    sentinel_login = Login(options.get("sentinel_user"), options.get("sentinel_password"))
    if (
        not name
        or len(sentinels) > SENTINELS_MAX
        or (sentinel_login.username and not sentinel_login.password)
    ):
        raise ValueError(url)
    for each in sentinels:
        make(*each)  # a host that no certificate can name is rejected here
    endpoint = SentinelEndpoint(sentinels, unquote(name), make, sentinel_login, reactor)
    return endpoint, _login(user, database)


def _options(query: str | None, known: set[str]) -> dict[str, str]:
    options = {
        key: values[-1] for key, values in parse_qs(query or "", strict_parsing=bool(query)).items()
    }
    if not options.keys() <= known:
        raise ValueError(query)
    return options


def _login(user: str | None, database: str | None) -> Login:
    name, _, password = (user or "").partition(":")
    number = database or "0"
    if not (number.isascii() and number.isdigit()):
        raise ValueError(database)
    return Login(unquote(name) or None, unquote(password) or None, int(number))


def _address(text: str, default_port: int) -> Address:
    parts = urlsplit(f"//{text}")
    if not parts.hostname or parts.path:
        raise ValueError(text)
    return parts.hostname, parts.port or default_port


def _maker(
    scheme: str, ca: str | None, reactor: Any
) -> Callable[[str, int], IStreamClientEndpoint]:
    """Return a function that makes an endpoint of a host and a port."""
    plain = partial(LookedUpEndpoint, reactor, timeout=CONNECT_TIMEOUT)
    if scheme == "redis":
        return lambda host, port: plain(host, port)
    trust = None if ca is None else trustRootFromCertificates(_certificates(Path(ca)))
    return lambda host, port: wrapClientTLS(
        optionsForClientTLS(host, trustRoot=trust), plain(host, port)
    )


def _certificates(path: Path) -> list[Certificate]:
    try:
        with path.open("rb") as file:
            found = load_pem_x509_certificates(plain_ascii(file.read(CA_MAX)))
    except (OSError, ValueError) as error:
        expected = "the certificates of authorities, in PEM form"
        if isinstance(error, OSError):
            expected += f" ({plain_reason(error)})"
        raise BadSetting(
            source="--redis", setting="the file of ?ca", value=str(path), expected=expected
        ) from error
    return [Certificate.loadPEM(each.public_bytes(Encoding.PEM)) for each in found]
