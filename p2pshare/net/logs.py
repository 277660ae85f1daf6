"""The log of a service: one line for each event, as text for people or as JSON for programs.

Text from other machines can neither begin a line nor control a terminal. Secrets are hidden: the fields whose names say
that they are secret, and the password in a URL.

The message of an event is `event: key=value ...`: first what happened, then its facts.
"""

from __future__ import annotations

import json
import re
import signal
import sys
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Self, TextIO

from twisted.logger import (
    FileLogObserver,
    ILogObserver,
    InvalidLogLevelError,
    LogEvent,
    LogLevel,
    formatEvent,
    formatTime,
    globalLogPublisher,
)
from twisted.python.logfile import LogFile

from p2pshare.errors import WrongUsage
from p2pshare.wire.display import display

TEXT, JSON = FORMATS = ("text", "json")
MESSAGE_MAX = 4096  # characters of a message, or of a field
TRACEBACK_MAX = 16384  # characters
FIELDS_MAX = 32
LOGS_KEPT = 9  # full files beside the current one, unless the user named a file
KEYS_MAX = 1024  # names of fields whose classification is cached
HIDDEN = "[hidden]"
WORKER = "worker"
"""The field with the number of the process that has written a line."""

_SECRET = re.compile(
    r"password|passphrase|secret|token|mac_key|authorization|cookie|seed|private_key|invitation|^link$"
)
_URL_PASSWORD = re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^\s'\"]*@", re.IGNORECASE)
_URL_OPTION = re.compile(r"([?&]\w*password=)[^&\s]*", re.IGNORECASE)
_OWN_KEYS = frozenset({"time", "level", "namespace", "message", "traceback"})
_LEGACY_KEYS = frozenset({"isError", "system", "format", "failure", "why"})


