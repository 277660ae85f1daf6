"""The verbs `key export` and `key import`. They need no network."""

from __future__ import annotations

import os
import shlex
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

from colorama import Fore

from p2pshare.errors import CannotRead, CannotSave, NotFound, Refused, SealedKeyUnusable, WrongUsage
from p2pshare.storage.identity import key_export, key_file
from p2pshare.storage.identity.data_folder import DataFolder, PeerPlace, peer_folder
from p2pshare.storage.identity.identity import KEY_NAME, Identity, Portable
from p2pshare.storage.identity.key_export import read_header, seal, unseal
from p2pshare.storage.os_errors import plain_reason
from p2pshare.storage.settings import Settings
from p2pshare.storage.text_files import plain_ascii
from p2pshare.ui.output import Output
from p2pshare.ui.terminal.passphrase import known_passphrase, new_passphrase
from p2pshare.wire.keys import PublicKey, SigningKey

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def export(settings: Settings, output: Output, file: str, passphrase_file: str | None) -> int:
    """Write a copy of the key, sealed with a passphrase; return the exit code.

    The peer may be running. The copy is opened once before it is written. This blocks for about a second, besides the
    questions to the user.

    Raises:
        P2pshareError: there is no key or no passphrase, or the file cannot be written or opened again; no file is left.
    """
    name = name_of(settings)
    place = PeerPlace.of(settings, name)
    folder = place.path
    key = key_file.load(folder / KEY_NAME)
    if key is None:
        raise no_key(name, folder)
    identity = Identity(folder, settings.registry, name, key)
    if place.key is not None:
        identity.meet(PublicKey.parse(place.key))
    if identity.next_key is not None:
        raise Refused(
            reason="A rotation of the key is unfinished: run `p2pshare key rotate` again to finish it, then export."
        )
    path = Path(file).expanduser()
    if path.is_dir():
        path /= f"{name}.key"
    if os.path.lexists(path):
        raise _exists(path)
    _expect_writable(path)
    _write_new(path, _sealed(identity.portable(), new_passphrase(passphrase_file)))
    output.event(
        "exported", name=name, registry=settings.registry, key=str(key.public), path=path.absolute()
    )
    output.line(f"{path} holds the key of {name} now, sealed with your passphrase.", Fore.GREEN)
    output.line("Keep both off this machine. To restore the key, run:")
    output.line(f"  p2pshare key import {shlex.quote(str(path))}")
    return 0


def import_key(
    settings: Settings,
    output: Output,
    file: str,
    passphrase_file: str | None,
    *,
    name: str | None,
    registry: str | None,
) -> int:
    """Put an exported key into a data folder that has none; return the exit code.

    Args:
        settings: the settings, which may name the data folder and the registry.
        output: where to report the result.
        file: a file that `export` wrote.
        passphrase_file: as for `known_passphrase`.
        name: whether the name of the settings replaces that in the file: the flag, or None.
        registry: whether the registry of the settings replaces that in the file: the flag, or None.

    Raises:
        P2pshareError: the file cannot be opened, or the folder has a key or a running peer.
    """
    path = Path(file).expanduser()
    sealed = _read(path)
    own_name, url = read_header(sealed)
    own_name = (name and settings.name) or own_name
    url = settings.registry if registry else url
    folder = peer_folder(replace(settings, registry=url), own_name)
    if folder.is_dir():
        DataFolder.open(folder, own_name).close()  # before a passphrase is asked for
    portable = unseal(sealed, known_passphrase(passphrase_file))
    receipt = portable.receipt if own_name == portable.name else None
    portable = replace(portable, name=own_name, registry=url, receipt=receipt)
    with closing(DataFolder.open(folder, portable.name)) as data:
        Identity.restore(data, portable)
    public = SigningKey(portable.seed).public
    output.event(
        "imported", name=portable.name, registry=portable.registry, key=str(public), path=folder
    )
    output.line(f"The key of {portable.name} is in {folder} now.", Fore.GREEN)
    output.line(f"  {public.grouped}")
    output.line("Stop the peer wherever else it runs, and start it here:")
    elsewhere = ""
    if settings.data is not None:
        elsewhere = f" --data {shlex.quote(str(settings.data))}"
    output.line(f"  p2pshare --name {portable.name} --registry {portable.registry}{elsewhere}")
    return 0


def name_of(settings: Settings) -> str:
    """Return the user's name.

    Raises:
        WrongUsage: the settings have none.
    """
    if settings.name is None:
        raise WrongUsage(reason="This needs your name: pass --name NAME, or set P2PSHARE_NAME.")
    return settings.name


def no_key(name: str, folder: Path) -> NotFound:
    """Return the error that there is no key yet."""
    return NotFound(
        reason=f"There is no key of {name!r} in {folder}. The first start of its peer creates one: "
        f"`p2pshare --name {name}`."
    )


def _sealed(portable: Portable, passphrase: str) -> bytes:
    """Return the sealed key, after a check that the passphrase opens it."""
    sealed = seal(portable, passphrase)
    try:
        opened = unseal(sealed, passphrase)
    except SealedKeyUnusable:
        opened = None
    if opened != portable:
        raise Refused(
            reason="The sealed copy could not be opened again, so none was written. Please report this defect, and back"
            " up the data folder instead."
        )
    return sealed


def _expect_writable(path: Path) -> None:
    """Check that a new file can be created, before the user types a passphrase."""
    folder = path.parent
    if not folder.is_dir():
        raise CannotSave(path=path, reason=f"the folder {folder} does not exist")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise CannotSave(path=path, reason=f"you may not write to the folder {folder}")


def _read(path: Path) -> bytes:
    try:
        with open(path, "rb", opener=lambda p, flags: os.open(p, flags | os.O_NONBLOCK)) as file:
            return plain_ascii(file.read(key_export.SIZE_MAX + 1) or b"")
    except OSError as error:
        raise CannotRead(path=path, reason=plain_reason(error)) from error


def _write_new(path: Path, content: bytes) -> None:
    """Write a new file in place, as the file system of a USB stick may have no links; remove it after an error."""
    try:
        fd = os.open(path, _NEW_FILE, 0o600)
    except FileExistsError as error:
        raise _exists(path) from error
    except OSError as error:
        raise CannotSave(path=path, reason=plain_reason(error)) from error
    try:
        with open(fd, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(fd)
    except BaseException as error:
        with suppress(OSError):
            path.unlink()
        if isinstance(error, OSError):
            raise CannotSave(path=path, reason=plain_reason(error)) from error
        raise


def _exists(path: Path) -> CannotSave:
    return CannotSave(path=path, reason="it exists already, and is not overwritten")
