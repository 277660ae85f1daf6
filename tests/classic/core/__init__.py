"""Tests of `p2pshare/classic/core`."""
