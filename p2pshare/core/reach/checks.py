"""Connectivity checks: the two ends of an attempt find a pair of UDP addresses that works, through NATs and firewalls.

`ConnectivityChecks` is one end of one attempt. Both ends know the attempt's id, its secret and addresses of each other,
which they have exchanged over the registry in sealed signals. A check is a STUN Binding request with the id as its
USERNAME and a MESSAGE-INTEGRITY-SHA256 under the secret; an answer to it proves that the pair works both ways. This is
a small part of ICE (RFC 8445): one component, one socket, few addresses, and the opener alone decides.

Theory of operation
-------------------

**Why both ends send.** A NAT or a firewall lets a datagram in if one has gone out to the same address before. So both
ends send, each check opens the sender's own side, and the first check that finds the other side open arrives.

**Why there are two phases.** A plain Linux router (`masquerade` with an open INPUT chain) behaves badly if a check
arrives from outside *before* one of its own has gone out. It takes the check for one to itself, remembers that flow for
30 s, and then has to give the own flow another port, since the tuple is in use. The other end sends to the old port,
and the attempt is lost. So each end *primes* first: it sends checks whose TTL is so low that they open the own NAT and
die on the way (`prime`). Only when the other side is primed, it *goes*, and sends with the full TTL. `PRIMING_TTLS`
begins with 2, which passes one NAT and dies at the router behind it, however near the other NAT is. 3 and 5 follow,
for homes with two or more NATs in a row. Addresses in one's own network are checked with the full TTL at once.

The opener primes first, when it calls, with the lowest TTL only: the other end has not primed yet, and on a short way
a higher one would arrive too early. It keeps the acceptor's higher ones, which may be on their way when the opener
goes, from doing the same to the opener's router. An end without a NAT has nothing to open, and its datagrams get one
router further: it does not prime. (A router that was reached too early also gives *later* flows of that socket the
other port, to whomever they go, until the first one is forgotten.)

If the other end goes too early, or never hears that this one has primed, most NATs work nevertheless. A second attempt
needs a fresh local port, because of the flow that the router remembers.

**Why checks from unknown addresses count.** A NAT that maps by destination gives the check a port that nobody knows
yet, and a NAT in front of the other end may let it in. An authentic check from an unknown address therefore makes that
a *peer-reflexive* remote, which is answered and checked at once, even before `go`: the check has arrived, so the other
NAT is open for the way back.

**Why a few more follow after a success.** The answer that completes a check here says that the other end can hear,
not that it knows that this end can: its own checks may have been lost. `EXTRA_CHECKS` more, which nominate the
pair (USE-CANDIDATE) if this end opened the attempt, give the other end the chance to learn it, and keep the NATs open
until the session's packets follow.

**Own checks that come back.** Two homes can use the same private address, and a router can reflect. The USERNAME
contains the sender's role, so an end never takes its own check for one of the other.

What others can cause
---------------------

The secret is in sealed signals, so only the two ends can make a valid check or answer. Anything else is dropped before
it changes or causes anything; a datagram with another USERNAME costs no HMAC. An answer goes to the source of a check
and is no longer than the check, so nothing is amplified.

The other end itself may lie. It can name addresses of others, to have them flooded or their ports scanned. So an end
sends to at most `REMOTES_MAX` addresses, at most `CHECKS_MAX` checks of about 110 bytes each, every 50 ms at first,
then more slowly, and ends after `CHECKS_S`. Whether one answered is not told to the other end. Which addresses may be
named at all is the caller's rule, and how many attempts somebody may cause is that of calls.

Somebody on the path can repeat a check from a false source within the attempt's seconds. The victim gets no more
than the other end could have caused. The session that follows proves the keys of both ends, whatever its address.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from p2pshare.core.datagram_core import Address
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.reach import stun

REMOTES_MAX = (
    10  # addresses of the other end that are checked, with those that were found on the way
)
CHECKS_MAX = 40  # checks to one remote
CHECKS_S = 5.0  # s of checks after `prime`, and again after `go`
INTERVAL = 0.05  # s between the first checks to a remote; no two follow each other faster
FAST_CHECKS = 12  # checks after which the interval grows
GROWTH = 1.5  # times that the interval then grows with each check
INTERVAL_MAX = 0.4  # s
EXTRA_CHECKS = 3  # after a success, to the remote that was reached
ANSWERS_MAX = 32  # answers that wait to be sent; the oldest is dropped
PRIMING_TTLS = (
    2,
    3,
    5,
)  # of the acceptor's checks to a remote that open its own NAT; the opener sends the first

OPENER = "opener"
ACCEPTOR = "acceptor"

OutgoingCheck = tuple[bytes, Address, int | None]
"""A datagram, its destination and its TTL; None is that of the system."""


@dataclass(frozen=True, slots=True)
class Reached:
    """A pair of addresses works both ways. This event comes at most once."""

    address: Address
    """Of the other end."""
    rtt_s: float | None
    """The round-trip time of a check; None if the other end has nominated the pair before its answer came."""


@dataclass(frozen=True, slots=True)
class PeerReflexive:
    """The other end has sent an authentic check from an address that was not known."""

    address: Address


@dataclass(frozen=True, slots=True)
class GaveUp:
    """No pair has worked in time. No other event follows."""


CheckEvent = Reached | PeerReflexive | GaveUp


@dataclass(slots=True, eq=False)
class _Remote:
    """An address of the other end."""

    address: Address
    is_near: bool
    is_heard: bool = False
    sent: int = 0
    """Checks, without those that prime."""
    last: float | None = None
    """When the last of these was sent."""
    due: float | None = None
    """When the next check goes out; None: none does."""
    priming: deque[int] = field(default_factory=deque)
    """TTLs of the checks that prime and are still to be sent."""
    interval: float = INTERVAL
    asked: dict[bytes, float] = field(default_factory=dict)
    """The transactions of its checks, and when each was sent: those that prime, and at most `CHECKS_MAX` others."""


class ConnectivityChecks:
    """One end of an attempt to reach the other end over UDP."""

    def __init__(
        self, attempt: str, secret: bytes, *, controls: bool, random: Callable[[int], bytes]
    ) -> None:
        """Begin an attempt, in which nothing is sent before `prime` or `go`.

        Args:
            attempt: its id, which both ends know.
            secret: that only the two ends know.
            controls: whether this end opened the attempt, and decides which pair is used.
            random: returns that many unpredictable bytes.
        """
        self._secret = secret
        self._controls = controls
        roles = (OPENER, ACCEPTOR) if controls else (ACCEPTOR, OPENER)
        self._own_name, self._other_name = (f"{attempt}:{role}" for role in roles)
        self._random = random
        self._remotes: dict[Address, _Remote] = {}
        self._answers: deque[OutgoingCheck] = deque(maxlen=ANSWERS_MAX)
        self._events: deque[CheckEvent] = deque()
        self._is_primed = False
        self._has_nat = True
        self._is_going = False
        self._ends: float | None = None
        self._reached: _Remote | None = None
        self.is_over = False
        """Whether the attempt has ended: datagrams are ignored, and the object can be dropped."""

    def add_remote(self, address: Address, now: float, *, is_near: bool = False) -> None:
        """Check an address of the other end, too; it is ignored if there are `REMOTES_MAX` or one has worked.

        Args:
            address: that the other end has named.
            now: time in s.
            is_near: whether it is in a network of this machine, so that no NAT is between.
        """
        if address in self._remotes or len(self._remotes) >= REMOTES_MAX or self._is_settled:
            return
        remote = self._remotes[address] = _Remote(address, is_near)
        if self._is_going:
            remote.due = now
        elif self._is_primed:
            self._prime(remote, now)

    def prime(self, now: float, *, has_nat: bool = True) -> None:
        """Open the own NAT for all remotes, with checks that do not reach the other one.

        Args:
            now: time in s.
            has_nat: whether there may be one; without it, only remotes that are near are checked before `go`.
        """
        if self._is_primed or self._is_going or self._is_settled:
            return
        self._is_primed = True
        self._has_nat = has_nat
        self._limit(now)
        for remote in self._remotes.values():
            self._prime(remote, now)

    def go(self, now: float) -> None:
        """Start the checks of all remotes: the other end is primed."""
        if self._is_going or self._is_settled:
            return
        self._is_going = True
        self._ends = now + CHECKS_S
        for remote in self._remotes.values():
            remote.priming.clear()
            if not remote.sent:
                remote.due = now

    def receive(self, data: bytes, address: Address, now: float) -> bool:
        """Process a datagram, and return whether it was an authentic one of this attempt."""
        if self.is_over or (binding := stun.parse(data)) is None:
            return False
        if binding.kind is stun.BindingKind.REQUEST:
            if binding.username != self._other_name or not stun.is_authentic(data, self._secret):
                return False
            self._on_check(binding, address, now)
            return True
        remote = self._remotes.get(address)
        if remote is None or (sent := remote.asked.get(binding.transaction)) is None:
            return False
        if not stun.is_authentic(data, self._secret):
            return False
        del remote.asked[binding.transaction]
        if binding.kind is stun.BindingKind.SUCCESS:
            self._on_reached(remote, now - sent, now)
        return True

    def datagrams_to_send(self, now: float) -> list[OutgoingCheck]:
        """Return the datagrams that are due; they are not returned again."""
        found = list(self._answers)
        self._answers.clear()
        due = [each for each in self._remotes.values() if each.due is not None and each.due <= now]
        if not self.is_over:
            found += [self._check(each, now) for each in due]
        return found

    def get_timer(self) -> float | None:
        """Return when to call `handle_timer` and then send what is due; None before the start and at the end."""
        if self.is_over:
            return None
        due = [remote.due for remote in self._remotes.values() if remote.due is not None]
        if self._ends is not None:
            due.append(self._ends)
        return min(due, default=None)

    def handle_timer(self, now: float) -> None:
        """End the attempt if its time is over."""
        if self._ends is None or now < self._ends or self.is_over:
            return
        self.is_over = True
        self._answers.clear()
        if self._reached is None:
            self._events.append(GaveUp())

    def next_event(self) -> CheckEvent | None:
        """Return the oldest event that was not returned yet, or None."""
        return self._events.popleft() if self._events else None

    @property
    def _is_settled(self) -> bool:
        return self.is_over or self._reached is not None

    def _limit(self, now: float) -> None:
        """Let the attempt end in `CHECKS_S`, if no end is set."""
        if self._ends is None:
            self._ends = now + CHECKS_S

    def _prime(self, remote: _Remote, now: float) -> None:
        if remote.is_near or self._has_nat:
            remote.due = now
        if not remote.is_near and self._has_nat:
            remote.priming.extend(PRIMING_TTLS[:1] if self._controls else PRIMING_TTLS)

    def _on_check(self, binding: stun.Binding, address: Address, now: float) -> None:
        """Answer an authentic check, and check its source in turn."""
        answer = stun.Binding(
            stun.BindingKind.SUCCESS, binding.transaction, mapped=PeerAddress(*address)
        )
        self._answers.append((answer.serialize(self._secret), address, None))
        self._limit(now)
        remote = self._remotes.get(address) or self._found(address)
        if remote is None:
            return
        if not remote.is_heard:
            remote.is_heard = True
            remote.priming.clear()
            remote.interval = INTERVAL
            if not self._is_settled:
                remote.due = self._earliest(remote, now)
        if binding.use_candidate and not self._controls:
            self._on_reached(remote, None, now)

    def _found(self, address: Address) -> _Remote | None:
        """Make a new address a remote, in place of the last one that was not heard if there are too many."""
        if self._is_settled:
            return None
        if len(self._remotes) >= REMOTES_MAX:
            silent = [each for each in self._remotes.values() if not each.is_heard]
            if not silent:
                return None
            del self._remotes[silent[-1].address]
        remote = self._remotes[address] = _Remote(address, is_near=False)
        self._events.append(PeerReflexive(address))
        return remote

    def _on_reached(self, remote: _Remote, rtt: float | None, now: float) -> None:
        """Note that a pair works: the first one is used, and the others are checked no more."""
        if self._is_settled:
            return
        self._reached = remote
        for each in self._remotes.values():
            each.due = None
        remote.priming.clear()
        remote.sent = CHECKS_MAX - EXTRA_CHECKS
        remote.interval = INTERVAL
        remote.due = self._earliest(remote, now)
        self._events.append(Reached(remote.address, rtt))

    def _check(self, remote: _Remote, now: float) -> OutgoingCheck:
        """Return the check of a remote that is due, and set the time of the next one."""
        ttl = remote.priming.popleft() if remote.priming else None
        transaction = self._random(stun.TRANSACTION_SIZE)
        remote.asked[transaction] = now
        if ttl is None:
            remote.last = now
            remote.sent += 1
            if remote.sent > FAST_CHECKS and self._reached is None:
                remote.interval = min(GROWTH * remote.interval, INTERVAL_MAX)
        is_last = remote.sent >= CHECKS_MAX or (ttl is not None and not remote.priming)
        remote.due = None if is_last else now + remote.interval
        request = stun.Binding(
            stun.BindingKind.REQUEST,
            transaction,
            username=self._own_name,
            use_candidate=self._controls and self._reached is remote,
        )
        return request.serialize(self._secret), remote.address, ttl

    def _earliest(self, remote: _Remote, now: float) -> float:
        return now if remote.last is None else max(now, remote.last + INTERVAL)
