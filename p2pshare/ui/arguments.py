"""The words of the command line."""

from __future__ import annotations

import argparse
import re
import shutil
from collections.abc import Sequence
from typing import Any, NoReturn

from p2pshare import __version__
from p2pshare.errors import WrongUsage
from p2pshare.names import did_you_mean
from p2pshare.ui import examples

HELP_WIDTH = 79  # columns at most
INVITATION_LIFE = 7 * 86400  # seconds
INVITATION_LIFE_MAX = 366 * 86400  # seconds
INVITATIONS_MAX = 1000  # at once

_COMPLAINTS = (
    (r"the following arguments are required: ([^,]+)", r"\1 is missing"),
    (
        r"argument (.+): invalid choice: (.+) \(choose from (.+)\)",
        r"\1 is \2, but must be one of \3",
    ),
    (r"argument (.+): expected one argument", r"\1 has no value"),
)
_NO_VERB = re.compile(r"argument VERB: invalid choice: '(.+)' \(choose from (.+)\)", re.DOTALL)
_UNITS = {"d": 86400, "h": 3600, "m": 60}  # seconds

SHELLS = ("bash", "zsh", "fish")

DIALOG = ("share", "allow", "limit", "timeout", "classic", "listen", "address", "invitation")
"""Flags of the dialog."""
ALSO = {"get": ("limit", "timeout", "classic", "invitation"), "ls": ("timeout", "invitation")}
"""Those of them that a verb takes, too."""


