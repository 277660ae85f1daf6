"""Tests of `p2pshare/peer/reach/report`."""
