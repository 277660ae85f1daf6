"""The dialog's decisions: which question comes next, and what an answer means.

There is no terminal and no network here. `Dialog.begin` gives the first turn: what to say, and then
one step to take. Whoever takes the step tells the dialog what came of it, and so gets the next turn:

    step              what came of it
    Ask               line_received or input_ended
    FindRegistry      succeeded(None) or failed
    Join              succeeded(None) or failed
    ListUsers         succeeded(the names) or failed
    FindUser          succeeded(whether it takes sessions) or failed
    ListFolder        succeeded(a page of it) or failed
    GetFiles          succeeded(None) or failed
    GetClassic        succeeded(None) or failed
    SetDestination    succeeded(None) or failed
    Leave             nothing: it was the last one

A transfer that the user stops is `interrupted`, and the last question comes again.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field

from p2pshare.classic.datagrams import Kind
from p2pshare.errors import (
    AlreadyRunning,
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
from p2pshare.ui.dialog.remote_folder import GET, LIST, Away, Fetch, Open, RemoteFolder, Unclear
from p2pshare.ui.verbs.items import FROM_YOURSELF, parse_where
from p2pshare.wire.paths import RemotePath
from p2pshare.wire.transfer_messages import Entry

USERS_SHOWN = 60  # names; the others are counted
USERS_COUNTED = 1000  # names; of more nobody needs to know how many

QUIT = "quit"
HELP = ("help", "?")
TO = "to"
YOUR_NAME = "Your name:"
INVITATION = "Your invitation:"
WANTS_INVITATION = (
    "This registry takes new names by invitation only. Its operator has one for you: paste it here."
)
WHOM = "Get files from:"
WHICH = "Image or text (I/T):"
OPEN = "Open or get:"
OPEN_HINT = (
    'A number or a path opens a folder or gets a file, "get 2" gets a folder with all that is in it, "*.jpg" what is'
    ' called so, and ".." leads back. "help" shows the commands.'
)
COMMANDS = (
    "NAME or NAME:PATH  look at a user",
    "get NAME:PATH      get it, whole",
    "ls                 list the users",
    "to FOLDER          save there",
    "help or ?          show this list",
    "quit               leave",
)
OPEN_COMMANDS = (
    "2, NAME or PATH    open or get it",
    "get 2 or PATH      get it, whole",
    "ls or ls PATH      list a folder",
    "..                 go back",
    "to FOLDER          save there",
    "help or ?          show this list",
    "quit               leave",
    './help             a file named "help"',
)
TO_WHERE = "Say where to save: to FOLDER."
GET_WHAT = "Say what to get, and from whom: get NAME:PATH."
STOPPED = "Stopped. Ctrl+C again, or quit, ends the dialog."

OF_ONE_PATH = (TransferFailed, RemoteNotFound, WrongUsage)
"""What is wrong with something that was chosen, but not with the peer."""

_KINDS = {
    "i": Kind.PICTURE,
    "image": Kind.PICTURE,
    "picture": Kind.PICTURE,
    "t": Kind.TEXT,
    "text": Kind.TEXT,
}


class Tone(enum.Enum):
    """How something is said."""

    PLAIN = enum.auto()
    GOOD = enum.auto()
    BAD = enum.auto()
    HINT = enum.auto()


@dataclass(frozen=True, slots=True)
class Said:
    """A line for the user; it may hold text from outside."""

    text: str
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the user."""

    question: str
    where: str = field(default="", compare=False)
    """Where the user is, as `PEER:PATH`; it holds text from outside."""


@dataclass(frozen=True, slots=True)
class FindRegistry:
    """See whether the registry is there."""


@dataclass(frozen=True, slots=True)
class Join:
    """Be registered under a name, and serve."""

    name: str
    invitation: str | None = None
    """What lets a new name into a registry that wants one."""


@dataclass(frozen=True, slots=True)
class ListUsers:
    """Find out who is registered."""


@dataclass(frozen=True, slots=True)
class FindUser:
    """Find out where a user is, and what it speaks."""

    name: str


@dataclass(frozen=True, slots=True)
class ListFolder:
    """Find out what is in a folder of a user, or what else."""

    name: str
    path: RemotePath
    after: RemotePath = ()
    may_fetch: bool = True
    """Whether a file is to be fetched, if it is one."""


@dataclass(frozen=True, slots=True)
class SetDestination:
    """Save in a folder of this machine from now on."""

    folder: str


