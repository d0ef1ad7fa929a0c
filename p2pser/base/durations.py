"""Durations as a person reads them."""

from __future__ import annotations


def in_words(seconds: float) -> str:
    """Return ``3 h 5 min``, ``2 min 5 s`` or ``12 s``.

    >>> in_words(125.4)
    '2 min 5 s'
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
