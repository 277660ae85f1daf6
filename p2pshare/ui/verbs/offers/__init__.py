"""The verbs `send`, `inbox` and `history`."""
