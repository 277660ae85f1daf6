"""The verb `open`: the page of the user's peer in a browser, at a person or at a place of a person.

A running peer is asked for the address of its page. If none runs, the whole peer of the user runs inside this command,
with all that it shares, until Ctrl+C. Only the user's own command does that: a link that another program passes on
(`--desktop`) starts nothing. A link never leads to a registry that the user has not joined, see `link_target.py`; and
one to another registry than that of the settings starts nothing either, since the shares of the settings are not meant
for the people there.
"""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import quote, urlsplit

from p2pshare.errors import ForeignRegistry, P2pshareError, PeerStopped, Unreachable, WrongUsage
from p2pshare.net.notifier import Notifier
from p2pshare.net.threads import run_in_thread
from p2pshare.peer.control import running_peer
from p2pshare.storage.identity.data_folder import peer_folder
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.verbs.key import name_of
from p2pshare.ui.verbs.own_peer import LAST_ACTION, OwnPeer, own_peer
from p2pshare.ui.verbs.page.browser import has_browser, is_remote, open_browser
from p2pshare.ui.verbs.page.link_handler import should_offer
from p2pshare.ui.verbs.page.link_target import invocation_for
from p2pshare.ui.verbs.remote_arguments import parse_where
from p2pshare.wire.paths import RemotePath
from p2pshare.wire.reach.join_links import SCHEME
from p2pshare.wire.reach.person_links import PersonLink, is_person_link

PAGE_ACTION = "page_open"
NO_NAME = (
    "Choose your name: run `p2pshare open --name NAME`. Without --registry URL you share on the local network."
    " If somebody has sent you a link, run `p2pshare join LINK` first."
)
JOIN_FIRST = "This link joins a registry. Run `p2pshare join LINK` in a terminal to follow it."
NO_PAGE = "Your running peer is of an older version, without a page. Restart it."
NOT_MET = "Your peer has never reached its registry, so it has no page yet: {trouble}"
NOT_HERE = (
    "Your peer {name} does not run in the registry {registry} of this link. Start it with"
    " `p2pshare open --registry {registry} --name {name}`, then follow the link again."
)
AWAY = "The registry {registry} does not answer now. Your peer keeps trying."
NOT_RUNNING = "Your peer does not run, and a link does not start it. Run `p2pshare open`, then follow the link again."


def open_page(
    invocation: Invocation,
    where: str | None,
    *,
    no_browser: bool,
    desktop: bool,
    registry: str | None,
    data: str | None,
    environ: Mapping[str, str],
) -> Coroutine[Any, Any, int]:
    """Open the page; return the exit code.

    Args:
        invocation: the run of the command line.
        where: `PEER`, `PEER:PATH`, a link to a person or a link for joining; None for the list of people.
        no_browser: print the address in place of opening a browser.
        desktop: whether another program passes on a link: nothing is started, and errors become notifications.
        registry: the flag, for a link for joining.
        data: the flag, for a link for joining.
        environ: the environment.

    Raises:
        P2pshareError: as for `p2pshare join`; all other errors come from the coroutine.
    """
    is_join_link = where is not None and not is_person_link(where) and _has_scheme(where)
    if is_join_link and not desktop:
        from p2pshare.ui.verbs.reach.join import join

        return join(invocation, where, registry=registry, data=data, force=False, environ=environ)
    if desktop:
        return _told_on_desktop(invocation, _follow(invocation, where, environ))
    return _open(invocation, where, environ, may_browse=not no_browser)


async def _open(
    invocation: Invocation, where: str | None, environ: Mapping[str, str], *, may_browse: bool
) -> int:
    """Open the page of the running peer, or run a peer and open its page."""
    given, (invocation, place) = invocation, await _target(invocation, where)
    if invocation.settings.name is None:
        raise WrongUsage(reason=NO_NAME)
    if invocation is not given:
        await _expect_running(
            invocation, NOT_HERE
        )  # the shares of the settings are not for that registry
    async with own_peer(invocation, in_contact=False, is_whole=True) as peer:
        is_link = where is not None and _has_scheme(where)
        opening = _Opening(invocation, peer, environ, may_browse=may_browse, is_link=is_link)
        await opening.show(place)
        if peer.runs_here:
            if not (await peer.ask("status"))["online"]:
                invocation.output.remark(AWAY.format(registry=invocation.settings.registry))
            with suppress(PeerStopped):
                await peer.until_it_ends()
    return 0


