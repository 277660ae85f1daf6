"""Tests of the server of the peer's page, without a browser."""
