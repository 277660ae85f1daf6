"""Who a verb speaks for when it asks others for something: a name of the registry, and the key that owns it.

A sharer learns who asks from the key of the session and the registry, so the name must be claimed before. The peer of
that name may be running: then its key is read, and the name is its business. With none running the verb claims the
name itself, at first use, and ends the presence at once that this begins.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

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
    WrongUsage,
)
from p2pshare.net.threads import run_in_thread
from p2pshare.peer.find.addresses import AWAY
from p2pshare.peer.ownership import claim_name
from p2pshare.registry.client import RegistryClient
from p2pshare.storage.identity import key_file
from p2pshare.storage.identity.data_folder import DataFolder, PeerPlace
from p2pshare.storage.identity.identity import KEY_NAME, Identity
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.meeting import Meetings, Met
from p2pshare.wire.keys import SigningKey
from p2pshare.wire.registry_answers import PeerView
from p2pshare.wire.statements import Record

RENEW_AFTER = 7 * 24 * 3600  # seconds after which a claim is renewed, long before it ends
TRIES_MAX = 10  # looks whether who has the data folder open has claimed the name
PAUSE = 0.5  # seconds between two of them

T = TypeVar("T")

_log = Logger()


@dataclass(frozen=True, slots=True)
class Requester:
    """Who asks."""

    name: str
    key: SigningKey


async def requester(
    invocation: Invocation, registry: RegistryClient, *, needs_registry: bool = True
) -> Requester:
    """Who the user is, to others; the key is made, and the name claimed, at first use.

    If all is as it should be, that takes one request. Call it once in each run. While the registry is away, a key that
    is there will do: sharers that know it admit it.

    Args:
        invocation: the run of the command line.
        registry: the registry that knows the name.
        needs_registry: ask the registry even if there is a key.

    Raises:
        WrongUsage: the settings have no name.
        NameTaken: the name is another key's.
        Refused: it cannot be claimed for another reason, such as a lack of an invitation.
        Unreachable: there is no key, and the registry cannot be asked.
        KeyUnusable, IdentityUnusable, FolderUnusable: the data folder cannot be used.
    """
    me = await _Requesting(invocation, registry).find(needs_registry)
    _log.debug("asking as: name={name} key={key}", name=me.name, key=me.key.public)
    return me


async def introduce(
    invocation: Invocation, registry: RegistryClient, meetings: Meetings, peer: str
) -> tuple[Requester, Deferred[Met]]:
    """Who the user is, and a peer as it is being met: the registry is asked about both at once.

    Raises:
        ClassicOnly: the peer takes no sessions.
        P2pshareError: what `requester` raises.
    """
    name_of(invocation)
    meeting = Deferred.fromCoroutine(meetings.meet(peer))
    try:
        needs_registry = meetings.at is None
        return await requester(invocation, registry, needs_registry=needs_registry), meeting
    except P2pshareError:
        with contextlib.suppress(*AWAY, NotFound):
            (await meeting).expect_sessions()  # what is wrong there may be the reason
        raise
    except BaseException:
        meeting.addErrback(lambda _: None)
        meeting.cancel()
        raise


def name_of(invocation: Invocation) -> str:
    """The user's own name.

    Raises:
        WrongUsage: the settings have none.
    """
    name = invocation.settings.name
    if name is None:
        raise WrongUsage(
            reason="Say who you are with --name NAME, or set P2PSHARE_NAME: a sharer wants to know who asks."
        )
    return name


class _Requesting:
    def __init__(self, invocation: Invocation, registry: RegistryClient) -> None:
        self._name = name_of(invocation)
        self._invocation = invocation
        self._registry = registry
        self._folder = Path()

    async def find(self, needs_registry: bool) -> Requester:
        place = PeerPlace.of(self._invocation.settings, self._name)
        self._folder = await self._in_thread(lambda: place.path)
        key = await self._in_thread(key_file.load, self._folder / KEY_NAME)
        if key is not None and not needs_registry:
            return Requester(self._name, key)
        try:
            self._folder = await self._invocation.folder(self._registry, self._name)
            key, view = await self._look()
        except AWAY:
            if key is None:
                raise
            return Requester(self._name, key)
        if key is None or view is None or view.key != key.public:
            return await self._claim_patiently()
        record = None if view.record is None else Record.parse(view.record).statement
        if record is not None and self._invocation.wall() - record.iat > RENEW_AFTER:
            try:
                await self._claim(record.caps)
            except (AlreadyRunning, Unreachable):  # the peer does it, or another run
                return Requester(self._name, key)
        return Requester(self._name, key)

    async def _look(self) -> tuple[SigningKey | None, PeerView | None]:
        """Our key, and what the registry says of our name; None for what there is not."""
        key = await self._in_thread(key_file.load, self._folder / KEY_NAME)
        if key is None:
            return None, None
        try:
            return key, await self._registry.look_up_peer(self._name)
        except NoSuchPeer:
            return key, None

    async def _claim_patiently(self) -> Requester:
        """Claim the name, unless who has the data folder open does so just now."""
        for _ in range(TRIES_MAX):
            try:
                claimed = await self._claim(())
            except AlreadyRunning:
                await deferLater(self._invocation.reactor, PAUSE, lambda: None)
                key, view = await self._look()
                if view is not None and key is not None and view.key == key.public:
                    return Requester(self._name, key)
            else:
                self._invocation.output.remark(f"{self._name} is yours now.")
                return claimed
        if view is not None:
            raise NameTaken(name=self._name, registry=self._registry.url)
        raise Refused(
            reason=f"The peer of {self._name!r} runs, but the registry {self._registry.url} does not know it:"
            " wait until it does, or stop it."
        )

    async def _claim(self, caps: tuple[str, ...]) -> Requester:
        invocation = self._invocation
        data = await self._in_thread(
            DataFolder.open, self._folder, self._name, abandoned=DataFolder.close
        )
        with closing(data):
            identity = await self._in_thread(Identity.open, data, self._registry.url, self._name)
            await claim_name(
                self._registry,
                identity,
                caps,
                invocation.wall,
                invocation.settings.invitation,
            )
            return Requester(self._name, identity.key)

    async def _in_thread(
        self, work: Callable[..., T], *args: object, **options: Callable[[T], object]
    ) -> T:
        return await run_in_thread(self._invocation.reactor, work, *args, **options)
