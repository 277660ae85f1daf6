"""Tests of `p2pshare/peer/share`."""
