"""Errors of settings, and of the peers and registries that run on this machine."""

from __future__ import annotations

from p2pshare.errors.base import P2pshareError, Refused, Unreachable, WrongUsage


class AnswersUnreadable(WrongUsage):
    """The answers on standard input cannot be read: {reason}. Save them as UTF-8."""


class BadSetting(WrongUsage):
    """{source}: {setting} is {value!r}, but must be {expected}."""


class UnknownSetting(WrongUsage):
    """{source}: there is no setting {setting!r}. The settings are {known}."""


class SettingsUnreadable(WrongUsage):
    """{source} cannot be read as settings: {reason}"""


class AlreadyRunning(Refused):
    """A peer already runs on the data folder of {name!r} (process {pid}). Stop it, or choose another name or --data."""


class FolderInUse(Refused):
    """The folder {path} is in use by another process ({pid}). Stop it, or choose another folder."""


class ControlRefused(Refused):
    """The running peer refused the command: {reason}"""


class PeerNotAnswering(Unreachable):
    """The peer that runs on {path} does not answer: {reason}. Stop it, and try again."""


class PeerNotRunning(Unreachable):
    """No peer runs on {path}. Start one with `p2pshare --name NAME` or `twistd p2ppeer --name NAME`, or set --data."""


class RegistryNotRunning(Unreachable):
    """No registry runs on the folder {path}. Set --data to its folder."""


class ServiceDoesNotEnd(Unreachable):
    """Process {pid} was told to stop, but still runs after {seconds} s. See its log, or end it with `kill -9 {pid}`."""


class PeerStopped(P2pshareError):
    """The peer of {name!r} was stopped by `p2pshare stop`."""

    exit_code = 0


class StartNotFinished(Unreachable):
    """The service is not ready after {seconds} s. It keeps trying in the background as process {pid}, with the log
    {log}. Stop it with `{stop}`.
    """


class CannotStart(P2pshareError):
    """{what} cannot start: {reason}"""


class TooFewOpenFiles(P2pshareError):
    """The system allows this process {allowed} open files, but at least {least} are needed. Raise the limit with
    `ulimit -n {least}`.
    """


class PortUnusable(P2pshareError):
    """Port {port} cannot be used: {reason}. Choose another port."""
