"""The user's own peer, as verbs use it: the one that runs, or one that runs inside the command.

A verb that sends, accepts or shares only asks, over the control socket (`docs/control.md`). If no peer runs on the data
folder, the command starts one and asks it over the same socket. It has no shares of the settings, except for the verb
that is there to run it (`open`). So a verb does not care which of the two it is, and another command that is started
meanwhile uses the same peer. When the peer that a command uses ends, `use_own_peers` takes another one.

A verb that only reads what is kept starts no peer, so others do not see the user come and go: see `own_records`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from p2pshare.errors import AlreadyRunning, P2pshareError, PeerNotAnswering, PeerStopped
from p2pshare.peer.control import OVERRUN, ControlClient, running_peer
from p2pshare.peer.offers.history import kept_actions
from p2pshare.peer.service import OPEN_FILES, OPEN_FILES_MIN, PeerService, shares_of
from p2pshare.storage.identity.data_folder import DataFolder, PeerPlace, peer_folder
from p2pshare.storage.open_file_limit import allow_open_files
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.verbs.key import name_of
from p2pshare.ui.verbs.whoami import data_folder

LOCK_PATIENCE = 5.0  # seconds that another command may hold the data folder without taking requests
CONTACT_PATIENCE = 3.0  # seconds for the registry's answer, after which `open` goes on without
LOOK_EVERY = 0.05  # seconds between two attempts to connect
PEERS_MAX = 5  # peers that one command uses, one after the other
LAST_ACTION = "complete"
"""An action that a peer has only when it has moved in; see `PeerService`."""

Row = dict[str, Any]
Ask = Callable[..., Awaitable[Row]]
"""Returns the reply to a request; see `OwnPeer.ask`."""


class OwnPeer:
    """Asks the user's own peer. Each request has a connection of its own."""

    def __init__(
        self,
        invocation: Invocation,
        name: str,
        service: PeerService | None,
        *,
        is_lasting: bool = True,
    ) -> None:
        """Ask the peer of `name`; `service` is that peer if it runs inside this command."""
        self._invocation = invocation
        self._service = service
        self._ended: P2pshareError | None = None
        self._waiting: list[Deferred[None]] = []  # for the end of the peer
        self._followers: set[ControlClient] = set()
        self.name = name
        self.is_lasting = is_lasting
        """Whether the peer runs on; otherwise it runs inside this command or another one, and ends with that."""
        if service is not None:
            service.lost.addErrback(self._lost)

    @property
    def runs_here(self) -> bool:
        """Whether the peer runs inside this command."""
        return self._service is not None

    async def until_it_ends(self) -> None:
        """Wait until the peer inside this command has ended.

        Raises:
            P2pshareError: the reason; `PeerStopped` if its user wanted that.
        """
        assert self._service is not None
        self._service.ready.addErrback(self._lost)
        if self._ended is None:
            waiting: Deferred[None] = Deferred()
            self._waiting.append(waiting)
            await waiting
        assert self._ended is not None
        raise self._ended

    async def ask(self, do: str, **fields: Any) -> Row:
        """Return the reply to a request.

        Raises:
            P2pshareError: as for `ControlClient.ask`.
        """
        client = await self._connect()
        try:
            return await client.ask(do, **fields)
        except PeerNotAnswering as error:
            raise self._ended or error from error
        finally:
            client.close()

    async def comes_online(self, patience: float) -> bool:
        """Wait up to `patience` seconds until others see the peer; return whether they do."""
        until = self._invocation.reactor.seconds() + patience
        while not (await self.ask("status"))["online"]:
            if self._invocation.reactor.seconds() >= until:
                return False
            await deferLater(self._invocation.reactor, LOOK_EVERY)
        return True

    async def listed(self, do: str, key: str, by: str = "id") -> list[Row]:
        """Return all rows of a long list: the pages of the action `do`, whose rows are ordered by their member `by`."""
        return await all_rows(self.ask, do, key, by)

    async def follow(self, do: str, key: str, kind: str) -> AsyncGenerator[Row]:
        """Yield the rows of a list as they are, and then each that changes; an overrun begins again.

        Args:
            do: the action that returns the list.
            key: the name of the list in its reply.
            kind: the kind of the events that tell a row.

        Raises:
            PeerNotAnswering: the peer has ended.
            P2pshareError: the peer inside this command has ended for this reason.
        """
        while True:
            client = await self._connect()
            self._followers.add(client)
            try:
                async with aclosing(await client.follow()) as events:
                    for row in await self.listed(do, key):
                        yield row
                    async for event in events:
                        if event["event"] == OVERRUN:
                            break
                        if event["event"] == kind:
                            yield event
            except PeerNotAnswering as error:
                raise self._ended or error from error
            finally:
                self._followers.discard(client)
                client.close()

    async def _connect(self) -> ControlClient:
        folder = peer_folder(self._invocation.settings, self.name)
        client = await running_peer(self._invocation.reactor, folder)
        if client is None:
            raise self._ended or PeerNotAnswering(path=folder, reason="it has ended")
        if self._ended is not None:
            client.close()
            raise self._ended
        return client

    def _lost(self, failure: Failure) -> None:
        failure.trap(P2pshareError)
        assert isinstance(failure.value, P2pshareError)
        self._ended = failure.value
        for client in list(self._followers):  # the socket stays open until the command ends
            client.close()
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if not each.called:
                each.callback(None)


