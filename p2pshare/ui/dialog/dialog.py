"""The dialog with a user, from the first question to the last.

Theory of operation. The dialog is one coroutine over a `Console`, which asks, and over `Actions`, which have the
effects. Each menu is a loop, and the menus nest as the user sees them: peers outside, the folder of one peer
inside. What ends a menu is therefore an exception that passes through it:

* `_Left`: the user has typed "quit", or the input has ended. It passes through all menus, and their `finally` clauses
  end the session. At the question for an invitation the end of the input raises the registry's refusal instead, so
  that a script sees why it failed.
* An error in `ERRORS_OF_ONE_PATH` concerns the chosen file or folder only, and the user stays in the folder. Any other
  error of a visit (the session is lost, the key has changed) ends the visit, and the user chooses a peer again.
* Before the user has a name, an error ends the dialog, unless another answer can help: another name, an invitation.
* `Interrupted`: Ctrl+C during a transfer on a terminal. It stops the transfer and leaves the user in the same menu.
  Ctrl+C anywhere else cancels this coroutine, as it cancels every verb.

After an error the list of users is not shown again: it would push the error off a small screen.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterable
from contextlib import suppress
from typing import Any

from twisted.logger import Logger

from p2pshare.errors import (
    AlreadyRunning,
    AnswersUnreadable,
    IllegalName,
    InvitationNeeded,
    InvitationRefused,
    NameTaken,
    P2pshareError,
    RemoteIsFile,
    RemoteNotFound,
    TransferFailed,
    WrongUsage,
)
from p2pshare.names import read_name
from p2pshare.storage.shares.arguments import SHARED_STEM
from p2pshare.ui.dialog.actions import USERS_COUNTED, Actions, Visit
from p2pshare.ui.dialog.console import (
    BAD,
    GOOD,
    HINT,
    Console,
    Interrupted,
    Line,
)
from p2pshare.ui.dialog.offers import WORDS as OFFER_WORDS
from p2pshare.ui.dialog.remote_folder import GET, LIST, Fetch, Open, RemoteFolder
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.verbs.remote_arguments import FROM_YOURSELF, parse_where
from p2pshare.wire.addresses import LAN

USERS_SHOWN = 60  # names; the others are counted

QUIT = "quit"
HELP = ("help", "?")
TO = "to"
YOUR_NAME = "Your name:"
INVITATION = "Your invitation:"
WANTS_INVITATION = "This registry accepts new names by invitation only. Ask its operator for one, and paste it here."
WHOM = "Get files from:"
WHICH = "Image or text (I/T):"
WHICH_HINT = "Type I for the image, T for the text, or press Enter to go back."
OPEN = "Open or get:"
OPEN_HINT = (
    'Type a number or a path to open a folder or to get a file, "get 2" to get a whole folder, "*.jpg" to get all'
    ' matching files, and ".." to go back. "help" lists the commands.'
)
COMMANDS = (
    "NAME or NAME:PATH  look at a user",
    "get NAME:PATH      get a file or folder",
    "ls                 list the users",
    "send PATH NAME     offer it to NAME",
    "inbox              what others offer",
    "accept ID [FOLDER] get what is offered",
    "decline ID         do not get it",
    "pause, resume ID   hold it, or go on",
    "offers, cancel ID  your own offers",
    "to FOLDER          save there",
    "accept NAME        let NAME see shares",
    "help or ?          show this list",
    "quit               leave",
)
OPEN_COMMANDS = (
    "2, NAME or PATH    open or get it",
    "get 2 or PATH      get a file or folder",
    "ls or ls PATH      list a folder",
    "..                 go back",
    "send, inbox, accept ID: as for users",
    "to FOLDER          save there",
    "help or ?          show this list",
    "quit               leave",
    './help             a file named "help"',
)
TO_WHERE = 'Type the folder, too: "to FOLDER".'
GET_WHAT = 'Type what to get, and from whom: "get NAME:PATH".'
STOPPED = 'Stopped. Press Ctrl+C again, or type "quit", to end the dialog.'

ERRORS_OF_ONE_PATH = (TransferFailed, RemoteNotFound, WrongUsage)

_PICTURE, _TEXT = (f"{SHARED_STEM}.jpg",), (f"{SHARED_STEM}.txt",)
_CLASSIC_FILES = {"i": _PICTURE, "image": _PICTURE, "picture": _PICTURE, "t": _TEXT, "text": _TEXT}


class _Left(Exception):  # noqa: N818 - it is no error
    """The user wants to leave, or there is no more input."""


async def converse(invocation: Invocation) -> int:
    """Hold the dialog; return the exit code, which is 0 if a person has seen the errors on a terminal.

    Raises:
        P2pshareError: the registry does not answer, the user can get no name, or the peer has lost its name.
    """
    console = Console.on_stdin(invocation)
    actions = Actions(invocation, console)
    settings = invocation.settings
    greeting = f"p2pshare, in the registry {settings.registry}"
    if settings.registry == LAN:
        greeting = "p2pshare, on the local network, without a registry"
    dialog = Dialog(console, actions, settings.name, greeting)
    await actions.serve_during(dialog.run)
    if console.is_terminal or not dialog.codes:
        return 0
    return dialog.codes.pop() if len(dialog.codes) == 1 else P2pshareError.exit_code


class Dialog:
    """One user's dialog: `run` it once."""

    _log = Logger()

    def __init__(
        self, console: Console, actions: Actions, name: str | None = None, greeting: str = ""
    ) -> None:
        """Talk on `console`.

        Args:
            console: asks the user.
            actions: do what the user wants.
            name: the user's legal name; None to ask for it.
            greeting: the first line, which is not written if the dialog ends before anything else is.
        """
        self._console = console
        self._actions = actions
        self._name = name
        self._greeting = greeting
        self._open_was_explained = False
        self.codes: set[int] = set()
        """The exit codes of all errors that the user was told."""

    async def run(self) -> None:
        """Talk until the user leaves.

        Raises:
            P2pshareError: the registry does not answer, or the user can get no name.
        """
        with suppress(_Left):
            await self._actions.find_registry()
            await self._choose_peers(await self._join())

    async def _join(self) -> str:
        """Register the user, who is asked for another name as long as there is none; return the name."""
        if self._name is not None:
            await self._join_as(self._name)
            return self._name
        while True:
            try:
                name = read_name(await self._ask_until_answered(YOUR_NAME))
                await self._join_as(name)
                return name
            except (IllegalName, NameTaken, AlreadyRunning) as error:
                self._complain(error)

    async def _join_as(self, name: str) -> None:
        """Register a name, with an invitation if the registry wants one."""
        invitation = None
        while True:
            try:
                lines = await self._actions.join(name, invitation)
                break
            except (InvitationNeeded, InvitationRefused) as error:
                is_first = invitation is None and isinstance(error, InvitationNeeded)
                self._complain(error, WANTS_INVITATION if is_first else None)
                invitation = await self._ask_until_answered(INVITATION, at_end=error)
        for text, colour in lines:
            self._say(text, colour)

    async def _choose_peers(self, own_name: str) -> None:
        """The outer menu: list the users, and visit one of them, again and again."""
        lists = True
        while True:
            try:
                if lists:
                    lists = False
                    self._say(*_here(await self._actions.users(), own_name))
                await self._obey(await self._ask_in_menu(WHOM), own_name)
                lists = True
            except Interrupted:
                self._say(STOPPED, HINT)
            except AnswersUnreadable:
                raise
            except P2pshareError as error:
                self._complain(error)

    async def _obey(self, text: str, own_name: str) -> None:
        """Do what an answer in the outer menu wants: `[ls] [NAME[:PATH]]` or `get NAME:PATH`."""
        word, _, rest = text.partition(" ")
        command = word.casefold()
        if command in (GET, LIST):
            text = rest.strip()
        if not text and command != GET:
            return
        name, path = parse_where(text) if text else ("", ())
        if command == GET and not path:
            raise WrongUsage(reason=GET_WHAT)
        if name == own_name:
            raise WrongUsage(reason=FROM_YOURSELF)
        async with self._actions.visit(name) as visit:
            if visit.is_classic:
                await self._choose_kind(visit, name)
            elif command == GET:
                await self._fetch(visit.fetch(path))
            else:
                await self._browse(visit, name, Open(path, may_fetch=command != LIST))

    async def _choose_kind(self, visit: Visit, name: str) -> None:
        """The menu of a classic peer."""
        while answer := await self._ask_in_menu(WHICH, name):
            path = _CLASSIC_FILES.get(answer.casefold())
            if path is not None:
                await self._fetch(visit.fetch_classic(path))
                return
            self._complain(WrongUsage(reason=WHICH_HINT))

    async def _browse(self, visit: Visit, name: str, opened: Open) -> None:
        """The inner menu: show folders of a peer and fetch from them, until the user goes back.

        A path that turns out to be a file is fetched at once, and then there is no folder to stay in.
        """
        folder = await self._open(visit, RemoteFolder(name, opened.path), opened)
        while folder is not None:
            answer = await self._ask_in_menu(OPEN, folder.name)
            if not answer:
                return
            try:
                match folder.read(answer):
                    case Fetch(path):
                        await self._fetch(visit.fetch(path))
                    case Open() as opened:
                        is_next_page = bool(opened.after)
                        there = folder if is_next_page else RemoteFolder(name, opened.path)
                        folder = await self._open(visit, there, opened) or folder
                    case None:
                        return
            except Interrupted:
                self._say(STOPPED, HINT)
            except ERRORS_OF_ONE_PATH as error:
                self._complain(error)

    async def _open(self, visit: Visit, folder: RemoteFolder, opened: Open) -> RemoteFolder | None:
        """Show a page of a folder; return the folder, or None if it was a file and has been fetched."""
        try:
            listing = visit.page(opened.path, opened.after)
            page = await self._console.interruptible(listing)
        except RemoteIsFile:
            if not opened.path or not opened.may_fetch:
                raise
            await self._fetch(visit.fetch(opened.path))
            return None
        for line in folder.add(page.entries, page.more):
            self._say(line)
        if not self._open_was_explained:
            self._open_was_explained = True
            self._say(OPEN_HINT, HINT)
        return folder

    async def _fetch(self, fetching: Coroutine[Any, Any, int]) -> None:
        if code := await self._console.interruptible(fetching):
            self.codes.add(code)

    async def _ask(
        self, question: str, where: str = "", at_end: P2pshareError | None = None
    ) -> str:
        """Ask once; at the end of the input raise `at_end`, if there is one."""
        self._greet()
        text = await self._console.ask(question, where)
        if text is None:
            raise at_end or _Left
        text = text.strip()
        if text.casefold() == QUIT:
            raise _Left
        return text

    async def _ask_until_answered(self, question: str, at_end: P2pshareError | None = None) -> str:
        while not (text := await self._ask(question, at_end=at_end)):
            pass
        return text

    async def _ask_in_menu(self, question: str, where: str = "") -> str:
        """Ask, and obey the commands that every menu has; return the first other answer."""
        while True:
            text = await self._ask(question, where)
            word, _, rest = text.partition(" ")
            try:
                if text.casefold() in HELP:
                    for line in OPEN_COMMANDS if question == OPEN else COMMANDS:
                        self._say(line)
                elif word.casefold() in OFFER_WORDS:
                    obeying = self._actions.obey_offers(word.casefold(), rest.strip())
                    for told in await self._console.interruptible(obeying):
                        self._say(*told)
                elif word.casefold() != TO:
                    return text
                elif not rest.strip():
                    raise WrongUsage(reason=TO_WHERE)
                else:
                    folder = await self._actions.set_destination(rest.strip())
                    self._say(f"Files are saved in {folder} from now on.", GOOD)
            except Interrupted:
                self._say(STOPPED, HINT)
            except P2pshareError as error:
                self._complain(error)

    def _complain(self, error: P2pshareError, text: str | None = None) -> None:
        self.codes.add(error.exit_code)
        self._log.debug(
            "answer failed: kind={kind} why={why!r}", kind=type(error).__name__, why=str(error)
        )
        self._say(text or str(error), BAD)

    def _say(self, text: str, colour: str = "") -> None:
        self._greet()
        self._console.line(text, colour)

    def _greet(self) -> None:
        greeting, self._greeting = self._greeting, ""
        if greeting:
            self._console.line(greeting, HINT)


def _here(names: Iterable[str], own_name: str) -> Line:
    """Return the line that names the users who are online."""
    others = sorted(set(names) - {own_name})
    if not others:
        return "Nobody else is here yet. Press Enter to look again.", HINT
    text = f"Here now: {', '.join([*others[:USERS_SHOWN], f'{own_name} (you)'])}"
    more = len(others) - USERS_SHOWN
    if more > 0:
        text += f", and {more if len(others) < USERS_COUNTED else 'many'} more"
    return text, ""
