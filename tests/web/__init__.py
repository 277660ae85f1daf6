"""Tests of `p2pshare/web`."""
