"""`p2pshare get --list-partial` and `--clean`: the partial files of unfinished transfers. They need no network."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

from colorama import Fore

from p2pshare.errors import CannotSave, InUse, P2pshareError, WrongUsage
from p2pshare.storage.incoming.leftovers import Leftover, leftovers, remove
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.verbs.job import shown_path
from p2pshare.wire.paths import format_path
from p2pshare.wire.quantities import ago_text, size_text


def list_partial(invocation: Invocation, dest: str | None) -> int:
    """List the partial files in a folder and below it; return the exit code.

    Raises:
        WrongUsage: the folder does not exist.
    """
    output = invocation.output
    errors, on_error = _errors(invocation)
    count = on_disk = 0
    for each in leftovers(_folder(invocation, dest), on_error):
        count += 1
        on_disk += each.on_disk
        output.event("partial", **_facts(each), mtime=each.mtime)
        output.result(_line(invocation, each))
    if not count:
        output.remark("There are no partial files.")
    elif not output.is_quiet:
        clean = shlex.join(["p2pshare", "get", "--clean", *([dest] if dest else [])])
        output.remark(
            f"{_files(count)}, {size_text(on_disk)} on the disk. `{clean}` removes those not in use."
        )
    return 1 if errors else 0


def clean(invocation: Invocation, dest: str | None) -> int:
    """Remove the partial files in a folder and below it that no process uses; return the exit code.

    Raises:
        WrongUsage: the folder does not exist.
    """
    output = invocation.output
    errors, on_error = _errors(invocation)
    removed = freed = in_use = 0
    for each in list(leftovers(_folder(invocation, dest), on_error)):
        try:
            remove(each)
        except InUse:
            in_use += 1
            output.remark(f"{shown_path(each.path, invocation.cwd)} is in use, and stays.")
        except CannotSave as error:
            on_error(error)
        else:
            removed += 1
            freed += each.on_disk
            output.event("removed", **_facts(each))
            output.line(f"Removed {_line(invocation, each)}")
    output.event("cleaned", removed=removed, freed=freed, in_use=in_use, failed=len(errors))
    colour = Fore.YELLOW if errors else Fore.GREEN
    output.line(f"{_files(removed)} removed, {size_text(freed)} freed.", colour)
    return 1 if errors else 0


def _errors(
    invocation: Invocation,
) -> tuple[list[P2pshareError], Callable[[P2pshareError], None]]:
    """Return a list of errors, and a function that shows an error and adds it."""
    errors: list[P2pshareError] = []

    def on_error(error: P2pshareError) -> None:
        errors.append(error)
        invocation.output.error(error)

    return errors, on_error


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
    progress = "nothing verified"
    if origin is not None:
        progress = (
            f"{size_text(origin.verified)} of {size_text(origin.size)}"
            f" of {origin.peer}:{format_path(origin.path)}"
        )
    age = ago_text(invocation.wall() - each.mtime)
    use = ", in use" if each.in_use else ""
    return f"{path}: {progress}, {size_text(each.on_disk)} on the disk, {age}{use}"


def _files(count: int) -> str:
    return f"{count} partial file{'' if count == 1 else 's'}"
