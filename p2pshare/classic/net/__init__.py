"""Sockets of the classic protocol."""
