"""Offers without clock and sockets."""
