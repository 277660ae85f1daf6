"""Tests of `p2pshare/storage/shares`."""
