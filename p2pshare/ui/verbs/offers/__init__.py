"""The verbs `send` and `inbox`."""
