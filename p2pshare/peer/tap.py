"""`twistd p2ppeer`: its options, and the service that they describe."""

from __future__ import annotations

import gc
import os
import random
import shlex
import time
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar, cast

from twisted.application.service import IService

from p2pshare.errors import WrongUsage
from p2pshare.net.clocks import make_monotonic
from p2pshare.net.command_line import DEBUG_OPTION, ServiceOptions, complaining, program
from p2pshare.net.logs import TEXT
from p2pshare.net.shutdown import BoundedShutdown
from p2pshare.peer.service import OPEN_FILES, OPEN_FILES_MIN, PeerService, shares_of
from p2pshare.storage.identity.data_folder import DataFolder, peer_folder
from p2pshare.storage.identity.identity import KEY_NAME, Identity
from p2pshare.storage.open_file_limit import allow_open_files
from p2pshare.storage.settings import Settings, default_config_path
from p2pshare.wire.addresses import PeerAddress

PID_NAME = "peer.pid"
LOG_NAME = "peer.log"


class Options(ServiceOptions):
    """The command line of `twistd p2ppeer`."""

    command = "p2ppeer"
    synopsis = "--name NAME [options]"
    longdesc = "Run a peer, which registers a name and serves its shares."
    optParameters: ClassVar = [
        ["name", None, None, 'the name to register: a-z, 0-9, ".", "_" and "-"'],
        ["registry", None, None, "URL of the registry [default: lan:, without one]"],
        ["listen", None, None, "port for sessions, TCP and UDP [default: any]"],
        ["data", None, None, "folder for key, lock, socket and pid file [default: one per name]"],
        ["limit", None, None, "maximum rate of sending, such as 5MB/s [default: no limit]"],
        [
            "offers",
            None,
            None,
            "take offers from everyone, known, allowed or nobody [default: everyone]",
        ],
        ["inbox-folder", None, None, "where offers are saved [default: p2pshare in Downloads]"],
        [
            "inbox-quota",
            None,
            None,
            "accept unasked up to this size in that folder [default: 10GB]",
        ],
        [
            "page",
            None,
            None,
            "serve the page for browsers at this port of 127.0.0.1, or at this endpoint"
            " [default: none, until a command opens it]",
        ],
        [
            "page-password-file",
            None,
            None,
            "file with the password for browsers on other machines, which also need --page ssl:...",
        ],
        ["invitation", None, None, "file with an invitation, if the registry requires one"],
        DEBUG_OPTION,
    ]
    optFlags: ClassVar = [
        ["port-mapping", None, "ask the router to forward the port (PCP, NAT-PMP; see the manual)"],
        ["notify", None, "show notifications of offers on the desktop (notify-send)"],
        ["hidden", None, "share files and folders whose names begin with a dot, too"],
        ["private", None, "publish no address: others reach this peer through the relay only"],
        [
            "classic",
            None,
            "speak the classic protocol, too: anybody can read my_file.txt and my_file.jpg, unencrypted",
        ],
    ]

    def __init__(self) -> None:
        super().__init__()
        self["share"] = []
        self["allow"] = []
        self["address"] = []
        self["exclude"] = []
        self["accept-from"] = []
        self["settings"] = Settings()

    def opt_share(self, share: str) -> None:
        """[NAME=]PATH: a folder with everything in it, or a file; may be repeated.

        [default: the my_file.* in the current folder at the start]
        """
        self["share"].append(share)

    def opt_allow(self, allow: str) -> None:
        """NAME,NAME: the users who may see the shares; SHARE=NAME,NAME: who may see this share; may be repeated.

        [default: everyone whose key owns a name in the registry; without one, everyone whom you have accepted]
        """
        self["allow"].append(allow)

    def opt_exclude(self, pattern: str) -> None:
        """GLOB: leave out of all shares what matches, by the rules of .gitignore; may be repeated."""
        self["exclude"].append(pattern)

    def opt_address(self, address: str) -> None:
        """IP: another address at which others reach this machine, IPv4 or IPv6; may be repeated.

        [default: those of its interfaces, and the one that the registry sees]
        """
        self["address"].append(address)

    def opt_accept_from(self, names: str) -> None:
        """NAME,NAME: accept what these users offer without asking; may be repeated.

        [default: offers wait for `p2pshare inbox accept`]
        """
        self["accept-from"].append(names)

    def postOptions(self) -> None:
        """Read the settings and check the key, and keep twistd's pid file and a daemon's log in the data folder."""
        flags = {key.replace("-", "_"): value for key, value in self.items()}
        settings = self["settings"] = Settings.load(flags, os.environ, default_config_path())
        if settings.name is None:
            raise WrongUsage(reason="--name is missing. It is the name to register.")
        self.refuse_other_user()
        folder = peer_folder(settings, settings.name)
        with closing(DataFolder.open(folder, settings.name)) as data:
            data.remove(PID_NAME)  # left by a peer that was killed
            if (folder / KEY_NAME).exists():  # a daemon could only log that it is damaged
                Identity.open(data, settings.registry, settings.name)
        self.keep_pid_file(folder / PID_NAME)
        self.keep_log(TEXT, folder / LOG_NAME)

    def stop_command(self) -> str:
        """Return the command that ends this peer, for a user with the same variables and `config.toml`."""
        words = [program("p2pshare"), "stop", "--name", self["settings"].name]
        words += ["--registry", self["registry"]] if self["registry"] else []
        words += ["--data", os.path.abspath(self["data"])] if self["data"] else []
        return shlex.join(words)


def online_text(settings: Settings, address: PeerAddress) -> str:
    """Return the sentence by which a peer tells that it is ready."""
    if settings.private:
        return f"{settings.name} is online, and publishes no address"
    return f"{settings.name} is online at {address}"


def makeService(options: Options) -> IService:
    """Build the peer. An error ends the process with a sentence and its exit code."""
    from twisted.internet import reactor

    make_monotonic(reactor)
    settings = options["settings"]
    with complaining(options.command):
        allow_open_files(OPEN_FILES, OPEN_FILES_MIN)
        shares, rng = shares_of(settings, Path.cwd()), random.SystemRandom()
        peer = PeerService(cast(Any, reactor), rng, settings, shares, wall=time.time)
        launch = options.launch(reactor, options.stop_command())
    shutdown = BoundedShutdown(cast(Any, reactor), launch=launch)

    def ready(address: PeerAddress) -> None:
        launch.ready(online_text(settings, address))
        # What is there now stays. Without this, each full collection looks at it again, for some 50 ms.
        gc.collect()
        gc.freeze()

    peer.ready.addCallbacks(ready, shutdown.fail)
    peer.lost.addErrback(shutdown.fail)
    peer.setServiceParent(shutdown)
    return shutdown
