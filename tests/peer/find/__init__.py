"""Tests of `p2pshare/peer/find`."""