@asynccontextmanager
async def own_peer(
    invocation: Invocation, *, in_contact: bool = True, is_whole: bool = False
) -> AsyncIterator[OwnPeer]:
    """The user's running peer; if none runs, one that runs as long as the context.

    Args:
        invocation: the run of the command line.
        in_contact: whether a peer that is started here must be registered first. Without, it answers as soon as it
            has its data folder, and an unreachable registry is no error.
        is_whole: whether a peer that is started here is the one of the settings, with all that it shares.

    Raises:
        WrongUsage: the settings have no name, or name a share that cannot be shared.
        P2pshareError: no peer can be started.
    """
    name = name_of(invocation.settings)
    patience = invocation.reactor.seconds() + LOCK_PATIENCE
    while True:
        client = await running_peer(invocation.reactor, await data_folder(invocation, name))
        if client is not None:
            is_lasting = await _is_lasting(client)
            if is_lasting is not None:
                yield OwnPeer(invocation, name, None, is_lasting=is_lasting)
                return
        service = _make_service(invocation, name, is_whole=is_whole)
        try:
            patience_for_contact = CONTACT_PATIENCE if is_whole else 0.0
            await _until_it_answers(
                invocation, service, name, in_contact=in_contact, patience=patience_for_contact
            )
        except AlreadyRunning:  # a command that has just begun, or is ending
            await service.stopService()
            if invocation.reactor.seconds() > patience:
                raise
            await deferLater(invocation.reactor, LOOK_EVERY)
        except BaseException:
            await service.stopService()
            raise
        else:
            break
    try:
        yield OwnPeer(invocation, name, service, is_lasting=False)
    finally:
        await service.stopService()


@asynccontextmanager
async def own_folder(
    invocation: Invocation, name: str
) -> AsyncIterator[tuple[ControlClient | None, Path]]:
    """The user's peer if one runs, and its data folder, which is locked if none runs.

    So a command that needs nobody else works without a registry, and others do not see it.

    Raises:
        AlreadyRunning: another process has the data folder for `LOCK_PATIENCE`, and takes no requests.
        P2pshareError: the data folder cannot be used.
    """
    folder = await data_folder(invocation, name)
    patience = invocation.reactor.seconds() + LOCK_PATIENCE
    while True:
        client = await running_peer(invocation.reactor, folder)
        if client is not None:
            try:
                yield client, folder
            finally:
                client.close()
            return
        try:
            data = DataFolder.open(folder, name)
            break
        except AlreadyRunning:  # another command has it, or a peer that starts or ends
            if invocation.reactor.seconds() > patience:
                raise
            await deferLater(invocation.reactor, LOOK_EVERY)
    try:
        yield None, folder
    finally:
        data.close()


