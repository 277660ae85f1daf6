"""The whole of loss recovery and congestion control over an ideal link, in virtual time.

The link has a rate, a delay, a queue that drops its tail, and random loss. It is as simple as the models whose
predictions are tested here.
"""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush
from itertools import count
from math import inf
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.datagram.congestion.controller import report
from p2pshare.core.datagram.congestion.cubic import Cubic
from p2pshare.core.datagram.loss import LossDetector, Outcome
from p2pshare.core.datagram.pacer import Pacer
from p2pshare.core.datagram.received_packets import ReceivedPackets
from p2pshare.core.datagram.rtt import RttEstimator
from p2pshare.core.datagram.sent_packets import SentPackets
from p2pshare.core.ranges import RangeSet
from p2pshare.wire.datagrams.frames import Ack

SEGMENT = 1200  # bytes
TICK = 0.001  # seconds, to which timers are rounded up


class Link:
    """A bottleneck with a queue, in which packets wait for those before them."""

    def __init__(self, rate: float, delay: float, queue: float, loss: float = 0.0) -> None:
        """`rate` in bytes per second, `delay` in seconds one way, `queue` in bytes, `loss` of each packet."""
        self.rate, self.delay, self.queue, self.loss = rate, delay, queue, loss
        self.free_at = 0.0
        self.rng = Random(1)

    def carry(self, size: int, now: float) -> float | None:
        """Return when a packet arrives; None if it is lost."""
        waiting = max(0.0, self.free_at - now) * self.rate
        if waiting + size > self.queue or self.rng.random() < self.loss:
            return None
        self.free_at = max(now, self.free_at) + size / self.rate
        return self.free_at + self.delay


class Flow:
    """A sender that always has data, and its receiver."""

    def __init__(self, link: Link, start: float) -> None:
        self.link = link
        self.sent = SentPackets[None]()
        self.rtt = RttEstimator()
        self.loss = LossDetector(self.sent, self.rtt)
        self.cubic = Cubic(SEGMENT)
        self.pacer = Pacer(self.cubic.pacing_rate(self.rtt.smoothed), SEGMENT, start)
        self.received = ReceivedPackets()
        self.acks = deque[tuple[float, Ack]]()
        self.trains = deque[tuple[float, RangeSet]]()
        self.delivered = 0
        self.lost = 0
        self.next_send = start

    def due(self) -> float:
        """Return the time of the next event."""
        timer = self.loss.get_timer()
        return min(
            self.acks[0][0] if self.acks else inf,
            self.trains[0][0] if self.trains else inf,
            inf if self.received.ack_at is None else self.received.ack_at,
            inf if timer is None else timer,
            self.next_send,
        )

    def act(self, now: float) -> None:
        while self.trains and self.trains[0][0] <= now:
            runs = self.trains.popleft()[1]
            self.delivered += runs.total * SEGMENT
            self.received.received(runs, now, self.rtt.smoothed, ack_eliciting=True)
        if self.received.ack_at is not None and self.received.ack_at <= now:
            ack = self.received.ack(now)
            assert ack is not None
            self.acks.append((now + self.link.delay, ack))
        while self.acks and self.acks[0][0] <= now:
            self.learn(self.loss.acknowledge(self.acks.popleft()[1], now), now)
        timer = self.loss.get_timer()
        if timer is not None and timer <= now:
            outcome = self.loss.handle_timer(now)
            self.learn(outcome, now)
            if outcome.must_probe:
                self.send(2, now)
        self.pump(now)

    def learn(self, outcome: Outcome[None], now: float) -> None:
        self.lost += sum(part.packets for part in outcome.lost)
        report(outcome, self.cubic, self.rtt, now)

    def pump(self, now: float) -> None:
        self.pacer.change(self.cubic.pacing_rate(self.rtt.smoothed), SEGMENT, now)
        self.next_send = inf
        while (room := (self.cubic.window - self.sent.bytes_in_flight) // SEGMENT) > 0:
            budget = self.pacer.budget(now) // SEGMENT
            if not budget:
                due = self.pacer.next_at(now)
                self.next_send = max(due - due % -TICK, now + TICK / 2)
                break
            self.send(min(room, budget, 54), now)

    def send(self, packets: int, now: float) -> None:
        train = self.sent.add(packets, SEGMENT, SEGMENT, now, None)
        size = packets * SEGMENT
        self.cubic.on_sent(size, self.sent.bytes_in_flight, now)
        self.pacer.spend(size, now)
        arrived = RangeSet()
        last = 0.0
        for number in range(train.first, train.end):
            if (at := self.link.carry(SEGMENT, now)) is not None:
                arrived.add(number, number + 1)
                last = at
        if arrived:
            self.trains.append((last, arrived))


def simulate(flows: list[Flow], seconds: float) -> None:
    order = count()
    events = [(flow.due(), next(order), flow) for flow in flows]
    while events:
        now, _, flow = heappop(events)
        if now > seconds:
            return
        flow.act(now)
        heappush(events, (max(now, flow.due()), next(order), flow))


class ClosedLoopTests(SynchronousTestCase):
    def test_utilisation(self) -> None:
        """One flow uses more than 85 % of a link with a queue of a bandwidth-delay product."""
        for rate, rtt in ((2.5e5, 0.05), (1.25e6, 0.02), (1.25e6, 0.2)):
            flow = Flow(Link(rate, rtt / 2, rate * rtt), 0.0)
            simulate([flow], 15.0)
            self.assertGreater(flow.delivered / (rate * 15.0), 0.85, (rate, rtt))
            self.assertLess(flow.lost * SEGMENT / flow.delivered, 0.05)

    def test_sharing(self) -> None:
        """Two flows share a link, although one begins later."""
        rate = 6.25e5
        link = Link(rate, 0.02, rate * 0.04)
        flows = [Flow(link, 0.0), Flow(link, 3.0)]
        simulate(flows, 10.0)
        before = [flow.delivered for flow in flows]
        simulate(flows, 40.0)
        shares = [flow.delivered - start for flow, start in zip(flows, before, strict=True)]
        jain = sum(shares) ** 2 / (2 * sum(each**2 for each in shares))
        self.assertGreater(jain, 0.8)
        self.assertGreater(sum(shares) / (rate * 30.0), 0.85)

    def test_random_loss(self) -> None:
        """With random loss the mean window is what RFC 9438, section 5, predicts of Reno or CUBIC, if that is more."""
        for loss, rtt, seconds in ((0.01, 0.05, 30.0), (0.001, 0.2, 60.0)):
            flow = Flow(Link(12.5e6, rtt / 2, 1e6, loss), 0.0)
            simulate([flow], seconds)
            window = flow.delivered / seconds * flow.rtt.smoothed / SEGMENT
            reno = 1.22 / loss**0.5  # packets, with a round trip of any length
            cubic = 1.054 * (rtt / loss) ** 0.75
            self.assertApproximates(window / max(reno, cubic), 1.0, 0.3)
