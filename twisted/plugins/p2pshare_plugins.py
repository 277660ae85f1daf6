"""The twistd subcommands of p2pshare."""

from twisted.application.service import ServiceMaker

registry = ServiceMaker(
    "p2pshare registry", "p2pshare.registry.tap", "Run a p2pshare registry.", "p2pregistry"
)
peer = ServiceMaker("p2pshare peer", "p2pshare.peer.tap", "Run a p2pshare peer.", "p2ppeer")
