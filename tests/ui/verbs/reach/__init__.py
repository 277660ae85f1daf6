"""Tests of the verbs about the ways to a registry and to peers."""
