"""The identity of a peer: its key, the number of its last statement, and receipts of registries.

All of it is in the peer's data folder::

    key         the secret key
    key.next    the following key, while a rotation is under way
    key.old     the key before, which signs a rotation again for a registry that was restored from an old copy
    identity    the greatest number so far, and the receipts, as JSON

**A kill at any moment loses nothing.** Each step of a rotation leaves a state from which the next start continues.
`key.next` is durable before it is sent to anybody. It replaces `key` by a rename after the registry has agreed. While
both exist, `key` counts until a registry says that the name belongs to `key.next`.

**Numbers only grow.** A registry rejects a statement whose number is not greater than the last one. A number is
therefore durable before the statement is sent: after a crash a number may be skipped, but never used twice. Numbers
start from the clock, so a data folder that was restored from a copy still signs greater ones. The clock of a registry
never sets them, as a false time would stay for ever.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from p2pshare.errors import IdentityUnusable, KeyUnusable, RemoteProtocolError
from p2pshare.storage.identity import key_file
from p2pshare.storage.identity.data_folder import DataFolder
from p2pshare.storage.identity.private_file import (
    PEER_KEYS,
    read_private,
    rename_private,
    replace_private,
)
from p2pshare.storage.os_errors import plain_reason
from p2pshare.wire.keys import PublicKey, SigningKey
from p2pshare.wire.statements import STATEMENT_MAX, Receipt
from p2pshare.wire.strict_json import INTEGER_MAX, integer, parse_object

KEY_NAME, NEXT_NAME, OLD_NAME = PEER_KEYS
STATE_NAME = "identity"
RECEIPTS_MAX = 64  # names and registries; a folder is meant for one
STATE_MAX = 2 * RECEIPTS_MAX * STATEMENT_MAX  # bytes
SEQ_MAX = INTEGER_MAX // 2  # the greatest number; the Unix time in ms is far below


@dataclass(frozen=True, slots=True)
class Portable:
    """An identity as it is exported and imported."""

    name: str
    registry: str
    """The URL."""
    seed: bytes = field(repr=False)
    """The seed of the key."""
    seq: int
    """The greatest number so far."""
    receipt: str | None


class Identity:
    """The identity of one peer in one registry. Receipts are kept by the key of the registry that signed them.

    A method that writes returns when the change is durable, and raises `IdentityUnusable` or `KeyUnusable` otherwise.
    """

    def __init__(self, path: Path, registry_url: str, name: str, key: SigningKey) -> None:
        self.registry = registry_url
        self.name = name
        self.key = key
        """The key that signs."""
        self._path = path
        self._slot = f"{registry_url}/{name}"
        self._next = key_file.load(path / NEXT_NAME)
        self._seq, self._receipts = _read_state(path / STATE_NAME)

    @classmethod
    def open(
        cls,
        folder: DataFolder,
        registry_url: str,
        name: str,
    ) -> Self:
        """Return the identity in a folder; its key is made if there is none.

        Raises:
            KeyUnusable: as for `key_file.load_or_make`.
            IdentityUnusable: the file with the numbers and receipts cannot be used.
        """
        key = key_file.load_or_make(folder.path / KEY_NAME)
        return cls(folder.path, registry_url, name, key)

    @classmethod
    def restore(cls, folder: DataFolder, portable: Portable) -> Self:
        """Put an exported identity into a folder; a second call changes nothing.

        Raises:
            KeyUnusable: another key exists, which is kept, or the key cannot be written.
            IdentityUnusable: the numbers and receipts cannot be read or written.
        """
        path = folder.path / KEY_NAME
        imported = SigningKey(portable.seed)
        there = key_file.load(path)
        if there is not None and there.public != imported.public:
            reason = "another key is there. Move it away, or choose another folder with --data"
            raise KeyUnusable(path=path, reason=reason)
        restored = cls(folder.path, portable.registry, portable.name, imported)
        restored._seq = max(restored._seq, portable.seq)
        if portable.receipt is not None and restored.receipt is None:
            restored.keep_receipt(portable.receipt)
        else:
            restored._write_state()
        if there is None:
            try:
                key_file.make(path, imported)
            except FileExistsError as error:
                raise KeyUnusable(path=path, reason="another process has just made one") from error
        return restored

    @property
    def next_key(self) -> SigningKey | None:
        """Return the following key, if a rotation was begun and is not known to be finished."""
        return self._next

    @property
    def old_key(self) -> SigningKey | None:
        """Return the key before this one, if there was a rotation.

        Raises:
            KeyUnusable: its file is damaged.
        """
        return key_file.load(self._path / OLD_NAME)

    @property
    def seq(self) -> int:
        """Return the greatest number so far; 0 if nothing was signed."""
        return self._seq

    @property
    def receipt(self) -> str | None:
        """Return the latest receipt of this registry for this name."""
        return self._receipts.get(self._slot)

    def meet(self, registry: PublicKey) -> None:
        """Use the receipt of the registry with this key, which it has proven."""
        slot = f"{registry}/{self.name}"
        if slot == self._slot:
            return
        self._slot = slot
        claims = claims_of(self._receipts, registry, self.name)
        if claims and slot not in claims:
            self._receipts[slot] = self._receipts[max(claims, key=claims.__getitem__)]
            for each in claims:  # slots of earlier versions, with URLs
                del self._receipts[each]

    def next_seq(self, now_ms: int) -> int:
        """Return the number of the next statement, greater than all before.

        Args:
            now_ms: the Unix time in ms by this machine's clock, never by a registry's.

        Raises:
            IdentityUnusable: it would be greater than `SEQ_MAX`; the file is not changed.
        """
        self._raise_to(max(self._seq + 1, now_ms))
        return self._seq

    def raise_seq(self, seen: int) -> None:
        """Make the following numbers greater than one that a registry has seen.

        Raises:
            IdentityUnusable: as for `next_seq`.
        """
        if self._seq < seen:
            self._raise_to(seen)

    def keep_receipt(self, text: str) -> None:
        """Keep a receipt of this registry in place of the one before."""
        if text == self.receipt:
            return
        self._receipts.pop(self._slot, None)
        while len(self._receipts) >= RECEIPTS_MAX:
            del self._receipts[next(iter(self._receipts))]
        self._receipts[self._slot] = text
        self._write_state()

    def forget_receipt(self) -> None:
        """Remove the receipt: the name was given up."""
        if self._receipts.pop(self._slot, None) is not None:
            self._write_state()

    def begin_rotation(self) -> SigningKey:
        """Return the following key, which is made unless a rotation was begun before."""
        if self._next is None:
            self._next = key_file.load_or_make(self._path / NEXT_NAME)
        return self._next

    def finish_rotation(self) -> None:
        """Sign with the following key from now on; the key until now becomes the old one."""
        assert self._next is not None, "no rotation was begun"
        key, link = self._path / KEY_NAME, self._path / f".{OLD_NAME}.new"
        try:
            with suppress(FileNotFoundError):
                link.unlink()
            os.link(key, link, follow_symlinks=False)
            rename_private(link, self._path / OLD_NAME)
            rename_private(self._path / NEXT_NAME, key)
        except OSError as error:
            raise KeyUnusable(path=key, reason=plain_reason(error)) from error
        self.key, self._next = self._next, None

    def portable(self) -> Portable:
        """What to export."""
        return Portable(self.name, self.registry, self.key.seed, self._seq, self.receipt)

    def _raise_to(self, seq: int) -> None:
        if seq > SEQ_MAX:
            reason = f"the number {seq} is too great for later ones to follow; check the clock of this machine"
            raise IdentityUnusable(path=self._path / STATE_NAME, reason=reason)
        self._seq = seq
        self._write_state()

    def _write_state(self) -> None:
        path = self._path / STATE_NAME
        content = json.dumps({"seq": self._seq, "receipts": self._receipts}, indent=1)
        try:
            replace_private(path, content.encode())
        except OSError as error:
            raise IdentityUnusable(path=path, reason=plain_reason(error)) from error


def claims_of(receipts: Mapping[str, str], registry: PublicKey, name: str) -> dict[str, int]:
    """Return the claims of a name that a registry with this key has signed, by the slots of their receipts."""
    claims = {}
    for slot, text in receipts.items():
        with suppress(RemoteProtocolError):
            receipt = Receipt.read(text, registry)
            if receipt.name == name:
                claims[slot] = receipt.claim
    return claims


def read_receipts(folder: Path) -> dict[str, str]:
    """Return the receipts in a data folder, by their slots.

    Raises:
        IdentityUnusable: the file with them is damaged, open to others, or cannot be read.
    """
    return _read_state(folder / STATE_NAME)[1]


def _read_state(path: Path) -> tuple[int, dict[str, str]]:
    try:
        fields = parse_object(read_private(path, STATE_MAX))
        receipts = fields.get("receipts")
        if not isinstance(receipts, dict) or not all(isinstance(v, str) for v in receipts.values()):
            raise RemoteProtocolError(reason="the receipts are not valid")
        return integer(fields, "seq", 0, SEQ_MAX), receipts
    except FileNotFoundError:
        return 0, {}
    except OSError as error:
        raise IdentityUnusable(path=path, reason=plain_reason(error)) from error
    except RemoteProtocolError as error:
        reason = "it is damaged. Restore it from a copy, or delete it: the key is not in it"
        raise IdentityUnusable(path=path, reason=reason) from error
