"""Tests for `p2pshare complete`, and for the scripts of the shells."""

from __future__ import annotations

import json
import os
import pty
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any
from unittest import skipUnless

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import KnownRegistriesUnusable
from p2pshare.storage.identity.data_folder import LAN_PLACE
from p2pshare.storage.identity.known_peers import KnownPeers
from p2pshare.storage.identity.known_registries import KnownRegistries
from p2pshare.storage.identity.last_seen import Seen
from p2pshare.storage.settings import PICTURES, Settings
from p2pshare.storage.shares.arguments import SharedPath
from p2pshare.storage.shares.kept import KeptShare, KeptShares
from p2pshare.storage.socket_paths import CONTROL_NAME
from p2pshare.ui.commands.table import COMMANDS, SHELLS
from p2pshare.ui.completion.complete import complete
from p2pshare.ui.completion.scripts import SCRIPTS
from p2pshare.ui.completion.sources import ANSWER_MAX, Lookup
from p2pshare.wire.keys import SigningKey

PATIENCE = 90.0  # seconds for a shell that starts a program for each line, on a busy machine
HOSTILE = (
    "$(touch pwned)",
    "`touch pwned`",
    "q'uote",
    'double"quote',
    "back\\slash",
    "semi;touch pwned",
    "a b",
    "{x,y}",
    "ünï",
)
FOLDERS = ("my pics", "sub/in here", "$(touch pwned)")
"""Folders in the current one, while a shell runs."""
MET = "http://nas.lan:8000"
"""The URL of a registry whose key is known."""
UNSHOWN = ("new\nline", "escape\x1b[2J", "turned\u202egpj")
HEAVY = ("twisted", "cryptography", "rich", "numpy", "blake3", "asyncio", "PIL", "argparse")


class CompletingTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="p2p-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": folder.name,
            "XDG_CONFIG_HOME": folder.name,
            "P2PSHARE_DATA": folder.name,
        }
        self.seen = Seen(self.folder)
        self.seen.saw_names(["alice", "albert", "bob"])
        self.seen.saw_entries("alice", (), {"photos": True, "notes.txt": False})
        self.seen.saw_entries("alice", ("photos",), dict.fromkeys((*HOSTILE, *UNSHOWN), False))

    def candidates(self, *words: str) -> list[str]:
        return complete(["zsh", *words], self.environ)[1]


