"""Paths within shares as they are on the wire: `photos/2024/cat.jpg`.

A path never climbs. All paths from strangers pass through `parse_path` first. `storage.incoming.destination` decides
which name a component gets on the receiver's disk.
"""

from __future__ import annotations

import re

from p2pshare.errors import RemoteProtocolError

PATH_MAX = 4096  # bytes of UTF-8
COMPONENT_MAX = 255  # bytes of UTF-8, of nearly every file system
DEPTH_MAX = 64  # components

_RESERVED = ".p2pshare"
_IGNORED = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)  # Default_Ignorable_Code_Point of Unicode

RemotePath = tuple[str, ...]
"""The components of a path; the empty path is the top, which lists the shares."""


def parse_path(text: str) -> RemotePath:
    """Read a path; "" is the top.

    Raises:
        RemoteProtocolError: it is too long or too deep, or a component is empty, reserved, `.` or `..`, too long,
            or holds a NUL or half a surrogate pair.
    """
    if not text:
        return ()
    components = tuple(text.split("/"))
    if len(components) > DEPTH_MAX or len(text) > PATH_MAX:
        raise RemoteProtocolError(reason="the path is too long")
    for component in components:
        if (fault := component_fault(component)) is not None:
            raise RemoteProtocolError(reason=f"a component of the path {fault}")
    if len(text.encode()) > PATH_MAX:
        raise RemoteProtocolError(reason="the path is too long")
    return components


def is_within_bounds(path: RemotePath) -> bool:
    """Whether valid components make a path that fits into a message."""
    size = sum(len(component.encode()) + 1 for component in path) - 1  # a slash between each two
    return len(path) <= DEPTH_MAX and size <= PATH_MAX


def component_fault(component: str) -> str | None:
    """Return the fault of a file name as a component of a path; None if it has none.

    A hidden name has no fault: whether it is shared and how it is saved is decided by both ends.
    """
    if not component:
        return "is empty"
    if component in (".", ".."):
        return 'is "."' if component == "." else 'is "..", which leads out of a folder'
    if is_reserved(component):
        return "is reserved for files of p2pshare"
    if "\0" in component or "/" in component:
        return "holds a slash or a NUL"
    try:
        size = len(component.encode())
    except UnicodeEncodeError:
        return "is no Unicode text"
    return f"has more than {COMPONENT_MAX} bytes" if size > COMPONENT_MAX else None


def is_reserved(component: str) -> bool:
    """Whether a name may belong to a hidden file of p2pshare: a partial file, or one that changes what is shared.

    Names that some file system treats as equal to such a name are reserved, too.
    """
    compared = folded(component)
    return compared.startswith(".") and _RESERVED in compared


def folded(component: str) -> str:
    """Return a name as file systems compare it that ignore case and invisible characters."""
    if component.isascii():
        return component.lower()
    return _IGNORED.sub("", component).casefold()


def format_path(path: RemotePath) -> str:
    """Return the text that `parse_path` reads."""
    return "/".join(path)
