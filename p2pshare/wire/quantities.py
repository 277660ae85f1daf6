"""Sizes, rates and durations as text for people."""

from __future__ import annotations

_SIZE_UNITS = ("KiB", "MiB", "GiB", "TiB")


def size_text(size: float) -> str:
    """Return a number of bytes as text: `1 byte`, `512 bytes`, `1.5 KiB`, `3.0 GiB`."""
    if size < 1024:
        return f"{size:.0f} byte{'' if round(size) == 1 else 's'}"
    power = 0
    while size >= 1023.95 and power < len(_SIZE_UNITS):
        size /= 1024
        power += 1
    return f"{size:.1f} {_SIZE_UNITS[power - 1]}"


def count_text(count: float, unit: str) -> str:
    """Return a number of things as text; bytes get a unit of a fitting size."""
    return size_text(count) if unit == "bytes" else f"{count:.0f} {unit}"


def rate_text(per_second: float, unit: str = "bytes") -> str:
    """Return a rate as text: `45.1 MiB/s`, `350 rows/s`."""
    return f"{count_text(per_second, unit)}/s"


def duration_text(seconds: float) -> str:
    """Return a duration as text, rounded for people: `0.01 s`, `0.4 s`, `12 s`, `3 min 05 s`, `2 h 03 min`."""
    if 0.005 <= seconds < 0.095:
        return f"{seconds:.2f} s"
    if seconds < 9.95:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def difference_text(ahead: float) -> str:
    """Return the difference of two clocks as text: `400 days ahead of`, `3 min 05 s behind`; `ahead` is in seconds."""
    span = abs(ahead)
    shown = f"{span / 86400:.0f} days" if span >= 48 * 3600 else duration_text(span)
    return f"{shown} {'ahead of' if ahead > 0 else 'behind'}"


def ago_text(seconds: float) -> str:
    """Return the age of an event as text: `just now`, `40 s ago`, `2 min ago`, `3 h ago`, `29 days ago`."""
    if seconds < 10:
        return "just now"
    if seconds < 60:
        return f"{int(seconds)} s ago"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min ago"
    if seconds < 48 * 3600:
        return f"{seconds // 3600:.0f} h ago"
    return f"{min(999, seconds // 86400):.0f} days ago"
