"""Tests of `p2pshare.peer.fetch.unsaved`."""