async def _follow(invocation: Invocation, where: str | None, environ: Mapping[str, str]) -> int:
    """Open the page of the running peer where a link leads, and start nothing.

    Raises:
        WrongUsage: it is not a link to a person.
        Unreachable: no peer runs.
    """
    if where is None or not _has_scheme(where):
        raise WrongUsage(reason="--desktop takes a link that begins with p2pshare:.")
    if not is_person_link(where):
        raise WrongUsage(reason=JOIN_FIRST)
    invocation, place = await _target(invocation, where)
    await _expect_running(invocation, NOT_RUNNING)
    peer = OwnPeer(invocation, name_of(invocation.settings), None)
    await _Opening(invocation, peer, environ, may_browse=True, is_link=False).show(place)
    return 0


async def _expect_running(invocation: Invocation, reason: str) -> None:
    """Check that the user's peer runs.

    Raises:
        Unreachable: it does not, and `reason` says what to do.
    """
    settings, name = invocation.settings, name_of(invocation.settings)
    client = await running_peer(invocation.reactor, peer_folder(settings, name))
    if client is None:
        raise Unreachable(reason=reason.format(name=name, registry=settings.registry))
    client.close()


def _has_scheme(text: str) -> bool:
    return text[: len(SCHEME)].lower() == SCHEME


async def _target(invocation: Invocation, where: str | None) -> tuple[Invocation, str]:
    """Return the run with the settings of the target, and the view of the page.

    Raises:
        WrongUsage: `where` is no person and no link.
        ForeignRegistry: the link is to a registry that the user has not joined.
    """
    if where is None:
        return invocation, "/people"
    if is_person_link(where):
        link = PersonLink.parse(where)
        found = await run_in_thread(invocation.reactor, invocation_for, invocation, link.registry)
        if found is None:
            raise ForeignRegistry(person=link.name, key=link.registry.grouped)
        return found, view_of(link.name, link.path)
    return invocation, view_of(*parse_where(where))


def view_of(name: str, path: RemotePath) -> str:
    """Return the view of a person on the page, or of one of their folders or files."""
    view = f"/people/{quote(name, safe='')}"
    if path:
        view += "/files/" + "/".join(quote(each, safe="") for each in path)
    return view


class _Opening:
    """The page of one peer, for a user in front of a terminal."""

    def __init__(
        self,
        invocation: Invocation,
        peer: OwnPeer,
        environ: Mapping[str, str],
        *,
        may_browse: bool,
        is_link: bool,
    ) -> None:
        """Open the page of `peer`; `is_link` if the user has typed a link, and might want to click on it instead."""
        self._invocation = invocation
        self._output = invocation.output
        self._peer = peer
        self._environ = environ
        self._is_link = is_link
        self._may_browse = may_browse and has_browser(environ)

    async def show(self, place: str) -> None:
        """Open the page in the browser, or print its address.

        Raises:
            Unreachable: the peer has never reached its registry.
            P2pshareError: the peer does not open it.
        """
        actions = (await self._peer.ask("version"))["actions"]
        if LAST_ACTION not in actions:  # it has met no registry yet, and so has no data folder
            trouble = (await self._peer.ask("status"))["trouble"]
            raise Unreachable(reason=NOT_MET.format(trouble=trouble or "it has just started."))
        if PAGE_ACTION not in actions:
            raise WrongUsage(reason=NO_PAGE)
        url = str((await self._peer.ask(PAGE_ACTION, to=place))["url"])
        is_open = False
        if self._may_browse:
            is_open = await run_in_thread(self._invocation.reactor, open_browser, url)
        self._output.event(
            "page", url=url, name=self._peer.name, browser=is_open, runs_here=self._peer.runs_here
        )
        self._tell(url, is_open=is_open)

    def _tell(self, url: str, *, is_open: bool) -> None:
        output = self._output
        if is_open:
            output.line("The page is open in your browser.")
        else:
            output.result(url)
            output.remark(
                "This address works once, within 60 s. Run the command again for another one."
            )
            if is_remote(self._environ):
                port = urlsplit(url).port
                output.remark(
                    f"To see the page on your own machine, run `ssh -N -L {port}:127.0.0.1:{port} HOST` there, with"
                    " the name of this machine for HOST. Then open the address there."
                )
        if self._peer.runs_here:
            output.remark(
                f"Your peer runs in this command, as {self._peer.name}, until you press Ctrl+C. Then you are offline."
            )
        elif not self._peer.is_lasting:
            output.remark(
                "Your peer, and so the page, runs only as long as another command of yours."
            )
        if is_open and (self._is_link or self._peer.runs_here) and should_offer(self._environ):
            output.remark(
                "To open p2pshare:// links of web pages in p2pshare, run `p2pshare open --register` once."
            )


async def _told_on_desktop(invocation: Invocation, work: Coroutine[Any, Any, int]) -> int:
    """Do the work, and show an error as a notification, since nobody reads the output."""
    notifier = Notifier(invocation.reactor)
    try:
        return await work
    except P2pshareError as error:
        notifier.show("p2pshare cannot follow the link", str(error))
        await notifier.finish()
        raise