@dataclass(frozen=True, slots=True)
class GetFiles:
    """Get a file, a folder, or what matches a glob, from a user."""

    name: str
    path: RemotePath


@dataclass(frozen=True, slots=True)
class GetClassic:
    """Get a file from a user who speaks the classic protocol only."""

    name: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Leave:
    """Stop serving and end, because of an error if there is one."""

    error: P2pshareError | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """What is in a folder, or a part of it."""

    entries: tuple[Entry, ...]
    more: bool


Step = (
    Ask
    | FindRegistry
    | Join
    | ListUsers
    | FindUser
    | ListFolder
    | GetFiles
    | GetClassic
    | SetDestination
    | Leave
)
Result = Iterable[str] | Page | bool | None


@dataclass(frozen=True, slots=True)
class Turn:
    """What comes next: say something, then take a step."""

    step: Step
    says: tuple[Said, ...] = ()


class Dialog:
    """One user's dialog.

    Args:
        name: the user's name, if it needs no question; a legal one.
    """

    def __init__(self, name: str | None = None) -> None:
        self._asks_name = name is None
        self._name = name or ""
        self._peer = ""
        self._folder: RemoteFolder | None = None
        self._path: RemotePath = ()  # what is wanted of a user who is being looked up
        self._wants = False  # to get it, and not only to open it
        self._asked = Ask(WHOM)
        self._was_told_how = False
        self._refusal: P2pshareError | None = None
        self._step: Step = Leave()

    def begin(self) -> Turn:
        """The first turn."""
        return self._take(FindRegistry())

    def line_received(self, text: str) -> Turn:
        """The answer to a question; it may be anything."""
        text = text.strip()
        if text.casefold() == QUIT:
            return self._take(Leave())
        if isinstance(self._step, Ask) and self._step.question in (WHOM, WHICH, OPEN):
            if text.casefold() in HELP:
                return self._help()
            word, _, rest = text.partition(" ")
            if word.casefold() == TO:
                return (
                    self._take(SetDestination(rest.strip()))
                    if rest.strip()
                    else self._again(TO_WHERE)
                )
        match self._step:
            case Ask(question=question) if question == YOUR_NAME:
                return self._own_name_said(text)
            case Ask(question=question) if question == INVITATION:
                return self._invitation_said(text)
            case Ask(question=question) if question == WHOM:
                return self._peer_said(text)
            case Ask(question=question) if question == OPEN:
                return self._entry_said(text)
        return self._kind_said(text)

    def input_ended(self) -> Turn:
        """There will be no more answers."""
        return self._take(Leave(self._refusal))

    def succeeded(self, result: Result = None) -> Turn:
        """The step that was no question is done."""
        self._refusal = None
        match self._step:
            case FindRegistry() if self._asks_name:
                return self._take(Ask(YOUR_NAME))
            case FindRegistry():
                return self._take(Join(self._name))
            case ListUsers():
                assert not isinstance(result, bool | Page)
                return self._ask_whom(_here(result or (), self._name))
            case FindUser(name=name):
                self._peer, self._folder = name, None
                if not result:
                    return self._take(Ask(WHICH, name))
                wanted = GetFiles if self._wants else ListFolder
                return self._take(wanted(name, self._path))
            case SetDestination():
                return self._take(self._asked)
            case ListFolder(name=name, path=path, after=after):
                assert isinstance(result, Page)
                if self._folder is None or not after:
                    self._folder = RemoteFolder(name, path)
                return self._ask_open(self._folder.add(result.entries, result.more))
            case GetFiles() if self._folder is not None:
                return self._take(self._open())
        return self._take(ListUsers())  # having joined, and after each classic file

    def failed(self, error: P2pshareError) -> Turn:
        """The step that was no question could not be taken."""
        said = Said(str(error), Tone.BAD)
        match self._step:
            case FindRegistry():
                return self._take(Leave(error))
            case Join(invitation=invitation):
                if isinstance(error, InvitationNeeded | InvitationRefused):
                    return self._ask_invitation(error, invitation)
                if self._asks_name and isinstance(error, NameTaken | AlreadyRunning):
                    return self._take(Ask(YOUR_NAME), said)
                return self._take(Leave(error))
            case ListFolder(name=name, path=path, may_fetch=True) if path and isinstance(
                error, RemoteIsFile
            ):
                return self._take(GetFiles(name, path))
            case SetDestination():
                return self._take(self._asked, said)
            case ListFolder() | GetFiles() if self._folder is not None and isinstance(
                error, OF_ONE_PATH
            ):
                return self._take(self._open(), said)
        return self._ask_whom(said)

    def interrupted(self) -> Turn:
        """The user has stopped the transfer that was the step."""
        said = Said(STOPPED, Tone.HINT)
        return self._ask_whom(said) if self._folder is None else self._take(self._open(), said)

    def _help(self) -> Turn:
        lines = OPEN_COMMANDS if self._asked.question == OPEN else COMMANDS
        return self._take(self._asked, *(Said(line) for line in lines))

    def _again(self, sentence: str) -> Turn:
        """Ask the same again, with what is wrong."""
        return self._take(self._asked, Said(sentence, Tone.BAD))

    def _open(self) -> Ask:
        return Ask(OPEN, "" if self._folder is None else self._folder.name)

    def _own_name_said(self, text: str) -> Turn:
        if not text:
            return self._take(Ask(YOUR_NAME))
        try:
            self._name = read_name(text)
        except IllegalName as error:
            return self._take(Ask(YOUR_NAME), Said(str(error), Tone.BAD))
        return self._take(Join(self._name))

    def _ask_invitation(self, error: P2pshareError, refused: str | None) -> Turn:
        self._refusal = error
        if refused is None and isinstance(error, InvitationNeeded):
            return self._take(Ask(INVITATION), Said(WANTS_INVITATION, Tone.BAD))
        return self._take(Ask(INVITATION), Said(str(error), Tone.BAD))

    def _invitation_said(self, text: str) -> Turn:
        if not text:
            return self._take(Ask(INVITATION))
        return self._take(Join(self._name, text))

    def _peer_said(self, text: str) -> Turn:
        word, _, rest = text.partition(" ")
        command, rest = word.casefold(), rest.strip()
        if not text or (command == LIST and not rest):
            return self._take(ListUsers())
        self._wants = command == GET
        if command in (GET, LIST):
            text = rest
        try:
            name, self._path = parse_where(text)
        except WrongUsage as error:
            return self._again(str(error) if text else GET_WHAT)
        if self._wants and not self._path:
            return self._again(GET_WHAT)
        if name == self._name:
            return self._ask_whom(Said(FROM_YOURSELF, Tone.BAD))
        return self._take(FindUser(name))

    def _kind_said(self, text: str) -> Turn:
        if not text:
            return self._take(ListUsers())
        kind = _KINDS.get(text.casefold())
        if kind is None:
            return self._again("Type I for the image, T for the text, or nothing to go back.")
        return self._take(GetClassic(self._peer, kind))

    def _entry_said(self, text: str) -> Turn:
        """A number, a path or a glob, in the folder that was listed last."""
        assert self._folder is not None, "there was a list"
        if not text:
            return self._take(ListUsers())
        match self._folder.read(text):
            case Open(path=path, after=after, may_fetch=may_fetch):
                return self._take(ListFolder(self._peer, path, after, may_fetch))
            case Fetch(path=path):
                return self._take(GetFiles(self._peer, path))
            case Unclear(sentence=sentence):
                return self._again(sentence)
            case Away():
                return self._take(ListUsers())

    def _ask_open(self, lines: Iterable[str]) -> Turn:
        says = [Said(line) for line in lines]
        if not self._was_told_how:
            self._was_told_how = True
            says.append(Said(OPEN_HINT, Tone.HINT))
        return self._take(self._open(), *says)

    def _ask_whom(self, *says: Said) -> Turn:
        return self._take(Ask(WHOM), *says)

    def _take(self, step: Step, *says: Said) -> Turn:
        self._step = step
        if isinstance(step, Ask):
            self._asked = step
        return Turn(step, says)


def _here(names: Iterable[str], own_name: str) -> Said:
    """Who is here, as one line."""
    others = sorted(set(names) - {own_name})
    if not others:
        return Said("Nobody else is here yet. Press Enter to look again.", Tone.HINT)
    shown = [*others[:USERS_SHOWN], f"{own_name} (you)"]
    more = len(others) - USERS_SHOWN
    if more <= 0:
        return Said("Here now: " + ", ".join(shown))
    count = str(more) if len(others) < USERS_COUNTED else "many"
    return Said("Here now: " + ", ".join(shown) + f", and {count} more")
