"""Messages between the process of a registry and its workers: one JSON object a line.

An order goes to the standard input of a worker, since it holds secrets. On its standard output a worker sends reports
and the lines of its log (`p2pshare.net.logs.Line`).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Self

from p2pshare import errors
from p2pshare.errors import CannotStart, P2pshareError
from p2pshare.registry.configuration import RegistrySettings
from p2pshare.registry.listening import Listen
from p2pshare.registry.stun import StunPlace


@dataclass(frozen=True, slots=True)
class Order:
    """The settings of a worker."""

    number: int
    """From 1."""
    settings: RegistrySettings
    listen: Listen
    metrics: Listen = ()
    """Endpoints with the metrics only."""
    stun: tuple[StunPlace, ...] = ()
    """Where it answers STUN, besides other workers."""

    def to_line(self) -> bytes:
        """Return the order as one line of JSON."""
        return json.dumps(asdict(self), default=str).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Self:
        """Read the result of `to_line`."""
        values = json.loads(line)
        settings = RegistrySettings.from_values(values["settings"])
        listen, metrics = (
            tuple((str(description), int(port)) for description, port in values[kind])
            for kind in ("listen", "metrics")
        )
        stun = tuple(StunPlace(str(host), int(port)) for host, port in values["stun"])
        return cls(int(values["number"]), settings, listen, metrics, stun)


@dataclass(frozen=True, slots=True)
class Report:
    """The result of the start of a worker."""

    error: P2pshareError | None = None
    """Why it cannot start; None if it listens and has reached the store."""

    def to_line(self) -> str:
        """Return the report as one line of JSON, without the newline."""
        if self.error is None:
            return json.dumps({"report": "ready"})
        fields = {
            name: each if isinstance(each, int | float) else str(each)
            for name, each in self.error.fields.items()
        }
        error = type(self.error).__name__
        return json.dumps({"report": "failed", "error": error, "fields": fields})

    @classmethod
    def from_line(cls, line: str) -> Self | None:
        """Read the result of `to_line`; return None for any other text."""
        try:
            values = json.loads(line)
        except ValueError:
            return None
        match values:
            case {"report": "ready"}:
                return cls()
            case {"report": "failed"}:
                return cls(_error(values))
        return None


def _error(values: dict[str, object]) -> P2pshareError:
    """Return the error of the worker, with its sentence and its exit code."""
    kind, fields = getattr(errors, str(values.get("error")), None), values.get("fields")
    if isinstance(kind, type) and issubclass(kind, P2pshareError) and isinstance(fields, dict):
        return kind(**fields)
    return CannotStart(what="The registry", reason="a worker does not say why")