class _Parser(argparse.ArgumentParser):
    """Complains in one sentence, as everything else does."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=_formatter, **options)

    def error(self, message: str) -> NoReturn:
        raise WrongUsage(
            reason=f"{_sentence(_in_our_words(message))} Type `{self.prog} --help` to see what can be said."
        )


def _sentence(text: str) -> str:
    return text if text.endswith("?") else f"{text}."


def _flag_meant(parser: argparse.ArgumentParser, arguments: argparse.Namespace, word: str) -> str:
    """The flag that a word may have been meant as, as a question; empty if there is none."""
    for verb in (arguments.verb, getattr(arguments, f"{arguments.verb}_verb", None)):
        for action in parser._actions:
            if verb and isinstance(action, argparse._SubParsersAction):
                parser = action.choices[verb]
                break
    flags = [flag for flag in parser._option_string_actions if flag.startswith("--")]
    meant = did_you_mean(word.partition("=")[0], flags) if word.startswith("--") else None
    return f" Did you mean {meant}?" if meant else ""


def _help_of(arguments: argparse.Namespace) -> str:
    below = (arguments.verb, getattr(arguments, f"{arguments.verb}_verb", None))
    return " ".join(["p2pshare", *filter(None, below), "--help"])


def _in_our_words(message: str) -> str:
    """What argparse says of the words, said shorter; what is not known is left as it is."""
    if found := _NO_VERB.fullmatch(message):
        word, verbs = found.groups()
        meant = did_you_mean(word, re.findall(r"[a-z]+", verbs))
        return f"There is no verb {word!r}: " + (
            f"did you mean {meant!r}?" if meant else f"there are {verbs}"
        )
    for pattern, ours in _COMPLAINTS:
        if found := re.fullmatch(pattern, message, re.DOTALL):
            return found.expand(ours)
    return message


def parse_arguments(words: Sequence[str]) -> argparse.Namespace:
    """Read the command line; `--help` and `--version` print and end the process.

    Raises:
        WrongUsage: it cannot be understood.
    """
    parser = command_parser()
    arguments, rest = parser.parse_known_args(words)
    if arguments.verb == "get" and not any(word.startswith("-") for word in rest):
        arguments.words += rest  # what stands behind a flag that stands behind other words
    elif rest:
        raise WrongUsage(
            reason=f"{' '.join(rest)!r} means nothing here.{_flag_meant(parser, arguments, rest[0])}"
            f" Type `{_help_of(arguments)}` to see what can be said."
        )
    if arguments.verb == "get":
        _check_words(arguments)
    taken = ALSO.get(arguments.verb, ())
    given = [flag for flag in DIALOG if flag not in taken and getattr(arguments, flag)]
    if arguments.verb and given:
        raise WrongUsage(reason=f"--{given[0]} is for the dialog: p2pshare without a verb.")
    if arguments.verb == "get" and arguments.classic:
        unknown = [flag for flag in ("limit", "timeout", "at") if getattr(arguments, flag)]
        if unknown:
            raise WrongUsage(reason=f"The classic protocol knows no --{unknown[0]}: leave it away.")
        if arguments.max_files is not None:
            raise WrongUsage(reason="The classic protocol fetches single files: omit --max-files.")
    if not arguments.verb and (arguments.json or arguments.quiet):
        raise WrongUsage(
            reason="The dialog is for people: --json and --quiet need a verb, such as `p2pshare users`."
        )
    return arguments


def _check_words(arguments: argparse.Namespace) -> None:
    """Check how many words `get` has, which depends on its flags."""
    local = [flag for flag in ("list_partial", "clean") if getattr(arguments, flag)]
    hint = f"Type `{_help_of(arguments)}` to see what can be said."
    if not local and not arguments.words:
        raise WrongUsage(reason=f"PEER:PATH is missing. {hint}")
    if len(local) > 1:
        raise WrongUsage(reason="Use either --list-partial or --clean.")
    if local and len(arguments.words) > 1:
        flag = local[0].replace("_", "-")
        raise WrongUsage(reason=f"--{flag} takes one DEST, and nothing to fetch. {hint}")


def command_parser() -> argparse.ArgumentParser:
    """What reads the command line; who completes its words asks it what may follow."""
    parser = _Parser(
        prog="p2pshare",
        usage="p2pshare [options] [VERB ...]",
        description=examples.DESCRIPTION,
        epilog=examples.EXAMPLES,
    )
    parser.add_argument("--version", action="version", version=f"p2pshare {__version__}")
    _add_common(parser, default=None)
    dialog = parser.add_argument_group("only without a verb")
    _add_dialog(dialog)
    verbs = parser.add_subparsers(dest="verb", title="verbs", metavar="VERB", prog="p2pshare")
    _add_users(verbs)
    _add_ls(verbs)
    _add_get(verbs)
    _add_peers(verbs)
    _add_registries(verbs)
    _add_verb(
        verbs,
        "status",
        "show what your running peer does: who fetches what, how fast",
        usage="p2pshare status [options]",
        epilog=examples.STATUS_EXAMPLES,
    )
    _add_verb(
        verbs,
        "stop",
        "stop your running peer; your name stays yours",
        usage="p2pshare stop [options]",
        epilog=examples.STOP_EXAMPLES,
    )
    whoami = "show your name, your key, and what the registry says of them"
    _add_verb(verbs, "whoami", whoami)
    _add_key(verbs)
    _add_release(verbs)
    _add_invite(verbs)
    _add_verb(verbs, "demo", "try all of it on this machine: a registry and two peers")
    completion = _add_verb(
        verbs,
        "completion",
        "print what makes your shell complete names and paths",
        usage="p2pshare completion SHELL",
        epilog=examples.COMPLETION_EXAMPLES,
    )
    completion.add_argument("shell", metavar="SHELL", choices=SHELLS, help=", ".join(SHELLS))
    return parser


def _add_dialog(dialog: Any) -> None:
    dialog.add_argument(
        "--share",
        action="append",
        metavar="[NAME=]PATH",
        help="share this folder or file, as NAME; may be repeated",
    )
    dialog.add_argument(
        "--allow",
        action="append",
        metavar="[SHARE=]NAMES",
        help="share with bob,carol only; may be repeated",
    )
    _add_transfer(dialog, None, "limit", "timeout")
    dialog.add_argument(
        "--classic", action="store_true", help="speak the classic protocol, too: in the clear"
    )
    dialog.add_argument("--listen", metavar="PORT", help="port to be reached at (default: any)")
    dialog.add_argument("--address", metavar="IP", help="IPv4 address to be reached at")
    _add_transfer(dialog, None, "invitation")


def _add_transfer(parser: Any, default: Any, *flags: str) -> None:
    if "limit" in flags:
        parser.add_argument(
            "--limit", metavar="RATE", default=default, help="not faster than this: 5MB/s"
        )
    if "timeout" in flags:
        parser.add_argument(
            "--timeout",
            metavar="S",
            default=default,
            help="seconds of silence after which to connect again (default: 15)",
        )
    if "invitation" in flags:
        parser.add_argument(
            "--invitation",
            metavar="FILE",
            default=default,
            help="the invitation of a registry that wants one",
        )


def _add_at(parser: Any) -> None:
    parser.add_argument(
        "--at", metavar="IP:PORT", help="connect to this address instead of looking the peer up"
    )


def _add_users(verbs: Any) -> None:
    users = _add_verb(
        verbs,
        "users",
        "list who is there",
        usage="p2pshare users [options]",
        epilog=examples.USERS_EXAMPLES,
    )
    users.add_argument("--online", action="store_true", help="only who is there, or may be")
    users.add_argument("--prefix", metavar="P", default="", help="only names that begin so")
    users.add_argument("--watch", action="store_true", help="go on, and show each change")


def _add_ls(verbs: Any) -> None:
    ls = _add_verb(
        verbs,
        "ls",
        "list what somebody shares with you",
        usage="p2pshare ls [options] PEER[:PATH]",
        epilog=examples.LS_EXAMPLES,
    )
    ls.add_argument("where", metavar="PEER[:PATH]", help="alice, or alice:photos")
    ls.add_argument("-R", "--recursive", action="store_true", help="with all that is below")
    _add_at(ls)
    _add_transfer(ls, argparse.SUPPRESS, "timeout", "invitation")


def _add_get(verbs: Any) -> None:
    get = _add_verb(
        verbs,
        "get",
        "get files and folders from others",
        usage="p2pshare get [options] PEER:PATH ... [DEST]",
        epilog=examples.GET_EXAMPLES,
    )
    get.add_argument(
        "words",
        nargs="*",
        metavar="PEER:PATH",
        help="a file, a folder with all that is in it, or a glob; the last may be DEST, a folder or"
        " a name (default: the current folder)",
    )
    get.add_argument("--force", action="store_true", help="replace files that are there")
    get.add_argument(
        "--list-partial",
        action="store_true",
        help="fetch nothing: list the partial files of stopped transfers in DEST and below",
    )
    get.add_argument(
        "--clean", action="store_true", help="fetch nothing: remove those that no process has"
    )
    get.add_argument(
        "--max-files",
        metavar="N",
        type=_files_max,
        help="stop if an item has more files and folders (default: 1000000, 100000 of them folders)",
    )
    _add_at(get)
    _add_transfer(get, argparse.SUPPRESS, "limit", "timeout", "invitation")
    get.add_argument(
        "--portable-names",
        action="store_true",
        default=argparse.SUPPRESS,
        help="change names that some file system, shell or program may not take",
    )
    get.add_argument(
        "--classic",
        action="store_true",
        default=argparse.SUPPRESS,
        help="speak the classic protocol, which neither encrypts nor proves anything",
    )


def _add_peers(verbs: Any) -> None:
    peers = _add_verb(
        verbs,
        "peers",
        "show whom you have met, and their keys",
        usage="p2pshare peers [options] [forget NAME]",
        epilog=examples.PEERS_EXAMPLES,
    )
    below = peers.add_subparsers(
        dest="peers_verb", title="verbs", metavar="VERB", prog="p2pshare peers"
    )
    forget = _add_verb(
        below,
        "forget",
        "forget the key of a peer; the next key of this name is accepted",
        usage="p2pshare peers forget [options] NAME",
        epilog=examples.FORGET_EXAMPLES,
    )
    forget.add_argument("peer", metavar="NAME", help="the peer whose key is forgotten")


def _add_registries(verbs: Any) -> None:
    registries = _add_verb(
        verbs,
        "registries",
        "show which registries you have met, and their keys",
        usage="p2pshare registries [options] [forget URL]",
        epilog=examples.REGISTRIES_EXAMPLES,
    )
    below = registries.add_subparsers(
        dest="registries_verb", title="verbs", metavar="VERB", prog="p2pshare registries"
    )
    forget = _add_verb(
        below,
        "forget",
        "forget the key of a registry, whose next one is accepted as it comes",
        usage="p2pshare registries forget [options] URL",
        epilog=examples.FORGET_REGISTRY_EXAMPLES,
    )
    forget.add_argument("url", metavar="URL", help="the URL at which it was reached")


def _add_key(verbs: Any) -> None:
    key = _add_verb(
        verbs,
        "key",
        "export, import or rotate your key",
        usage="p2pshare key VERB ...",
        epilog=examples.KEY_EXAMPLES,
    )
    below = key.add_subparsers(
        dest="key_verb", title="verbs", metavar="VERB", prog="p2pshare key", required=True
    )
    export = _add_verb(
        below,
        "export",
        "write a copy of your key, which a passphrase opens",
        usage="p2pshare key export [options] FILE",
        epilog=examples.EXPORT_EXAMPLES,
    )
    export.add_argument("file", metavar="FILE", help="a new file; none is overwritten")
    take = _add_verb(
        below,
        "import",
        "make the key in a file yours",
        usage="p2pshare key import [options] FILE",
        epilog=examples.IMPORT_EXAMPLES,
    )
    take.add_argument("file", metavar="FILE", help="what `p2pshare key export` has written")
    for each in (export, take):
        each.add_argument(
            "--passphrase-file",
            metavar="FILE",
            help='the first line of FILE is the passphrase; "-" is stdin (default: ask for it)',
        )
    _add_verb(
        below,
        "rotate",
        "replace your key by a new one, which the old one signs",
        usage="p2pshare key rotate [options]",
        epilog=examples.ROTATE_EXAMPLES,
    )


def _add_release(verbs: Any) -> None:
    release = _add_verb(
        verbs,
        "release",
        "give your name up, for good",
        usage="p2pshare release [options]",
        epilog=examples.RELEASE_EXAMPLES,
    )
    release.add_argument("--yes", action="store_true", help="do not ask whether you mean it")


def _add_invite(verbs: Any) -> None:
    invite = _add_verb(
        verbs,
        "invite",
        "make invitations to a registry of yours",
        usage="p2pshare invite [options]",
        epilog=examples.INVITE_EXAMPLES,
    )
    invite.add_argument(
        "--expires",
        metavar="TIME",
        type=_life,
        default=INVITATION_LIFE,
        help="how long they are good: 7d, 12h, 30m (default: 7d)",
    )
    invite.add_argument("--count", metavar="N", type=_count, default=1, help="how many")


def _life(text: str) -> int:
    """Seconds."""
    match = re.fullmatch(r"([1-9][0-9]{0,5})([dhm])", text)
    life = int(match[1]) * _UNITS[match[2]] if match else 0
    if not 0 < life <= INVITATION_LIFE_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 7d, 12h or 30m, up to 366d")
    return life


def _files_max(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,15}", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of files, such as 2000000")
    return int(text)


def _count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,4}", text) or not 1 <= int(text) <= INVITATIONS_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to {INVITATIONS_MAX}")
    return int(text)


def _add_verb(verbs: Any, name: str, text: str, **options: Any) -> argparse.ArgumentParser:
    description = f"{text[0].upper()}{text[1:]}."
    verb: argparse.ArgumentParser = verbs.add_parser(
        name, help=text, description=description, **options
    )
    # What is not said after the verb must not undo what was said before it.
    _add_common(verb, default=argparse.SUPPRESS)
    return verb


def _add_common(parser: argparse.ArgumentParser, default: Any) -> None:
    parser.add_argument(
        "--registry", metavar="URL", default=default, help="where the names are kept"
    )
    parser.add_argument("--name", metavar="NAME", default=default, help="your own name")
    parser.add_argument("--data", metavar="DIR", default=default, help="your data folder")
    flag = False if default is None else default
    parser.add_argument(
        "--json", action="store_true", default=flag, help="write one JSON object a line"
    )
    parser.add_argument(
        "--quiet", action="store_true", default=flag, help="write nothing but results and errors"
    )
    parser.add_argument(
        "--debug", metavar="FILE", default=default, help="append a log without secrets to FILE"
    )


def _formatter(prog: str) -> argparse.HelpFormatter:
    width = min(HELP_WIDTH, shutil.get_terminal_size().columns - 1)
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=22, width=width)
