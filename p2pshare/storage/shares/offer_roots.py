"""The files and folders of an offer: their names, their number and bytes, and what of them is left out.

A person names paths from anywhere on this machine. Each becomes a root of the offer, under its own name. Of two with
the same name, the second one is numbered.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from p2pshare.core.offers.incoming import FILES_MAX, FOLDERS_MAX
from p2pshare.errors import WrongUsage
from p2pshare.storage.incoming.publishing import numbered
from p2pshare.storage.shares.arguments import SHARES_MAX, SharedPath, check_shareable
from p2pshare.storage.shares.listing import Listed, Survey
from p2pshare.storage.shares.rules import Rules
from p2pshare.wire.offers.messages import ITEMS_MAX, OfferItem
from p2pshare.wire.paths import component_fault
from p2pshare.wire.transfer_messages import Entry, EntryKind

NO_RULES = Rules()


@dataclass(frozen=True, slots=True)
class OfferSurvey:
    """What an offer contains, and what it leaves out."""

    files: int
    folders: int
    """Number of folders, with the roots among them."""
    bytes: int
    items: tuple[OfferItem, ...]
    """The first `ITEMS_MAX` roots that are there, in the order of their names."""
    more_items: int
    """Number of the other roots."""
    left_out: Survey
    """What is not sent."""


def offer_roots(
    paths: Sequence[Path],
    private: Sequence[Path] = (),
    as_name: str | None = None,
    rules: Rules = NO_RULES,
    spooled: Sequence[Path] = (),
) -> tuple[SharedPath, ...]:
    """Return the roots of an offer.

    Args:
        paths: absolute files and folders.
        private: folders that are never sent, since keys are there.
        as_name: the name of the only path; None for its own.
        rules: what is left out of folders.
        spooled: those of the paths that may be sent although they lie in a private folder.

    Raises:
        WrongUsage: a path cannot be sent, or has no name that can.
    """
    if not paths or len(paths) > SHARES_MAX:
        raise WrongUsage(reason=f"An offer has 1 to {SHARES_MAX} files and folders.")
    if as_name is not None and len(paths) > 1:
        raise WrongUsage(reason="Only a single file or folder can be sent under another name.")
    roots: dict[str, SharedPath] = {}
    unhidden = frozenset(spooled)
    for path in paths:
        own = _name_of(path, as_name)
        names = (numbered(own, number) for number in range(len(paths)))
        name = next(name for name in names if name not in roots)
        hidden = () if path in unhidden else tuple(private)
        roots[name] = SharedPath(name, path, private=hidden, rules=rules)
        check_shareable(roots[name], hidden, to_send=True)
    return tuple(roots.values())


def _name_of(path: Path, as_name: str | None) -> str:
    name = os.path.basename(os.path.abspath(path)) if as_name is None else as_name
    fault = component_fault(name)
    if fault is None:
        return name
    if as_name is not None:
        raise WrongUsage(reason=f"Nothing can be sent under the name {name!r}: it {fault}.")
    fault = "there is none" if not name else f"{name!r} {fault}"
    raise WrongUsage(
        reason=f"{str(path)!r} needs a name to be sent under ({fault}). Give it one with --as-name."
    )


@dataclass(slots=True)
class OfferCount:
    """Counts the results of a walk over the roots of an offer."""

    left_out: Survey = field(default_factory=Survey)
    entries_max: int = FILES_MAX
    folders_max: int = FOLDERS_MAX
    _items: dict[str, OfferItem] = field(default_factory=dict)
    _folders: int = 0

    def add(self, found: Listed) -> None:
        """Count a result of the walk.

        Raises:
            WrongUsage: there are more than `entries_max` files and folders, or more than `folders_max` folders.
        """
        self.left_out.add(found)
        if not isinstance(found, Entry):
            return
        if self.left_out.looked_at > self.entries_max:
            reason = f"At most {self.entries_max} files and folders can be sent at once."
            raise WrongUsage(reason=reason)
        is_file = found.kind is EntryKind.FILE
        self._folders += not is_file
        if self._folders > self.folders_max:
            raise WrongUsage(reason=f"At most {self.folders_max} folders can be sent at once.")
        before = self._items.get(found.path[0])
        self._items[found.path[0]] = OfferItem(
            found.path[0],
            found.kind if before is None else before.kind,
            (0 if before is None else before.size) + found.size,
            (0 if before is None else before.files) + is_file,
        )

    def result(self) -> OfferSurvey:
        """Return what was counted."""
        items = tuple(self._items.values())
        return OfferSurvey(
            sum(each.files for each in items),
            self._folders,
            sum(each.size for each in items),
            items[:ITEMS_MAX],
            max(0, len(items) - ITEMS_MAX),
            self.left_out,
        )
