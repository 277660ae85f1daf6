"""Sizes, rates and durations, as the services say them, too."""

from __future__ import annotations

from p2pshare.wire.quantities import ago_text, count_text, duration_text, rate_text, size_text

__all__ = ["ago_text", "count_text", "duration_text", "rate_text", "size_text"]