@asynccontextmanager
async def own_records(invocation: Invocation) -> AsyncIterator[Ask]:
    """The user's offers and history, to be read with the actions `offers` and `history`; no peer is started.

    Raises:
        WrongUsage: the settings have no name.
        P2pshareError: they cannot be read; as for `own_folder`.
    """
    name, reactor = name_of(invocation.settings), invocation.reactor
    async with own_folder(invocation, name) as (client, folder):
        if client is not None:
            yield client.ask
            return
        place = PeerPlace.of(invocation.settings, name).slot
        async with kept_actions(reactor, folder, place, lambda: int(invocation.wall())) as actions:

            async def ask(do: str, **fields: Any) -> Row:
                given = {key: value for key, value in fields.items() if value is not None}
                return dict(await actions[do](given))

            yield ask


async def all_rows(ask: Ask, do: str, key: str, by: str = "id") -> list[Row]:
    """Return all pages of a long list, as `OwnPeer.listed`."""
    rows: list[Row] = []
    while True:
        told = await ask(do, after=str(rows[-1][by]) if rows else None)
        rows += told[key]
        if not told["more"] or not told[key]:
            return rows


async def use_own_peers(
    invocation: Invocation,
    work: Callable[[OwnPeer], Awaitable[None]],
    has_begun: Callable[[], bool],
) -> bool:
    """Let `work` use the user's own peer, and again another one whenever that ends; return whether it has ended itself.

    Args:
        invocation: the run of the command line.
        work: is called with each peer, and goes on with what it has begun.
        has_begun: whether there is something to go on with. If not, the end of a peer is an error.

    Returns:
        False if somebody has stopped the peer inside this command with `p2pshare stop`.

    Raises:
        PeerNotAnswering: one peer after the other has ended.
        P2pshareError: what `work` raises.
    """
    for attempt in range(PEERS_MAX):
        try:
            async with own_peer(invocation) as peer:
                await work(peer)
            break
        except PeerStopped:
            if not has_begun():
                raise
            return False
        except PeerNotAnswering:
            if not has_begun() or attempt + 1 == PEERS_MAX:
                raise
            invocation.output.remark("Your peer has ended. This command goes on in its place.")
    return True


async def _is_lasting(client: ControlClient) -> bool | None:
    """Return whether a running peer runs on; None if it has just ended."""
    try:
        return bool((await client.ask("version"))["lasting"])
    except PeerNotAnswering:
        if client.connected:
            raise
        return None
    finally:
        client.close()


def _make_service(invocation: Invocation, name: str, *, is_whole: bool) -> PeerService:
    """Return the peer that runs inside the command. A whole one waits for a registry that it has met before."""
    allow_open_files(OPEN_FILES, OPEN_FILES_MIN)
    settings, shares = invocation.settings, None
    place = PeerPlace.of(settings, name)
    if is_whole:
        shares = shares_of(settings, invocation.cwd)
    else:
        settings = replace(settings, share=(), allow=(), classic=False)
    return PeerService(
        invocation.reactor,
        invocation.rng,
        settings,
        shares,
        wall=invocation.wall,
        patient=is_whole and (place.is_lan or place.key is not None),
        on_notice=invocation.output.remark,
    )


async def _until_it_answers(
    invocation: Invocation,
    service: PeerService,
    name: str,
    *,
    in_contact: bool,
    patience: float,
) -> None:
    """Start a peer, and return as soon as it can be asked.

    Without contact, a registry that answers within `patience` seconds can still refuse the name.

    Raises:
        P2pshareError: it cannot be.
    """
    service.startService()
    if in_contact:
        await service.ready
        return
    reactor, outcome = invocation.reactor, list[object]()

    def note(result: object) -> Any:
        outcome.append(result)
        return result if patience else None

    service.ready.addBoth(note)
    until = reactor.seconds() + patience
    while not await _can_be_asked(invocation, name):
        if outcome:
            break
        await deferLater(reactor, LOOK_EVERY)
    while not outcome and reactor.seconds() < until:
        await deferLater(reactor, LOOK_EVERY)
    if (
        outcome
        and isinstance(outcome[0], Failure)
        and (patience or not await _can_be_asked(invocation, name))
    ):
        service.ready.addErrback(lambda _: None)
        outcome[0].raiseException()


async def _can_be_asked(invocation: Invocation, name: str) -> bool:
    client = await running_peer(invocation.reactor, peer_folder(invocation.settings, name))
    if client is None:
        return False
    try:
        return LAST_ACTION in (await client.ask("version"))["actions"]
    except PeerNotAnswering:
        return False
    finally:
        client.close()
