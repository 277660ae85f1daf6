"""Tests of `p2pshare.pictures`."""
