"""The options `--share` and `--allow`: what a user shares, and with whom."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from p2pshare.errors import WrongUsage
from p2pshare.names import ON_NETWORK, read_viewer
from p2pshare.storage.identity.data_folder import is_among_keys
from p2pshare.storage.os_errors import plain_reason
from p2pshare.storage.shares.rules import Rules, RulesError
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.offers.messages import MOUNT
from p2pshare.wire.paths import component_fault

SHARES_MAX = 1000
TEXT_SUFFIXES = (".txt",)
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
SHARED_STEM = "my_file"
"""The stem of the files that are shared by default: a text and a picture, as in the classic protocol."""
NO_RULES = Rules()
EVERYONE = "everyone whose key owns a name in this registry"
"""Viewers of a share without `--allow`."""
EVERYONE_ACCEPTED = "everyone whose key you have accepted"
"""The same without a registry."""
EVERYONE_HERE = "everyone on this network"
"""Viewers by `--allow @lan`."""


@dataclass(frozen=True, slots=True)
class Viewer:
    """The other side of a session: what it may see depends on its name or its key."""

    name: str
    """A name that its key has proven, or one that it only calls itself, with `ON_NETWORK` behind it."""
    key: PublicKey

    @property
    def is_proven(self) -> bool:
        """Whether its key owns its name."""
        return not self.name.endswith(ON_NETWORK)


@dataclass(frozen=True, slots=True)
class SharedPath:
    """A file or folder that is shared under a name."""

    name: str
    path: Path
    """Absolute."""
    allow: frozenset[str] | None = None
    """Names that may see it; None for `EVERYONE`."""
    private: tuple[Path, ...] = ()
    """Folders that are never shared, wherever they lie."""
    rules: Rules = field(default_factory=Rules)
    """What is left out of it."""
    keys: frozenset[PublicKey] | None = None
    """Keys that alone may see it, of those who may; None for all."""
    may_be_link: bool = True
    """Whether `path` itself is followed if it is a link."""

    def is_for(self, viewer: Viewer) -> bool:
        """Whether a viewer may see it."""
        if self.keys is not None and viewer.key not in self.keys:
            return False
        is_open = self.allow is not None and ON_NETWORK in self.allow
        if not viewer.is_proven:
            return is_open
        return self.allow is None or is_open or viewer.name in self.allow


def share_name_fault(name: str) -> str | None:
    """Return the fault of the name of a share; None if it has none."""
    if name.startswith(MOUNT):
        return f"begins with {MOUNT!r}, as offers do"
    return "is hidden" if name.startswith(".") else component_fault(name)


def check_share_name(name: str, path: Path) -> None:
    """Check the name under which a path is to be shared.

    Raises:
        WrongUsage: it is not valid.
    """
    if (fault := share_name_fault(name)) is not None:
        fault = "there is none" if not name else f"{name!r} {fault}"
        raise WrongUsage(reason=f"{str(path)!r} needs another name to be shared under: {fault}.")


def allowed_text(allow: Iterable[str] | None, *, is_lan: bool) -> str:
    """Return who may see a share, in words."""
    if allow is None:
        return EVERYONE_ACCEPTED if is_lan else EVERYONE
    if ON_NETWORK in allow:
        return EVERYONE_HERE
    return ", ".join(sorted(allow)) or "nobody"


def shared_paths(
    share: Sequence[str],
    allow: Sequence[str],
    cwd: Path,
    private: Sequence[Path] = (),
    rules: Rules = NO_RULES,
) -> tuple[SharedPath, ...]:
    """Read the options `--share` and `--allow`.

    Args:
        share: "[NAME=]PATH" each; a path that looks like that is written "./A=B". Empty: the `my_file.*` that are in
            `cwd` now.
        allow: "NAME,NAME" is the default, "SHARE=NAME,NAME" for one share; repeated options add up.
        cwd: the folder that relative paths start from; absolute.
        private: folders that are never shared, since keys are there.
        rules: what is left out of all of them.

    Raises:
        WrongUsage: an option is not valid; `IllegalName` among them.
    """
    found = [_read(text, cwd) for text in share] if share else _snapshot(cwd)
    if len(found) > SHARES_MAX:
        raise WrongUsage(reason=f"At most {SHARES_MAX} files and folders can be shared.")
    found = [replace(shared, rules=rules) for shared in found]
    for shared in found:
        check_shareable(shared, private)
    _check_names(found)
    default, of_share = _read_allow(allow, {shared.name for shared in found})
    return tuple(
        replace(shared, allow=of_share.get(shared.name, default), private=tuple(private))
        for shared in found
    )


def _read(text: str, cwd: Path) -> SharedPath:
    name, equals, path = text.partition("=")
    if not equals or share_name_fault(name) is not None:
        name, path = "", text
    if not path or "\0" in path:
        raise WrongUsage(reason=f"{text!r} is not a path that can be shared.")
    # A shell does not expand the ~ in NAME=~/PATH.
    expanded = os.path.expanduser(path) if path.startswith("~") else path
    absolute = cwd / expanded
    if name:
        if not os.path.lexists(absolute) and os.path.lexists(cwd / text):
            reason = f"There is nothing to share at {str(absolute)!r}: write the path {text!r} as {f'./{text}'!r}."
            raise WrongUsage(reason=reason)
        return SharedPath(name, absolute)
    name = os.path.basename(os.path.abspath(absolute))
    fault = share_name_fault(name)
    if fault is not None:
        fault = "there is none" if not name else f"{name!r} {fault}"
        raise WrongUsage(reason=f"{text!r} needs a name to be shared under ({fault}): NAME={path}")
    return SharedPath(name, absolute)


def _snapshot(cwd: Path) -> list[SharedPath]:
    """Return the default shares. Nobody named them, so only plain files are shared, and only while they are plain."""
    paths = (cwd / f"{SHARED_STEM}{suffix}" for suffix in TEXT_SUFFIXES + PICTURE_SUFFIXES)
    return [
        SharedPath(path.name, path, may_be_link=False)
        for path in paths
        if path.is_file() and not path.is_symlink()
    ]


def check_shareable(shared: SharedPath, private: Sequence[Path], *, to_send: bool = False) -> None:
    """Check that a path can be shared, or sent, now. Without `private`, even what lies among keys can.

    Raises:
        WrongUsage: it does not exist, is neither a file nor a folder, may not be read, or lies in a private folder, or
            in the data folder of another peer.
    """
    said, share, done = str(shared.path), *(("send", "sent") if to_send else ("share", "shared"))
    try:
        status = os.stat(shared.path)
        kind = stat.S_IFMT(status.st_mode)
        if kind not in (stat.S_IFREG, stat.S_IFDIR):
            raise OSError("it is neither a file nor a folder")
        if not os.access(shared.path, os.R_OK | (os.X_OK if kind == stat.S_IFDIR else 0)):
            raise OSError("you do not have the permission")
        if kind == stat.S_IFDIR:
            _check_rules(shared)
        real = Path(os.path.realpath(shared.path))
        is_private = any(real.is_relative_to(os.path.realpath(each)) for each in private)
        is_private = is_private or (bool(private) and is_among_keys(real))
    except FileNotFoundError:
        raise WrongUsage(reason=f"There is nothing to {share} at {said!r}.") from None
    except OSError as error:
        raise WrongUsage(reason=f"{said!r} cannot be {done}: {plain_reason(error)}.") from error
    if is_private:
        what = "keys of p2pshare" if to_send else "keys of p2pshare, or what others sent you"
        raise WrongUsage(reason=f"{said!r} cannot be {done}: it contains {what}.")


def _check_rules(shared: SharedPath) -> None:
    """Check the patterns in the root of a share, without which nothing of it is shared.

    Raises:
        OSError: they cannot be read, or are not valid.
    """
    folder = os.open(shared.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        shared.rules.scope(folder)
    except RulesError as error:
        raise OSError(error.strerror) from error
    finally:
        os.close(folder)


def _check_names(found: Iterable[SharedPath]) -> None:
    taken: dict[str, Path] = {}
    for shared in found:
        if (first := taken.setdefault(shared.name, shared.path)) is not shared.path:
            raise WrongUsage(
                reason=f"Both {str(first)!r} and {str(shared.path)!r} would be shared as {shared.name!r}. "
                f"Give one of them another name: NAME={shared.path}"
            )


def _read_allow(
    allow: Sequence[str], shares: set[str]
) -> tuple[frozenset[str] | None, dict[str, frozenset[str]]]:
    """Return the default, and the exceptions for single shares."""
    default: frozenset[str] | None = None
    of_share: dict[str, frozenset[str]] = {}
    for text in allow:
        share, equals, names = text.rpartition("=")
        allowed = frozenset(read_viewer(name) for name in names.split(","))
        if not equals:
            default = allowed | (default or frozenset())
        elif share in shares:
            of_share[share] = allowed | of_share.get(share, frozenset())
        else:
            known = ", ".join(map(repr, sorted(shares))) or "nothing"
            raise WrongUsage(
                reason=f"--allow names the share {share!r}, which does not exist. Shares are {known}."
            )
    return default, of_share
