"""The health of a running peer: whether its registry answers, how others reach it, and what the user can do.

`health` costs nothing, since the peer knows all of it already; no server is asked. From the first question on, as long
as somebody follows events, it is compared every second, and a change is an event. `path` opens a session with somebody,
to see which way leads there.

Everything is a code or a value. The words for people are those of the program that asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.interfaces import IDelayedCall

from p2pshare.errors import ControlRefused, P2pshareError, WrongUsage
from p2pshare.names import NAME_MAX, read_name
from p2pshare.peer.control import Action, Fields
from p2pshare.peer.reach.report.advice import about_network
from p2pshare.peer.reach.report.facts import NetworkFacts, StunTry, examine
from p2pshare.peer.reach.report.path import report_on, try_paths
from p2pshare.peer.running import RunningPeer
from p2pshare.web.exchange import Route
from p2pshare.wire.addresses import LAN
from p2pshare.wire.reach.candidates import CandidateKind
from p2pshare.wire.reach.candidates import Mapping as NatMapping
from p2pshare.wire.strict_json import text

LOOK_EVERY = 1.0  # seconds between two looks, while somebody follows
LEASE = 10.0  # seconds after a question in which somebody may begin to follow
PATHS_MAX = 4  # reports on paths at a time


class Health:
    """Reports on the registry, the network and the paths of a peer."""

    def __init__(self, peer: RunningPeer) -> None:
        """Report on `peer`."""
        self._peer = peer
        self._looking: IDelayedCall | None = None
        self._asked_at = 0.0
        self._has_stopped = False
        self._told: Fields | None = None
        self._state = ""  # of the registry
        self._state_since: int | None = None
        self._paths = 0

    @property
    def actions(self) -> Mapping[str, Action]:
        """What verbs and the page may ask for."""
        return {"health": self._health, "path": self._path}

    def table(self) -> Mapping[bytes, Route]:
        """Return no routes."""
        return {}

    async def start(self) -> None:
        """Do nothing before somebody asks."""

    async def stop(self) -> None:
        """Look no more. May be called again."""
        self._has_stopped = True
        looking, self._looking = self._looking, None
        if looking is not None and looking.active():
            looking.cancel()

    def _look(self) -> None:
        self._looking = None
        if self._peer.events.is_followed:
            self._tell(self.report())
        elif self._peer.reactor.seconds() - self._asked_at < LEASE:
            self._look_again()
        else:
            self._told, self._state = None, ""

    def _look_again(self) -> None:
        if self._looking is None and not self._has_stopped:
            self._looking = self._peer.reactor.callLater(LOOK_EVERY, self._look)

    def _tell(self, now: Fields) -> None:
        """Tell followers if something has changed since somebody was told last."""
        if self._told is not None and now != self._told:
            self._peer.events.publish("health", **now)
        self._told = now
        self._look_again()

    async def _health(self, _request: Fields) -> Fields:
        """Return the state of everything."""
        self._asked_at = self._peer.reactor.seconds()
        report = self.report()
        self._tell(report)
        return report

    def _follow_registry(self) -> None:
        """Remember since when the registry answers, or does not."""
        state = self._registry_state(self._peer.standing())
        if state != self._state:
            self._state_since = int(self._peer.wall()) if self._state else None
            self._state = state

    def _registry_state(self, standing: Fields) -> str:
        if self._peer.place.is_lan:
            return "lan"
        if self._peer.trouble() is not None:
            return "away"
        if standing["elsewhere"] is not None and standing["elsewhere"]["waits"]:
            return "elsewhere"
        return "ok" if standing["registered"] else "starting"

    def report(self) -> dict[str, Any]:
        """Return the state as a JSON object."""
        self._follow_registry()
        peer, standing, trouble = self._peer, self._peer.standing(), self._peer.trouble()
        network, facts = peer.network, self._facts(standing)
        description = peer.directory.description
        return {
            "name": standing["name"],
            "online": standing["online"],
            "registered": standing["registered"],
            "since": standing["since"],
            "elsewhere": standing["elsewhere"],
            "registry": {
                "url": standing["registry"],
                "key": standing["registry_key"],
                "state": self._state,
                "since": self._state_since,
                "trouble": None if trouble is None else shown_error(trouble),
                "relay": None if description is None else description.relay,
                "calls": standing["takes_calls"],
            },
            "nat": {"mapping": standing["mapping"], "seen": facts.seen},
            "udp": {"state": _udp_state(facts), "servers": [each.server for each in facts.stun]},
            "addresses": [{"ip": ip, "interface": interface} for ip, interface in facts.addresses],
            "address": standing["address"],
            "port": facts.port,
            "candidates": standing["candidates"],
            "port_mapping": {
                "wanted": peer.settings.port_mapping,
                "forwarded": [
                    str(each.address)
                    for each in network.candidates
                    if each.kind is CandidateKind.FORWARDED
                ],
            },
            "loopback": standing["loopback"],
            "private": standing["private"],
            "lan": peer.place.is_lan,
            "sessions": sum(1 for _ in peer.sessions.open_sessions),
            "advice": [each.to_fields() for each in self._advice(facts, standing)],
        }

    def _advice(self, facts: NetworkFacts, standing: Fields) -> list[Any]:
        if standing["private"] or (standing["loopback"] and facts.registry_ms is not None):
            return []  # nobody is meant to come in
        return list(about_network(facts))

    def _facts(self, standing: Fields) -> NetworkFacts:
        """Return what the peer knows of its network, without asking anybody."""
        network, directory = self._peer.network, self._peer.directory
        addresses = tuple((each.ip, each.interface) for each in network.interface_addresses)
        if self._peer.place.is_lan:
            return NetworkFacts(LAN, addresses=addresses, peer=standing)
        is_away, description = self._peer.trouble() is not None, directory.description
        answers = network.mapped
        silent = [] if answers or network.mapping is not NatMapping.BLOCKED else network.servers
        tries = [StunTry(str(server), 0.0, str(mapped)) for server, mapped in answers.items()]
        tries += [StunTry(str(server), None, None) for server in silent]
        return NetworkFacts(
            directory.url,
            None if is_away else 0.0,
            None,
            description is not None and description.relay,
            tuple(tries),
            network.mapping,
            addresses,
            standing,
        )

    async def _path(self, request: Fields) -> Fields:
        """Open a session with somebody, and report which way leads there."""
        peer = self._peer
        name = read_name(text(dict(request), "name", NAME_MAX))
        if name == peer.place.name:
            raise WrongUsage(reason="That is you: `health` reports on this machine.")
        if self._paths >= PATHS_MAX:
            raise ControlRefused(reason="it looks at too many paths now; try again in a moment")
        self._paths += 1
        try:
            found = await peer.finders(pins_new_keys=False).find(name)
            found.expect_sessions()
            outcome, facts = await try_paths(
                peer.reactor,
                peer.dialler,
                found.target,
                peer.settings,
                lambda: examine(peer.reactor, peer.directory, peer.standing()),
            )
        finally:
            self._paths -= 1
        report = report_on(found, facts, outcome, peer.settings)
        error = None if outcome.error is None else found.explained(outcome.error)
        return {
            **report.to_fields(),
            "error": None if error is None else shown_error(error),
            "network": facts.to_fields(),
            "advice": [each.to_fields() for each in report.advice],
        }


def shown_error(error: P2pshareError) -> dict[str, str]:
    """Return an error as a JSON object: its class, and the sentence."""
    return {"error": type(error).__name__, "message": str(error)}


def _udp_state(facts: NetworkFacts) -> str:
    if facts.is_udp_blocked:
        return "blocked"
    return "ok" if any(each.mapped for each in facts.stun) else "unknown"
