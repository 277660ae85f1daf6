"""New offers: reads a request to send, counts what it is about, and finds out for whom."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, FirstError, TimeoutError, gatherResults

from p2pshare.errors import (
    ControlRefused,
    NoSuchPeer,
    OfferFilesGone,
    SendingToOneself,
    Unreachable,
    WrongUsage,
)
from p2pshare.names import NAME_MAX, read_name
from p2pshare.net.threads import run_in_thread
from p2pshare.peer.control import ID_TEXT_MAX, Fields
from p2pshare.peer.offers.drafts import Drafts
from p2pshare.peer.offers.parts import OfferParts
from p2pshare.peer.share.service import left_out_of
from p2pshare.storage.identity.data_folder import private_folders
from p2pshare.storage.offers.outgoing import OutgoingOffer, Recipient
from p2pshare.storage.offers.spool import Spool
from p2pshare.storage.shares.arguments import SHARES_MAX, SharedPath
from p2pshare.storage.shares.offer_roots import OfferSurvey, offer_roots
from p2pshare.storage.shares.rules import Rules
from p2pshare.storage.shares.tree import ShareTree, Unavailable
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.offers.messages import EXPIRY_MAX, ID_FORM, NOTE_MAX, SNIPPET_MAX
from p2pshare.wire.paths import COMPONENT_MAX, PATH_MAX
from p2pshare.wire.strict_json import boolean, integer, text, texts

EXPIRES_S = 7 * 86400  # seconds until an offer ends, if nothing else is said
RECIPIENTS_MAX = 100  # people to whom one offer is made
PATTERNS_MAX = 1000  # patterns of what is left out
PATTERN_MAX = 1024  # characters of a pattern
LOOK_UP = 10.0  # seconds for the look-up of a person; without an answer it is done later
TEXT_NAME = "text.txt"
"""The name of a text that is sent without a file."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request to send, read and checked."""

    paths: tuple[Path, ...]
    text: bytes | None
    spooled: str
    draft: str
    """The ID of the draft that is sent with the paths; empty for none."""
    again: str
    """The ID, or its beginning, of the offer whose files are sent again; empty for none."""
    as_name: str | None
    to: tuple[str, ...]
    note: str
    expires_s: int
    rules: Rules
    exclude: tuple[str, ...]
    is_check: bool
    id: str
    """The ID that the offer is to have; empty to draw one."""
    repeated: OutgoingOffer | None = None
    """The offer that is sent again."""

    @property
    def is_text(self) -> bool:
        """Whether it is a snippet."""
        return self.text is not None or (self.repeated is not None and self.repeated.is_text)

    @property
    def spool(self) -> str:
        """Its copies in the spool; a text that is not written yet is missing."""
        repeated = "" if self.repeated is None else self.repeated.spool
        return self.spooled or self.draft or repeated

    @classmethod
    def read(cls, request: Fields) -> Wanted:
        """Read the fields of the action `send`.

        Raises:
            RemoteProtocolError: a field is missing or invalid.
            WrongUsage: they do not fit together.
        """
        fields = {key: value for key, value in request.items() if value is not None}
        content = None
        if "text" in fields:
            content = text(fields, "text", SNIPPET_MAX).encode()
            if not 0 < len(content) <= SNIPPET_MAX:
                raise WrongUsage(
                    reason=f"A text has 1 to {SNIPPET_MAX} bytes. Send a file instead."
                )
        paths = texts({"paths": [], **fields}, "paths", SHARES_MAX, PATH_MAX)
        spooled = text({"spooled": "", **fields}, "spooled", 64)
        draft = text({"draft": "", **fields}, "draft", ID_FORM[1])
        again = text({"again": "", **fields}, "again", ID_TEXT_MAX)
        sources = (paths or draft, spooled, again, content is not None)
        if sum(map(bool, sources)) != 1:
            raise WrongUsage(
                reason="Name what to send: files and folders, or a text, or standard input."
            )
        if not all(map(os.path.isabs, paths)):
            raise WrongUsage(reason="The paths of what is sent have to be absolute.")
        exclude = texts({"exclude": [], **fields}, "exclude", PATTERNS_MAX, PATTERN_MAX)
        return cls(
            tuple(map(Path, paths)),
            content,
            spooled,
            draft,
            again,
            text(fields, "as_name", COMPONENT_MAX) if "as_name" in fields else None,
            _names(fields),
            text({"note": "", **fields}, "note", NOTE_MAX),
            integer({"expires_s": EXPIRES_S, **fields}, "expires_s", 1, EXPIRY_MAX),
            Rules.of(exclude, hidden=boolean({"hidden": False, **fields}, "hidden")),
            exclude,
            boolean({"check": False, **fields}, "check"),
            _id(fields),
        )

    def repeating(self, offer: OutgoingOffer, now: int) -> Wanted:
        """Return the request with the files and the rules of an offer, at a Unix time.

        Raises:
            OfferFilesGone: its files are not there any more.
        """
        if not offer.can_repeat(now):
            raise OfferFilesGone(id=offer.id, what="the copy that was made for it")
        copies = offer.copies
        names = [name for name, _ in offer.roots]
        return replace(
            self,
            paths=tuple(path for _, path in offer.roots if path not in copies),
            repeated=offer,
            as_name=names[0] if len(names) == 1 else None,
            rules=Rules(offer.exclude, offer.hidden),
            exclude=offer.exclude,
        )


def _id(fields: dict[str, Any]) -> str:
    if "id" not in fields:
        return ""
    pattern, longest, form = ID_FORM
    drawn = text(fields, "id", longest)
    if not pattern.fullmatch(drawn):
        raise WrongUsage(reason=f"The ID of an offer is {form}.")
    return drawn


