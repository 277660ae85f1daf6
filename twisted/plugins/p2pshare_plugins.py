"""The twistd subcommands of p2pshare."""

from typing import Any

from twisted.application.service import ServiceMaker

from p2pshare.ui.start import interruptible


class Maker(ServiceMaker):
    """A service whose modules are imported when twistd asks for its options."""

    @property
    def options(self) -> Any:
        """Return the class of the options."""
        with interruptible():
            return super().options


registry = Maker(
    "p2pshare registry", "p2pshare.registry.tap", "Run a p2pshare registry.", "p2pregistry"
)
peer = Maker("p2pshare peer", "p2pshare.peer.tap", "Run a p2pshare peer.", "p2ppeer")
