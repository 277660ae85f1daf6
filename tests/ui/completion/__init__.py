"""Tests of `p2pshare/ui/completion`."""
