"""The protection of packets: key schedule, sealing and opening, cookies, and the TLS handshake in CRYPTO frames."""
