"""Tests of `p2pshare/peer/browse`."""
