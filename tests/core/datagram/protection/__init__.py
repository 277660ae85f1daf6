"""Tests of `p2pshare.core.datagram.protection`."""
