"""Tests of `p2pshare/storage/incoming`."""
