"""Tests of `p2pshare/ui/terminal`."""
