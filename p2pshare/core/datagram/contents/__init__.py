"""What a connection carries: the control stream, and transfers in both directions."""
