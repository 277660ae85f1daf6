"""Tests of `p2pshare/net/session`."""
