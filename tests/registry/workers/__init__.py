"""Tests of `p2pshare/registry/workers`."""
