"""Numbers, sizes and durations as short text, the same in every table and view; numbers and lists parsed from text."""

from __future__ import annotations

import importlib.util
import math
import re
from collections.abc import Collection, Sequence

COMMA = re.compile(r",(?![^\[]*\])")
"""A comma between the parts of a list, outside brackets."""
SHOWN = 4
"""Names that a sentence lists."""


def listed(text: str | None) -> list[str]:
    """Return the parts of ``a,b`` or ``[a,b]``, without empty ones. A comma inside the brackets of a part stays.

    >>> listed("ring, star"), listed("[a:x=[1,2],b]"), listed(None)
    (['ring', 'star'], ['a:x=[1,2]', 'b'], [])
    """
    parts = [part.strip() for part in COMMA.split(text or "")]
    if len(parts) == 1 and parts[0].startswith("[") and parts[0].endswith("]"):
        parts = [part.strip() for part in COMMA.split(parts[0][1:-1])]
    return [part for part in parts if part]


def number(value: float | None, form: str) -> str:
    """Return the number in this format, or ``""`` for None."""
    return "" if value is None else format(value, form)


def span(interval: Sequence[float] | None, sign: str = "") -> str:
    """Return an interval as text that follows its figure, with signs if ``sign`` is ``+``; ``""`` for None.

    >>> span([0.5, 0.75])
    ' [0.500, 0.750]'
    """
    return "" if interval is None else f" [{interval[0]:{sign}.3f}, {interval[1]:{sign}.3f}]"


def counted(count: int, noun: str) -> str:
    """Return a number with its noun.

    >>> counted(1, "seed"), counted(3, "seed")
    ('1 seed', '3 seeds')
    """
    return f"{count} {noun}{'s' * (count != 1)}"


def are(count: int, noun: str) -> str:
    """Return a number with its noun and verb.

    >>> are(1, "clip"), are(3, "clip")
    ('1 clip is', '3 clips are')
    """
    return f"{counted(count, noun)} {'is' if count == 1 else 'are'}"


def some(names: Sequence[str]) -> str:
    """Return the first names of many.

    >>> some(["a", "b"]), some("abcdef")
    ('a, b', 'a, b, c, d and 2 more')
    """
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def shown(text: str, most: int | None = None) -> str:
    """Return a text as one line of printable characters: others, which a file's name or the labels of a foreign model
    may hold, are written as Python does, so that they neither break the line nor command the terminal.

    most : the length to which it is cut, in the middle; None: it is not.

    >>> shown("a\\n\\x1b"), shown("a" * 9 + "b", 4)
    ('a\\\\n\\\\x1b', 'aa…ab')
    """
    line = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
    return line if most is None or len(line) <= most else f"{line[:most // 2]}…{line[-(most // 2):]}"


def peer_list(ids: Collection[int]) -> str:
    """Return peers by their ids.

    >>> peer_list([3]), peer_list([3, 4])
    ('peer 3', 'peers 3, 4')
    """
    return f"peer{'s' * (len(ids) != 1)} {', '.join(map(str, ids))}"


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


def duration(seconds: float) -> str:
    """Return ``3 h 5 min``, ``2 min 5 s`` or ``12 s``.

    >>> duration(125.4)
    '2 min 5 s'
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def positive(text: str) -> float | None:
    """Return the finite number above 0 that a text contains; None if it does not.

    >>> positive("0.5"), positive("-1"), positive("nan"), positive("x")
    (0.5, None, None, None)
    """
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 < value < math.inf else None


def extra(name: str) -> str:
    """Return the command that installs an extra of the installed distribution: p2pser, or p2pser-predict without torch.
    """
    distribution = "p2pser" if importlib.util.find_spec("torch") is not None else "p2pser-predict"
    return f"pip install '{distribution}[{name}]'"
