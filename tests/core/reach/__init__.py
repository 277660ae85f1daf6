"""Tests of `p2pshare.core.reach`."""
