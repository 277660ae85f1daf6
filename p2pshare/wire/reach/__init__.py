"""What peers exchange to reach each other: candidates, signals, access to a registry's services, STUN, and links."""
