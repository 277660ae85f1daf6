"""Several processes that serve one registry."""
