"""What UDP carries."""

DATAGRAM_MAX = 65_507  # bytes over IPv4
