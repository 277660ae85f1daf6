"""Tests of `p2pshare.wire`."""
