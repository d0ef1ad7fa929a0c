"""Numbers and sizes as short text: the same in every table and view."""

from __future__ import annotations


def number(value: float | None, form: str) -> str:
    """Return the number in this format, or ``""`` for None."""
    return "" if value is None else format(value, form)


def size(count: float) -> str:
    """Return a number of bytes in decimal units: ``"12.3 MB"``.

    >>> size(999), size(12_345_678)
    ('999 B', '12.3 MB')
    """
    value = count
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.95 or unit == "GB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
