"""How what is shared is opened: component by component beneath a share's root."""

from __future__ import annotations

from p2pshare.wire.transfer_messages import Fault


class Unavailable(Exception):
    """What was asked for is not to be had."""

    def __init__(self, why: Fault) -> None:
        super().__init__(why.value)
        self.why = why
