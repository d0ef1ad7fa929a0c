"""Lists of emotions in messages: in HELLO, and in the flood by which peers agree on a list. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

MOST = 64
"""Largest number of emotions in a list."""
LONGEST = 64
"""Longest name of an emotion [characters]."""
LONGEST_LIST = MOST * (4 * LONGEST + 8)
"""Size of the longest packed list [B]."""


def read_labels(document: object) -> tuple[str, ...]:
    """Return a received list of emotions, in its order.

    Raises ValueError, with the reason, unless it holds at most ``MOST`` different names, each in canonical form: 1 to
    ``LONGEST`` printable characters, composed (NFC), without blanks at the ends.
    """
    if not isinstance(document, list | tuple) or len(document) > MOST:
        raise ValueError(f"labels that are not a list of at most {MOST}")
    names = [name for name in document if isinstance(name, str)]
    if len(names) < len(document):
        raise ValueError("labels that are not text")
    if not all(fits(name) for name in names) or len(set(names)) < len(names):
        raise ValueError("labels that are not in canonical form")
    return tuple(names)


def fits(name: str) -> bool:
    """Whether the name of an emotion is in canonical form."""
    return 0 < len(name) <= LONGEST and name.isprintable() and name.strip() == name \
        and unicodedata.is_normalized("NFC", name)


def union(*lists: Iterable[str]) -> tuple[str, ...]:
    """Return the emotions of all lists, sorted; only the first ``MOST`` of them, so that the order of unions does not
    matter.

    >>> union(("fear", "anger"), ("anger",))
    ('anger', 'fear')
    """
    return tuple(sorted(set().union(*lists))[:MOST])
