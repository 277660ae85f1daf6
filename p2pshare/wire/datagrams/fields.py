"""A reader of big-endian fields that never reads beyond the end of its bytes."""

from __future__ import annotations

import struct

from p2pshare.errors import RemoteProtocolError

U8 = struct.Struct(">B")
U16 = struct.Struct(">H")
U32 = struct.Struct(">I")
U64 = struct.Struct(">Q")
U32_MAX = 2**32 - 1


class FieldReader:
    """A position in bytes that were received. Every method raises `RemoteProtocolError` if the bytes end too early."""

    def __init__(self, view: memoryview) -> None:
        self._view = view
        self._at = 0

    @property
    def position(self) -> int:
        """The number of bytes that were read."""
        return self._at

    @property
    def left(self) -> int:
        """The number of bytes that were not read yet."""
        return len(self._view) - self._at

    def take(self, size: int) -> memoryview:
        """Read `size` bytes, without a copy."""
        if size > self.left:
            raise RemoteProtocolError(reason="a packet ends in the middle of a field")
        taken = self._view[self._at : self._at + size]
        self._at += size
        return taken

    def rest(self) -> memoryview:
        """Read all remaining bytes, without a copy."""
        return self.take(self.left)

    def number(self, field: struct.Struct) -> int:
        """Read one number."""
        return int(field.unpack(self.take(field.size))[0])

    def numbers(self, count: int, format_: str) -> tuple[int, ...]:
        """Read `count` numbers of one `struct` format, such as "I"."""
        field = struct.Struct(f">{count}{format_}")
        return field.unpack(self.take(field.size))
