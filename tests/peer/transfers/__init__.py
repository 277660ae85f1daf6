"""Tests of what a peer downloads and shows of it."""
