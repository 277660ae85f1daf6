"""Offers that a peer remembers: those that it has made, those that it has got, and the history of both."""
