"""Tests of `p2pshare/registry/api`."""
