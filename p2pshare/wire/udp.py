"""Bounds of UDP."""

DATAGRAM_MAX = 65_507  # bytes over IPv4
