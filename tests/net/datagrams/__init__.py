"""Tests of `p2pshare.net.datagrams`."""
