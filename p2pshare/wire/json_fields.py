"""JSON objects that are declared by the fields of a dataclass: messages, answers of a registry and statements.

A subclass of `JsonObject` annotates each field with a `Codec`, which says how its member is read, checked and bounded,
and how it is written::

    @dataclass(frozen=True, slots=True)
    class Credit(JsonObject):
        bytes: Annotated[int, whole()]

The declaration is the only description of a message: `from_fields` reads the members that it names and ignores others,
which later versions may add, and `to_fields` writes them in the order of the fields. That order is part of the
protocol's test vectors. Codecs raise `RemoteProtocolError`, which names the member, and nothing else.

The codecs of a class are collected from its annotations once, when it is defined: resolving annotations takes longer
than reading a message. So the names in an annotation have to be defined above the class, and a `lambda` belongs into a
codec with a name.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Callable
from enum import Enum
from operator import attrgetter
from typing import Any, ClassVar, NamedTuple, Self

from p2pshare.errors import IllegalName, RemoteProtocolError
from p2pshare.names import NAME_MAX, check_name, is_name
from p2pshare.wire.strict_json import INTEGER_MAX, integer, member, text

Fields = dict[str, Any]
"""A JSON object."""
_ALWAYS = object()  # the default of a member that is always written


class Codec(NamedTuple):
    """How a field is read from and written to a JSON object."""

    read: Callable[[Fields, str], Any]
    """Return the value of the member with this key, or raise `RemoteProtocolError`."""
    write: Callable[[Any], object] | None = None
    """Return the value as JSON; without it the value is JSON as it is."""
    key: str = ""
    """The member's key, if it is not the field's name."""
    default: object = _ALWAYS
    """The value of a missing member; a field with this value is not written."""


class _Member(NamedTuple):
    """A field with its codec."""

    name: str
    key: str
    read: Callable[[Fields, str], Any]
    write: Callable[[Any], object] | None
    default: object


class JsonObject:
    """A frozen dataclass whose fields are annotated with codecs."""

    __slots__ = ()

    _members: ClassVar[tuple[_Member, ...]] = ()

    def __init_subclass__(cls) -> None:
        """Collect the codecs from the annotations."""
        hints = typing.get_type_hints(cls, include_extras=True)
        cls._members = tuple(
            _Member(name, codec.key or name, codec.read, codec.write, codec.default)
            for name in cls.__annotations__
            for codec in getattr(hints[name], "__metadata__", ())
        )

    def to_fields(self) -> Fields:
        """Return the JSON object."""
        fields: Fields = {}
        for name, key, _, write, default in self._members:
            value = getattr(self, name)
            if default is _ALWAYS or value != default:
                fields[key] = value if write is None else write(value)
        return fields

    @classmethod
    def from_fields(cls, fields: Fields) -> Self:
        """Read a JSON object.

        Raises:
            RemoteProtocolError: a member is missing, or is not what its codec allows.
        """
        return cls(*[read(fields, key) for _, key, read, _, _ in cls._members])


# A codec reads a good member with as few calls as possible, since a page of peers has thousands of members. It leaves
# all others to `strict_json`, which says in each case what is wrong.


def whole(low: int = 0, high: int = INTEGER_MAX, *, key: str = "") -> Codec:
    """Return the codec of an integer from `low` to `high`."""

    def read(fields: Fields, key: str) -> int:
        value = fields.get(key)
        if type(value) is int and low <= value <= high:
            return value
        return integer(fields, key, low, high)

    return Codec(read, key=key)


def words(longest: int) -> Codec:
    """Return the codec of a text of at most `longest` characters."""

    def read(fields: Fields, key: str) -> str:
        value = fields.get(key)
        if isinstance(value, str) and len(value) <= longest:
            return value
        return text(fields, key, longest)

    return Codec(read)


def matching(pattern: re.Pattern[str], longest: int, form: str) -> Codec:
    """Return the codec of a text that matches `pattern`; an error describes it as `form`."""

    def read(fields: Fields, key: str) -> str:
        found = text(fields, key, longest)
        if not pattern.fullmatch(found):
            raise RemoteProtocolError(reason=f"the {key} is not {form}")
        return found

    return Codec(read)


def parsed(parse: Callable[[str], Any], write: Callable[[Any], str], longest: int) -> Codec:
    """Return the codec of a text of at most `longest` characters that `parse` reads and `write` writes."""
    return Codec(lambda fields, key: parse(text(fields, key, longest)), write)


def one_of(kind: type[Enum]) -> Codec:
    """Return the codec of the value of an enumeration."""
    known = {each.value: each for each in kind}

    def read(fields: Fields, key: str) -> Enum:
        value = fields.get(key)
        found = known.get(value) if isinstance(value, str) else None
        if found is None:
            member(fields, key)
            raise RemoteProtocolError(reason=f"the {key} is none that is known")
        return found

    return Codec(read, attrgetter("value"))


def array(
    least: int, most: int, read_item: Callable[[Any], Any], write_item: Callable[[Any], object]
) -> Codec:
    """Return the codec of a tuple of `least` to `most` items."""

    def read(fields: Fields, key: str) -> tuple[Any, ...]:
        values = member(fields, key)
        if not isinstance(values, list) or not least <= len(values) <= most:
            raise RemoteProtocolError(reason=f"the {key} is no array of {least} to {most} items")
        return tuple(map(read_item, values))

    return Codec(read, lambda values: list(map(write_item, values)))


def optional(codec: Codec) -> Codec:
    """Return the codec of a member that may be null or missing, which reads as None."""
    read, write = codec.read, codec.write
    return codec._replace(
        read=lambda fields, key: None if fields.get(key) is None else read(fields, key),
        write=write and (lambda value: None if value is None else write(value)),
    )


def omittable(codec: Codec, default: object) -> Codec:
    """Return the codec of a member that is left out of the object if it has the value `default`."""
    read = codec.read
    return codec._replace(
        read=lambda fields, key: read(fields, key) if key in fields else default, default=default
    )


def _read_name(fields: Fields, key: str) -> str:
    value = fields.get(key)
    if isinstance(value, str) and is_name(value):
        return value
    try:
        return check_name(text(fields, key, NAME_MAX))
    except IllegalName as error:
        raise RemoteProtocolError(reason=str(error)) from None


NAME = Codec(_read_name)
"""The name of a user."""
