"""Tests of what a peer remembers of offers."""
