"""The command `p2pshare`."""

from __future__ import annotations

import argparse
import gc
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from p2pshare.errors import CannotSave, LocalProtocolError, P2pshareError, WrongUsage
from p2pshare.net.process_end import SignalWatch, end_process
from p2pshare.net.utf8_mode import require_utf8
from p2pshare.storage.reasons import plain_reason
from p2pshare.ui.arguments import parse_arguments
from p2pshare.ui.terminal.hang_up import HangUpStream

# What takes its time to import is imported where it is needed, so that --help is there at once.
if TYPE_CHECKING:
    from p2pshare.net.debug_log import DebugLog
    from p2pshare.ui.invocation import Invocation
    from p2pshare.ui.output import Output

SIGINT_EXIT = 130
COLLECT_AFTER = (
    50_000  # new objects; starting makes far more than Python's 700, and keeps nearly all
)
SIGPIPE_EXIT = 141  # what a shell says of a program whose reader has left
COMPLETE = "complete"
"""The word by which shells ask how another can be completed; no verb for people, so the parser knows nothing of it."""

SETTINGS_LOGGED = (
    *("registry", "name", "data", "limit", "timeout", "classic", "listen", "address"),
    *("share", "allow"),
)
"""Settings that may be in the log of `--debug`, as an invitation may not."""

SUSPENDED = "stopped: what was verified is kept; the same command goes on from there"

Verb = Callable[[], Coroutine[Any, Any, int]]


def main(words: Sequence[str] | None = None) -> int:
    """Do what the command line says, and return the exit code; without `words` the process ends with it.

    The latter waits neither for threads nor, after a signal, for anything else: see `net/process_end.py`.
    """
    if words is not None:
        return _main(words, None)
    require_utf8()
    end_process(_main(sys.argv[1:], SignalWatch()))


