"""Strict JSON from strangers, read alike by every implementation, with bounds on numbers and depth.

Two implementations that read one text differently are an attack: one of them verifies a member, and the other one uses
its duplicate. So this reader accepts only the JSON on which all agree. It rejects duplicate members, `NaN` and
infinities, integers beyond 53 bits and unpaired surrogates.

The bounds come before the work. The caller bounds the length of the text. An integer is rejected by its number of
digits before it is converted, since the time of that grows with the square of the length. Nesting is bounded after
parsing, where `json` itself may raise `RecursionError`. A text with few brackets cannot be nested deeply, so it skips
that check, which would cost more than the rest for a short message.

The readers of members (`integer`, `boolean`, `text`, `texts`) check the exact type: `bool` is an `int` in Python, and
1.0 equals 1. Each raises `RemoteProtocolError`, which names the member, if it is missing or invalid.
"""

from __future__ import annotations

import json
from math import isinf
from typing import Any, NoReturn

from p2pshare.errors import RemoteProtocolError

INTEGER_MAX = 2**53 - 1  # what every language reads exactly from JSON
DIGITS_MAX = len(f"-{INTEGER_MAX}")
DEPTH_MAX = 16  # brackets within each other


def parse_json(body: bytes, what: str = "it") -> Any:
    """Read a JSON text.

    Args:
        body: the text.
        what: name of the text in an error.

    Raises:
        RemoteProtocolError: it is not strict JSON in UTF-8, or is nested more than `DEPTH_MAX` deep.
    """
    try:
        value = _DECODER.decode(body.decode("utf-8"))
        # A text with few brackets cannot be nested too deeply.
        if body.count(b"[") + body.count(b"{") > DEPTH_MAX and _depth_exceeds(value, DEPTH_MAX):
            raise _RefusedError(f"brackets nested more than {DEPTH_MAX} deep")
        if b"\\u" in body:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except _RefusedError as error:
        raise RemoteProtocolError(reason=f"{what} is JSON with {error}") from None
    except UnicodeEncodeError:
        raise RemoteProtocolError(reason=f"{what} is JSON with half a surrogate pair") from None
    except (ValueError, RecursionError):  # the latter of very many brackets
        raise RemoteProtocolError(reason=f"{what} is no valid JSON in UTF-8") from None
    return value


def parse_object(body: bytes, what: str = "it") -> dict[str, Any]:
    """Read a JSON object, as `parse_json` does."""
    fields = parse_json(body, what)
    if not isinstance(fields, dict):
        raise RemoteProtocolError(reason=f"{what} is no JSON object")
    return fields


def integer(fields: dict[str, Any], key: str, low: int = 0, high: int = INTEGER_MAX) -> int:
    """Return the integer under `key`, from `low` to `high`."""
    value = member(fields, key)
    if type(value) is not int or not low <= value <= high:  # bool is an int, and 1.0 == 1
        raise RemoteProtocolError(reason=f"the {key} is no integer from {low} to {high}")
    return value


def boolean(fields: dict[str, Any], key: str) -> bool:
    """Return the boolean under `key`."""
    value = member(fields, key)
    if not isinstance(value, bool):
        raise RemoteProtocolError(reason=f"the {key} is neither true nor false")
    return value


def text(fields: dict[str, Any], key: str, longest: int) -> str:
    """Return the text under `key`, of at most `longest` characters."""
    value = member(fields, key)
    if not isinstance(value, str) or len(value) > longest:
        raise RemoteProtocolError(reason=f"the {key} is no text of at most {longest} characters")
    return value


def texts(fields: dict[str, Any], key: str, most: int, longest: int) -> tuple[str, ...]:
    """Return the array of at most `most` texts under `key`, of at most `longest` characters each."""
    values = member(fields, key)
    if (
        not isinstance(values, list)
        or len(values) > most
        or not all(isinstance(each, str) and len(each) <= longest for each in values)
    ):
        raise RemoteProtocolError(
            reason=f"the {key} is no array of at most {most} texts of at most {longest} characters"
        )
    return tuple(values)


def member(fields: dict[str, Any], key: str) -> Any:
    """Return the value under `key`."""
    if key not in fields:
        raise RemoteProtocolError(reason=f"the {key} is missing")
    return fields[key]


class _RefusedError(ValueError):
    """JSON that implementations may read differently; the text says what it contains."""


def _depth_exceeds(value: Any, limit: int) -> bool:
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list):
        return False
    return limit == 0 or any(
        _depth_exceeds(each, limit - 1) for each in value if isinstance(each, dict | list)
    )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise _RefusedError("a member that stands twice")
    return fields


def _no_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _integer(digits: str) -> int:
    if len(digits) <= DIGITS_MAX:  # else it might take long
        value = int(digits)
        if abs(value) <= INTEGER_MAX:
            return value
    raise _RefusedError("an integer of more than 53 bits")


def _number(digits: str) -> float:
    value = float(digits)
    if isinf(value):
        raise _RefusedError("a number that is too large")
    return value


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique,
    parse_int=_integer,
    parse_float=_number,
    parse_constant=_no_constant,
)
