"""What a core calls an address."""

from __future__ import annotations

Address = tuple[str, int]
"""An IP address in its text form, and a port."""

Outgoing = list[tuple[bytes, Address]]
"""Datagrams to send, each with where to."""
