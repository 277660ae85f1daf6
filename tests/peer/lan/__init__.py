"""Tests of `p2pshare/peer/lan`."""
