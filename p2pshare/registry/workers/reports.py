"""What a registry's process tells its workers, and what they tell it: one JSON object a line.

An order goes to a worker's standard input, as it holds secrets. A worker answers on its standard output with
reports, and with the lines of its log (`p2pshare.net.logs.Line`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Self

from p2pshare import errors
from p2pshare.errors import CannotStart, P2pshareError
from p2pshare.registry.configuration import RegistrySettings

READY = "ready"
"""It listens, and has reached the store."""
FAILED = "failed"
"""It cannot start, and ends."""


Listen = tuple[tuple[str, int], ...]
"""Endpoint strings, and for each the number that port 0 stands for in it."""


def _listen(values: list[tuple[str, int]]) -> Listen:
    return tuple((str(description), int(port)) for description, port in values)


@dataclass(frozen=True, slots=True)
class Order:
    """What a worker is to do."""

    number: int
    """From 1."""
    settings: RegistrySettings
    listen: Listen
    metrics: Listen = ()
    """Where the metrics alone are."""

    def to_line(self) -> bytes:
        """The order as it is sent."""
        values = {
            "number": self.number,
            "settings": self.settings.to_json(),
            "listen": self.listen,
            "metrics": self.metrics,
        }
        return json.dumps(values).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Self:
        """Read what `to_line` writes."""
        values = json.loads(line)
        settings = RegistrySettings.from_json(values["settings"])
        listen, metrics = _listen(values["listen"]), _listen(values["metrics"])
        return cls(int(values["number"]), settings, listen, metrics)


@dataclass(frozen=True, slots=True)
class Report:
    """How a worker is."""

    state: str
    """`READY` or `FAILED`."""
    error: P2pshareError | None = None

    def to_line(self) -> str:
        """The report as it is sent, without a line's end."""
        values: dict[str, object] = {"report": self.state}
        if self.error is not None:
            values["error"] = type(self.error).__name__
            values["fields"] = {name: _plain(each) for name, each in self.error.fields.items()}
        return json.dumps(values)

    @classmethod
    def from_line(cls, line: str) -> Self | None:
        """Read what `to_line` writes; None if it is anything else."""
        try:
            values = json.loads(line)
        except ValueError:
            return None
        if not isinstance(values, dict) or values.get("report") not in (READY, FAILED):
            return None
        if values["report"] == READY:
            return cls(READY)
        return cls(FAILED, _error(values))


def _plain(value: object) -> object:
    return value if isinstance(value, int | float) else str(value)


def _error(values: dict[str, object]) -> P2pshareError:
    """The same error as in the worker: with its sentence and its exit code."""
    kind, fields = getattr(errors, str(values.get("error")), None), values.get("fields")
    if isinstance(kind, type) and issubclass(kind, P2pshareError) and isinstance(fields, dict):
        return kind(**fields)
    return CannotStart(what="The registry", reason="a worker does not say why")
