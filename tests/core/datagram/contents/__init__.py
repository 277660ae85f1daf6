"""Tests of `p2pshare.core.datagram.contents`."""
