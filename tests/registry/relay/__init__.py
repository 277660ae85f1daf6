"""Tests of `p2pshare/registry/relay`."""
