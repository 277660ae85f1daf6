"""The command `p2pshare`.

Exit codes. Each class of errors has its exit code (`errors.py`), and this module returns it. No other module of the
command line chooses one, except where one command has several results: `ui/verbs/job.py` combines those of a `get`,
`ui/dialog/dialog.py` those of the answers. Four ends are no `P2pshareError`, and get their code here:

* 130, 143, 129: a signal (128 + number, as in shells). A verb has 0.5 s to clean up, see `ui/running.py`.
* 141: the reader of standard output has left, as in `p2pshare users | head -1`. That is no error, so nothing is
  written. Python itself would write a traceback when it flushes the rest at exit; `_abandon_stdout` prevents that.
* 1: standard output cannot be written for another reason. The last flush notices that at the latest, since a full disk
  must not look like success. Standard output that the caller has closed fails in the same way.
* 1: a defect. The traceback goes to the file of `--debug`, never to the terminal.

Twisted is imported only once a verb needs it, so that `--help`, wrong usage and completion do not wait for it.
"""

from __future__ import annotations

import gc
import inspect
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from p2pshare.errors import CannotSave, LocalProtocolError, P2pshareError, WrongUsage
from p2pshare.net.process_end import SignalWatch, end_process
from p2pshare.net.utf8_mode import require_utf8
from p2pshare.storage.os_errors import plain_reason
from p2pshare.ui.terminal.hang_up import HangUpStream

if TYPE_CHECKING:
    import argparse

    from p2pshare.net.debug_log import DebugLog
    from p2pshare.ui.commands.command import Command, Work
    from p2pshare.ui.invocation import Invocation
    from p2pshare.ui.output import Output

SIGINT_EXIT = 130
COLLECT_AFTER = 50_000  # new objects; the start makes many more than Python's 700, and keeps most
SIGPIPE_EXIT = 141
COMPLETE = "complete"
"""The verb that the scripts of shells use. It is not for people, and so not in the table of commands."""

SETTINGS_LOGGED = (
    *("registry", "name", "data", "limit", "timeout", "via", "classic", "listen", "address"),
    *("share", "allow", "offers", "accept_from", "inbox_folder", "inbox_quota", "notify"),
)
"""The settings that the log of `--debug` shows: all but the invitation, which is secret."""

SUSPENDED = "stopped: verified data is kept; run the same command again to resume"


def main(words: Sequence[str] | None = None) -> int:
    """Run a command line, and return the exit code; without `words`, run that of the process, and end it.

    The process ends without waiting for threads, see `net/process_end.py`.
    """
    if words is not None:
        return _main(words, None)
    require_utf8()
    end_process(_main(sys.argv[1:], SignalWatch()))


