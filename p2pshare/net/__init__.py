"""Twisted glue: sockets, and one timer for each core."""
