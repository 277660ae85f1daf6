"""Tests with real processes and sockets on this machine."""