def _main(words: Sequence[str], watch: SignalWatch | None) -> int:
    gc.set_threshold(COLLECT_AFTER)  # else a sixth of the start is garbage collection
    # Python has None for a stream that the caller has closed. Writing to standard output must fail
    # then, so that no result is lost without an error.
    sys.stdout = sys.stdout or open(os.open(os.devnull, os.O_RDONLY), "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    _survive_the_terminal()
    logs: list[DebugLog] = []
    try:
        try:
            code = _obey(words, watch, logs)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        _abandon_stdout()
        code = SIGPIPE_EXIT
    except OSError as error:  # errors of other files are P2pshareErrors
        _abandon_stdout()
        lost = CannotSave(path="Standard output", reason=plain_reason(error))
        sys.stderr.write(f"p2pshare: {lost}\n")
        code = lost.exit_code
    except KeyboardInterrupt:  # before the reactor runs
        code = SIGINT_EXIT
    for log in logs:
        log.end(code)
    return code


def _survive_the_terminal() -> None:
    """Raise SIGHUP when a write finds the terminal closed: the signal itself may come later, or never."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream.isatty():
            setattr(sys, name, HangUpStream(stream, lambda: signal.raise_signal(signal.SIGHUP)))


def _abandon_stdout() -> None:
    """Keep Python from complaining at exit about the rest of the buffer."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _obey(words: Sequence[str], watch: SignalWatch | None, logs: list[DebugLog]) -> int:
    """Run a command line; add the log of `--debug` to `logs`."""
    if list(words[:1]) == [COMPLETE]:
        from p2pshare.ui.completion import complete as completing

        return completing.main(words[1:])
    from p2pshare.storage.settings import DEBUG_VARIABLE
    from p2pshare.ui.arguments import parse_arguments

    try:
        arguments = parse_arguments(words)
    except WrongUsage as error:
        _output(json="--json" in words, quiet=False).error(error)
        return error.exit_code
    if arguments.command.name == "completion":  # a shell runs it at each start: no Twisted
        return cast(int, arguments.command.run(arguments.shell))

    output = _output(json=arguments.json, quiet=arguments.quiet)
    try:
        debug = arguments.debug or os.environ.get(DEBUG_VARIABLE)
        logs += _begin_logging(debug, words, output)
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
    """Run the verb, on the reactor if it needs that.

    A verb that needs no reactor may ask the user and wait; Ctrl+C ends it as it ends any program.

    Raises:
        P2pshareError: the verb has failed.
    """
    from twisted.internet import reactor
    from twisted.logger import Logger

    from p2pshare.net.clocks import make_monotonic
    from p2pshare.ui.running import Stopped, run_to_end

    make_monotonic(reactor)
    try:
        invocation = _invocation(arguments, output, reactor, watch)
        work = _call(arguments, invocation)
        if isinstance(work, int):
            return work
        on_running = (lambda: None) if watch is None else watch.take
        return run_to_end(cast(Any, reactor), lambda: work, on_running)
    except Stopped as stopped:
        output.end_view()
        Logger().debug("stopped by a signal: exit_code={exit_code}", exit_code=stopped.exit_code)
        is_get = arguments.command.name == "get" and not arguments.classic
        resumes = is_get and arguments.words[-1:] != ["-"]
        output.remark(SUSPENDED if resumes else "stopped")
        return stopped.exit_code
    except (P2pshareError, BrokenPipeError):
        raise
    except OSError:  # such as a full disk behind stdout
        Logger().failure("output failed")
        raise
    except Exception as error:
        Logger().failure("defect of p2pshare")
        details = f"{debug} has the details" if debug else "--debug FILE writes the details"
        reason = f"{type(error).__name__}: {error} ({details})"
        raise LocalProtocolError(reason=reason) from error


def function_of(command: Command) -> Callable[..., Work]:
    """Return the function that runs a command."""
    run = command.run
    assert run is not None, "the parser wants another verb"
    if isinstance(run, str):
        from twisted.python.reflect import namedAny

        return cast("Callable[..., Work]", namedAny(f"p2pshare.ui.{run}"))
    return run


def _call(arguments: argparse.Namespace, invocation: Invocation) -> Work:
    """Call the function of the command. Its parameters are named like arguments, or like parts of the invocation."""
    run = function_of(arguments.command)
    given = {
        **vars(arguments),
        "arguments": arguments,
        "invocation": invocation,
        "settings": invocation.settings,
        "output": invocation.output,
        "wall": invocation.wall,
        "environ": os.environ,
    }
    return run(**{each: given[each] for each in inspect.signature(run).parameters})


def _invocation(
    arguments: argparse.Namespace, output: Output, reactor: Any, watch: SignalWatch | None
) -> Invocation:
    from twisted.logger import Logger

    from p2pshare.storage.settings import Settings, default_config_path
    from p2pshare.ui.invocation import Invocation

    if arguments.command.name == "demo":  # works whatever the user's settings are
        settings = Settings()
    else:
        settings = Settings.load(vars(arguments), os.environ, default_config_path())
    Logger().debug(
        "settings: " + " ".join(f"{each}={{{each}}}" for each in SETTINGS_LOGGED),
        **{each: getattr(settings, each) for each in SETTINGS_LOGGED},
    )
    try:
        cwd = Path.cwd()
    except OSError as error:
        raise WrongUsage(reason="The current folder was removed: change to another one.") from error
    forgive = (lambda: None) if watch is None else watch.forgive
    return Invocation(reactor, random.SystemRandom(), settings, output, cwd, time.time, forgive)


def _output(*, json: bool, quiet: bool) -> Output:
    from p2pshare.ui.output import Output
    from p2pshare.ui.terminal.capabilities import Terminal

    stdout = Terminal.detect(sys.stdout, os.environ)
    stderr = Terminal.detect(sys.stderr, os.environ)
    return Output(stdout, stderr, json=json, quiet=quiet)


def _begin_logging(debug: str | None, words: Sequence[str], output: Output) -> list[DebugLog]:
    """Send the log to the file `debug`, or nowhere, but never to the terminal.

    Raises:
        CannotSave: the file cannot be written, or is not a debug log.
    """
    from twisted.logger import globalLogBeginner

    logs = []
    if debug:
        from p2pshare.net.debug_log import DebugLog, log_output

        logs.append(DebugLog(Path(debug).expanduser(), time.monotonic))
        output.on_event = log_output
    globalLogBeginner.beginLoggingTo(logs, discardBuffer=True, redirectStandardIO=False)
    for log in logs:
        log.begin(words, os.environ)
    return logs
