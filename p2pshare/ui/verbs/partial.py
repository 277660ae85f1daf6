"""`p2pshare get --list-partial` and `--clean`: what unfinished transfers left on this machine. They need no network."""

from __future__ import annotations

from pathlib import Path

from colorama import Fore

from p2pshare.errors import CannotSave, InUse, P2pshareError, WrongUsage
from p2pshare.storage.incoming.leftovers import Leftover, leftovers, remove
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.verbs.job import shown_path
from p2pshare.wire.paths import format_path
from p2pshare.wire.quantities import ago_text, size_text


def list_partial(invocation: Invocation, dest: str | None) -> int:
    """List the partial files below a folder; returns the exit code.

    Raises:
        WrongUsage: there is no such folder.
    """
    output, complaints = invocation.output, _Complaints(invocation)
    count = room = 0
    for each in leftovers(_folder(invocation, dest), complaints.add):
        count += 1
        room += each.on_disk
        output.event("partial", **_facts(each), mtime=each.mtime)
        output.result(_line(invocation, each))
    if not count:
        output.remark("There are no partial files.")
    elif not output.is_quiet:
        output.remark(
            f"{_files(count)}, {size_text(room)} on the disk. `p2pshare get --clean` removes those not in use."
        )
    return complaints.exit_code


def clean(invocation: Invocation, dest: str | None) -> int:
    """Remove the partial files below a folder that no process has; returns the exit code.

    Raises:
        WrongUsage: there is no such folder.
    """
    output, complaints = invocation.output, _Complaints(invocation)
    removed = freed = in_use = 0
    for each in list(leftovers(_folder(invocation, dest), complaints.add)):
        try:
            remove(each)
        except InUse:
            in_use += 1
            output.remark(f"{shown_path(each.path, invocation.cwd)} is being fetched, and stays.")
        except CannotSave as error:
            complaints.add(error)
        else:
            removed += 1
            freed += each.on_disk
            output.event("removed", **_facts(each))
            output.line(f"Removed {_line(invocation, each)}")
    output.event("cleaned", removed=removed, freed=freed, in_use=in_use, failed=complaints.count)
    colour = Fore.YELLOW if complaints.count else Fore.GREEN
    output.line(f"{_files(removed)} removed, {size_text(freed)} freed.", colour)
    return complaints.exit_code


class _Complaints:
    """Says what fails, and counts it."""

    def __init__(self, invocation: Invocation) -> None:
        self._output = invocation.output
        self.count = 0

    @property
    def exit_code(self) -> int:
        return 1 if self.count else 0

    def add(self, error: P2pshareError) -> None:
        self.count += 1
        self._output.error(error)


def _folder(invocation: Invocation, dest: str | None) -> Path:
    folder = invocation.cwd / (dest or "")
    if not folder.is_dir():
        raise WrongUsage(reason=f"There is no folder {dest!r}: name the DEST of an earlier `get`.")
    return folder


def _facts(each: Leftover) -> dict[str, object]:
    origin = each.origin
    return {
        "from": None if origin is None else f"{origin.peer}:{format_path(origin.path)}",
        "path": each.path,
        "size": None if origin is None else origin.size,
        "verified": 0 if origin is None else origin.verified,
        "on_disk": each.on_disk,
        "in_use": each.in_use,
    }


def _line(invocation: Invocation, each: Leftover) -> str:
    path, origin = shown_path(each.path, invocation.cwd), each.origin
    if origin is None:
        said = "nothing verified"
    else:
        said = (
            f"{size_text(origin.verified)} of {size_text(origin.size)}"
            f" of {origin.peer}:{format_path(origin.path)}"
        )
    age = ago_text(invocation.wall() - each.mtime)
    use = ", in use" if each.in_use else ""
    return f"{path}: {said}, {size_text(each.on_disk)} on the disk, {age}{use}"


def _files(count: int) -> str:
    return f"{count} partial file{'' if count == 1 else 's'}"
