"""`twistd p2pregistry`: its options, and the service that they describe."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast
from urllib.parse import quote

import platformdirs
from twisted.application.service import IService
from twisted.logger import Logger
from twisted.python import usage

from p2pshare.errors import SettingsUnreadable, WrongUsage
from p2pshare.net.clocks import make_monotonic
from p2pshare.net.command_line import DEBUG_OPTION, ServiceOptions, complaining, program
from p2pshare.net.logs import TEXT
from p2pshare.net.shutdown import BoundedShutdown
from p2pshare.registry.configuration import (
    CLASSIC_LEASE,
    DEFAULT_LIMITS,
    REPLICAS_MAX,
    WORKERS_MAX,
    RateLimit,
    RegistrySettings,
    RelayLimits,
    read_limit,
    read_network,
)
from p2pshare.storage.open_file_limit import allow_open_files
from p2pshare.storage.os_errors import plain_reason
from p2pshare.storage.text_files import plain_utf8
from p2pshare.wire.addresses import registry_url, stun_place
from p2pshare.wire.registry_answers import CLASSIC_LEASE_MAX, STUN_MAX

if TYPE_CHECKING:
    from p2pshare.registry.service import RegistryService

OPEN_FILES = 4096  # open files, one for each connection; shells grant 1024
OPEN_FILES_MIN = 64  # open files that a registry needs; its Redis keeps 32 for itself
LISTEN = "tcp:8000"
REDIS_VARIABLE = "P2PSHARE_REDIS"
SECRET_MAX = 4096  # bytes of a file with a URL or a token
TOKEN_MIN = 16  # characters of a token

_log = Logger()


class Options(ServiceOptions):
    """The command line of `twistd p2pregistry`."""

    command = "p2pregistry"
    synopsis = "[options]"
    longdesc = "Run a registry: it knows which peers are online, and at which addresses."
    optParameters: ClassVar = [
        ["redis", None, None, "URL of the Redis for the names; by default the registry runs one"],
        ["redis-url-file", None, None, "file with that URL; use it if the URL has a password"],
        ["replicas", None, 0, "replicas that must have a claim before it is acknowledged"],
        ["data", None, None, "folder for the key, the lock, and the names if Redis is its own"],
        ["workers", None, 1, f"processes that serve, 1 to {WORKERS_MAX}"],
        ["classic-lease", None, CLASSIC_LEASE, "seconds that a classic name is kept by default"],
        ["metrics", None, None, "endpoint for /metrics only, in the form of --listen"],
        ["metrics-token-file", None, None, "file with the token that gives access to /metrics"],
        ["download-url", None, None, "URL where visitors of the page get the program"],
        ["log-format", None, TEXT, "text, or json: one object a line"],
        DEBUG_OPTION,
    ]
    optFlags: ClassVar = [
        ["invite-only", None, "give new names only for an invitation (see p2pshare invite)"],
        ["no-relay", None, "do not relay between peers that cannot reach each other"],
        ["stop", None, "stop the registry that runs on the data folder"],
    ]

    def __init__(self) -> None:
        super().__init__()
        for repeated in ("listen", "url", "trusted-proxy", "relay-limit", "stun"):
            self[repeated] = []
        self["limit"] = dict(DEFAULT_LIMITS)

    def opt_listen(self, endpoint: str) -> None:
        """Where to listen: a port, or an endpoint such as tcp:8000:interface=127.0.0.1, tcp6:8000,
        ssl:8443:privateKey=key.pem:certKey=cert.pem, or unix:/path.

        May be repeated. [default: tcp:8000]
        """
        self["listen"].append(_endpoint(endpoint))

    def opt_url(self, url: str) -> None:
        """A URL of this registry to show to others; peers may use any URL that leads here.

        May be repeated.
        """
        try:
            self["url"].append(registry_url(url))
        except ValueError:
            raise usage.UsageError(f"--url is http://HOST[:PORT] or https://..., not {url!r}")  # noqa: B904

    def opt_trusted_proxy(self, network: str) -> None:
        """A reverse proxy whose X-Forwarded-For and X-Forwarded-Proto are trusted: an IP address, or
        a network such as 10.0.0.0/8.

        May be repeated.
        """
        try:
            self["trusted-proxy"].append(read_network(network))
        except ValueError:
            raise usage.UsageError(  # noqa: B904
                f"--trusted-proxy is an IP address or a network such as 10.0.0.0/8, not {network!r}"
            )

    def opt_limit(self, limit: str) -> None:
        """WHAT=RATE[:BURST], RATE per second, or WHAT=off. WHAT is requests or claims (per client), names (new ones,
        per network), key (claims and heartbeats, per key), access or access-key (signals and relays, per client and
        per key), signals or inbox (signals to a name, per network and in all).

        May be repeated. A limit that is set applies to clients on this machine as well.
        """
        try:
            what, rate = read_limit(limit)
        except ValueError:
            kinds = ", ".join(DEFAULT_LIMITS)
            raise usage.UsageError(  # noqa: B904
                f"--limit is WHAT=RATE[:BURST] or WHAT=off with WHAT one of {kinds}, not {limit!r}"
            )
        limits: dict[str, RateLimit] = self["limit"]
        limits.pop(what, None)
        if rate is not None:
            limits[what] = rate

    def opt_stun(self, place: str) -> None:
        """Where peers ask for their address over UDP: PORT, at the host of the registry's URL, or HOST:PORT. The
        registry opens the ports. Two are needed to tell how a NAT behaves. With none, it answers nothing over UDP.

        May be repeated. [default: the numbers of the ports in --listen, and one more]
        """
        try:
            if place != "none":
                stun_place(place)
        except ValueError:
            raise usage.UsageError(f"--stun is PORT, HOST:PORT or none, not {place!r}")  # noqa: B904
        self["stun"].append(place)

    def opt_relay_limit(self, limit: str) -> None:
        """WHAT=VALUE. WHAT is pairs or pairs-per-key (sessions relayed at once), rate or rate-per-key (bytes per
        second, such as 10MB/s, or off), or idle (seconds without a byte until a relayed session ends).

        May be repeated. [default: pairs=256, pairs-per-key=32, rate=500MB/s, rate-per-key=250MB/s, idle=60]
        """
        try:
            RelayLimits.from_options([limit])
        except ValueError:
            known = ", ".join(each.name.replace("_", "-") for each in fields(RelayLimits))
            raise usage.UsageError(  # noqa: B904
                f"--relay-limit is WHAT=VALUE with WHAT one of {known}, and a VALUE in bounds, not {limit!r}"
            )
        self["relay-limit"].append(limit)

    def postOptions(self) -> None:
        """Validate the options, and place twistd's pid file and a daemon's log in the data folder."""
        from p2pshare.registry.service import LOG_NAME, PID_NAME, remove_stale_pid_file, stop

        self._number("classic-lease", 1, CLASSIC_LEASE_MAX)
        self._number("workers", 1, WORKERS_MAX)
        self._number("replicas", 0, REPLICAS_MAX)
        self["listen"] = self["listen"] or [LISTEN]
        if len(set(self["stun"])) > STUN_MAX or ("none" in self["stun"] and self.stun()):
            raise usage.UsageError(f"--stun is none, or up to {STUN_MAX} places")
        self["metrics"] = self["metrics"] and _endpoint(self["metrics"])
        self["redis-in-argv"] = self["redis"]
        self["redis"] = self._redis(os.environ)
        if self["metrics-token-file"]:
            path = self["metrics-token-file"]
            self["metrics-token"] = _secret("--metrics-token-file", path, TOKEN_MIN)
        if self["download-url"] and not self["download-url"].startswith(("http://", "https://")):
            wrong = self["download-url"]
            raise usage.UsageError(
                f"--download-url must be http://... or https://..., not {wrong!r}"
            )
        default = platformdirs.user_data_path("p2pshare") / "registry"
        given = self["data"]
        folder = self["data"] = Path(given).absolute() if given else default
        if self["stop"]:
            sys.stdout.write(f"The registry is stopped (process {stop(folder)}).\n")
            raise SystemExit(0)
        self.stop_command = shlex.join(
            [
                program("twistd"),
                "p2pregistry",
                "--stop",
                *(["--data", str(folder)] if given else []),
            ]
        )
        if not self["redis"]:
            self.refuse_other_user()
        remove_stale_pid_file(folder)
        self.keep_pid_file(folder / PID_NAME)
        self.keep_log(self["log-format"], folder / LOG_NAME)

    def settings(self, redis: str) -> RegistrySettings:
        """Return the settings of all processes of the registry; `redis` is the URL of their Redis."""
        return RegistrySettings(
            redis=redis,
            data=self["data"],
            urls=tuple(dict.fromkeys(self["url"])),
            classic_lease=self["classic-lease"],
            invite_only=bool(self["invite-only"]),
            replicas=self["replicas"],
            trusted_proxies=tuple(dict.fromkeys(self["trusted-proxy"])),
            limits=self["limit"],
            metrics_token=self.get("metrics-token"),
            download_url=self["download-url"] or "",
            stun=self.stun(),
            relay=self._relay(),
        )

    def stun(self) -> tuple[str, ...] | None:
        """Return where peers ask for their address; None for the default."""
        given = tuple(dict.fromkeys(self["stun"]))
        return tuple(each for each in given if each != "none") if given else None

    def _relay(self) -> RelayLimits | None:
        """Return the limits of the relay in each process."""
        if self["no-relay"]:
            return None
        return RelayLimits.from_options(self["relay-limit"]).shared_by(self["workers"])

    def _number(self, option: str, least: int, most: int) -> None:
        try:
            number = int(self[option])
        except ValueError:
            number = least - 1
        if not least <= number <= most:
            unit = " seconds" if option == "classic-lease" else ""
            raise usage.UsageError(f"--{option} must be from {least} to {most}{unit}")
        self[option] = number

    def _redis(self, environ: Mapping[str, str]) -> str | None:
        """Return the URL of the Redis from the option, the file or the variable; None if the registry runs one."""
        url, file = self["redis"], self["redis-url-file"]
        if url and file:
            raise usage.UsageError("--redis and --redis-url-file exclude each other")
        if file:
            return _secret("--redis-url-file", file)
        return url or environ.get(REDIS_VARIABLE) or None


def _endpoint(text: str) -> str:
    return f"tcp:{text}" if text.isdecimal() else text


def _secret(option: str, path: str, least: int = 1) -> str:
    """Return the only line of a file.

    Raises:
        SettingsUnreadable: it cannot be read, or has other contents.
    """
    try:
        with open(path, "rb") as file:
            text = plain_utf8(file.read(SECRET_MAX + 1)).decode("ascii").strip()
    except OSError as error:
        raise SettingsUnreadable(source=f"{option} {path}", reason=plain_reason(error)) from error
    except UnicodeDecodeError:
        text = ""
    if not text.isprintable() or not least <= len(text) <= SECRET_MAX or " " in text:
        length = f"{least} to {SECRET_MAX} ASCII characters"
        reason = f"it must contain one line of {length}, without a space"
        raise SettingsUnreadable(source=f"{option} {path}", reason=reason)
    return text


def makeService(options: Options) -> IService:
    """Build the registry; an error ends the process with a sentence and an exit code."""
    from twisted.internet import reactor

    make_monotonic(reactor)
    with complaining(options.command):
        allow_open_files(OPEN_FILES, OPEN_FILES_MIN)  # here, so that workers and Redis inherit it
        service = _make_service(reactor, options)
        launch = options.launch(reactor, options.stop_command)
    shutdown = BoundedShutdown(cast(Any, reactor), launch=launch)
    service.ready.addCallback(lambda urls: launch.ready(f"The registry is ready at {urls}"))
    service.lost.addErrback(shutdown.fail)
    service.setServiceParent(shutdown)
    return shutdown


def _make_service(reactor: Any, options: Options) -> RegistryService:
    # txredisapi imports the reactor, so these imports must wait until twistd has installed it.
    from p2pshare.registry.assembly import Registry, make_store, registry_key
    from p2pshare.registry.listening import Ports
    from p2pshare.registry.redis.server_process import RedisProcess, find_binary
    from p2pshare.registry.redis.url import without_password
    from p2pshare.registry.service import RegistryService
    from p2pshare.registry.stun import StunPorts
    from p2pshare.registry.workers.supervisor import Workers
    from p2pshare.web.listening import ListeningReactor, Place

    count: int = options["workers"]
    listening = ListeningReactor(reactor, sharable=count > 1)
    ports = Ports(
        [Place.of(listening, each) for each in options["listen"]],
        [Place.of(listening, each, "--metrics") for each in (options["metrics"],) if each],
        StunPorts(reactor, options.stun(), is_behind_proxy=bool(options["trusted-proxy"])),
    )
    url, folder = options["redis"], options["data"]
    redis = None
    if url:
        if url == options["redis-in-argv"] and without_password(url) != url:
            _log.warn(
                "password exposed: every user of this machine can read --redis. Use --redis-url-file or {variable}",
                variable=REDIS_VARIABLE,
            )
        kept_in = without_password(url)
    elif options["replicas"]:
        raise WrongUsage(reason="--replicas needs a Redis that has replicas: name it with --redis.")
    else:
        redis = RedisProcess(reactor, find_binary(), folder)
        url = f"unix://{quote(redis.socket_path)}"
        kept_in = str(folder)
    settings = options.settings(url)
    key = registry_key(folder)
    _log.info("registry key: key={key}", key=key.public.grouped)
    store = make_store(
        settings, reactor
    )  # with workers, too, so that this process rejects a wrong URL

    front: Registry | Workers = Workers(reactor, settings, count)
    if count == 1:
        front = Registry(store, settings, key, reactor, time.time)
    service = RegistryService(ports, front, folder)

    def announce(urls: str) -> str:
        _log.info(
            "registry ready: urls={urls} names_in={kept_in} workers={workers}",
            urls=urls,
            kept_in=kept_in,
            workers=count,
        )
        return urls

    service.ready.addCallback(announce)
    if redis is not None:
        redis.lost.addErrback(service.fail)
        redis.setServiceParent(service)
    return service
