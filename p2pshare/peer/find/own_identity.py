"""The identity in which a user asks other peers: a name, and the key that owns it in the registry.

A sharer looks up the opener's key in the registry to learn its name. Therefore the name must be claimed before the
first session. If the user's own peer runs, the name is its business, and its key is read from the data folder. If no
peer runs, the name is claimed here at first use, and the presence that the claim begins is ended at once.

The data folder has a lock, which a running peer holds. So a claim fails with `AlreadyRunning` exactly if another
process is about to claim the name itself. It is given some seconds to do so.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from p2pshare.errors import (
    AlreadyRunning,
    NameTaken,
    NoSuchPeer,
    NotFound,
    P2pshareError,
    Refused,
    Unreachable,
)
from p2pshare.net.sockets import IPeerReactor
from p2pshare.net.threads import run_in_thread
from p2pshare.peer.find.directory import Directory
from p2pshare.peer.find.lookup import AWAY, FoundPeer, PeerFinder
from p2pshare.peer.ownership import Owner
from p2pshare.storage.identity import key_file
from p2pshare.storage.identity.adoption import move_in
from p2pshare.storage.identity.data_folder import DataFolder, PeerPlace
from p2pshare.storage.identity.identity import KEY_NAME, Identity
from p2pshare.wire.keys import SigningKey
from p2pshare.wire.registry_answers import PeerView
from p2pshare.wire.statements import Record

RENEW_AFTER = 7 * 24 * 3600  # seconds after which a claim is renewed, long before it expires
TRIES_MAX = 10  # tries while another process holds the data folder
PAUSE = 0.5  # seconds between two of them


@dataclass(frozen=True, slots=True)
class OwnIdentity:
    """A name of the user and the key that owns it."""

    name: str
    key: SigningKey
    is_new: bool = False
    """Whether the name was claimed just now."""


class OwnName:
    """The user's name in one registry, which is claimed if need be."""

    _log = Logger()

    def __init__(
        self,
        reactor: IPeerReactor,
        registry: Directory,
        place: PeerPlace,
        wall: Callable[[], float],
        invitation: str | None = None,
    ) -> None:
        """Use the name and the data folder of `place`.

        Args:
            reactor: for threads and pauses.
            registry: the registry that knows the name.
            place: the name and its data folder.
            wall: the Unix time in s.
            invitation: for a new name, in a registry that wants one.
        """
        self._reactor = reactor
        self._registry = registry
        self._place = place
        self._wall = wall
        self._invitation = invitation

    async def identity(self, *, needs_registry: bool = True) -> OwnIdentity:
        """Return the identity. At first use the key is made and the name claimed.

        Normally this takes one request. While the registry is away, an existing key will do: sharers that have pinned
        it admit it.

        Args:
            needs_registry: ask the registry even if there is a key.

        Raises:
            NameTaken: the name belongs to another key.
            Refused: it cannot be claimed for another reason, such as a missing invitation.
            Unreachable: there is no key, and the registry does not answer.
            KeyUnusable, IdentityUnusable, FolderUnusable: the data folder cannot be used.
        """
        me = await self._identity(needs_registry)
        self._log.debug("own identity: name={name} key={key}", name=me.name, key=me.key.public)
        return me

    async def introduce(
        self, finder: PeerFinder, peer: str
    ) -> tuple[OwnIdentity, Deferred[FoundPeer]]:
        """Return the identity, and the look-up of a peer: the registry is asked about both at once.

        Raises:
            ClassicOnly, KeyChanged, KeyGone: the peer is the reason why nothing can come of it.
            P2pshareError: as for `identity`.
        """
        looking_up = Deferred.fromCoroutine(finder.find(peer))
        try:
            needs_registry = finder.at is None and self._registry.keeps_names
            return await self.identity(needs_registry=needs_registry), looking_up
        except P2pshareError:
            with suppress(*AWAY, NotFound):
                (await looking_up).expect_sessions()
            raise
        except BaseException:
            looking_up.addErrback(lambda _: None)
            looking_up.cancel()
            raise

    async def _identity(self, needs_registry: bool) -> OwnIdentity:
        name = self._place.name
        key = await run_in_thread(self._reactor, lambda: key_file.load(self._place.path / KEY_NAME))
        if key is not None and not needs_registry:
            return OwnIdentity(name, key)
        try:
            key, view = await self._look_up()
        except AWAY:
            if key is None:
                raise
            return OwnIdentity(name, key)
        if key is None or view is None or view.key != key.public:
            return await self._claim_patiently()
        record = None if view.record is None else Record.parse(view.record).statement
        if record is not None and self._wall() - record.iat > RENEW_AFTER:
            with suppress(AlreadyRunning, Unreachable):  # the peer renews it, or a later run
                await self._claim(record.caps)
        return OwnIdentity(name, key)

    async def _look_up(self) -> tuple[SigningKey | None, PeerView | None]:
        """Return the key and the registry's answer about the name; None for each that does not exist."""
        key = await run_in_thread(self._reactor, key_file.load, await self._folder() / KEY_NAME)
        if key is None:
            return None, None
        try:
            return key, await self._registry.look_up_peer(self._place.name)
        except NoSuchPeer:
            return key, None

    async def _claim_patiently(self) -> OwnIdentity:
        """Claim the name, unless the process that holds the data folder does so meanwhile."""
        name, view = self._place.name, None
        for _ in range(TRIES_MAX):
            try:
                return OwnIdentity(name, await self._claim(()), is_new=True)
            except AlreadyRunning:
                await deferLater(self._reactor, PAUSE)
                key, view = await self._look_up()
                if view is not None and key is not None and view.key == key.public:
                    return OwnIdentity(name, key)
        if view is not None:
            raise NameTaken(name=name, registry=self._registry.url)
        raise Refused(
            reason=f"The peer of {name!r} runs, but the registry {self._registry.url} does not know it:"
            " wait until it does, or stop it."
        )

    async def _claim(self, caps: tuple[str, ...]) -> SigningKey:
        """Claim the name, and end the presence that this begins; returns the key.

        Raises:
            AlreadyRunning: another process holds the data folder.
        """
        name, url = self._place.name, self._registry.url
        folder = await self._folder()
        data = await run_in_thread(
            self._reactor, DataFolder.open, folder, name, abandoned=DataFolder.close
        )
        with closing(data):
            identity = await run_in_thread(self._reactor, Identity.open, data, url, name)
            owner = Owner(
                self._registry, identity, self._wall, caps=caps, invitation=self._invitation
            )
            await owner.claim_offline()
            return identity.key

    async def _folder(self) -> Path:
        """Return the data folder that belongs to the registry, which proves its key at first contact."""
        key = self._registry.known or await self._registry.prove()
        return await run_in_thread(self._reactor, move_in, self._place, key)
