"""The peer's page: the server behind it, and who may use it."""
