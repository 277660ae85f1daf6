"""Opening shared files: component by component beneath a share's root.

**Handles, not paths.** Each component is opened relative to the handle of the folder before it, and never through a
link. So nobody who renames or links folders meanwhile can lead the walk out of the share. Checking a path first and
opening it by name afterwards would leave that gap.

**Links** are read, and their targets are walked in the same way: from the link's folder, or from the root if the target
is absolute and lies beneath the share. Everything on the way must be public, too. `..` is walked again from the root,
since the folder above an open one may have been moved out of the share.

**The root** was named by the user and may be a link. It is opened each time, so that a share may disappear and come
back.

**Private**, and therefore not found by anybody: what the rules of the share leave out (`rules`), names that are not
Unicode, links that lead out, everything that is neither a file nor a folder, files too large for the protocol, and the
private folders of the share, and any other folder that holds keys of p2pshare.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import TypeVar

from p2pshare.storage.identity.data_folder import holds_keys
from p2pshare.storage.shares.arguments import SharedPath
from p2pshare.storage.shares.rules import Scope
from p2pshare.wire.blocks import FILE_SIZE_MAX
from p2pshare.wire.paths import component_fault
from p2pshare.wire.transfer_messages import Fault, Omitted

T = TypeVar("T")

FileId = tuple[int, int]
"""Device and inode."""

STEPS_MAX = 512  # components walked for one path, including those of links
LINKS_MAX = 16  # followed for one path

# Without O_NONBLOCK, opening a FIFO would wait for a writer.
_ROOT = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_BENEATH = _ROOT | os.O_NOFOLLOW
_FOLDER = _BENEATH | os.O_DIRECTORY

_FAULTS = {
    errno.ENOENT: Fault.NOT_FOUND,
    errno.ENOTDIR: Fault.NOT_FOUND,
    errno.ELOOP: Fault.NOT_FOUND,
    errno.ENAMETOOLONG: Fault.NOT_FOUND,
    errno.ENXIO: Fault.NOT_FOUND,
    errno.EINVAL: Fault.NOT_FOUND,  # a link that has just been replaced
    errno.EMFILE: Fault.BUSY,
    errno.ENFILE: Fault.BUSY,
    errno.ENOMEM: Fault.BUSY,
}


class Unavailable(Exception):  # noqa: N818 - it is named after what happened
    """A file or folder cannot be opened."""

    def __init__(self, why: Fault) -> None:
        super().__init__(why.value)
        self.why = why


class Withheld(Unavailable):
    """The rules of the share leave a name out."""

    def __init__(self) -> None:
        super().__init__(Fault.NOT_FOUND)


@dataclass(frozen=True, slots=True)
class Opened:
    """A file or folder that is open for reading."""

    fd: int
    status: os.stat_result
    above: tuple[FileId, ...] = ()
    """The real folders from the share's root down to the one that contains this."""
    scope: Scope = field(default_factory=Scope)
    """The rules that hold in this folder."""

    @property
    def id(self) -> FileId:
        """Return its identity among all files and folders."""
        return self.status.st_dev, self.status.st_ino

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return stat.S_ISDIR(self.status.st_mode)


@contextmanager
def faults() -> Iterator[None]:
    """Turn errors of the operating system into `Unavailable`."""
    try:
        yield
    except OSError as error:
        raise Unavailable(_fault_of(error)) from error


def open_beneath(shared: SharedPath, components: Sequence[str]) -> Opened:
    """Open a file or folder of a share; the caller closes it.

    Raises:
        Unavailable: NOT_FOUND if it does not exist or is private; UNREADABLE; BUSY.
    """
    with faults():
        if components:
            return _beneath(
                shared,
                components,
                lambda at, name, status, above: replace(
                    open_at(shared, at, name, status), above=above
                ),
            )
        return _open_root(shared)


def status_beneath(shared: SharedPath, components: Sequence[str]) -> os.stat_result:
    """Return the status of a file or folder of a share without opening it.

    Raises:
        Unavailable: as for `open_beneath`.
    """
    with faults():
        if components:
            return _beneath(shared, components, lambda at, name, status, above: status)
        return _root_status(shared)