class CompleteTests(CompletingTestCase):
    def test_verbs_and_flags(self) -> None:
        """The verbs, flags and choices of the table are offered."""
        self.assertIn("get", self.candidates(""))
        self.assertEqual(self.candidates("us"), ["users"])
        self.assertEqual(self.candidates("key", "exp"), ["export"])
        self.assertEqual(self.candidates("completion", ""), ["bash", "fish", "zsh"])
        self.assertEqual(self.candidates("ls", "--via", ""), ["auto", "relay", "tcp", "udp"])
        self.assertEqual(self.candidates("get", "--pictures", ""), sorted(PICTURES))
        self.assertIn("--force", self.candidates("get", "--"))
        self.assertNotIn("--force", self.candidates("ls", "--"))
        self.assertIn("--version", self.candidates("--"))
        self.assertNotIn("--version", self.candidates("ls", "--"))
        self.assertEqual(self.candidates("--name", ""), [])
        for words, how in (
            (["--data", ""], "folders"),
            (["--debug", ""], "files"),
            (["key", "export", ""], "files"),
        ):
            self.assertEqual(complete(["zsh", *words], self.environ), (how, []))
        for command in COMMANDS:
            self.assertIn("--name", self.candidates(*command.name.split(), "--"))

    def test_reach(self) -> None:
        """`path` offers peers, `invite` peers and their paths, and `join` nothing, since nobody knows a link."""
        self.assertEqual(self.candidates("path", "al"), ["albert", "alice"])
        self.assertEqual(self.candidates("path", "alice", ""), [])
        self.assertEqual(self.candidates("invite", "alice:n"), ["alice:notes.txt"])
        self.assertEqual(self.candidates("join", ""), [])
        self.assertEqual(self.candidates("open", "al"), ["albert:", "alice:"])
        self.assertEqual(self.candidates("open", "alice:n"), ["alice:notes.txt"])

    def test_destination(self) -> None:
        """After the first item of `get`, local folders are offered beside peers; the shell completes paths."""
        work = Path(self.mktemp())
        work.mkdir()
        for name in ("albums", ".hidden", "Bilder", *UNSHOWN):
            (work / name).mkdir()
        (work / "alone.txt").write_text("")
        before = os.getcwd()
        self.addCleanup(os.chdir, before)
        os.chdir(work)
        for last, offered in {
            "": ["Bilder/", "albert:", "albums/", "alice:", "bob:"],
            "al": ["albert:", "albums/", "alice:"],
            "B": ["Bilder/"],
            "alice:n": ["alice:notes.txt"],
        }.items():
            self.assertEqual(self.candidates("get", "alice:x", last), offered)
        self.assertEqual(self.candidates("get", ""), ["albert:", "alice:", "bob:"])
        for last, how in {
            "./": "folders",
            "~": "folders",
            "~/P": "folders",
            "/tm": "folders",
            "albums/x": "folders",
            ".h": "folders",
            "alon": "files",
        }.items():
            words = ["zsh", "get", "alice:x", last]
            self.assertEqual(complete(words, self.environ), (how, []), last)

    def test_send(self) -> None:
        """`send` has files first, then files and names, several of them with commas; a text has names only."""
        self.assertEqual(complete(["zsh", "send", ""], self.environ), ("files", []))
        self.assertIn("alice", self.candidates("send", "x", ""))
        self.assertEqual(self.candidates("send", "x", "bob,al"), ["bob,albert", "bob,alice"])
        self.assertEqual(complete(["zsh", "send", "x", "./al"], self.environ), ("files", []))
        self.assertEqual(complete(["zsh", "send", "x", "Z"], self.environ), ("files", []))
        self.assertEqual(self.candidates("send", "--text", "hi", "al"), ["albert", "alice"])
        self.assertEqual(
            self.candidates("inbox", ""), ["accept", "clear", "decline", "pause", "resume"]
        )

    def test_known(self) -> None:
        """`peers forget` offers the peers whose keys are known."""
        self.assertEqual(self.candidates("peers", "forget", ""), [])
        key = SigningKey(bytes(32)).public
        known = KnownPeers(self.folder, LAN_PLACE)
        for name in ("alice", "zoe"):
            known.pin(name, key, None)
        KnownPeers(self.folder, "http://192.0.2.1:8000").pin("eve", key, None)
        self.assertEqual(self.candidates("peers", "forget", ""), ["alice", "zoe"])
        self.assertEqual(self.candidates("peers", "forget", "z"), ["zoe"])
        known.path.write_text("damaged")
        self.assertEqual(self.candidates("peers", "forget", ""), [])

    def test_registries(self) -> None:
        """`registries forget` and `--registry` offer the registries whose keys are known."""
        self.assertEqual(self.candidates("registries", "f"), ["forget"])
        self.assertEqual(self.candidates("registries", "forget", ""), [])
        known = KnownRegistries(self.folder)
        for url in ("http://nas.lan:8000", "https://names.example"):
            known.pin(url, str(SigningKey(bytes(32)).public))
        met = ["http://nas.lan:8000", "https://names.example"]
        self.assertEqual(self.candidates("registries", "forget", ""), met)
        self.assertEqual(self.candidates("registries", "forget", "http:"), met[:1])
        self.assertEqual(self.candidates("get", "--registry", "https"), met[1:])
        known.path.write_text("damaged")
        with self.assertRaises(KnownRegistriesUnusable):
            self.candidates("registries", "forget", "")

    def test_names_and_paths(self) -> None:
        """Names are offered, and after a colon paths, folders with a slash."""
        self.assertEqual(self.candidates("get", "al"), ["albert:", "alice:"])
        self.assertEqual(self.candidates("get", "alice:p"), ["alice:photos/"])
        self.assertEqual(self.candidates("ls", "alice:photos/q"), ["alice:photos/q'uote"])
        for word in ("nobody:", "alice:photos/../", "al\x1b", "alice:none/", "ALICE:", ":", "//"):
            self.assertEqual(self.candidates("get", word), [], word)

    def test_unshown(self) -> None:
        """Names with characters that a terminal obeys or hides are not offered: threat 4."""
        offered = self.candidates("get", "alice:photos/")
        self.assertEqual(offered, sorted(f"alice:photos/{name}" for name in HOSTILE))

    def test_nonsense(self) -> None:
        """No words, an unknown shell, or invalid settings give no candidates and no error."""
        for words in ([], ["bash"], ["csh", "a"], ["zsh"]):
            self.assertEqual(complete(words, self.environ), ("words", []))
        done = self.process("zsh", "get", "al", P2PSHARE_REGISTRY="a b")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))

    def test_whose_folder(self) -> None:
        """Flags on the line choose the data folder."""
        other = {**self.environ, "P2PSHARE_DATA": str(self.folder / "none")}
        words = ["zsh", "--data", str(self.folder), "get", "b"]
        self.assertEqual(complete(words, other), ("words", ["bob:"]))
        self.assertEqual(complete(["zsh", "get", "b"], other), ("words", []))

    def test_light(self) -> None:
        """`complete` imports no slow package."""
        code = (
            "import sys; from p2pshare.ui.main import main; main(sys.argv[1:]);"
            f"print(sorted({set(HEAVY)!r} & set(sys.modules)))"
        )
        command = [sys.executable, "-c", code, "complete", "zsh", "get", "al"]
        done = subprocess.run(command, env=self.environ, capture_output=True, text=True, check=True)
        self.assertEqual(done.stdout, "words\nalbert:\nalice:\n[]\n")

    def process(self, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
        code = "import sys; from p2pshare.ui.main import main; sys.exit(main(sys.argv[1:]))"
        return subprocess.run(
            [sys.executable, "-c", code, "complete", *words],
            env={**self.environ, **environ},
            capture_output=True,
            text=True,
        )


class FakePeer:
    """A peer, in a thread, that answers questions on the socket of a data folder."""

    def __init__(self, folder: Path, replies: list[bytes | None]) -> None:
        self.asked: list[Any] = []
        self._replies = replies
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(folder / CONTROL_NAME))
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        for reply in self._replies:
            connection, _ = self._socket.accept()
            with connection, connection.makefile("rb") as lines:
                line = lines.readline()
                if line:
                    self.asked.append(json.loads(line))
                if reply is not None and line:
                    connection.sendall(reply)
                lines.read()

    def end(self) -> None:
        self._thread.join()
        self._socket.close()


