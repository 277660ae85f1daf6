"""`twistd p2pregistry`: options, and how they become a service."""

from __future__ import annotations

from pathlib import Path
from secrets import token_bytes
from typing import Any, ClassVar
from urllib.parse import quote

import platformdirs
from twisted.application.service import IService
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.python import usage

from p2pshare.errors import BadSetting
from p2pshare.net.command_line import ServiceOptions, complaining
from p2pshare.net.shutdown import BoundedShutdown
from p2pshare.registry.configuration import CLASSIC_LEASE, RegistrySettings
from p2pshare.wire.keys import KEY_SIZE, SigningKey
from p2pshare.wire.registration import LEASE_MAX

LISTEN = "tcp:8000"


class Options(ServiceOptions):
    """The command line of `twistd p2pregistry`."""

    command = "p2pregistry"
    synopsis = "[options]"
    longdesc = "Run a registry: it knows which peers are there, and at which address."
    optParameters: ClassVar = [
        ["redis", None, None, "URL of the Redis for the names; by default the registry runs one"],
        ["data", None, None, "folder for the names (in its own Redis), the lock and the pid file"],
        ["classic-lease", None, CLASSIC_LEASE, "seconds that a claim holds which asks for none"],
    ]

    def __init__(self) -> None:
        super().__init__()
        self["listen"] = []

    def opt_listen(self, endpoint: str) -> None:
        """Where to listen: a port, or an endpoint such as tcp:8000:interface=127.0.0.1.

        May be given several times. [default: tcp:8000]
        """
        self["listen"].append(f"tcp:{endpoint}" if endpoint.isdecimal() else endpoint)

    def postOptions(self) -> None:
        """Judge the options, and keep twistd's pid file in the data folder."""
        from p2pshare.registry.service import PID_NAME, remove_stale_pid_file

        self["classic-lease"] = _lease(self["classic-lease"])
        self["listen"] = self["listen"] or [LISTEN]
        default = platformdirs.user_data_path("p2pshare") / "registry"
        folder = self["data"] = Path(self["data"]).absolute() if self["data"] else default
        remove_stale_pid_file(folder)
        self.keep_pid_file(folder / PID_NAME)


def _lease(seconds: str | int) -> int:
    try:
        lease = int(seconds)
    except ValueError:
        lease = 0
    if not 1 <= lease <= LEASE_MAX:
        raise usage.UsageError(f"--classic-lease must be from 1 to {LEASE_MAX} seconds.")
    return lease


def makeService(options: Options) -> IService:
    """Build the registry; what is wrong ends the process with a sentence and the exit code of its kind."""
    from twisted.internet import reactor

    with complaining(options.command):
        return _make_service(reactor, options)


def _make_service(reactor: Any, options: Options) -> IService:
    # txredisapi imports the reactor: it must not before twistd has installed the one that was asked for.
    from p2pshare.registry.authority import Authority
    from p2pshare.registry.redis_process import RedisProcess, find_binary
    from p2pshare.registry.redis_store import RedisNameStore
    from p2pshare.registry.redis_url import connector, without_password
    from p2pshare.registry.routes import Routes
    from p2pshare.registry.service import RegistryService
    from p2pshare.registry.site import RegistrySite

    endpoints = [(each, _endpoint(reactor, each)) for each in options["listen"]]
    url, folder = options["redis"], options["data"]
    shutdown = BoundedShutdown(reactor)
    redis = None
    if url:
        kept_in = f"Redis at {without_password(url)}"
    else:
        redis = RedisProcess(reactor, find_binary(), folder)
        redis.lost.addErrback(shutdown.fail)
        url = f"unix://{quote(redis.socket_path)}"
        kept_in = str(folder)
    store = RedisNameStore(connector(url, reactor), reactor)
    routes = Routes(
        store,
        reactor,
        wall=reactor.seconds,
        authority=Authority(SigningKey(token_bytes(KEY_SIZE)), reactor.seconds, token_bytes),
        settings=RegistrySettings(url, folder, classic_lease=options["classic-lease"]),
    )
    site = RegistrySite(routes, reactor)
    foreground = options.parent is None or bool(options.parent.get("nodaemon", True))
    service = RegistryService(endpoints, site, store, folder, kept_in, foreground=foreground)
    if redis is not None:
        redis.setServiceParent(service)
    service.setServiceParent(shutdown)
    return shutdown


def _endpoint(reactor: Any, description: str) -> IStreamServerEndpoint:
    try:
        endpoint: IStreamServerEndpoint = serverFromString(reactor, description)
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise BadSetting(
            source="--listen",
            setting="the endpoint",
            value=description,
            expected="a port, or an endpoint such as tcp:8000:interface=127.0.0.1",
        ) from error
    return endpoint