@dataclass(frozen=True, slots=True)
class Here:
    """An open folder of a share, and the rules that hold in it."""

    fd: int
    scope: Scope


def open_at(shared: SharedPath, at: Here, name: str, status: os.stat_result) -> Opened:
    """Open the file or folder in an open folder whose `public_status` is `status`.

    Raises:
        Unavailable: it has become something else, or is private.
        OSError: it cannot be opened.
    """
    is_folder = stat.S_ISDIR(status.st_mode)
    fd = os.open(name, _FOLDER if is_folder else _BENEATH, dir_fd=at.fd)
    return _checked(
        shared, fd, is_folder, lambda: at.scope if name == "." else at.scope.enter(name, fd)
    )


def public_status(at: Here, name: str) -> os.stat_result:
    """Return the status of a file, folder or link in an open folder. `open_at` checks whether a folder is private.

    Raises:
        Withheld: the rules leave it out.
        Unavailable: the name or the kind of file is private.
        OSError: it does not exist.
    """
    if at.scope.is_hidden(name):
        raise Withheld
    if component_fault(name) is not None:
        raise Unavailable(Fault.NOT_FOUND)
    status = os.stat(name, dir_fd=at.fd, follow_symlinks=False)
    if at.scope.is_excluded(name, is_folder=stat.S_ISDIR(status.st_mode)):
        raise Withheld
    if not stat.S_ISLNK(status.st_mode):
        _check_kind(status)
    return status


def is_private(shared: SharedPath, status: os.stat_result) -> bool:
    """Whether this is a folder of which the share says that it is never shared."""
    if stat.S_ISDIR(status.st_mode):
        for private in shared.private:
            with suppress(OSError):
                if os.path.samestat(os.stat(private), status):
                    return True
    return False


def why_omitted(
    folder: int, name: str, error: OSError | Unavailable, is_link: bool
) -> Omitted | None:
    """Return why a name in an open folder is left out of a listing, after `error`; None if the name is gone.

    Raises:
        OSError, Unavailable: `error`, if it is temporary.
    """
    fault = _fault_of(error) if isinstance(error, OSError) else error.why
    if fault is Fault.BUSY:
        raise error
    if fault is Fault.UNREADABLE:
        return Omitted.UNREADABLE
    if is_link:
        return Omitted.LINK
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return None
    if stat.S_ISREG(status.st_mode) and status.st_size > FILE_SIZE_MAX:
        return Omitted.TOO_LARGE
    if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
        return Omitted.GONE  # it has just been replaced
    return Omitted.LINK if stat.S_ISLNK(status.st_mode) else Omitted.SPECIAL


def _beneath(
    shared: SharedPath,
    components: Sequence[str],
    use: Callable[[Here, str, os.stat_result, tuple[FileId, ...]], T],
) -> T:
    if any(map(component_fault, components)):  # only targets of links may climb
        raise Unavailable(Fault.NOT_FOUND)
    root = _open_root(shared)
    walk = _Walk(shared, root)
    try:
        if not root.is_folder:
            raise Unavailable(Fault.NOT_FOUND)
        return use(*walk.find(components))
    finally:
        walk.leave()
        os.close(root.fd)


