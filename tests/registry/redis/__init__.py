"""Tests of `p2pshare/registry/redis`."""
