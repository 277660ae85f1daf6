"""The report on the way to a person: what was tried, which path is used, and what would make it direct.

A session is opened for it. If the relay leads to the person first, direct paths are tried for `DIRECT_WAIT` seconds,
as any transfer would do. All sessions are closed in the end. The network is examined after the first session is open,
so that nothing else runs while that is timed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime

from p2pshare.core.credit import CREDIT_WINDOW
from p2pshare.core.session_interface import Session, SessionPath
from p2pshare.errors import P2pshareError
from p2pshare.net.session.dialling import Tried
from p2pshare.peer.find.lookup import FoundPeer
from p2pshare.peer.find.target import Target
from p2pshare.peer.reach.dialler import Dialler
from p2pshare.peer.reach.report.advice import Advice, OtherEnd, about_path
from p2pshare.peer.reach.report.facts import NetworkFacts
from p2pshare.storage.settings import Settings, Via

RELAY = "relay"
DIRECT_WAIT = 5.0  # seconds for a direct path after the relay has led to the peer


@dataclass(frozen=True, slots=True)
class Outcome:
    """What has come of dialling."""

    tried: tuple[Tried, ...]
    again: tuple[Tried, ...] = ()
    """The direct paths that were tried after the relay had led to the peer."""
    path: SessionPath | None = None
    """The path in use; None if there is none."""
    began_at: SessionPath | None = None
    """The path before, if the session has moved from the relay to a direct path."""
    ms: float | None = None
    """From the beginning until the peer had welcomed this one."""
    error: P2pshareError | None = None
    """Why there is no path."""


@dataclass(frozen=True, slots=True)
class PathReport:
    """All that is known about the way to a person."""

    facts: NetworkFacts
    other: OtherEnd
    key: str
    outcome: Outcome
    advice: tuple[Advice, ...]

    def to_fields(self) -> dict[str, Any]:
        """Return the report as a JSON object, without the facts about the network and without advice."""
        outcome, used = self.outcome, self.outcome.path
        carrier = None if used is None else used.carrier
        return {
            "peer": self.other.name,
            "key": self.key,
            "via": carrier,
            "address": None if used is None else str(used.address),
            "direct": carrier is not None and carrier != RELAY,
            "began_on_relay": outcome.began_at is not None,
            "ms": _rounded(outcome.ms),
            "candidates": [str(each) for each in self.other.candidates],
            "mapping": self.other.mapping.value,
            "takes_calls": self.other.takes_calls,
            "tried": [
                {
                    "via": each.carrier,
                    "address": each.address,
                    "began_ms": round(1000 * each.began_s, 1),
                    "answered_ms": _rounded(each.answered_ms),
                    "outcome": each.outcome,
                    "again": is_again,
                }
                for is_again, attempts in ((False, outcome.tried), (True, outcome.again))
                for each in attempts
            ],
        }


def report_on(
    found: FoundPeer, facts: NetworkFacts, outcome: Outcome, settings: Settings
) -> PathReport:
    """Return the report on the way to a peer that was looked up and dialled."""
    is_remembered = found.problem is not None
    is_offline = found.seen is not None and not is_remembered
    takes_calls = found.target.takes_calls
    other = OtherEnd(
        found.name, found.candidates, found.mapping, takes_calls, is_remembered, is_offline
    )
    carrier = None if outcome.path is None else outcome.path.carrier
    via = Via.RELAY if settings.private else settings.via
    advice = tuple(about_path(facts, other, carrier, via))
    return PathReport(facts, other, str(found.key), outcome, advice)


async def try_paths(
    clock: IReactorTime,
    dialler: Dialler,
    target: Target,
    settings: Settings,
    examine: Callable[[], Awaitable[NetworkFacts]],
    *,
    on_relay: Callable[[], object] = lambda: None,
) -> tuple[Outcome, NetworkFacts]:
    """Open a session, and another one that is direct if the first one goes through the relay; examine the network.

    Args:
        clock: measures times.
        dialler: opens sessions.
        target: the other peer.
        settings: have the silence after which a session counts as broken, and the carriers that the user allows.
        examine: returns what this machine's network is like.
        on_relay: called when direct paths are tried because only the relay leads to the peer.
    """
    # Else they are imported when they are needed, and that would be timed, too.
    from p2pshare.net.session import datagrams  # noqa: F401
    from p2pshare.peer.reach import calling, rendezvous  # noqa: F401

    sessions: list[Session] = []
    tried: list[Tried] = []
    again: list[Tried] = []
    error: P2pshareError | None = None
    ms: float | None = None
    began = clock.seconds()
    try:
        try:
            opened = await dialler.open(
                target, credit=CREDIT_WINDOW, silence=settings.timeout, report=tried
            )
            sessions.append(opened)
            ms = 1000 * (clock.seconds() - began)
        except P2pshareError as failed:
            error = failed
        examining: Deferred[NetworkFacts] = Deferred.fromCoroutine(_awaited(examine))
        try:
            is_relayed = bool(sessions) and sessions[0].path.carrier == RELAY
            if is_relayed and settings.via is not Via.RELAY and not settings.private:
                on_relay()
                sessions += await _direct(clock, dialler, target, settings, again)
            facts = await examining
        finally:
            examining.addErrback(lambda _: None)
            examining.cancel()
        paths = [each.path for each in sessions]
        used = paths[-1] if paths else None
        before = paths[0] if len(paths) > 1 else None
        return Outcome(tuple(tried), tuple(again), used, before, ms, error), facts
    finally:
        for session in sessions:
            session.close()


async def _direct(
    clock: IReactorTime,
    dialler: Dialler,
    target: Target,
    settings: Settings,
    report: list[Tried],
) -> Sequence[Session]:
    """Return the session over a direct path, if there is one."""
    opening = Deferred.fromCoroutine(
        dialler.open_direct(
            target,
            credit=CREDIT_WINDOW,
            silence=settings.timeout,
            timeout=DIRECT_WAIT,
            report=report,
        )
    )
    with suppress(P2pshareError, CancelledError):
        return [await opening.addTimeout(DIRECT_WAIT, clock, _expired)]
    return []


async def _awaited(examine: Callable[[], Awaitable[NetworkFacts]]) -> NetworkFacts:
    return await examine()


def _expired(_result: object, _timeout: float) -> Session:
    raise CancelledError


def _rounded(ms: float | None) -> float | None:
    return None if ms is None else round(ms, 1)
