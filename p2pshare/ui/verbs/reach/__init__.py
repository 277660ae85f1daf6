"""Verbs about the ways to a registry and to peers."""
