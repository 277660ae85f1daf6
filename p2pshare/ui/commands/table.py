"""All verbs and flags of `p2pshare`, in one table: the place to add a verb.

The parser and its help (`ui/arguments.py`), the dispatch (`ui/main.py`) and completion
(`ui/completion/complete.py`) read this table only. It imports nothing slow, so `--help` and completion are fast.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, cast

from p2pshare.ui.commands.command import PRIVATE, Command, Work, flag, positional, read_time
from p2pshare.ui.commands.offers import INVITATION, OFFER_COMMANDS
from p2pshare.ui.commands.page import page_commands
from p2pshare.ui.commands.shares import SHARE_COMMANDS

if TYPE_CHECKING:
    from argparse import Namespace

    from p2pshare.ui.invocation import Invocation

SHELLS = ("bash", "zsh", "fish")
FORMS = ("auto", "kitty", "sixel", "blocks", "off")
"""Of pictures: `storage.settings.PICTURES`, which takes its time to import."""
INVITATIONS_MAX = 1000  # at once


def _files_max(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,15}", text) or int(text) < 1:
        raise ValueError(f"{text!r} is not a number of files, such as 2000000")
    return int(text)


def _count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,4}", text) or not 1 <= int(text) <= INVITATIONS_MAX:
        raise ValueError(f"{text!r} is not a number from 1 to {INVITATIONS_MAX}")
    return int(text)


def _get(arguments: Namespace, invocation: Invocation) -> Work:
    words, overwrite = arguments.words, arguments.force
    if arguments.list_partial or arguments.clean:
        from p2pshare.ui.verbs import partial

        work = partial.clean if arguments.clean else partial.list_partial
        return work(invocation, words[0] if words else None)
    if arguments.classic:
        from p2pshare.ui.verbs.classic import get_classic

        return get_classic(invocation, words, overwrite=overwrite)
    from p2pshare.ui.verbs.get import get

    return get(
        invocation,
        words,
        overwrite=overwrite,
        files_max=arguments.max_files,
        at=arguments.at,
        preview=arguments.preview,
        wait=_wait(arguments),
        update=arguments.update,
    )


def _wait(arguments: Namespace) -> float | None:
    """Return the seconds for which `get` waits for peers that are offline."""
    if arguments.wait_for is not None or not arguments.wait:
        return cast("float | None", arguments.wait_for)
    from p2pshare.ui.verbs.fetching.waiting import WAIT_MAX

    return WAIT_MAX


def _invite(arguments: Namespace, invocation: Invocation) -> Work:
    from p2pshare.ui.verbs.reach.invite import invitations, invite

    life, count = arguments.life, arguments.count
    if count is None and arguments.data is None:
        flag = arguments.invitation
        urls = arguments.url or ()
        return invite(invocation, arguments.place, life=life, urls=urls, invitation=flag)
    return invitations(invocation.output, arguments.data, life, count or 1, invocation.wall)


def _release(arguments: Namespace, invocation: Invocation) -> Work:
    from p2pshare.ui.terminal.passphrase import consent
    from p2pshare.ui.verbs import key, whoami

    question = f"Give up the name {key.name_of(invocation.settings)} for good?"
    if arguments.yes or consent(question, "--yes"):
        return whoami.release(invocation)
    invocation.output.remark("Nothing was changed.")
    return 1


def _completion(shell: str) -> int:
    from p2pshare.ui.completion.scripts import SCRIPTS

    sys.stdout.write(SCRIPTS[shell])
    return 0


LIMIT = flag("--limit", "RATE", "total rate limit, such as 5MB/s (default: none)")
TIMEOUT = flag("--timeout", "S", "reconnect after S seconds of silence (default: 8)")
VIA = flag("--via", "CARRIER", "udp, tcp, relay or auto: the first to answer (default)")
CLASSIC = flag("--classic", None, "speak the classic protocol, which is unencrypted")
AT = flag("--at", "IP:PORT", "connect to this address, without a look-up")
PASSPHRASE = flag("--passphrase-file", "FILE", "read the passphrase from FILE or - (default: ask)")

DIALOG = Command(
    "",
    "share files with named people, straight from one machine to another, encrypted",
    "dialog.dialog.converse",
    (
        flag(
            "--share", "[NAME=]PATH", "share a folder or file, as NAME; repeatable", repeated=True
        ),
        flag(
            "--allow",
            "[SHARE=]NAMES",
            "share with these names only: bob,carol; repeatable",
            repeated=True,
        ),
        flag("--exclude", "GLOB", "share nothing that matches; repeatable", repeated=True),
        flag("--hidden", None, "share names that begin with a dot, too"),
        flag("--offers", "WHO", "everyone (default), known, allowed or nobody may offer"),
        flag("--accept-from", "NAMES", "accept offers of these names unasked", repeated=True),
        flag("--inbox-folder", "DIR", "folder for offers (default: Downloads/p2pshare)"),
        flag("--inbox-quota", "SIZE", "accept unasked up to SIZE in it (default: 10GB)"),
        flag("--notify", None, "show notifications of offers on the desktop"),
        LIMIT,
        TIMEOUT,
        VIA,
        CLASSIC,
        flag("--listen", "PORT", "port to listen on, TCP and UDP (default: any)"),
        flag("--address", "IP", "another address of yours, for others; repeatable", repeated=True),
        flag("--port-mapping", None, "let the router forward your port (PCP, NAT-PMP)"),
        PRIVATE,
        INVITATION,
    ),
    (
        ("p2pshare --name carol --share ~/Public", "the dialog, as carol"),
        ("p2pshare users", "list the users"),
        ("p2pshare ls alice", "list what alice shares with you"),
        ("p2pshare get alice:photos/cat.jpg", "get a file"),
        ("p2pshare get alice:photos ~/Pictures", "get a folder, into another one"),
        ("p2pshare send cat.jpg alice", "offer a file to alice"),
        ("p2pshare inbox", "list what others offer you"),
        ("p2pshare open", "all of this in your browser"),
        ("p2pshare whoami", "show your name and your key"),
        ("p2pshare demo", "try all of it on this machine"),
    ),
    "Without a verb, a dialog asks for your name and for the files to get. Meanwhile it shares the files of --share, by"
    " default the my_file.* of the current folder.\n"
    "Settings come from flags, then P2PSHARE_... variables, then config.toml.\n"
    "Exit codes: 0 done, 1 failed, 2 usage, 3 refused, 4 not found, 5 unreachable.",
    "[options] [VERB ...]",
)

COMMANDS = (
    DIALOG,
    Command(
        "users",
        "list the users, and whether they are online",
        "verbs.users.users",
        (
            flag("--online", None, "omit users who are offline"),
            flag("--prefix", "P", "list only names that begin with P", default=""),
            flag("--watch", None, "keep running, and show each change"),
        ),
        (
            ("p2pshare users", "all users, by name"),
            ("p2pshare users --online --prefix al", "those online whose name is al..."),
            ("p2pshare users --watch", "kept up to date until Ctrl+C"),
        ),
        'An "owned" name belongs to a key. A "classic" name proves nothing, and its presence is unknown.',
    ),
    Command(
        "ls",
        "list what a peer shares with you",
        "verbs.ls.ls",
        (
            positional("where", "PEER[:PATH]", "a peer, or a folder such as alice:photos"),
            flag("-R --recursive", None, "list the folders below, too"),
            AT,
            TIMEOUT,
            VIA,
            INVITATION,
        ),
        (
            ("p2pshare ls alice", "the shares of alice"),
            ("p2pshare ls alice:photos", "the content of one"),
            ("p2pshare ls -R alice:photos", "with all folders below"),
            ("p2pshare ls alice:photos | cut -f1", "the paths only"),
        ),
        "`p2pshare users` lists the peers. Give your own name with --name.",
    ),
    Command(
        "get",
        "get files and folders from peers",
        _get,
        (
            positional(
                "words",
                "PEER:PATH",
                "a file, a folder with its content, or a glob; the last word may be DEST, a folder"
                " or a new name (default: the current folder), or - for standard output",
                repeated=True,
            ),
            flag("--force", None, "replace existing files"),
            flag("--update", None, "replace what has changed since you fetched it"),
            flag("--wait", None, "wait up to 7 days for peers that are offline"),
            flag("--wait-for", "TIME", "the same, for up to TIME: 30m, 12h, 2d", parse=read_time),
            flag("--preview", None, "get small previews of pictures, not the files"),
            flag(
                "--pictures", "FORM", "auto (default), kitty, sixel, blocks or off", choices=FORMS
            ),
            flag("--list-partial", None, "get nothing: list partial files in DEST"),
            flag("--clean", None, "get nothing: remove partial files in DEST"),
            flag("--max-files", "N", "fail beyond N entries (default: 1000000)", parse=_files_max),
            AT,
            LIMIT,
            TIMEOUT,
            VIA,
            INVITATION,
            flag("--portable-names", None, "use file names that every system accepts"),
            CLASSIC,
        ),
        (
            ("p2pshare get alice:photos/cat.jpg", "saved as cat.jpg"),
            ("p2pshare get alice:photos/cat.jpg tom.jpg", "saved as tom.jpg"),
            ("p2pshare get alice:photos ~/Pictures", "saved as ~/Pictures/photos"),
            ("p2pshare get 'alice:photos/*.jpg' bob:notes.txt Downloads", ""),
            ("p2pshare get --update alice:photos", "fetched before: new and changed files"),
            ("p2pshare get --wait alice:photos", "as soon as alice is online"),
            ("p2pshare get alice:home.tar - | tar x", "without a file of it"),
            ("p2pshare get --preview alice:photos/cat.jpg", "saved as cat.preview.jpg"),
            ("p2pshare get --classic bob:my_file.jpg", "the picture, as bob.png"),
            ("p2pshare get --list-partial ~/Pictures", "list partial files"),
            ("p2pshare get --clean ~/Pictures", "remove them"),
        ),
        "Give your own name with --name, since peers share with named people. To resume a stopped transfer, run the"
        " same command again.",
        "[options] PEER:PATH ... [DEST]",
    ),
    *page_commands(DIALOG.arguments),
    *OFFER_COMMANDS,
    *SHARE_COMMANDS,
    Command(
        "peers",
        "list the peers that you have met, and their keys",
        "verbs.peers.peers",
        examples=(
            ("p2pshare peers", "names and keys"),
            ("p2pshare peers compare alice", "a short code, to be read to alice"),
            ("p2pshare peers forget alice", "accept the next key of alice"),
            ("p2pshare peers accept bob", "without a registry: let bob see your shares"),
        ),
        notes="The key of a peer is remembered at the first contact. Compare it with its owner: `p2pshare peers compare"
        " NAME` shows both of you the same code.",
        usage="[options] [compare NAME | accept NAME [KEY] | pin NAME KEY | forget NAME]",
    ),
    Command(
        "peers compare",
        "show a short code of your key and that of a peer, to compare them",
        "verbs.peers.compare",
        (
            positional("peer", "NAME", "the peer"),
            flag("--done", None, "the codes were the same: mark the key as compared"),
        ),
        (
            ("p2pshare peers compare alice", "the code, and a QR code with it"),
            ("p2pshare peers compare alice --done", "alice has read the same code to you"),
        ),
        "Read the code to each other on the telephone, or scan it. If the codes differ, somebody stands between you.",
    ),
    Command(
        "peers accept",
        "let a peer see your shares, without a registry",
        "verbs.peers.accept",
        (
            positional("peer", "NAME", "the peer that waits"),
            positional("key", "KEY", "its key, or 8 characters or more of it", repeated=True),
        ),
        (
            ("p2pshare peers accept bob", "the only bob that waits"),
            ("p2pshare peers accept bob abcdefgh", "the bob with this key"),
        ),
        "Compare the key with the one that `p2pshare whoami` shows to bob. With a registry, use --allow instead.",
    ),
    Command(
        "peers pin",
        "remember the key of a peer that you were told",
        "verbs.peers.pin",
        (
            positional("peer", "NAME", "the peer"),
            positional("key", "KEY", "its whole key, in groups or not", repeated=True),
        ),
        notes="Peers with another key are refused from the first contact on. `p2pshare whoami` shows the key to its"
        " owner.",
    ),
    Command(
        "peers forget",
        "forget the key of a peer, and accept the next one",
        "verbs.peers.forget",
        (positional("peer", "NAME", "the peer whose key is forgotten"),),
        notes="Do this only after alice has confirmed her new key to you in another way.",
    ),
    Command(
        "registries",
        "list the registries that you have met, and their keys",
        "verbs.peers.registries",
        examples=(
            ("p2pshare registries", "URLs and keys"),
            ("p2pshare registries forget http://192.0.2.1:8000", "accept its next key"),
        ),
        notes="The key of a registry is remembered at the first contact. Its log and `GET /v1/` show the key.",
        usage="[options] [forget URL]",
    ),
    Command(
        "registries forget",
        "forget the key of a registry, and accept the next one",
        "verbs.peers.forget_registry",
        (positional("url", "URL", "the URL of the registry"),),
        notes="Do this only after the operator of the registry has confirmed its new key.",
    ),
    Command(
        "status",
        "show your running peer: shares, transfers, rates",
        "verbs.status.status",
        notes="It asks the peer of your name that runs on this machine.",
    ),
    Command(
        "stop",
        "stop your running peer, and keep your name",
        "verbs.status.stop",
        notes="It stops the peer of your name that runs on this machine, in the background or in another terminal."
        " Others see you offline at once.",
    ),
    Command(
        "whoami",
        "show your name, your key, and their state in the registry",
        "verbs.whoami.whoami",
    ),
    Command(
        "key",
        "export, import or rotate your key",
        None,
        examples=(
            ("p2pshare key export ~/usb/bob.key", "a copy, sealed with a passphrase"),
            ("p2pshare key import ~/usb/bob.key", "on a new disk or machine"),
            ("p2pshare key rotate", "a new key, signed by the old one"),
        ),
        notes="The owner of your key owns your name. If you lose the key, you lose the name.",
        usage="VERB ...",
    ),
    Command(
        "key export",
        "copy your key to a file, sealed with a passphrase",
        "verbs.key.export",
        (positional("file", "FILE", "a new file; nothing is overwritten"), PASSPHRASE),
        (
            ("p2pshare key export ~/usb/bob.key", ""),
            ("pass show p2pshare | p2pshare key export bob.key --passphrase-file -", ""),
        ),
        "Keep the file on another disk. With --passphrase-file, the first line of the file is the passphrase.",
    ),
    Command(
        "key import",
        "make the key of a file yours",
        "verbs.key.import_key",
        (positional("file", "FILE", "a file that `p2pshare key export` has written"), PASSPHRASE),
        (
            ("p2pshare key import ~/usb/bob.key", ""),
            ("p2pshare key import bob.key --registry http://192.0.2.1:8000", ""),
        ),
        "Name and registry are those in the file, unless you give them. Use a key on one machine at a time. An existing"
        " key is never replaced.",
    ),
    Command(
        "key rotate",
        "replace your key by a new one, signed by the old one",
        "verbs.whoami.rotate",
        notes="Do this if somebody may have read the old key, and export the new key afterwards.",
    ),
    Command(
        "release",
        "give up your name for good",
        _release,
        (flag("--yes", None, "do not ask for confirmation"),),
        (
            ("p2pshare release", "asks for confirmation"),
            ("p2pshare release --name bob --yes", "does not ask"),
        ),
        "To keep the name, stop the peer instead: the name stays yours for 30 days, and longer if you return.",
    ),
    Command(
        "invite",
        "print a link with which others join your registry",
        _invite,
        (
            positional(
                "place",
                "PEER[:PATH]",
                "what they see then (default: you, if your peer runs)",
                optional=True,
            ),
            flag(
                "--url",
                "URL",
                "URL at which others reach the registry; repeatable",
                repeated=True,
            ),
            flag(
                "--expires",
                "TIME",
                "lifetime: 7d, 12h, 30m (default: none; invitations: 7d)",
                parse=read_time,
                dest="life",
            ),
            INVITATION,
            flag("--count", "N", "print N bare invitations, no link", parse=_count),
        ),
        (
            ("p2pshare invite", "a link, and its QR code"),
            ("p2pshare invite alice:photos", "which leads to these photos"),
            ("p2pshare invite --count 20", "as operator: 20 invitations"),
            ("p2pshare invite --data registry/", "of the registry in a folder"),
        ),
        "The other person runs `p2pshare join LINK`. If the registry requires invitations, the link has one, for one"
        " new name: on the machine of the registry it is made, elsewhere pass --invitation.",
        "[options] [PEER[:PATH]]",
    ),
    Command(
        "join",
        "join a registry with the link that somebody sent you",
        "verbs.reach.join.join",
        (
            positional("link", "LINK", "the link, or - for standard input", optional=True),
            flag("--force", None, "replace other settings without a question"),
            INVITATION,
        ),
        (
            ("p2pshare join p2pshare:aeaq...", "asks for your name"),
            ("p2pshare join --name bob LINK", "as bob"),
            ("p2pshare join - --name bob < link.txt", "with a link in a file"),
        ),
        "Your name and the registry are written into config.toml, so no other command needs them. The sender of the"
        " link chooses the registry: use links from people that you trust.",
        "[options] [LINK]",
    ),
    Command(
        "path",
        "show how a peer is reached, and what would make it direct",
        "verbs.reach.path.path",
        (
            positional("peer", "PEER", "a peer; without one, your own network", optional=True),
            VIA,
            TIMEOUT,
            INVITATION,
        ),
        (
            ("p2pshare path", "your network: addresses, NAT, UDP, IPv6"),
            ("p2pshare path alice", "what is tried, and the path in use"),
            ("p2pshare path alice --via udp", "over UDP only"),
        ),
        "With a name it connects to the peer, and tries direct paths again if only the relay works. The exit code is 5"
        " if nothing works.",
        "[options] [PEER]",
    ),
    Command(
        "demo",
        "try all of it on this machine: a registry and two peers",
        "verbs.demo.demo",
    ),
    Command(
        "completion",
        "print a script that completes names and paths",
        _completion,
        (positional("shell", "SHELL", ", ".join(SHELLS), choices=SHELLS),),
        (
            ('eval "$(p2pshare completion bash)"', "in ~/.bashrc"),
            ('eval "$(p2pshare completion zsh)"', "in ~/.zshrc, after compinit"),
            ("p2pshare completion fish | source", "in ~/.config/fish/config.fish"),
        ),
        "Names and remote paths are completed best while your peer runs.",
    ),
)
"""All commands, in the order of the help; each verb follows the one that it is below."""


def commands_below(command: Command) -> dict[str, Command]:
    """Return the commands with one word more, by that word."""
    split = [(each.name.rpartition(" "), each) for each in COMMANDS if each.name]
    return {last: each for (above, _, last), each in split if above == command.name}
