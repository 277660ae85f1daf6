"""Tests of `p2pshare/ui/dialog`."""
