"""Tests of `p2pshare/classic/net`."""
