"""The version of p2pshare, in one place."""

__version__ = "0.1.0"
