"""The service of one user: it shares, registers and fetches."""
