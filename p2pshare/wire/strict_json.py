"""JSON from strangers: UTF-8, no member twice, no NaN, no number or text that not every language reads alike."""

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
        what: it is called in an error.

    Raises:
        RemoteProtocolError: it is none, a member stands twice in an object, it has NaN, an infinity, an integer beyond
            `INTEGER_MAX` or half a surrogate pair, or it is nested more than `DEPTH_MAX` deep.
    """
    try:
        value = _DECODER.decode(body.decode("utf-8"))
        # A text with few brackets needs no look at what is nested.
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
    """Read a JSON object.

    Raises:
        RemoteProtocolError: as for `parse_json`, or it is no object.
    """
    fields = parse_json(body, what)
    if not isinstance(fields, dict):
        raise RemoteProtocolError(reason=f"{what} is no JSON object")
    return fields


def integer(fields: dict[str, Any], key: str, low: int = 0, high: int = INTEGER_MAX) -> int:
    """The integer under `key`.

    Raises:
        RemoteProtocolError: there is none from `low` to `high`.
    """
    value = member(fields, key)
    if type(value) is not int or not low <= value <= high:  # bool is an int, and 1.0 == 1
        raise RemoteProtocolError(reason=f"the {key} is no integer from {low} to {high}")
    return value


def boolean(fields: dict[str, Any], key: str) -> bool:
    """The truth under `key`.

    Raises:
        RemoteProtocolError: there is none.
    """
    value = member(fields, key)
    if not isinstance(value, bool):
        raise RemoteProtocolError(reason=f"the {key} is neither true nor false")
    return value


def text(fields: dict[str, Any], key: str, longest: int) -> str:
    """The text under `key`.

    Raises:
        RemoteProtocolError: there is none, or one of more than `longest` characters.
    """
    value = member(fields, key)
    if not isinstance(value, str) or len(value) > longest:
        raise RemoteProtocolError(reason=f"the {key} is no text of at most {longest} characters")
    return value


def texts(fields: dict[str, Any], key: str, most: int, longest: int) -> tuple[str, ...]:
    """The array of texts under `key`.

    Raises:
        RemoteProtocolError: there is none, or it has more than `most`, or one has more than `longest` characters.
    """
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
    """Return the value under `key`.

    Raises:
        RemoteProtocolError: there is none.
    """
    if key not in fields:
        raise RemoteProtocolError(reason=f"the {key} is missing")
    return fields[key]


class _RefusedError(ValueError):
    """JSON that others might read in another way; says what it has."""


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