@dataclass(frozen=True, slots=True)
class Line:
    """The written form of an event."""

    time: float
    """Unix time, in seconds."""
    level: str
    namespace: str
    message: str
    fields: Mapping[str, str | int | float | bool | None]
    traceback: str = ""
    system: str = ""
    """Replaces the namespace in events of old parts of Twisted."""

    @classmethod
    def of(cls, event: LogEvent) -> Self:
        """Convert an event, without its secrets."""
        shown = {key: HIDDEN if is_secret(key) else event[key] for key in event}
        failure = event.get("log_failure")
        traceback = failure.getTraceback() if failure else str(event.get("traceback", ""))
        level = event.get("log_level", LogLevel.info)
        fields = [key for key in shown if _is_field(key)][:FIELDS_MAX]
        return cls(
            time=event.get("log_time", 0.0),
            level=level.name if level else "info",
            namespace=str(event.get("log_namespace", "")),
            message=_clean(formatEvent(shown), MESSAGE_MAX),
            fields={display(key): _plain(shown[key]) for key in fields},
            traceback="\n".join(
                _clean(line, TRACEBACK_MAX) for line in traceback[-TRACEBACK_MAX:].splitlines()
            ),
            system=str(event.get("log_system") or ""),
        )

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read the result of `to_json`.

        Raises:
            ValueError: the text is anything else.
        """
        values = json.loads(text)
        if not isinstance(values, dict):
            raise ValueError("not an object")
        try:
            return cls(
                datetime.fromisoformat(values.pop("time")).timestamp(),
                str(LogLevel.levelWithName(values.pop("level")).name),
                str(values.pop("namespace")),
                str(values.pop("message")),
                traceback=str(values.pop("traceback", "")),
                fields={key: _plain(value) for key, value in values.items()},
            )
        except (KeyError, TypeError, InvalidLogLevelError) as error:
            raise ValueError("not a line of a log") from error

    def to_json(self) -> str:
        """Return one JSON object, without a newline."""
        head = {"time": self._utc, "level": self.level}
        names = {"namespace": self.namespace, "message": self.message}
        traceback = {"traceback": self.traceback} if self.traceback else {}
        return json.dumps({**head, **names, **traceback, **self.fields})

    def to_text(self) -> str:
        """Return the format of Twisted, without the last newline; a traceback is indented."""
        system = self.system or f"{self.namespace or '-'}#{self.level}"
        if WORKER in self.fields:
            system += f", {WORKER} {self.fields[WORKER]}"
        lines = [f"{formatTime(self.time)} [{display(system)}] {self.message}"]
        return "\n    ".join(lines + self.traceback.splitlines())

    def to_debug_text(self, pid: int) -> str:
        """Return a line with the time in UTC, for the file of `--debug`; a traceback is indented."""
        source = self.system or self.namespace.removeprefix("p2pshare.") or "-"
        level = "" if self.level == LogLevel.debug.name else f"{self.level}: "
        line = f"{self._utc} {pid} {display(source)} {level}{self.message}"
        return "\n    ".join([line, *self.traceback.splitlines()])

    @property
    def _utc(self) -> str:
        time = datetime.fromtimestamp(self.time, UTC).isoformat(timespec="milliseconds")
        return time.replace("+00:00", "Z")

    def emit(self, worker: int) -> None:
        """Write the line to the log of this process; it comes from the worker with this number."""
        globalLogPublisher(
            {
                "log_time": self.time,
                "log_level": LogLevel.levelWithName(self.level),
                "log_namespace": self.namespace,
                "log_format": "{log_message}",
                "log_message": self.message,
                **({"traceback": self.traceback} if self.traceback else {}),
                **self.fields,
                WORKER: worker,
            }
        )


@lru_cache(maxsize=KEYS_MAX)
def is_secret(key: str) -> bool:
    """Return whether a field, flag or variable holds a secret, by its name in lower case."""
    return _SECRET.search(key) is not None


@lru_cache(maxsize=KEYS_MAX)
def _is_field(key: str) -> bool:
    return not key.startswith("log_") and key not in _OWN_KEYS and key not in _LEGACY_KEYS


def _clean(text: str, size_max: int) -> str:
    text = _URL_OPTION.sub(rf"\1{HIDDEN}", _URL_PASSWORD.sub(rf"\1{HIDDEN}@", text))
    shown = display(text)
    return shown if len(shown) <= size_max else f"{shown[:size_max]}…"


def _plain(value: object) -> str | int | float | bool | None:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if abs(value) < float("inf") else str(value)
    return _clean(str(value), MESSAGE_MAX)


def log_observer(file: TextIO, form: str) -> ILogObserver:
    """Return an observer that writes events to a file, as `TEXT` or `JSON`.

    Events at level `debug` are left out: strangers can cause any number of them.
    """

    def line_of(event: LogEvent) -> str | None:
        if event.get("log_level") is LogLevel.debug:
            return None
        line = Line.of(event)
        if form == JSON:
            return f"{line.to_json()}\n"
        return f"{line.to_text()}\n" if line.message or line.traceback else None

    return FileLogObserver(file, line_of)


class _Chosen:
    """The choice of `choose_log`, since twistd calls `service_observer` without arguments."""

    form = TEXT
    file: str | None = None
    """None is standard output."""
    kept_max: int | None = None
    """Number of full files that are kept; None is all."""


def choose_log(twistd: MutableMapping[str, Any] | None, form: str, default: Path) -> str | None:
    """Have twistd write its log by `service_observer`, unless the user named another logger.

    Args: twistd: its options, before it evaluates them; None if another program runs the service. form: one of
        `FORMATS`. default: the file for a daemon if the user named none. `LOGS_KEPT` full files of it are kept, of a
        megabyte each.

    Returns:
        The file; None if the log goes elsewhere.

    Raises:
        WrongUsage: the options for the log contradict each other.
    """
    if form not in FORMATS:
        raise WrongUsage(reason=f"--log-format must be {TEXT} or {JSON}.")
    if twistd is None or twistd.get("logger", "") is not None or twistd.get("syslog"):
        if form == JSON:
            raise WrongUsage(
                reason="--log-format json goes with twistd's standard output and --logfile only,"
                " not with --syslog, --logger or another program: leave one of them out."
            )
        return None
    file, kept_max = twistd.get("logfile"), None
    if not twistd.get("nodaemon") and not twistd.get("debug"):
        if file == "-":
            raise WrongUsage(
                reason="A service in the background has no standard output: name a file with --logfile, or add -n."
            )
        if not file:
            file, kept_max = str(default), LOGS_KEPT
    elif file == "-":
        file = None
    twistd["logger"] = f"{__name__}.{service_observer.__name__}"
    twistd["logfile"] = file
    _Chosen.form, _Chosen.file, _Chosen.kept_max = form, file, kept_max
    return file


def service_observer() -> ILogObserver:
    """Return the observer for twistd's `--logger`, which writes to the place that `choose_log` has chosen."""
    if not _Chosen.file:
        return log_observer(sys.stdout, _Chosen.form)
    file = _RotatedFile.fromFullPath(_Chosen.file, maxRotatedFiles=_Chosen.kept_max)
    if not signal.getsignal(signal.SIGUSR1):
        signal.signal(signal.SIGUSR1, file.rotate_soon)
    return log_observer(file, _Chosen.form)


class _RotatedFile(LogFile):
    """A file that is renamed and replaced by a new one when it is long, or at a signal."""

    _is_due = False

    def rotate_soon(self, *_signal: object) -> None:
        """Rotate before the next line: a signal can arrive while one is written."""
        self._is_due = True

    def write(self, data: str) -> None:
        """Write a line."""
        if self._is_due:
            self._is_due = False
            self.rotate()
        super().write(data)