def _main(words: Sequence[str], watch: SignalWatch | None) -> int:
    gc.set_threshold(COLLECT_AFTER)  # a sixth of the start otherwise goes into looking for garbage
    # Streams that were closed by who started us. What is written to stdout must not get lost
    # unnoticed, so it becomes one that cannot be written.
    sys.stdout = sys.stdout or open(os.open(os.devnull, os.O_RDONLY), "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    _survive_the_terminal()
    begun: list[DebugLog] = []
    code = _obey_to_the_end(words, watch, begun)
    for each in begun:
        each.end(code)
    return code


def _obey_to_the_end(words: Sequence[str], watch: SignalWatch | None, begun: list[DebugLog]) -> int:
    """As `_obey`, but whatever becomes of standard output is an exit code, too."""
    try:
        try:
            return _obey(words, watch, begun)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        _abandon_stdout()
        return SIGPIPE_EXIT
    except OSError as error:  # that of any other file is a P2pshareError long since
        _abandon_stdout()
        lost = CannotSave(path="Standard output", reason=plain_reason(error))
        sys.stderr.write(f"p2pshare: {lost}\n")
        return lost.exit_code
    except KeyboardInterrupt:  # before there was anything to stop
        return SIGINT_EXIT


def _survive_the_terminal() -> None:
    """Let a terminal that is found closed be as good as the signal that says so, which may come later."""

    def hang_up() -> None:
        signal.raise_signal(signal.SIGHUP)

    if sys.stdout.isatty():
        sys.stdout = cast(Any, HangUpStream(sys.stdout, hang_up))
    if sys.stderr.isatty():
        sys.stderr = cast(Any, HangUpStream(sys.stderr, hang_up))


def _abandon_stdout() -> None:
    """Keep Python from complaining, at the very end, about what is still in the buffer."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _obey(words: Sequence[str], watch: SignalWatch | None, begun: list[DebugLog]) -> int:
    """Do what the command line says; the log of `--debug` is put into `begun`."""
    if list(words[:1]) == [COMPLETE]:
        from p2pshare.ui.completion import complete as completing

        return completing.main(words[1:], time.time)
    try:
        arguments = parse_arguments(words)
    except WrongUsage as error:
        _output(json="--json" in words, quiet=False).error(error)
        return error.exit_code
    if arguments.verb == "completion":
        from p2pshare.ui.completion.scripts import SCRIPTS

        sys.stdout.write(SCRIPTS[arguments.shell])
        return 0
    from p2pshare.storage.settings import DEBUG_VARIABLE

    output = _output(json=arguments.json, quiet=arguments.quiet)
    try:
        debug = arguments.debug or os.environ.get(DEBUG_VARIABLE)
        begun += _begin_logging(debug, words, output)
        return _run(arguments, output, watch, debug)
    except P2pshareError as error:
        output.error(error)
        return error.exit_code


def _run(
    arguments: argparse.Namespace,
    output: Output,
    watch: SignalWatch | None,
    debug: str | None,
) -> int:
    """Run the verb, on the reactor if it needs one.

    Raises:
        P2pshareError: it could not be done.
    """
    from twisted.internet import reactor
    from twisted.logger import Logger

    from p2pshare.net.clocks import make_monotonic
    from p2pshare.ui.running import Stopped, run_to_end

    make_monotonic(reactor)
    try:
        invocation = _invocation(arguments, output, reactor)
        done = _done_at_once(arguments, invocation)
        if done is not None:
            return done
        if watch is None:
            return run_to_end(cast(Any, reactor), _verb(arguments, invocation))
        invocation = replace(invocation, forgive_signal=watch.forgive)
        return run_to_end(cast(Any, reactor), _verb(arguments, invocation), watch.take)
    except Stopped as stopped:
        output.end_view()
        Logger().debug("stopped by a signal: exit_code={exit_code}", exit_code=stopped.exit_code)
        resumes = arguments.verb == "get" and not arguments.classic
        output.remark(SUSPENDED if resumes else "stopped")
        return stopped.exit_code
    except (P2pshareError, BrokenPipeError):
        raise
    except OSError:  # such as a full disk behind stdout
        Logger().failure("the system refused")
        raise
    except Exception as error:
        Logger().failure("a defect of p2pshare")
        details = f"{debug} has the details" if debug else "--debug FILE writes down the details"
        reason = f"{type(error).__name__}: {error} ({details})"
        raise LocalProtocolError(reason=reason) from error


def _done_at_once(arguments: argparse.Namespace, invocation: Invocation) -> int | None:
    """The exit code of what needs no network; None if there is more to do.

    It may ask the user and wait for the answer, which Ctrl+C ends as it ends any program.
    """
    settings, output = invocation.settings, invocation.output
    match arguments.verb:
        case "invite":
            from p2pshare.ui.verbs import invite as inviting

            return inviting.invite(
                output, arguments.data, arguments.expires, arguments.count, invocation.wall
            )
        case "release" if not arguments.yes:
            from p2pshare.ui.terminal import passphrase
            from p2pshare.ui.verbs import key as keys

            question = f"Give the name {keys.name_of(settings)} up for good?"
            if not passphrase.consent(question, "--yes"):
                output.remark("Nothing was changed.")
                return 1
        case "key":
            return _key_verb(arguments, invocation)
        case "get" if arguments.list_partial or arguments.clean:
            from p2pshare.ui.verbs import partial

            dest = arguments.words[0] if arguments.words else None
            work = partial.clean if arguments.clean else partial.list_partial
            return work(invocation, dest)
        case "peers":
            from p2pshare.ui.verbs import peers

            if arguments.peers_verb == "forget":
                return peers.forget(settings, output, arguments.peer)
            return peers.peers(settings, output)
        case "registries":
            from p2pshare.ui.verbs import peers

            if arguments.registries_verb == "forget":
                return peers.forget_registry(settings, output, arguments.url)
            return peers.registries(settings, output)
    return None


def _key_verb(arguments: argparse.Namespace, invocation: Invocation) -> int | None:
    """As `_done_at_once`, for the verbs below `key`."""
    from p2pshare.ui.verbs import key as keys

    settings, output = invocation.settings, invocation.output
    match arguments.key_verb:
        case "export":
            return keys.export(settings, output, arguments.file, arguments.passphrase_file)
        case "import":
            return keys.import_key(
                settings,
                output,
                arguments.file,
                arguments.passphrase_file,
                name=settings.name if arguments.name else None,
                registry=bool(arguments.registry),
            )
    return None


def _verb(arguments: argparse.Namespace, invocation: Invocation) -> Verb:
    """What is to be run."""
    match arguments.verb:
        case "users":
            from p2pshare.ui.verbs.users import users

            prefix, online, watch = arguments.prefix, arguments.online, arguments.watch
            return lambda: users(invocation, prefix=prefix, online=online, watch=watch)
        case "get":
            from p2pshare.ui.verbs import get as verbs

            words, overwrite, files_max = arguments.words, arguments.force, arguments.max_files
            if arguments.classic:
                return lambda: verbs.get_classic(invocation, words, overwrite=overwrite)
            at = arguments.at
            return lambda: verbs.get(
                invocation, words, overwrite=overwrite, files_max=files_max, at=at
            )
        case "ls":
            from p2pshare.ui.verbs.ls import ls

            where, recursive, at = arguments.where, arguments.recursive, arguments.at
            return lambda: ls(invocation, where, recursive=recursive, at=at)
        case "status":
            from p2pshare.ui.verbs.status import status

            return lambda: status(invocation)
        case "stop":
            from p2pshare.ui.verbs.status import stop

            return lambda: stop(invocation)
        case "whoami" | "release" | "key":
            from p2pshare.ui.verbs import whoami as owning

            own = {"whoami": owning.whoami, "release": owning.release, "key": owning.rotate}
            return lambda: own[arguments.verb](invocation)
        case "demo":
            from p2pshare.ui.verbs import demo

            return lambda: demo.demo(invocation, os.environ)
    return lambda: _converse(invocation)


async def _converse(invocation: Invocation) -> int:
    from p2pshare.ui.dialog.console import Console
    from p2pshare.ui.dialog.dialog import converse
    from p2pshare.ui.terminal.capabilities import Terminal

    if sys.stdin is None or sys.stdin.closed:
        raise WrongUsage(reason="There is no input from which answers could come.")
    stdout = Terminal.detect(sys.stdout, os.environ)
    reactor: Any = invocation.reactor
    console = Console(
        reactor, sys.stdin.fileno(), stdout, invocation.output, invocation.forgive_signal
    )
    return await converse(invocation, console)


def _invocation(arguments: argparse.Namespace, output: Output, reactor: Any) -> Invocation:
    from twisted.logger import Logger

    from p2pshare.storage.settings import Settings, default_config_path
    from p2pshare.ui.invocation import Invocation

    if arguments.verb == "demo":  # it has its own, and is to work whatever the user's are
        settings = Settings()
    else:
        settings = Settings.load(vars(arguments), os.environ, default_config_path())
    Logger().debug(
        "settings: registry={registry} name={name} data={data} limit={limit} timeout={timeout} classic={classic}"
        " listen={listen} address={address} share={share} allow={allow}",
        **{each: getattr(settings, each) for each in SETTINGS_LOGGED},
    )
    try:
        cwd = Path.cwd()
    except OSError as error:
        raise WrongUsage(reason="The current folder is gone: change to another one.") from error
    return Invocation(reactor, random.SystemRandom(), settings, output, cwd, time.time)


def _output(*, json: bool, quiet: bool) -> Output:
    from p2pshare.ui.output import Output
    from p2pshare.ui.terminal.capabilities import Terminal

    stdout = Terminal.detect(sys.stdout, os.environ)
    stderr = Terminal.detect(sys.stderr, os.environ)
    return Output(stdout, stderr, json=json, quiet=quiet)


def _begin_logging(debug: str | None, words: Sequence[str], output: Output) -> list[DebugLog]:
    """Keep the log off the terminal: it goes to the file `debug`, or nowhere.

    Raises:
        CannotSave: the file cannot be written, or is no debug log.
    """
    from twisted.logger import globalLogBeginner

    begun = []
    if debug:
        from p2pshare.net.debug_log import DebugLog, log_told

        begun.append(DebugLog(Path(debug).expanduser(), time.monotonic))
        output.on_event = log_told
    globalLogBeginner.beginLoggingTo(begun, discardBuffer=True, redirectStandardIO=False)
    for each in begun:
        each.begin(words, os.environ)
    return begun
