"""Peer-to-peer file sharing for named people, on Twisted."""

from p2pshare._version import __version__

__all__ = ["__version__"]
