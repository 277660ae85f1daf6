"""Reports on the way to others: what this machine's network is like, how a person is reached, and what would help."""
