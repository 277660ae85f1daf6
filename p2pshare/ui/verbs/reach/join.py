"""The verb `join`: from the link that somebody sent to a name in a registry, and to what that person shares.

The order of the steps leaves nothing half done. The link is read, and the registry must prove the key in it, before
the user is asked anything. The name is claimed before `config.toml` is written, and what the file says now is replaced
only if the user agrees. A run that was stopped in between is continued by the next one: the key in the data folder
owns the name then.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from colorama import Fore
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import deferLater

from p2pshare.errors import (
    AlreadyRunning,
    CannotRead,
    IllegalName,
    JoinLinkExpired,
    JoinLinkUnusable,
    NameTaken,
    NoSuchPeer,
    Refused,
    RegistryChanged,
    RegistryDowngraded,
    RegistryHasNoOwners,
    Unreachable,
    WrongUsage,
)
from p2pshare.names import read_name
from p2pshare.net.threads import run_in_thread
from p2pshare.peer.fetch.link_change import reason_of
from p2pshare.peer.find.directory import Directory
from p2pshare.peer.find.own_identity import OwnName
from p2pshare.storage.config_file import update_config
from p2pshare.storage.identity import key_file
from p2pshare.storage.identity.data_folder import PeerPlace
from p2pshare.storage.identity.identity import KEY_NAME
from p2pshare.storage.os_errors import plain_reason
from p2pshare.storage.settings import VARIABLE_PREFIX, default_config_path, read_config
from p2pshare.ui.dialog.console import BAD, Console
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.verbs.ls import ls
from p2pshare.wire.addresses import registry_url
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.reach.join_links import LINK_MAX, JoinLink

STDIN = "-"
TRY_TIMEOUT = 5.0  # seconds for the answer at each URL of a link
HEAD_START = 0.5  # seconds between the beginnings of two tries

LINK, YOUR_NAME = "The link:", "Your name:"
NO_LINK = "LINK is missing. Somebody who is in the registry makes one with `p2pshare invite`."
NO_NAME = "There is no terminal to ask for your name: pass --name NAME."
NO_REGISTRY = "another service answers there, or a registry of an older version"
OTHER_REGISTRY = "The link says which registry to join: omit --registry."


_AWAY = (RegistryHasNoOwners, RegistryDowngraded, Unreachable)
"""Errors of a URL at which the registry of a link does not answer."""


class _Left(Exception):  # noqa: N818 - it is no error
    """The input has ended, or the user does not agree."""


def join(
    invocation: Invocation,
    link: str | None,
    *,
    registry: str | None,
    data: str | None,
    force: bool,
    environ: Mapping[str, str],
) -> Coroutine[Any, Any, int]:
    """Join the registry of a link, and show the place that it names; return the exit code.

    Args:
        invocation: the run of the command line.
        link: the link; `-` reads it from standard input, None asks for it.
        registry: the flag, which is wrong here.
        data: the flag; the folder is then written into `config.toml`.
        force: replace other values in `config.toml` without a question.
        environ: the environment, which goes before `config.toml`.

    Raises:
        WrongUsage: the link is damaged or none, or there is nobody to ask.
        Refused: it has expired, another registry answers, or the name cannot be claimed.
        Unreachable: no URL of the link answers.
        P2pshareError: for another reason; `ls` of the place may also have failed after the joining.
    """
    if registry is not None:
        raise WrongUsage(reason=OTHER_REGISTRY)
    text = _standard_input() if link == STDIN else link  # before the reactor runs, as it may block
    return _join(invocation, text, data, force, environ)


async def _join(
    invocation: Invocation,
    text: str | None,
    data: str | None,
    force: bool,
    environ: Mapping[str, str],
) -> int:
    output, console = invocation.output, _console(invocation)
    joining = _Joining(invocation, console, force=force)
    try:
        place = await joining.run(await joining.read(text), data)
    except _Left:
        output.remark("Nothing was changed.")
        return 1
    finally:
        if console is not None:
            console.close()
    joined = joining.invocation
    _warn_of_variables(joined, environ)
    if place is None:
        output.remark(
            "`p2pshare open` shows who is there in your browser, and `p2pshare users` here."
        )
        return 0
    peer = place.partition(":")[0]
    if peer == joined.settings.name:
        return 0
    output.remark(f"{place} contains:" if place != peer else f"{peer} shares with you:")
    return await ls(joined, place, recursive=False)


def _console(invocation: Invocation) -> Console | None:
    """Return a console, if the user can see questions and answer them."""
    output = invocation.output
    if output.screen() is None or output.is_quiet or sys.stdin is None or not os.isatty(0):
        return None
    return Console.on_stdin(invocation)


class _Joining:
    """One attempt to join."""

    def __init__(self, invocation: Invocation, console: Console | None, *, force: bool) -> None:
        """Ask on `console`, if there is one; `force` allows to replace other values in `config.toml`."""
        self.invocation = invocation
        """The run of the command line, with the settings that joining has changed."""
        self._console = console
        self._force = force
        self._config = default_config_path()

    async def read(self, text: str | None) -> JoinLink:
        """Return the link; None asks for it.

        Raises:
            JoinLinkUnusable, JoinLinkExpired: see `JoinLink.parse`.
            WrongUsage: there is none, and nobody to ask.
        """
        wall = self.invocation.wall
        if text is not None:
            return JoinLink.parse(text, wall())
        if self._console is None:
            raise WrongUsage(reason=NO_LINK)
        while True:
            try:
                return JoinLink.parse(await self._ask(LINK), wall())
            except (JoinLinkUnusable, JoinLinkExpired) as error:
                self._console.line(str(error), BAD)

    async def run(self, link: JoinLink, data: str | None) -> str | None:
        """Join, and return the place of the link."""
        written = read_config(self._config)
        url = await self._meet(link, self._urls(link, written))
        invitation = link.invitation or self.invocation.settings.invitation
        self.invocation = self.invocation.with_settings(registry=url, invitation=invitation)
        async with self.invocation.registry(known=link.key) as registry:
            name, is_new = await self._claim(registry, link, written)
        values = {"registry": url, "name": name}
        if data is not None:
            values["data"] = str(Path(data).expanduser().absolute())
        await run_in_thread(self.invocation.reactor, update_config, self._config, values)
        self._tell(link, name, is_new=is_new)
        return link.place

    def _urls(self, link: JoinLink, written: Mapping[str, object]) -> tuple[str, ...]:
        """Return the URLs to try: first that in `config.toml`, if the registry of the link was met at it."""
        url = _registry_in(written)
        settings = self.invocation.settings
        if url is not None and PeerPlace(url, "", settings.data).key == str(link.key):
            return tuple(dict.fromkeys((url, *link.urls)))
        return link.urls

    async def _meet(self, link: JoinLink, urls: tuple[str, ...]) -> str:
        """Return the URL at which the registry proves the key of the link first; each has a head start before the next.

        Raises:
            Refused: another registry answers at one of them, or was met there before.
            Unreachable: none of them answers.
        """
        tries = [
            Deferred.fromCoroutine(self._try(link, url, HEAD_START * number))
            for number, url in enumerate(urls)
        ]
        try:
            outcome: Any = await DeferredList(tries, fireOnOneCallback=True, consumeErrors=True)
        finally:
            for each in tries:
                each.cancel()
        if isinstance(outcome, tuple):
            return str(outcome[0])
        errors = [failure.value for _, failure in outcome]
        for error in errors:
            if not isinstance(error, _AWAY):
                raise error
        failures = [
            f"{url} ({NO_REGISTRY if isinstance(error, Refused) else reason_of(error)})"
            for url, error in zip(urls, errors, strict=True)
        ]
        what = (
            "The registry does not answer at" if len(urls) == 1 else "None of these URLs answers:"
        )
        raise Unreachable(
            reason=f"{what} {'; '.join(failures)}. Check the network, or ask the sender of the link"
            " whether the registry runs and can be reached from here."
        )

    async def _try(self, link: JoinLink, url: str, delay: float) -> str:
        """Return the URL if the registry proves the key of the link there.

        Raises:
            RegistryChanged: another key is known for the URL.
            Refused: it proves another key.
            P2pshareError: one of `_AWAY`.
        """
        if delay:
            await deferLater(self.invocation.reactor, delay)
        at = self.invocation.with_settings(registry=url)
        async with at.registry(known=link.key, timeout=TRY_TIMEOUT) as registry:
            try:
                await registry.prove()
            except RegistryChanged as error:
                raise Refused(reason=_other_key(url, link, error)) from error
        met = PeerPlace(url, "", at.settings.data).key
        if met not in (None, str(link.key)):
            known = PublicKey.parse(met).grouped
            raise RegistryChanged(registry=url, known=known, now=link.key.grouped)
        return url

    async def _claim(
        self, registry: Directory, link: JoinLink, written: Mapping[str, object]
    ) -> tuple[str, bool]:
        """Claim a name, and ask for another one while it is taken; return it, and whether it is new."""
        name = self.invocation.settings.name
        while True:
            try:
                if name is None:
                    name = read_name(await self._ask(YOUR_NAME))
                name = read_name(name)
                await self._expect_free(registry, link, name)
                await self._expect_consent(name, written)
                own = self.invocation.with_settings(name=name)
                place = PeerPlace.of(own.settings, name)
                invitation = own.settings.invitation
                me = await OwnName(own.reactor, registry, place, own.wall, invitation).identity()
            except (IllegalName, NameTaken, AlreadyRunning) as error:
                if self._console is None:
                    raise
                self._console.line(str(error), BAD)
                name = None
            else:
                self.invocation = own
                return me.name, me.is_new

    async def _expect_free(self, registry: Directory, link: JoinLink, name: str) -> None:
        """Check that nobody else has a name, before a key is made for it.

        Raises:
            NameTaken: somebody has it.
        """
        settings = self.invocation.settings
        folder = settings.data or PeerPlace.of(settings, name).by_key(str(link.key))
        with suppress(NoSuchPeer):
            view = await registry.look_up_peer(name, by_registry_clock=True)
            key = await run_in_thread(
                self.invocation.reactor, lambda: key_file.load(folder / KEY_NAME)
            )
            if key is None or view.key != key.public:
                raise NameTaken(name=name, registry=registry.url)

    async def _expect_consent(self, name: str, written: Mapping[str, object]) -> None:
        """Ask before other values in `config.toml` are replaced.

        Raises:
            Refused: there is nobody to ask.
            _Left: the user does not agree.
        """
        new = {"registry": self.invocation.settings.registry, "name": name}
        old = {"registry": _registry_in(written), "name": written.get("name")}
        other = [key for key in new if old[key] not in (None, new[key])]
        if not other or self._force:
            return
        said = " and ".join(f"the {key} {old[key]}" for key in other)
        if self._console is None:
            raise Refused(
                reason=f"{self._config} has {said}. Use --force to replace that, or remove it from the file."
            )
        self._console.line(f"{self._config} has {said}.")
        answer = ""
        while answer not in ("y", "yes", "n", "no"):
            now = " and ".join(f"the {key} {new[key]}" for key in other)
            answer = (await self._ask(f"Replace by {now}? (yes/no)")).casefold()
        if not answer.startswith("y"):
            raise _Left

    async def _ask(self, question: str) -> str:
        """Ask until there is an answer."""
        if self._console is None:
            raise WrongUsage(reason=NO_NAME)
        while True:
            answer = await self._console.ask(question)
            if answer is None:
                raise _Left
            if answer.strip():
                return answer.strip()

    def _tell(self, link: JoinLink, name: str, *, is_new: bool) -> None:
        output, url = self.invocation.output, self.invocation.settings.registry
        fields: dict[str, Any] = {"name": name, "registry": url, "key": str(link.key)}
        output.event("joined", **fields, place=link.place, is_new=is_new, config=str(self._config))
        text = f"You are {name} in the registry {url} now." if is_new else None
        output.line(text or f"You are {name} in the registry {url} already.", Fore.GREEN)
        output.line(f"Both are saved in {self._config}, so no command needs --registry and --name.")


def _registry_in(written: Mapping[str, object]) -> str | None:
    """Return the URL in `config.toml`, whose values were validated when the settings were loaded."""
    url = written.get("registry")
    if not isinstance(url, str):
        return None
    with suppress(ValueError):
        return registry_url(url)
    return url


def _other_key(url: str, link: JoinLink, error: RegistryChanged) -> str:
    return (
        f"Another registry than that of the link answers at {url}. Key in the link: {link.key.grouped}. Key there:"
        f" {error.fields['now']}. It was set up again, or another machine answers in its place. Ask the sender for a"
        " new link."
    )


def _standard_input() -> str:
    """Return the text on standard input.

    Raises:
        CannotRead: it cannot be read.
    """
    if sys.stdin is None:
        raise WrongUsage(reason=NO_LINK)
    try:
        return sys.stdin.buffer.read(2 * LINK_MAX).decode("utf-8", "replace")
    except OSError as error:
        raise CannotRead(path="Standard input", reason=plain_reason(error)) from error


def _warn_of_variables(invocation: Invocation, environ: Mapping[str, str]) -> None:
    """Tell the user about variables that go before the values in `config.toml`."""
    settings = invocation.settings
    for key, value in (("REGISTRY", settings.registry), ("NAME", settings.name)):
        variable = f"{VARIABLE_PREFIX}{key}"
        if environ.get(variable, value) not in (value, ""):
            text = (
                f"The variable {variable} has another value, and goes before config.toml: unset it."
            )
            invocation.output.remark(text)
