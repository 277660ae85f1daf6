"""Tests of `p2pshare.ui.verbs.page`."""
