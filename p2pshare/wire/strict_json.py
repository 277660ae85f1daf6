"""JSON from strangers: one object in UTF-8, no key twice, no NaN, no number that Python would choke on."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from p2pshare.errors import RemoteProtocolError

INTEGER_MAX = 2**53 - 1  # what every language reads exactly from JSON
DEPTH_MAX = 16  # brackets within each other


def parse_json(body: bytes) -> Any:
    """Read a JSON text.

    Raises:
        RemoteProtocolError: it is none, a key stands twice in an object, it has NaN or an infinity, or it is nested
            more than `DEPTH_MAX` deep.
    """
    try:
        value = _DECODER.decode(body.decode("utf-8"))
    except (
        ValueError,
        RecursionError,
    ):  # too many digits are a ValueError, too many brackets the other
        raise RemoteProtocolError(reason="it is no valid JSON in UTF-8") from None
    if _depth_exceeds(value, DEPTH_MAX):
        raise RemoteProtocolError(reason=f"its JSON is nested more than {DEPTH_MAX} deep")
    return value


def parse_object(body: bytes) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        RemoteProtocolError: as for `parse_json`, or it is no object.
    """
    fields = parse_json(body)
    if not isinstance(fields, dict):
        raise RemoteProtocolError(reason="it is no JSON object")
    return fields


def integer(fields: dict[str, Any], key: str, low: int = 0, high: int = INTEGER_MAX) -> int:
    """The integer under `key`.

    Raises:
        RemoteProtocolError: there is none from `low` to `high`.
    """
    value = fields.get(key)
    if type(value) is not int or not low <= value <= high:  # bool is an int, and 1.0 == 1
        raise RemoteProtocolError(reason=f"the {key} is no integer from {low} to {high}")
    return value


def text(fields: dict[str, Any], key: str, longest: int) -> str:
    """The text under `key`.

    Raises:
        RemoteProtocolError: there is none, or one of more than `longest` characters.
    """
    value = fields.get(key)
    if not isinstance(value, str) or len(value) > longest:
        raise RemoteProtocolError(reason=f"the {key} is no text of at most {longest} characters")
    return value


def texts(fields: dict[str, Any], key: str, most: int, longest: int) -> tuple[str, ...]:
    """The array of texts under `key`.

    Raises:
        RemoteProtocolError: there is none, or it has more than `most`, or one has more than `longest` characters.
    """
    values = fields.get(key)
    if (
        not isinstance(values, list)
        or len(values) > most
        or not all(isinstance(each, str) and len(each) <= longest for each in values)
    ):
        raise RemoteProtocolError(
            reason=f"the {key} is no array of at most {most} texts of at most {longest} characters"
        )
    return tuple(values)


def _depth_exceeds(value: Any, limit: int) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, list):
        return False
    return limit == 0 or any(_depth_exceeds(each, limit - 1) for each in value)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a key stands twice")
    return fields


def _no_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)
