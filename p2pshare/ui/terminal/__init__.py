"""Terminals: what they can do, lines that are redrawn, progress."""
