"""The bytes per second that go in and out, for the last minutes.

Only bytes of files count. There is no timer while nothing moves.
"""

from __future__ import annotations

from collections.abc import Callable
from math import floor

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from p2pshare.core.sharer_transfers import Transfer
from p2pshare.peer.control import Fields
from p2pshare.storage.shares.arguments import Viewer

STEP = 1.0  # seconds of one sample
SAMPLES = 600  # samples that are kept
QUIET = 3  # samples without a byte after which nothing is told any more


class Traffic:
    """Counts bytes in both directions; a `TransferWatcher` for what goes out."""

    def __init__(
        self,
        clock: IReactorTime,
        on_sample: Callable[[int, int], object],
        *,
        step: float = STEP,
        samples: int = SAMPLES,
    ) -> None:
        """Begin at 0.

        Args:
            clock: tells the time.
            on_sample: called at the end of each step with the bytes per second down and up, while something moves, and
                for a few steps afterwards.
            step: seconds of one sample.
            samples: samples that are kept.
        """
        self._clock = clock
        self._on_sample = on_sample
        self._step = step
        self._down, self._up = [0] * samples, [0] * samples
        self._at = self._now()  # the sample that is being filled
        self._quiet = 0
        self._timer: IDelayedCall | None = None
        self._has_stopped = False

    def received(self, size: int) -> None:
        """Count bytes that have arrived."""
        self._count(self._down, size)

    def sent(self, size: int) -> None:
        """Count bytes that have gone out."""
        self._count(self._up, size)

    def transfer_sent(self, viewer: Viewer, transfer: Transfer, size: int) -> None:
        """Count bytes of a file; see `TransferWatcher`."""
        self.sent(size)

    def transfer_ended(self, viewer: Viewer, transfer: Transfer) -> None:
        """Do nothing."""

    async def action(self, _request: Fields) -> Fields:
        """Perform the action `traffic`."""
        self._turn()
        order = [(self._at + 1 + each) % len(self._down) for each in range(len(self._down) - 1)]
        return {
            "step_s": self._step,
            "down": [self._rate(self._down[each]) for each in order],
            "up": [self._rate(self._up[each]) for each in order],
        }

    def stop(self) -> None:
        """Tell nothing more."""
        self._has_stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _count(self, samples: list[int], size: int) -> None:
        self._turn()
        samples[self._at % len(samples)] += size
        self._quiet = 0
        if self._timer is None and not self._has_stopped:
            self._await_end()

    def _await_end(self) -> None:
        """Look again at the end of the present step."""
        delay = (self._now() + 1) * self._step - self._clock.seconds()
        self._timer = self._clock.callLater(max(delay, 0.001), self._ended)

    def _ended(self) -> None:
        """Tell of the step that has ended."""
        self._timer = None
        self._turn()
        last = (self._at - 1) % len(self._down)
        down, up = self._rate(self._down[last]), self._rate(self._up[last])
        self._quiet = 0 if down or up else self._quiet + 1
        self._on_sample(down, up)
        if self._quiet < QUIET:
            self._await_end()

    def _turn(self) -> None:
        """Begin the present step, with nothing in it and in those that were passed over."""
        now, size = self._now(), len(self._down)
        for each in range(max(self._at + 1, now - size + 1), now + 1):
            self._down[each % size] = self._up[each % size] = 0
        self._at = max(self._at, now)

    def _now(self) -> int:
        return floor(self._clock.seconds() / self._step + 1e-6)

    def _rate(self, size: int) -> int:
        return round(size / self._step)
