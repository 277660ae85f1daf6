"""Tests for `p2pshare.ui.dialog.steps`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.classic.datagrams import Kind
from p2pshare.errors import (
    AlreadyRunning,
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
from p2pshare.ui.dialog.steps import (
    COMMANDS,
    INVITATION,
    OPEN,
    OPEN_COMMANDS,
    OPEN_HINT,
    USERS_COUNTED,
    USERS_SHOWN,
    WHICH,
    WHOM,
    YOUR_NAME,
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
    Said,
    SetDestination,
    Tone,
    Turn,
)
from p2pshare.ui.verbs.items import FROM_YOURSELF
from p2pshare.wire.transfer_messages import Entry, EntryKind

PAGE = Page(
    (
        Entry(("notes.txt",), EntryKind.FILE, 5, 0),
        Entry(("photos",), EntryKind.FOLDER, 0, 0),
    ),
    False,
)
AWAY = RegistryUnreachable(registry="http://x", reason="refused")


class DialogTests(SynchronousTestCase):
    def joined(self, name: str = "carol") -> Dialog:
        """A dialog that asks whom to get files from."""
        dialog = Dialog(name)
        dialog.begin()
        self.assertEqual(dialog.succeeded().step, Join(name))
        self.assertEqual(dialog.succeeded().step, ListUsers())
        self.assertEqual(dialog.succeeded(["alice", name]).step, Ask(WHOM))
        return dialog

    def assert_bad(self, turn: Turn, pattern: str) -> None:
        (said,) = turn.says
        self.assertRegex(said.text, pattern)
        self.assertIs(said.tone, Tone.BAD)

    def test_whole(self) -> None:
        """A name, a list, a file, and the menu again."""
        dialog = Dialog()
        self.assertEqual(dialog.begin().step, FindRegistry())
        self.assertEqual(dialog.succeeded().step, Ask(YOUR_NAME))
        self.assertEqual(dialog.line_received(" carol \n").step, Join("carol"))
        self.assertEqual(dialog.succeeded().step, ListUsers())
        turn = dialog.succeeded(["carol", "bob", "alice"])
        self.assertEqual(turn.says, (Said("Here now: alice, bob, carol (you)"),))
        self.assertEqual(turn.step, Ask(WHOM))
        self.assertEqual(dialog.line_received("alice").step, FindUser("alice"))
        self.assertEqual(dialog.succeeded(False).step, Ask(WHICH))
        self.assertEqual(dialog.line_received("I").step, GetClassic("alice", Kind.PICTURE))
        self.assertEqual(dialog.succeeded().step, ListUsers())
        self.assertEqual(dialog.succeeded([]).step, Ask(WHOM))
        self.assertEqual(dialog.line_received("Quit").step, Leave())

    def test_no_registry(self) -> None:
        """Without a registry nothing is asked."""
        dialog = Dialog()
        dialog.begin()
        self.assertEqual(dialog.failed(AWAY).step, Leave(AWAY))

    def test_name_again(self) -> None:
        """A name is asked for until it is legal and free, each time with the reason."""
        dialog = Dialog()
        dialog.begin()
        dialog.succeeded()
        self.assertEqual(dialog.line_received("").step, Ask(YOUR_NAME))
        turn = dialog.line_received("two words")
        self.assertEqual(turn.step, Ask(YOUR_NAME))
        self.assert_bad(turn, "'two words' cannot be a name")
        for error in (NameTaken(name="bob", registry="x"), AlreadyRunning(name="bob", pid=7)):
            self.assertEqual(dialog.line_received("Bob").step, Join("bob"))
            turn = dialog.failed(error)
            self.assertEqual(turn.step, Ask(YOUR_NAME))
            self.assert_bad(turn, "choose another name")
        dialog.line_received("bob")
        self.assertEqual(dialog.failed(AWAY).step, Leave(AWAY))

    def test_name_given(self) -> None:
        """A name that came with the command line is not asked for, so it must do."""
        dialog = Dialog("bob")
        dialog.begin()
        self.assertEqual(dialog.succeeded().step, Join("bob"))
        taken = NameTaken(name="bob", registry="x")
        self.assertEqual(dialog.failed(taken).step, Leave(taken))

    def test_invitation(self) -> None:
        """A registry that wants an invitation gets one, as often as it takes, for the same name."""
        needed, refused = InvitationNeeded(registry="x"), InvitationRefused(registry="x")
        for dialog in (Dialog("bob"), Dialog()):
            dialog.begin()
            turn = dialog.succeeded()
            if isinstance(turn.step, Ask):
                turn = dialog.line_received("bob")
            self.assertEqual(turn.step, Join("bob"))
            turn = dialog.failed(needed)
            self.assertEqual(turn.step, Ask(INVITATION))
            self.assert_bad(turn, "by invitation only")
            self.assertEqual(dialog.line_received("").step, Ask(INVITATION))
            self.assertEqual(dialog.line_received(" a.b \n").step, Join("bob", "a.b"))
            turn = dialog.failed(refused)
            self.assertEqual(turn.step, Ask(INVITATION))
            self.assert_bad(turn, "does not take this invitation")
            self.assertEqual(dialog.line_received("c.d").step, Join("bob", "c.d"))
            self.assertEqual(dialog.succeeded().step, ListUsers())
            self.assertEqual(dialog.input_ended().step, Leave())

    def test_no_invitation(self) -> None:
        """Where nobody can be asked for one, that is the error."""
        needed = InvitationNeeded(registry="x")
        dialog = Dialog("bob")
        dialog.begin()
        dialog.succeeded()
        dialog.failed(needed)
        self.assertEqual(dialog.input_ended().step, Leave(needed))

    def test_whom_again(self) -> None:
        """A peer is asked for until there is one; an empty line lists again."""
        dialog = self.joined()
        turn = dialog.line_received("carol")
        self.assertEqual(turn.step, Ask(WHOM))
        self.assert_bad(turn, FROM_YOURSELF)
        self.assert_bad(dialog.line_received("\x1b"), "cannot be a name")
        dialog.line_received("nobody")
        turn = dialog.failed(NoSuchPeer(name="nobody"))
        self.assertEqual(turn.step, Ask(WHOM))
        self.assert_bad(turn, "Nobody is registered")
        self.assertEqual(dialog.line_received("").step, ListUsers())
        self.assertEqual(dialog.failed(AWAY).step, Ask(WHOM))

    def test_which(self) -> None:
        """I and T in any case and in full; an empty line goes back, anything else is asked again."""
        for answer, kind in {
            "i": Kind.PICTURE,
            "I": Kind.PICTURE,
            "image": Kind.PICTURE,
            "T": Kind.TEXT,
            "Text": Kind.TEXT,
        }.items():
            dialog = self.joined()
            dialog.line_received("alice")
            dialog.succeeded(False)
            turn = dialog.line_received("x")
            self.assertEqual(turn.step, Ask(WHICH))
            self.assert_bad(turn, "Type I for the image")
            self.assertEqual(dialog.line_received(answer).step, GetClassic("alice", kind))
        dialog = self.joined()
        dialog.line_received("alice")
        dialog.succeeded(False)
        self.assertEqual(dialog.line_received("").step, ListUsers())

    def looking(self) -> Dialog:
        """A dialog in which the shares of alice are on the screen."""
        dialog = self.joined()
        dialog.line_received("alice")
        self.assertEqual(dialog.succeeded(True).step, ListFolder("alice", ()))
        self.assertEqual(dialog.succeeded(PAGE).step, Ask(OPEN))
        return dialog

    def test_browse(self) -> None:
        """Who takes sessions is looked around at: folders open, files are fetched, and the question is back."""
        dialog = self.joined()
        dialog.line_received("alice")
        self.assertEqual(dialog.succeeded(True).step, ListFolder("alice", ()))
        turn = dialog.succeeded(PAGE)
        texts = [said.text for said in turn.says]
        self.assertEqual(texts[0], "alice:")
        self.assertIn("notes.txt", texts[1])
        self.assertEqual(texts[3], OPEN_HINT)
        self.assertEqual(dialog.line_received("1").step, GetFiles("alice", ("notes.txt",)))
        self.assertEqual(dialog.succeeded(), Turn(Ask(OPEN)))
        self.assertEqual(dialog.line_received("photos").step, ListFolder("alice", ("photos",)))
        turn = dialog.succeeded(Page((), False))
        self.assertNotIn(OPEN_HINT, [said.text for said in turn.says])
        self.assertEqual(dialog.line_received("..").step, ListFolder("alice", ()))
        dialog.succeeded(PAGE)
        self.assertEqual(dialog.line_received("..").step, ListUsers())

    def test_browse_wrongly(self) -> None:
        """What does not work in a folder leaves one there; a path that turns out to be a file is fetched."""
        dialog = self.looking()
        self.assert_bad(dialog.line_received("7"), "no number 7")
        dialog.line_received("photos/cat.jpg")
        turn = dialog.failed(RemoteIsFile(name="alice", path="photos/cat.jpg"))
        self.assertEqual(turn.step, GetFiles("alice", ("photos", "cat.jpg")))
        turn = dialog.failed(RemoteNotFound(name="alice", path="photos/cat.jpg"))
        self.assertEqual(turn.step, Ask(OPEN))
        self.assert_bad(turn, "shares no")
        self.assertEqual(dialog.line_received("").step, ListUsers())

    def test_help(self) -> None:
        """The commands are shown wherever one can be given, and the question comes again."""
        for dialog, commands in ((self.joined(), COMMANDS), (self.looking(), OPEN_COMMANDS)):
            for word in ("help", "?", "HELP"):
                turn = dialog.line_received(word)
                self.assertIsInstance(turn.step, Ask)
                self.assertEqual(tuple(said.text for said in turn.says), commands)
        self.assertLess(max(map(len, COMMANDS + OPEN_COMMANDS)), 40)
        self.assertEqual(dialog.line_received("./help").step, ListFolder("alice", ("help",)))
        self.assertEqual(self.joined().line_received("ls help").step, FindUser("help"))

    def test_commands(self) -> None:
        """A user, a path and a command may be in one line, as for the verbs."""
        for line, step in {
            "ls": ListUsers(),
            "ls alice": ListFolder("alice", ()),
            "Alice:photos": ListFolder("alice", ("photos",)),
            "ls alice:photos": ListFolder("alice", ("photos",)),
            "get alice:photos/*.jpg": GetFiles("alice", ("photos", "*.jpg")),
        }.items():
            dialog = self.joined()
            turn = dialog.line_received(line)
            if not isinstance(step, ListUsers):
                self.assertEqual(turn.step, FindUser("alice"))
                turn = dialog.succeeded(True)
            self.assertEqual(turn.step, step)
        dialog = self.joined()
        for line in ("get", "get alice", "get alice:", "alice/photos", "to"):
            turn = dialog.line_received(line)
            self.assertEqual(turn.step, Ask(WHOM))
            self.assertIs(turn.says[0].tone, Tone.BAD)

    def test_ls_fetches_nothing(self) -> None:
        """What "ls" names is not fetched, if it turns out to be a file."""
        dialog = self.looking()
        dialog.line_received("ls x")
        turn = dialog.failed(RemoteIsFile(name="alice", path="x"))
        self.assertEqual(turn.step, Ask(OPEN))

    def test_where(self) -> None:
        """The question says where one is."""
        dialog = self.looking()
        dialog.line_received("photos")
        step = dialog.succeeded(PAGE).step
        assert isinstance(step, Ask)
        self.assertEqual((step.question, step.where), (OPEN, "alice:photos"))

    def test_destination(self) -> None:
        """A destination is set from either question, which comes again."""
        for dialog, question in ((self.joined(), WHOM), (self.looking(), OPEN)):
            self.assertEqual(dialog.line_received("to ~/a b").step, SetDestination("~/a b"))
            self.assertEqual(dialog.succeeded().step, Ask(question))
            dialog.line_received("to nowhere")
            turn = dialog.failed(P2pshareError(reason="x"))
            self.assertEqual(turn.step, Ask(question))
            self.assert_bad(turn, "x")

    def test_interrupted(self) -> None:
        """A transfer that is stopped leaves one where one was."""
        dialog = self.looking()
        dialog.line_received("1")
        self.assertEqual(dialog.interrupted().step, Ask(OPEN))
        dialog = self.joined()
        dialog.line_received("get alice:x")
        dialog.succeeded(True)
        self.assertEqual(dialog.interrupted().step, Ask(WHOM))

    def test_lost(self) -> None:
        """A session that is lost, or another key than the known one, ends the visit: threat 15."""
        other = OtherKeyThere(name="alice", address="x", known="a b", there="c d")
        for error in (SessionLost(name="alice", reason="x"), other):
            for answer in ("photos", "1"):
                dialog = self.looking()
                dialog.line_received(answer)
                turn = dialog.failed(error)
                self.assertEqual(turn.step, Ask(WHOM))
                self.assert_bad(turn, "alice")

    def test_failed_fetch(self) -> None:
        """A fetch that failed is said, and the menu is back."""
        dialog = self.joined()
        dialog.line_received("alice")
        dialog.succeeded(False)
        dialog.line_received("i")
        turn = dialog.failed(PeerFellSilent(name="alice", done=1, total=2, missing="2"))
        self.assertEqual(turn.step, Ask(WHOM))
        self.assert_bad(turn, "fell silent")

    def test_alone(self) -> None:
        """Who is alone is told what to do."""
        dialog = self.joined()
        dialog.line_received("")
        self.assertRegex(dialog.succeeded(["carol"]).says[0].text, "Nobody else .* Enter")

    def test_long_list(self) -> None:
        """Of many users some are shown, and the others counted."""
        dialog = self.joined()
        dialog.line_received("")
        (said,) = dialog.succeeded([f"user{n:04}" for n in range(USERS_SHOWN + 7)]).says
        self.assertEqual(said.text.count("user"), USERS_SHOWN)
        self.assertTrue(said.text.endswith(", carol (you), and 7 more"))
        dialog.line_received("")
        (said,) = dialog.succeeded([f"user{n:04}" for n in range(USERS_COUNTED)]).says
        self.assertTrue(said.text.endswith(", and many more"))

    def test_input_ended(self) -> None:
        """The end of the input ends the dialog, whatever is asked."""
        self.assertEqual(self.joined().input_ended().step, Leave())

    @given(st.sampled_from([None, "carol"]), st.data())
    def test_anything(self, name: str | None, data: st.DataObject) -> None:
        """Any lines, and any outcomes, lead to a next turn until it is over."""
        dialog = Dialog(name)
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
            match turn.step:
                case Leave():
                    break
                case Ask():
                    turn = dialog.line_received(data.draw(lines))
                case step if data.draw(st.booleans()):
                    results = {
                        FindUser: data.draw(st.booleans()),
                        ListUsers: ["alice", "bob"],
                        ListFolder: PAGE,
                    }
                    turn = dialog.succeeded(results.get(type(step)))  # type: ignore[arg-type]
                case _:
                    turn = dialog.failed(data.draw(errors))