class LookupTests(CompletingTestCase):
    def lookup(self) -> Lookup:
        return Lookup(Settings(data=self.folder))

    def peer(self, *replies: bytes | None) -> FakePeer:
        peer = FakePeer(self.folder, list(replies))
        self.addCleanup(peer.end)
        return peer

    def test_live(self) -> None:
        """The running peer is asked each time, and entries that cannot be a name are left out."""
        reply = json.dumps({"ok": True, "entries": ["cat.jpg", "sub/", "../x", "a/b/"]}).encode()
        peer = self.peer(reply + b"\n", reply + b"\n")
        for _ in range(2):
            entries = self.lookup().entries("alice", ("p",), "")
            self.assertEqual(entries, ["cat.jpg", "sub/"])
        question = {"do": "complete", "peer": "alice", "path": "p", "prefix": ""}
        self.assertEqual(peer.asked, [question, question])

    def test_not_living(self) -> None:
        """An error, nonsense, a long answer, silence, and a dead socket: the words were seen last."""
        too_long = b'{"ok": true, "entries": ["' + b"x" * ANSWER_MAX
        self.peer(
            b'{"ok": false}\n', b"nonsense\n", b'{"ok": true, "entries": 1}\n', too_long, None
        )
        for _ in range(5):
            self.assertEqual(self.lookup().names("bo"), ["bob"])

    def test_shares(self) -> None:
        """The names of shares are offered: those of the running peer, else those that are kept."""
        KeptShares(self.folder).write([KeptShare(SharedPath("photos", Path("/p")))])
        self.assertEqual(self.candidates("share", "remove", "ph"), ["photos"])
        self.assertEqual(self.candidates("share", ""), ["add", "allow", "list", "remove"])
        reply = json.dumps({"ok": True, "shares": [{"name": "films"}], "more": False}).encode()
        peer = self.peer(reply + b"\n")
        self.assertEqual(self.candidates("share", "allow", ""), ["films"])
        self.assertEqual(peer.asked, [{"do": "shares"}])

    def test_offers(self) -> None:
        """Short IDs of open offers are offered, own ones for --cancel; for --again and `clear` those that are over."""
        people = [{"state": "done"}, {"state": "delivered"}]
        own = {"offers": [{"id": "a" * 16, "to": people}, {"id": "b" * 16, "to": people[:1]}, 7]}
        others = {
            "items": [{"id": "c" * 16, "state": "waiting"}, {"id": "d" * 16, "state": "done"}]
        }
        replies = [json.dumps({"ok": True, **each}).encode() + b"\n" for each in (own, others)]
        peer = self.peer(*replies, replies[1], b'{"ok": false}\n', *replies)
        self.assertEqual(self.candidates("send", "--cancel", ""), ["a" * 6])
        self.assertEqual(self.candidates("inbox", "accept", ""), ["c" * 6])
        self.assertEqual(self.candidates("inbox", "decline", "d"), [])
        self.assertEqual(self.candidates("inbox", "decline", ""), [])
        self.assertEqual(self.candidates("send", "--again", ""), ["b" * 6])
        self.assertEqual(self.candidates("inbox", "clear", ""), ["d" * 6])
        asked = ["offers", *["inbox"] * 3, "offers", "inbox"]
        self.assertEqual([each["do"] for each in peer.asked], asked)
        words = ["zsh", "inbox", "accept", "x", ""]
        self.assertEqual(complete(words, self.environ), ("folders", []))


