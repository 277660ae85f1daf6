"""Tests of `p2pshare/storage/identity`."""
