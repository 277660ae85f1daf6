"""The service that knows who is there."""