class ShellTests(CompletingTestCase):
    """Real shells on a terminal, with a `p2pshare` that logs its arguments."""

    def setUp(self) -> None:
        super().setUp()
        KnownRegistries(self.folder).pin(MET, str(SigningKey(bytes(32)).public))

    def arguments(self, shell: list[str], begin: str, lines: list[str]) -> list[str]:
        """Return the last argument that the program gets, for each line with Tab at its end."""
        program = self.folder / "bin" / "p2pshare"
        program.parent.mkdir()
        called = self.folder / "called"
        code = "import sys; from p2pshare.ui.main import main; sys.exit(main())"
        program.write_text(
            f"#!{shutil.which('bash')}\n"
            f'if [ "$1" = complete ]; then exec {sys.executable} -c {code!r} "$@"; fi\n'
            f"printf '%s\\0' \"${{@: -1}}\" >> {called}\n"
        )
        program.chmod(0o755)
        script = self.folder / "script"
        script.write_text(SCRIPTS[Path(shell[0]).name])
        environ = {
            **self.environ,
            "PATH": f"{program.parent}:{os.environ['PATH']}",
            "TERM": "xterm",
        }
        environ |= {"LC_ALL": "C.UTF-8", "INPUTRC": os.devnull, "PYTHONPATH": os.getcwd()}
        above, below = pty.openpty()
        work = self.folder / "work"
        work.mkdir()
        for name in FOLDERS:
            (work / name).mkdir(parents=True)
        with subprocess.Popen(
            shell, stdin=below, stdout=below, stderr=below, env=environ, cwd=work,
            start_new_session=True,
        ) as process:  # fmt: skip
            os.close(below)
            reading = threading.Thread(target=_drain, args=(above,))
            reading.start()
            ending = threading.Timer(PATIENCE, process.kill)
            ending.start()
            typed = [f"{begin.format(script=script)}\n", *(f"{line}\t\n" for line in lines)]
            os.write(above, "".join([*typed, "exit\n"]).encode())
            process.wait()
            ending.cancel()
        reading.join()
        os.close(above)
        top = {name.split("/")[0] for name in FOLDERS}
        self.assertEqual(set(os.listdir(work)), top, "something was run")
        return called.read_text().split("\0")[:-1]

    def test_bash(self) -> None:
        """In bash, the program gets a completed name exactly as the peer has it: threat 4, threat 40."""
        lines = {
            "p2pshare ls ali": "alice:",
            "p2pshare get alice:no": "alice:notes.txt",
            "p2pshare get alice:photos/\\$": f"alice:photos/{HOSTILE[0]}",
            "p2pshare get alice:photos/\\`": f"alice:photos/{HOSTILE[1]}",
            'p2pshare get "alice:photos/\\$': f"alice:photos/{HOSTILE[0]}",
            'p2pshare get "alice:photos/\\`': f"alice:photos/{HOSTILE[1]}",
            "p2pshare get 'alice:photos/q": "alice:photos/q'uote",
            "p2pshare get alice:photos/dou": 'alice:photos/double"quote',
            "p2pshare get alice:photos/ba": "alice:photos/back\\slash",
            "p2pshare get alice:photos/se": "alice:photos/semi;touch pwned",
            "p2pshare get alice:photos/a\\ ": "alice:photos/a b",
            "p2pshare get alice:photos/{": "alice:photos/{x,y}",
            "p2pshare get alice:photos/ü": "alice:photos/ünï",
            "p2pshare get alice:x my": "my pics/",
            "p2pshare get alice:x sub/i": "sub/in here/",
            "p2pshare get alice:x \\$": f"{HOSTILE[0]}/",
            "p2pshare get alice:x bo": "bob:",
            "p2pshare registries forget http://na": MET,
            "p2pshare users --registry http": MET,
        }
        bash = shutil.which("bash")
        assert bash is not None
        shell = [bash, "--norc", "--noprofile", "-i"]
        got = self.arguments(shell, "source {script}", list(lines))
        self.assertEqual(got, list(lines.values()))

    LINES = (
        "p2pshare get alice:photos/\\$",
        "p2pshare get alice:photos/\\`",
        "p2pshare get alice:photos/q",
        "p2pshare get alice:photos/se",
        "p2pshare get alice:no",
        "p2pshare get alice:x my",
        "p2pshare get alice:x sub/i",
        "p2pshare get alice:x \\$",
        "p2pshare get alice:x bo",
        "p2pshare registries forget http://na",
        "p2pshare users --registry http",
    )
    GOT = (
        *(f"alice:photos/{HOSTILE[n]}" for n in (0, 1, 2, 5)),
        "alice:notes.txt",
        *("my pics/", "sub/in here", f"{HOSTILE[0]}/", "bob:", MET, MET),
    )

    @skipUnless(shutil.which("zsh"), "there is no zsh here")
    def test_zsh(self) -> None:
        """In zsh, too: threat 4, threat 40."""
        begin = "autoload -U compinit; compinit -u -D; source {script}"
        zsh = shutil.which("zsh") or ""
        self.assertEqual(self.arguments([zsh, "-f", "-i"], begin, list(self.LINES)), list(self.GOT))

    def test_scripts(self) -> None:
        """Each script asks `complete`, and evaluates nothing."""
        self.assertEqual(set(SCRIPTS), set(SHELLS))
        for shell, script in SCRIPTS.items():
            self.assertIn(f"complete {shell}", script)
            self.assertNotIn("eval", script)


def _drain(fd: int) -> None:
    """Read the output of a terminal until it is closed."""
    try:
        while os.read(fd, 65536):
            pass
    except OSError:
        pass
