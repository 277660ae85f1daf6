"""Tests of `p2pshare/peer/people`."""
