"""Sessions over TCP: TLS, the connection of one session, and how one is opened."""