class _Walk:
    """A walk from a root downwards; `leave` it in the end."""

    def __init__(self, shared: SharedPath, root: Opened) -> None:
        self._shared = shared
        self._root = Here(root.fd, root.scope)
        self._at = self._root
        self._root_id = root.id
        self._names: list[str] = []  # folders from the root to here; none is a link
        self._ids: list[FileId] = []  # of the same folders
        self._todo: list[str] = []  # components still to be walked, the next one last
        self._links = 0

    def find(
        self, components: Sequence[str]
    ) -> tuple[Here, str, os.stat_result, tuple[FileId, ...]]:
        """Return the open folder that contains the target, the target's name there (perhaps "."), its status, and the
        real folders above it.
        """
        self._todo = list(reversed(components))
        for _ in range(STEPS_MAX):
            if not self._todo:
                above = (self._root_id, *self._ids)[:-1]
                return self._at, ".", os.fstat(self._at.fd), above
            name = self._todo.pop()
            if name == "..":
                self._climb()
                continue
            status = public_status(self._at, name)
            if stat.S_ISLNK(status.st_mode):
                self._follow(name)
            elif not self._todo:
                _check_public(self._shared, status)
                return self._at, name, status, (self._root_id, *self._ids)
            elif stat.S_ISDIR(status.st_mode):
                opened = open_at(self._shared, self._at, name, status)
                self._move(Here(opened.fd, opened.scope))
                self._names.append(name)
                self._ids.append(opened.id)
            else:
                raise Unavailable(Fault.NOT_FOUND)
        raise Unavailable(Fault.NOT_FOUND)

    def leave(self) -> None:
        """Close the current folder, unless it is the root."""
        self._move(self._root)

    def _move(self, to: Here) -> None:
        if self._at is not self._root:
            os.close(self._at.fd)
        self._at = to

    def _climb(self) -> None:
        """Go to the folder above by a new walk: `..` of a folder that was moved may lie outside."""
        if not self._names:
            raise Unavailable(Fault.NOT_FOUND)
        self._todo.extend(reversed(self._names[:-1]))
        self._from_root()

    def _follow(self, name: str) -> None:
        self._links += 1
        if self._links > LINKS_MAX:
            raise Unavailable(Fault.NOT_FOUND)
        target = os.readlink(name, dir_fd=self._at.fd)
        parts = [part for part in target.split("/") if part not in ("", ".")]
        if target.startswith("/"):
            parts = self._from_share(parts)
            self._from_root()
        self._todo.extend(reversed(parts))

    def _from_share(self, parts: list[str]) -> list[str]:
        """Return the components of an absolute link target that follow the share's root."""
        path = self._shared.path
        for root in (PurePath(path), PurePath(os.path.realpath(path))):
            above = list(root.parts[1:])
            if parts[: len(above)] == above:
                return parts[len(above) :]
        raise Unavailable(Fault.NOT_FOUND)

    def _from_root(self) -> None:
        self.leave()
        self._names, self._ids = [], []


def _open_root(shared: SharedPath) -> Opened:
    is_folder = stat.S_ISDIR(_root_status(shared).st_mode)
    fd = os.open(shared.path, _root_flags(shared))
    return _checked(shared, fd, is_folder, lambda: shared.rules.scope(fd))


def _root_flags(shared: SharedPath) -> int:
    return _ROOT if shared.may_be_link else _BENEATH


def _root_status(shared: SharedPath) -> os.stat_result:
    status = os.stat(shared.path, follow_symlinks=shared.may_be_link)
    _check_kind(status)
    return status


def _checked(shared: SharedPath, fd: int, is_folder: bool, scope: Callable[[], Scope]) -> Opened:
    """Return a file or folder that was just opened; close it if it has changed or is private.

    `scope` reads the rules that hold in a folder.
    """
    try:
        status = os.fstat(fd)
        _check_kind(status)
        _check_public(shared, status)
        if is_folder != stat.S_ISDIR(status.st_mode) or (is_folder and holds_keys(".", fd)):
            raise Unavailable(Fault.NOT_FOUND)
        return Opened(fd, status, scope=scope()) if is_folder else Opened(fd, status)
    except BaseException:
        os.close(fd)
        raise


def _check_kind(status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        return
    if not stat.S_ISREG(status.st_mode) or status.st_size > FILE_SIZE_MAX:
        raise Unavailable(Fault.NOT_FOUND)


def _fault_of(error: OSError) -> Fault:
    return _FAULTS.get(error.errno or 0, Fault.UNREADABLE)


def _check_public(shared: SharedPath, status: os.stat_result) -> None:
    if is_private(shared, status):
        raise Unavailable(Fault.NOT_FOUND)
