"""The dialog with a user, while a peer of that user's name serves."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType
from typing import Any, assert_never

from colorama import Fore, Style
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import (
    ILogObserver,
    LogEvent,
    Logger,
    LogLevel,
    formatEvent,
    globalLogPublisher,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from p2pshare.classic.sharer import Outcome, Served
from p2pshare.errors import P2pshareError, WrongUsage
from p2pshare.peer.registration import LOCAL_ONLY
from p2pshare.peer.service import OPEN_FILES, OPEN_FILES_MIN, PeerService, peer_of, shares_of
from p2pshare.peer.share import upload_log as uploads
from p2pshare.registry.client import RegistryClient
from p2pshare.storage.incoming.destination import is_folder, make_folder
from p2pshare.storage.open_files import allow_open_files
from p2pshare.storage.shares.arguments import EVERYONE, SharedPath
from p2pshare.ui.completion.memory import remember_names
from p2pshare.ui.dialog.console import Console
from p2pshare.ui.dialog.steps import (
    USERS_COUNTED,
    Ask,
    Dialog,
    FindRegistry,
    FindUser,
    GetClassic,
    GetFiles,
    Join,
    Leave,
    ListFolder,
    ListUsers,
    Page,
    Result,
    Said,
    SetDestination,
    Step,
    Tone,
)
from p2pshare.ui.dialog.visit import Guest
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.meeting import Meetings, Met
from p2pshare.ui.numbers import duration_text
from p2pshare.ui.verbs.classic_items import Wanted
from p2pshare.wire.addresses import PeerAddress, is_loopback

_COLOURS = {
    Tone.PLAIN: "",
    Tone.GOOD: Fore.GREEN,
    Tone.BAD: Fore.RED,
    Tone.HINT: Style.DIM,
}

SHARING_NOTHING = (
    "You share nothing: start again with --share FOLDER, or with a my_file.txt or my_file.jpg here."
)
IN_THE_CLEAR = "With --classic, a text and a picture of that go to whoever asks in the classic protocol: in the clear."
SHARES_SHOWN = 10  # names
HINT = 'Ctrl+C or "quit" ends it, "help" shows the commands. An empty line shows again who is here.'


class _TransferStopped(Exception):  # noqa: N818 - it is no error
    """The user has stopped a transfer, and not the dialog."""


class Conversation:
    """Takes the steps that a `Dialog` decides on."""

    _log = Logger()

    def __init__(self, invocation: Invocation, console: Console) -> None:
        self._invocation = invocation
        self._console = console
        self._peer: PeerService | None = None
        self._talking: Deferred[None] | None = None
        self._lost: P2pshareError | None = None
        self._is_original = False
        self._name = ""
        self._meetings: Meetings | None = None
        self._met: Met | None = None
        self._guest: Guest | None = None
        self._destination = invocation.cwd
        self._codes: set[int] = (
            set()
        )  # of what went wrong, where answers do not come from a terminal
        self._greeting: Said | None = Said(
            f"p2pshare, in the registry {invocation.settings.registry}", Tone.HINT
        )

    async def run(self) -> int:
        """Talk until the user leaves; returns the exit code.

        Raises:
            P2pshareError: what made it end.
        """
        try:
            try:
                self._talking = Deferred.fromCoroutine(self._talk())
                await self._talking
            finally:
                self._console.close()
        except CancelledError:
            if self._lost is not None:
                raise self._lost from None
            raise
        finally:
            if self._peer is not None:
                await _to_its_end(self._peer.stopService())
        if self._console.is_terminal or not self._codes:
            return 0
        return self._codes.pop() if len(self._codes) == 1 else P2pshareError.exit_code

    async def _talk(self) -> None:
        async with self._invocation.registry() as registry:
            with uploads_told(lambda story: self._say(Said(story, Tone.HINT))):
                try:
                    await self._converse(registry)
                finally:
                    await self._take_leave()

    async def _converse(self, registry: RegistryClient) -> None:
        dialog = Dialog(self._invocation.settings.name)
        turn = dialog.begin()
        while True:
            if isinstance(turn.step, Ask):
                self._greet()
            for said in turn.says:
                self._say(said)
            match turn.step:
                case Ask(question=question, where=where):
                    text = await self._console.ask(question, where)
                    turn = dialog.input_ended() if text is None else dialog.line_received(text)
                    if any(said.tone is Tone.BAD for said in turn.says):
                        self._codes.add(WrongUsage.exit_code)
                case Leave(error=error):
                    if error is not None:
                        raise error
                    return
                case step:
                    try:
                        result = await self._stoppable(step, self._take(step, registry))
                        turn = dialog.succeeded(result)
                    except _TransferStopped:
                        turn = dialog.interrupted()
                    except P2pshareError as error:
                        self._codes.add(error.exit_code)
                        self._log.debug(
                            "step failed: step={step} why={why!r}",
                            step=type(step).__name__,
                            why=str(error),
                        )
                        turn = dialog.failed(error)

    async def _stoppable(self, step: Step, taking: Coroutine[Any, Any, Result]) -> Result:
        """Take a step; on a terminal, Ctrl+C ends a transfer, and the dialog only if it comes twice.

        Raises:
            _TransferStopped: there was one Ctrl+C.
        """
        going = Deferred.fromCoroutine(taking)
        before = signal.getsignal(signal.SIGINT)
        is_transfer = isinstance(step, GetFiles | GetClassic)
        if not is_transfer or not self._console.is_terminal or not callable(before):
            return await going
        is_stopped = False

        def stop() -> None:
            nonlocal is_stopped
            is_stopped = True
            self._invocation.forgive_signal()
            going.cancel()

        def interrupted(number: int, frame: FrameType | None) -> None:
            signal.signal(signal.SIGINT, before)
            self._invocation.reactor.callFromThread(stop)

        signal.signal(signal.SIGINT, interrupted)
        try:
            return await going
        except CancelledError:
            if is_stopped:
                raise _TransferStopped from None
            raise
        finally:
            signal.signal(signal.SIGINT, before)

    async def _take(
        self,
        step: FindRegistry
        | Join
        | ListUsers
        | FindUser
        | ListFolder
        | GetFiles
        | GetClassic
        | SetDestination,
        registry: RegistryClient,
    ) -> list[str] | Page | bool | None:
        match step:
            case FindRegistry():
                self._is_original = await registry.info() is None
                if self._is_original:
                    await registry.list_names()  # or it is no registry at all
            case ListUsers():
                await self._take_leave()
                return await self._names(registry)
            case Join(name=name, invitation=invitation):
                await self._join(name, invitation)
                self._meetings = Meetings(self._invocation, registry, name)
            case FindUser(name=name):
                return await self._find(name)
            case ListFolder(path=path, after=after):
                assert self._guest is not None, "who was found takes sessions"
                return await self._guest.page(path, after)
            case GetFiles(path=path):
                assert self._guest is not None, "who was found takes sessions"
                self._guest.destination = self._destination
                if code := await self._guest.fetch(path):
                    self._codes.add(code)
            case SetDestination(folder=folder):
                self._set_destination(folder)
            case GetClassic(name=name, kind=kind):
                assert self._met is not None and self._met.name == name
                await self._met.fetch(Wanted.of(name, kind, None, self._destination))
            case _:
                assert_never(step)
        return None

    def _set_destination(self, text: str) -> None:
        """Save in a folder from now on; one that ends with a slash is made.

        Raises:
            WrongUsage: there is no such folder.
            CannotSave: it cannot be made.
        """
        folder = os.path.expanduser(text)
        if "\0" in folder or not is_folder(folder, self._destination):
            raise WrongUsage(reason=f"There is no folder {text!r}. A slash at its end makes it.")
        self._destination = self._destination / folder
        make_folder(self._destination)
        self._say(Said(f"Files are saved in {self._destination} from now on.", Tone.GOOD))

    async def _find(self, name: str) -> bool:
        """Meet somebody; whether they take sessions.

        Raises:
            P2pshareError: they are not to be met, or speak only what was not switched on.
        """
        assert self._meetings is not None, "who has not joined meets nobody"
        await self._take_leave()
        met = self._met = await self._meetings.meet(name)
        if not met.takes_sessions and self._invocation.settings.classic and met.speaks_classic:
            return False
        met.expect_sessions()
        met.remark()
        self._guest = await Guest.at(self._invocation, self._name, self._meetings, met)
        return True

    async def _take_leave(self) -> None:
        """End the session with whom was asked last."""
        guest, self._guest = self._guest, None
        if guest is not None:
            await guest.leave()

    async def _names(self, registry: RegistryClient) -> list[str]:
        """Who is there, or may be; of very many, some."""
        if self._is_original:
            return await registry.list_names()
        names: list[str] = []
        async for peer in registry.peers(online=True):
            names.append(peer.name)
            if len(names) > USERS_COUNTED:
                break
        await remember_names(self._invocation, self._name, names)
        return names

    async def _join(self, name: str, invitation: str | None) -> None:
        invocation = self._invocation
        settings = invocation.settings
        if invitation is not None:
            settings = replace(settings, invitation=invitation)
        allow_open_files(OPEN_FILES, OPEN_FILES_MIN)
        peer = self._peer = peer_of(
            settings,
            name,
            invocation.reactor,
            invocation.rng,
            invocation.cwd,
            wall=invocation.wall,
            patient=False,
            on_served=self._served,
        )
        peer.startService()
        try:
            address = await peer.ready
        except P2pshareError:
            self._peer = None
            await peer.stopService()
            raise
        peer.lost.addErrback(self._ended_by)
        self._name = name
        self._greet()
        shares = shares_of(settings, name, invocation.cwd)
        for said in [*_reached(name, address), *_sharing(shares, settings.classic)]:
            self._say(said)
        for share, text in peer.left_out().items():
            self._say(Said(f"Not shared of {share}: {text}.", Tone.HINT))
        self._say(Said(HINT, Tone.HINT))

    def _served(self, served: Served) -> None:
        how = "wanted" if served.outcome is Outcome.FAILED else "fetched"
        took = duration_text(served.seconds)
        text = f"{served.host} {how} your {served.kind.value}: {served.story} ({took})"
        self._say(Said(text, Tone.HINT))

    def _ended_by(self, failure: Failure) -> None:
        """The peer cannot go on, so neither can the dialog."""
        failure.trap(P2pshareError)
        assert isinstance(failure.value, P2pshareError) and self._talking is not None
        self._lost = failure.value
        self._talking.cancel()

    def _greet(self) -> None:
        """Say where this is, once there is more to say than an error that ends it."""
        if self._greeting is not None:
            self._say(self._greeting)
            self._greeting = None

    def _say(self, said: Said) -> None:
        self._console.line(said.text, _COLOURS[said.tone])


async def _to_its_end(stopping: Deferred[None]) -> None:
    """Wait, also if a signal comes that cancels the waiting: that of a terminal which was closed often follows the end
    of its input.
    """
    waiting: Deferred[None] = Deferred()
    stopping.addBoth(waiting.callback)
    try:
        await waiting
    except CancelledError:
        await stopping
        raise


def _reached(name: str, address: PeerAddress) -> list[Said]:
    """Who one is, and from where one is reached."""
    told = [Said(f"You are {name}, and are reached at {address}.", Tone.GOOD)]
    return [*told, Said(LOCAL_ONLY, Tone.HINT)] if is_loopback(address.ip) else told


def _sharing(shares: Sequence[SharedPath], classic: bool) -> list[Said]:
    """What one shares, with whom."""
    if not shares:
        return [Said(SHARING_NOTHING, Tone.HINT)]
    with_whom: dict[str, list[str]] = {}
    for each in shares:
        whom = EVERYONE if each.allow is None else ", ".join(sorted(each.allow)) or "nobody"
        with_whom.setdefault(whom, []).append(each.name)
    told = []
    for whom, names in with_whom.items():
        shown = names[:SHARES_SHOWN]
        if len(names) > len(shown):
            shown.append(f"{len(names) - len(shown)} more")
        told.append(Said(f"You share {_joined(shown)}, with {whom}."))
    if classic and EVERYONE in with_whom:
        told.append(Said(IN_THE_CLEAR, Tone.HINT))
    return told


def _joined(words: Sequence[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last


@contextmanager
def uploads_told(tell: Callable[[str], object]) -> Iterator[None]:
    """Tell, as long as this lasts, what the log tells of those who fetch something here."""

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        is_debug = event.get("log_level") is LogLevel.debug
        if event.get("log_namespace") == uploads.__name__ and not is_debug:
            tell(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    try:
        yield
    finally:
        globalLogPublisher.removeObserver(observe)