def _names(fields: dict[str, Any]) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(map(read_name, texts(fields, "to", RECIPIENTS_MAX, NAME_MAX))))
    if not names:
        raise WrongUsage(reason="Name at least one person to send to.")
    return names


class Sending:
    """Makes offers of requests."""

    def __init__(self, parts: OfferParts, spool: Spool, drafts: Drafts) -> None:
        """Use the parts of a peer, the spool in its data folder, and the drafts in that."""
        self._parts = parts
        self._spool = spool
        self._drafts = drafts

    async def offer_of(self, wanted: Wanted, tree: ShareTree) -> OutgoingOffer:
        """Return a new offer. Nothing of it is kept, except a text that was written into the spool.

        A draft takes no more files then. The caller ends that with `Drafts.sent` or `Drafts.reopen`.

        Raises:
            P2pshareError: it cannot be sent, or not to these people.
        """
        parts = self._parts
        if parts.name in wanted.to:
            raise SendingToOneself(name=parts.name)
        spool_id = wanted.spool
        if wanted.text is not None:
            name = TEXT_NAME if wanted.as_name is None else wanted.as_name
            spool_id = await run_in_thread(parts.reactor, self._spool.add, name, wanted.text)
        try:
            survey, roots = await self._surveyed(wanted, spool_id, tree)
            none: list[PublicKey | None] = [None] * len(wanted.to)
            keys = none if wanted.is_check else await self._keys_of(wanted.to)
        except BaseException:
            if wanted.text is not None:
                await self.discard(spool_id)
            self._drafts.reopen(wanted.draft)
            raise
        now = parts.now()
        offer = OutgoingOffer(
            wanted.id or parts.draw_id(),
            now,
            now + wanted.expires_s,
            wanted.note,
            wanted.is_text,
            tuple((each.name, each.path) for each in roots),
            wanted.exclude,
            wanted.rules.hidden,
            survey.items,
            survey.more_items,
            survey.files,
            survey.folders,
            survey.bytes,
            tuple(
                Recipient(name, key, updated=now) for name, key in zip(wanted.to, keys, strict=True)
            ),
            spool_id,
            left_out_of(survey.left_out),
        )
        if wanted.is_check and wanted.text is not None:
            await self.discard(spool_id)
        return offer

    async def discard(self, spool_id: str) -> None:
        """Remove a file from the spool."""
        await run_in_thread(self._parts.reactor, self._spool.remove, spool_id)

    async def _surveyed(
        self, wanted: Wanted, spool_id: str, tree: ShareTree
    ) -> tuple[OfferSurvey, Sequence[SharedPath]]:
        """Count what is sent, in a thread."""
        settings, name = self._parts.settings, self._parts.name
        has_ended = False
        drafted = await self._drafted(wanted)

        def count() -> tuple[OfferSurvey, Sequence[SharedPath]]:
            private: Sequence[Path] = private_folders(settings, name)
            paths, as_name = wanted.paths, wanted.as_name
            spooled = drafted
            if wanted.repeated is not None:
                spooled = wanted.repeated.copies
                for each in (*paths, *spooled):
                    if not os.path.lexists(each):
                        raise OfferFilesGone(id=wanted.repeated.id, what=repr(str(each)))
            elif spool_id and not wanted.draft:
                found = self._spool.find(spool_id)
                spooled = (found,)
                as_name = found.name if as_name is None else as_name
            roots = offer_roots((*paths, *spooled), private, as_name, wanted.rules, spooled)
            return tree.survey_offer(roots, lambda: has_ended), roots

        try:
            survey, roots = await run_in_thread(self._parts.reactor, count)
        except Unavailable as error:
            raise ControlRefused(reason="too many files are open now") from error
        finally:
            has_ended = True
        if not survey.items:
            raise WrongUsage(reason="There is nothing that can be sent: all of it is left out.")
        return survey, roots

    async def _drafted(self, wanted: Wanted) -> tuple[Path, ...]:
        """Return what is at the top of the draft; to be sent, it has to be complete."""
        if not wanted.draft:
            return ()
        if wanted.is_check:
            draft = self._drafts.find(wanted.draft)
            return await run_in_thread(self._parts.reactor, draft.paths)
        return await self._drafts.close(wanted.draft)

    async def _keys_of(self, names: Sequence[str]) -> list[PublicKey | None]:
        looking_up = [Deferred.fromCoroutine(self._key_of(name)) for name in names]
        try:
            return await gatherResults(looking_up, consumeErrors=True)
        except FirstError as error:
            error.subFailure.raiseException()

    async def _key_of(self, name: str) -> PublicKey | None:
        """Return the key of a person, which is pinned from now on; None if it has to be found out later.

        Raises:
            NoSuchPeer: nobody has this name, and nobody with this name was met before.
            KeyChanged, KeyGone: the person has another key than before.
            P2pshareError: the person cannot get offers.
        """
        parts = self._parts
        finding = Deferred.fromCoroutine(parts.finder.find(name))
        try:
            found = await finding.addTimeout(LOOK_UP, parts.reactor)
        except NoSuchPeer:
            if not parts.is_lan:
                raise
            known = await run_in_thread(parts.reactor, parts.known.key, name)
            if known is None:
                raise
            return known
        except (Unreachable, TimeoutError):
            return await run_in_thread(parts.reactor, parts.known.key, name)
        try:
            return found.expect_sessions()
        except Unreachable:  # its user runs no peer now
            return found.key
