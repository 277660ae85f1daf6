"""Tests for `p2pshare.ui.dialog.dialog`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import (
    AlreadyRunning,
    AnswersUnreadable,
    InvitationNeeded,
    InvitationRefused,
    NameTaken,
    NoSuchPeer,
    OtherKeyThere,
    P2pshareError,
    PeerFellSilent,
    RegistryUnreachable,
    RemoteIsFile,
    RemoteNotFound,
    SessionLost,
)
from p2pshare.ui.dialog.actions import USERS_COUNTED
from p2pshare.ui.dialog.console import BAD, Interrupted
from p2pshare.ui.dialog.dialog import (
    COMMANDS,
    INVITATION,
    OPEN,
    OPEN_COMMANDS,
    OPEN_HINT,
    USERS_SHOWN,
    WANTS_INVITATION,
    WHICH,
    WHICH_HINT,
    WHOM,
    YOUR_NAME,
    Dialog,
)
from p2pshare.ui.verbs.remote_arguments import FROM_YOURSELF
from p2pshare.wire.transfer_messages import Entry, EntryKind, Listing

PAGE = Listing(
    1,
    (
        Entry(("notes.txt",), EntryKind.FILE, 5, 0),
        Entry(("photos",), EntryKind.FOLDER, 0, 0),
    ),
    False,
)
AWAY = RegistryUnreachable(registry="http://x", reason="refused")
PICTURE, TEXT = ("my_file.jpg",), ("my_file.txt",)


class Step(NamedTuple):
    """An answer or an effect that the dialog waits for."""

    kind: str
    arguments: tuple[object, ...] = ()


class Turn(NamedTuple):
    """A step, and the lines that were written before it."""

    step: Step
    says: tuple[tuple[str, str], ...] = ()


def Ask(question: str) -> Step:  # noqa: N802 - a kind of step
    return Step("Ask", (question,))


def Leave(error: P2pshareError | None = None) -> Step:  # noqa: N802
    return Step("Leave", (error,))


def kind_of_step(kind: str) -> Callable[..., Step]:
    return lambda *arguments: Step(kind, arguments)


Join, FindUser, ListFolder, GetFiles, GetClassic, SetDestination = map(
    kind_of_step, ("Join", "FindUser", "ListFolder", "GetFiles", "GetClassic", "SetDestination")
)
Obey = kind_of_step("Obey")
FindRegistry, ListUsers = Step("FindRegistry"), Step("ListUsers")


class Driven:
    """A dialog whose console and actions wait for a test to say what comes of each step."""

    is_terminal = False

    def __init__(self, name: str | None = None) -> None:
        self.where = ""
        self._says: list[tuple[str, str]] = []
        self._step = Leave()
        self._waiting: Deferred[Any] = Deferred()
        self._dialog = Dialog(cast(Any, self), cast(Any, self), name)

    def begin(self) -> Turn:
        running = Deferred.fromCoroutine(self._dialog.run())
        running.addCallbacks(lambda _: self._leave(), lambda failure: self._leave(failure.value))
        return self._turn()

    def line_received(self, text: str) -> Turn:
        return self.succeeded(text)

    def input_ended(self) -> Turn:
        return self.succeeded(None)

    def succeeded(self, result: object = None) -> Turn:
        self._waiting.callback(result)
        return self._turn()

    def failed(self, error: Exception) -> Turn:
        self._waiting.errback(error)
        return self._turn()

    def interrupted(self) -> Turn:
        return self.failed(Interrupted())

    def _turn(self) -> Turn:
        says, self._says = tuple(self._says), []
        return Turn(self._step, says)

    def _take(self, step: Step) -> Deferred[Any]:
        self._step, self._waiting = step, Deferred()
        return self._waiting

    def _leave(self, error: P2pshareError | None = None) -> None:
        self._step = Leave(error)

    # The console.

    def ask(self, question: str, where: str = "") -> Deferred[str | None]:
        self.where = where
        return self._take(Ask(question))

    def line(self, text: str, colour: str = "") -> None:
        self._says.append((text, colour))

    async def interruptible(self, transfer: Awaitable[Any]) -> Any:
        return await transfer

    # The actions.

    def find_registry(self) -> Deferred[None]:
        return self._take(FindRegistry)

    async def join(self, name: str, invitation: str | None) -> list[tuple[str, str]]:
        await self._take(Join(name, invitation) if invitation else Join(name))
        return []

    async def users(self) -> list[str]:
        return await self._take(ListUsers) or []

    @asynccontextmanager
    async def visit(self, name: str) -> AsyncIterator[Any]:
        self.is_classic = not await self._take(FindUser(name))
        self._peer = name
        yield self

    def obey_offers(self, word: str, rest: str) -> Deferred[list[tuple[str, str]]]:
        return self._take(Obey(word, rest))

    def set_destination(self, folder: str) -> Deferred[Path]:
        return self._take(SetDestination(folder))

    # A visit.

    def page(self, path: object, after: object) -> Deferred[Listing]:
        return self._take(ListFolder(self._peer, path))

    def fetch(self, path: object) -> Deferred[int]:
        return self._take(GetFiles(self._peer, path))

    def fetch_classic(self, path: object) -> Deferred[int]:
        return self._take(GetClassic(self._peer, path))


class DialogTests(SynchronousTestCase):
    def joined(self, name: str = "carol") -> Driven:
        """Return a dialog that asks whom to get files from."""
        dialog = Driven(name)
        dialog.begin()
        self.assertEqual(dialog.succeeded().step, Join(name))
        self.assertEqual(dialog.succeeded().step, ListUsers)
        self.assertEqual(dialog.succeeded(["alice", name]).step, Ask(WHOM))
        return dialog

    def assert_bad(self, turn: Turn, part: object) -> None:
        ((text, colour),) = turn.says
        self.assertIn(str(part), text)
        self.assertEqual(colour, BAD)

    def test_whole(self) -> None:
        """The dialog asks for a name, lists the users, fetches a file, and shows the menu again."""
        dialog = Driven()
        self.assertEqual(dialog.begin().step, FindRegistry)
        self.assertEqual(dialog.succeeded().step, Ask(YOUR_NAME))
        self.assertEqual(dialog.line_received(" carol \n").step, Join("carol"))
        self.assertEqual(dialog.succeeded().step, ListUsers)
        turn = dialog.succeeded(["carol", "bob", "alice"])
        self.assertEqual(turn.says, (("Here now: alice, bob, carol (you)", ""),))
        self.assertEqual(turn.step, Ask(WHOM))
        self.assertEqual(dialog.line_received("alice").step, FindUser("alice"))
        self.assertEqual(dialog.succeeded(False).step, Ask(WHICH))
        self.assertEqual(dialog.line_received("I").step, GetClassic("alice", PICTURE))
        self.assertEqual(dialog.succeeded().step, ListUsers)
        self.assertEqual(dialog.succeeded([]).step, Ask(WHOM))
        self.assertEqual(dialog.line_received("Quit").step, Leave())

    def test_no_registry(self) -> None:
        """Without a registry the dialog ends before the first question."""
        dialog = Driven()
        dialog.begin()
        self.assertEqual(dialog.failed(AWAY).step, Leave(AWAY))

    def test_name_again(self) -> None:
        """The dialog asks for a name until it is legal and free, and says each time what is wrong."""
        dialog = Driven()
        dialog.begin()
        dialog.succeeded()
        self.assertEqual(dialog.line_received("").step, Ask(YOUR_NAME))
        turn = dialog.line_received("two words")
        self.assertEqual(turn.step, Ask(YOUR_NAME))
        self.assert_bad(turn, "'two words'")
        for error in (NameTaken(name="bob", registry="x"), AlreadyRunning(name="bob", pid=7)):
            self.assertEqual(dialog.line_received("Bob").step, Join("bob"))
            turn = dialog.failed(error)
            self.assertEqual(turn.step, Ask(YOUR_NAME))
            self.assert_bad(turn, error)
        dialog.line_received("bob")
        self.assertEqual(dialog.failed(AWAY).step, Leave(AWAY))

    def test_name_given(self) -> None:
        """If the command line gave a name that is taken, the dialog ends."""
        dialog = Driven("bob")
        dialog.begin()
        self.assertEqual(dialog.succeeded().step, Join("bob"))
        taken = NameTaken(name="bob", registry="x")
        self.assertEqual(dialog.failed(taken).step, Leave(taken))

    def test_invitation(self) -> None:
        """The dialog asks for an invitation until the registry accepts one, and keeps the name."""
        needed, refused = InvitationNeeded(registry="x"), InvitationRefused(registry="x")
        for dialog in (Driven("bob"), Driven()):
            dialog.begin()
            turn = dialog.succeeded()
            if turn.step.kind == "Ask":
                turn = dialog.line_received("bob")
            self.assertEqual(turn.step, Join("bob"))
            turn = dialog.failed(needed)
            self.assertEqual(turn.step, Ask(INVITATION))
            self.assert_bad(turn, WANTS_INVITATION)
            self.assertEqual(dialog.line_received("").step, Ask(INVITATION))
            self.assertEqual(dialog.line_received(" a.b \n").step, Join("bob", "a.b"))
            turn = dialog.failed(refused)
            self.assertEqual(turn.step, Ask(INVITATION))
            self.assert_bad(turn, refused)
            self.assertEqual(dialog.line_received("c.d").step, Join("bob", "c.d"))
            self.assertEqual(dialog.succeeded().step, ListUsers)
            dialog.succeeded()
            self.assertEqual(dialog.input_ended().step, Leave())

    def test_no_invitation(self) -> None:
        """If the input ends at the question for an invitation, the refusal of the registry is the error."""
        needed = InvitationNeeded(registry="x")
        dialog = Driven("bob")
        dialog.begin()
        dialog.succeeded()
        dialog.failed(needed)
        self.assertEqual(dialog.input_ended().step, Leave(needed))

    def test_whom_again(self) -> None:
        """The dialog asks for a peer until there is one; an empty line lists the users again."""
        dialog = self.joined()
        turn = dialog.line_received("carol")
        self.assertEqual(turn.step, Ask(WHOM))
        self.assert_bad(turn, FROM_YOURSELF)
        self.assert_bad(dialog.line_received("\x1b"), repr("\x1b"))
        dialog.line_received("nobody")
        turn = dialog.failed(error := NoSuchPeer(name="nobody"))
        self.assertEqual(turn.step, Ask(WHOM))
        self.assert_bad(turn, error)
        self.assertEqual(dialog.line_received("").step, ListUsers)
        self.assertEqual(dialog.failed(AWAY).step, Ask(WHOM))

    def test_which(self) -> None:
        """I and T are accepted in any case and in full; an empty line goes back, any other answer is asked again."""
        for answer, path in {
            "i": PICTURE,
            "I": PICTURE,
            "image": PICTURE,
            "T": TEXT,
            "Text": TEXT,
        }.items():
            dialog = self.joined()
            dialog.line_received("alice")
            dialog.succeeded(False)
            turn = dialog.line_received("x")
            self.assertEqual(turn.step, Ask(WHICH))
            self.assert_bad(turn, WHICH_HINT)
            self.assertEqual(dialog.line_received(answer).step, GetClassic("alice", path))
        dialog = self.joined()
        dialog.line_received("alice")
        dialog.succeeded(False)
        self.assertEqual(dialog.line_received("").step, ListUsers)

    def looking(self) -> Driven:
        """Return a dialog that shows the shares of alice."""
        dialog = self.joined()
        dialog.line_received("alice")
        self.assertEqual(dialog.succeeded(True).step, ListFolder("alice", ()))
        self.assertEqual(dialog.succeeded(PAGE).step, Ask(OPEN))
        return dialog

    def test_browse(self) -> None:
        """In a peer that speaks sessions, folders open and files are fetched, and the question comes again."""
        dialog = self.joined()
        dialog.line_received("alice")
        self.assertEqual(dialog.succeeded(True).step, ListFolder("alice", ()))
        turn = dialog.succeeded(PAGE)
        texts = [text for text, _ in turn.says]
        self.assertEqual(texts[0], "alice:")
        self.assertIn("notes.txt", texts[1])
        self.assertEqual(texts[3], OPEN_HINT)
        self.assertEqual(dialog.line_received("1").step, GetFiles("alice", ("notes.txt",)))
        self.assertEqual(dialog.succeeded(), Turn(Ask(OPEN)))
        self.assertEqual(dialog.line_received("photos").step, ListFolder("alice", ("photos",)))
        turn = dialog.succeeded(Listing(1, (), False))
        self.assertNotIn(OPEN_HINT, [text for text, _ in turn.says])
        self.assertEqual(dialog.line_received("..").step, ListFolder("alice", ()))
        dialog.succeeded(PAGE)
        self.assertEqual(dialog.line_received("..").step, ListUsers)

    def test_browse_wrongly(self) -> None:
        """An error of one path leaves the user in the folder; a path that is a file is fetched."""
        dialog = self.looking()
        self.assert_bad(dialog.line_received("7"), "no number 7")
        dialog.line_received("photos/cat.jpg")
        turn = dialog.failed(RemoteIsFile(name="alice", path="photos/cat.jpg"))
        self.assertEqual(turn.step, GetFiles("alice", ("photos", "cat.jpg")))
        turn = dialog.failed(error := RemoteNotFound(name="alice", path="photos/cat.jpg"))
        self.assertEqual(turn.step, Ask(OPEN))
        self.assert_bad(turn, error)
        self.assertEqual(dialog.line_received("").step, ListUsers)

    def test_help(self) -> None:
        """Every menu shows its commands, and asks again."""
        for dialog, commands in ((self.joined(), COMMANDS), (self.looking(), OPEN_COMMANDS)):
            for word in ("help", "?", "HELP"):
                turn = dialog.line_received(word)
                self.assertEqual(turn.step.kind, "Ask")
                self.assertEqual(tuple(text for text, _ in turn.says), commands)
        self.assertLess(max(map(len, COMMANDS + OPEN_COMMANDS)), 40)
        self.assertEqual(dialog.line_received("./help").step, ListFolder("alice", ("help",)))
        self.assertEqual(self.joined().line_received("ls help").step, FindUser("help"))

    def test_commands(self) -> None:
        """A line may contain a command, a user and a path, as for the verbs."""
        for line, step in {
            "ls": ListUsers,
            "ls alice": ListFolder("alice", ()),
            "Alice:photos": ListFolder("alice", ("photos",)),
            "ls alice:photos": ListFolder("alice", ("photos",)),
            "get alice:photos/*.jpg": GetFiles("alice", ("photos", "*.jpg")),
        }.items():
            dialog = self.joined()
            turn = dialog.line_received(line)
            if step != ListUsers:
                self.assertEqual(turn.step, FindUser("alice"))
                turn = dialog.succeeded(True)
            self.assertEqual(turn.step, step)
        dialog = self.joined()
        for line in ("get", "get alice", "get alice:", "alice/photos", "to"):
            turn = dialog.line_received(line)
            self.assertEqual(turn.step, Ask(WHOM))
            self.assertEqual(turn.says[0][1], BAD)

    def test_ls_fetches_nothing(self) -> None:
        """`ls` does not fetch a path that is a file, in either menu."""
        dialog = self.looking()
        dialog.line_received("ls x")
        turn = dialog.failed(RemoteIsFile(name="alice", path="x"))
        self.assertEqual(turn.step, Ask(OPEN))
        dialog = self.joined()
        dialog.line_received("ls alice:x")
        dialog.succeeded(True)
        turn = dialog.failed(RemoteIsFile(name="alice", path="x"))
        self.assertEqual(turn.step, Ask(WHOM))

    def test_where(self) -> None:
        """The question shows where the user is."""
        dialog = self.looking()
        dialog.line_received("photos")
        self.assertEqual(dialog.succeeded(PAGE).step, Ask(OPEN))
        self.assertEqual(dialog.where, "alice:photos")

    def test_destination(self) -> None:
        """Either menu sets the destination, and asks again."""
        for dialog, question in ((self.joined(), WHOM), (self.looking(), OPEN)):
            self.assertEqual(dialog.line_received("to ~/a b").step, SetDestination("~/a b"))
            self.assertEqual(dialog.succeeded().step, Ask(question))
            dialog.line_received("to nowhere")
            turn = dialog.failed(P2pshareError(reason="x"))
            self.assertEqual(turn.step, Ask(question))
            self.assert_bad(turn, "x")

    def test_accept(self) -> None:
        """Either menu lets a peer see the user's shares, and asks again."""
        for dialog, question in ((self.joined(), WHOM), (self.looking(), OPEN)):
            self.assertEqual(
                dialog.line_received("Accept bob abcd efgh").step, Obey("accept", "bob abcd efgh")
            )
            turn = dialog.succeeded([("Accepted.", "")])
            self.assertEqual((turn.step, turn.says), (Ask(question), (("Accepted.", ""),)))
            dialog.line_received("accept dave")
            self.assert_bad(dialog.failed(P2pshareError(reason="x")), "x")
            for word in ("inbox", "send a b", "decline", "offers", "cancel x"):
                command, _, rest = word.partition(" ")
                self.assertEqual(dialog.line_received(word).step, Obey(command, rest))
                dialog.succeeded([])
            dialog.line_received("send a b")
            self.assertEqual(dialog.interrupted().step, Ask(question))

    def test_waiting_interrupted(self) -> None:
        """Ctrl+C while a peer has not accepted the user leaves the user in the menu."""
        dialog = self.joined()
        dialog.line_received("alice")
        self.assertEqual(dialog.succeeded(True).step, ListFolder("alice", ()))
        self.assertEqual(dialog.interrupted().step, Ask(WHOM))

    def test_interrupted(self) -> None:
        """Ctrl+C during a transfer leaves the user in the same menu."""
        dialog = self.looking()
        dialog.line_received("1")
        self.assertEqual(dialog.interrupted().step, Ask(OPEN))
        dialog = self.joined()
        dialog.line_received("get alice:x")
        dialog.succeeded(True)
        self.assertEqual(dialog.interrupted().step, Ask(WHOM))

    def test_lost(self) -> None:
        """A lost session, or a key that is not the known one, ends the visit: threat 15."""
        other = OtherKeyThere(name="alice", address="x", known="a b", there="c d")
        for error in (SessionLost(name="alice", reason="x"), other):
            for answer in ("photos", "1"):
                dialog = self.looking()
                dialog.line_received(answer)
                turn = dialog.failed(error)
                self.assertEqual(turn.step, Ask(WHOM))
                self.assert_bad(turn, error)

    def test_failed_fetch(self) -> None:
        """An error of a classic fetch is shown, and the outer menu comes again."""
        dialog = self.joined()
        dialog.line_received("alice")
        dialog.succeeded(False)
        dialog.line_received("i")
        error = PeerFellSilent(name="alice", done=1, total=2, missing="2")
        turn = dialog.failed(error)
        self.assertEqual(turn.step, Ask(WHOM))
        self.assert_bad(turn, error)

    def test_alone(self) -> None:
        """A user who is alone is told what to do."""
        dialog = self.joined()
        dialog.line_received("")
        self.assertRegex(dialog.succeeded(["carol"]).says[0][0], "Nobody else .* Enter")

    def test_long_list(self) -> None:
        """Of many users some are shown, and the others are counted."""
        dialog = self.joined()
        dialog.line_received("")
        ((text, _),) = dialog.succeeded([f"user{n:04}" for n in range(USERS_SHOWN + 7)]).says
        self.assertEqual(text.count("user"), USERS_SHOWN)
        self.assertTrue(text.endswith(", carol (you), and 7 more"))
        dialog.line_received("")
        ((text, _),) = dialog.succeeded([f"user{n:04}" for n in range(USERS_COUNTED)]).says
        self.assertTrue(text.endswith(", and many more"))

    def test_answers_unreadable(self) -> None:
        """Answers that cannot be read end the dialog at the menus, too."""
        dialog = self.joined()
        error = AnswersUnreadable(reason="it is in UTF-16")
        self.assertEqual(dialog.failed(error).step, Leave(error))

    def test_input_ended(self) -> None:
        """The end of the input ends the dialog at every question."""
        self.assertEqual(self.joined().input_ended().step, Leave())

    @given(st.sampled_from([None, "carol"]), st.data())
    def test_anything(self, name: str | None, data: st.DataObject) -> None:
        """Any lines and any outcomes lead to a next step, until the dialog ends."""
        dialog = Driven(name)
        turn = dialog.begin()
        lines = st.sampled_from(
            ["alice", "i", "T", "", "quit", "1", "2", "..", "*", "?", "to x", "ls"]
        ) | st.text(max_size=40)
        errors = st.sampled_from(
            [
                AWAY,
                P2pshareError(reason="x"),
                NameTaken(name="", registry=""),
                InvitationNeeded(registry=""),
                RemoteIsFile(name="alice", path="x"),
            ]
        )
        for _ in range(data.draw(st.integers(0, 15))):
            match turn.step.kind:
                case "Leave":
                    break
                case "Ask":
                    turn = dialog.line_received(data.draw(lines))
                case kind if data.draw(st.booleans()):
                    results = {
                        "FindUser": data.draw(st.booleans()),
                        "ListUsers": ["alice", "bob"],
                        "ListFolder": PAGE,
                    }
                    turn = dialog.succeeded(results.get(kind))
                case _:
                    turn = dialog.failed(data.draw(errors))
