"""Tests of `p2pshare.net.reach`."""
