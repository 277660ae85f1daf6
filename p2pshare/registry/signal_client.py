"""The client of rendezvous: a stream of the signals to a peer, followed through every break, and signals to others.

The callers seal and open the signals; see `p2pshare.wire.reach.signals`.
"""

# A signal that is sent while the stream is broken is lost, and a caller waits for a second at most. So the follower
# notices a break soon, as the registry sends `alive` every 5 s, and reconnects soon. `nudge` makes it reconnect at
# once, for callers that know that the network has changed.
#
# It does not reuse connections of the pool after a break. A network that was left closes no connection, so each of them
# would cost a timeout.

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote, urlencode

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from p2pshare.core.back_off import BackOff
from p2pshare.errors import (
    AudienceRefused,
    ClockWrong,
    NotOwner,
    P2pshareError,
    RemoteProtocolError,
    Unreachable,
)
from p2pshare.registry.client import OF_ACCESS, OF_SIGNAL, RegistryClient
from p2pshare.registry.event_client import EventParser
from p2pshare.wire.keys import SigningKey
from p2pshare.wire.reach.access import Use, detail_of_body
from p2pshare.wire.reach.rendezvous import SIGNAL_ALIVE, PassedSignal, SignalBody
from p2pshare.wire.reach.signals import MAIN_INBOX
from p2pshare.wire.strict_json import parse_object

SILENCE_MAX = 2 * SIGNAL_ALIVE + 2.0  # seconds without a byte after which a stream counts as broken
RETRY_FIRST, RETRY_MAX = 0.25, 4.0  # seconds until the client reconnects
REPLACED_RETRY = (
    4.0  # seconds, if another stream has taken the inbox: two programs must not take turns quickly
)
RETRY_AFTER_MAX = 30.0  # seconds of a `Retry-After` for which the client waits
STEADY = 10.0  # seconds of a stream after which the delays start again with the first

_CURABLE = (Unreachable, NotOwner, ClockWrong, AudienceRefused)
"""Refusals after which to try again: the name may be claimed soon, and a new proof may tell the key and the time."""


async def send_signal(
    client: RegistryClient, key: SigningKey, own_name: str, to: str, inbox: str, sealed: bytes
) -> None:
    """Send a sealed signal to an inbox of a peer.

    Args:
        client: of the registry that both use.
        key: the sender's.
        own_name: the sender's.
        to: the name of the recipient.
        inbox: the recipient's.
        sealed: the signal.

    Raises:
        PeerNotListening: nobody follows this inbox.
        SignalNotAccepted: the recipient does not accept signals of this sender.
        NotOwner: the key does not own the sender's name.
        RegistryRefused: for any other reason, also if the registry has no rendezvous.
        ClockWrong, RegistryChanged: see `RegistryClient`.
    """
    body = SignalBody(inbox, own_name, sealed).to_json()
    path = f"v1/peers/{quote(to, safe='')}/signals"
    for is_last in (False, True):
        headers = await client.authorize(key, own_name, Use.SIGNAL, detail_of_body(body))
        reply = await client.http.ask(b"POST", path, body, headers=headers)
        if reply.status == 202:
            return
        error = client.refusal(reply, to, OF_SIGNAL)
        if isinstance(error, NotOwner):
            error = NotOwner(registry=client.url, name=own_name)
        if is_last or not isinstance(error, ClockWrong | AudienceRefused):
            raise error
        await client.info()


class SignalFollower:
    """Follows the signals to an inbox of a peer."""

    _log = Logger()

    def __init__(
        self,
        client: RegistryClient,
        key: SigningKey,
        name: str,
        on_signal: Callable[[PassedSignal], object],
        on_link: Callable[[bool], object] = lambda _: None,
        *,
        inbox: str = MAIN_INBOX,
        accept: Sequence[str] | None = None,
        rng: random.Random,
    ) -> None:
        """Prepare to follow.

        Args:
            client: of the registry.
            key: the owner's.
            name: the peer's.
            on_signal: called with each signal.
            on_link: called with whether signals arrive, at each change and each try that fails.
            inbox: of the peer.
            accept: names of senders, at most `ACCEPT_MAX`; the registry refuses all others. None for all.
            rng: draws the jitter of the delays.
        """
        self._client = client
        self._key = key
        self._name = name
        self._on_signal = on_signal
        self._on_link = on_link
        self._inbox = inbox
        query = {"inbox": inbox} | ({} if accept is None else {"accept": ",".join(accept)})
        self._path = f"v1/peers/{quote(name, safe='')}/signals?{urlencode(query, safe=',')}"
        self._back_off = BackOff(RETRY_FIRST, RETRY_MAX, rng)
        self._step: Deferred[Any] | None = None
        self._is_nudged = False
        self._is_replaced = False

    def nudge(self) -> None:
        """Reconnect at once: the network has changed, or works again."""
        self._back_off.reset()
        if self._step is not None:
            self._is_nudged = True
            self._step.cancel()

    async def run(self) -> None:
        """Follow until cancelled.

        Raises:
            P2pshareError: the registry refuses for good: it has another key now, or no rendezvous.
        """
        clock = self._client.http.clock
        while True:
            started, error = clock.seconds(), None
            try:
                error = await self._interruptible(Deferred.fromCoroutine(self._follow_once()))
            finally:
                self._on_link(False)
            self._client.http.close_idle()
            if clock.seconds() - started >= STEADY:
                self._back_off.reset()
            if self._is_nudged:
                self._is_nudged = False
                continue
            asked = error.fields.get("retry_after") if error else None
            at_least = min(asked, RETRY_AFTER_MAX) if isinstance(asked, int) else 0.0
            if self._is_replaced:
                at_least, self._is_replaced = REPLACED_RETRY, False
            delay = self._back_off.next_delay(at_least)
            why = None if error is None else str(error)
            self._log.debug("signals broke off: retry_in_s={s:.1f} why={why!r}", s=delay, why=why)
            await self._interruptible(deferLater(clock, delay))
            self._is_nudged = False

    async def _interruptible(self, step: Deferred[Any]) -> Any:
        """Wait until a step is done or the follower is nudged."""
        self._step = step
        try:
            return await step
        except CancelledError:
            if not self._is_nudged:
                raise
        finally:
            self._step = None

    async def _follow_once(self) -> P2pshareError | None:
        """Follow one connection; return why it failed, or None if it ended regularly."""
        http, parser = self._client.http, EventParser()

        def received(data: bytes) -> None:
            for event in parser.receive(data):
                if event.kind == "open":
                    self._on_link(True)
                elif event.kind == "replaced":
                    self._is_replaced = True
                elif event.kind == "signal":
                    fields = parse_object(event.data.encode())
                    self._on_signal(PassedSignal.from_fields(fields))

        try:
            headers = await self._client.authorize(self._key, self._name, Use.SIGNALS, self._inbox)
            headers["Accept"] = "text/event-stream"
            reply = await http.stream(self._path, lambda: None, received, SILENCE_MAX, headers)
            if reply is None:
                return None
            error = self._client.refusal(reply, self._name, OF_ACCESS)
            if isinstance(error, ClockWrong | AudienceRefused):
                await self._client.info()
        except Unreachable as unreachable:
            return unreachable
        except RemoteProtocolError as wrong:
            return http.unreachable(str(wrong))
        if not isinstance(error, _CURABLE):
            raise error
        return error
