"""How topologies and models look in every picture: one colour, line and marker each.

Colours are those of Okabe and Ito (2008), which colour-blind readers can tell apart; where a colour serves twice, line
and marker differ.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import NamedTuple

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31")
DASHES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "D", "*", "^", "v", "X", "P", "<", ">", "p", "h")
INK = "#333333"
FAINT = "#8a8a8a"
PALE = "#d0d0d0"


class Style(NamedTuple):
    """A colour, a matplotlib line style, and a marker."""

    colour: str
    dash: str
    marker: str


NAMED = (
    # solid, dashed, dotted, dash-dotted; alike graphs share a colour
    ("ring", "chain", "torus", "star", "exponential", "base-2", "complete", "tree"),
    ("directed-ring", "barbell", "grid", "barabasi-albert", "one-peer-exponential", "base-3", "server",
     "random-geometric"),
    ("watts-strogatz", "clustered", "hypercube", "epidemic-local", "directed-exponential", "one-peer-hypercube",
     "erdos-renyi", "random-digraph"),
    ("", "", "random-regular", "epidemic", "", "random-matching", "", ""),
)
"""The shipped topologies: a row a line style, a column a colour."""


def _style(place: int) -> Style:
    row, column = divmod(place, len(COLOURS))
    marker = MARKERS[(column + 4 * row + row // 3) % len(MARKERS)]  # another in each row of a column
    return Style(COLOURS[column], DASHES[row % len(DASHES)], marker)


_PLACES = {name: row * len(COLOURS) + column for row, names in enumerate(NAMED) for column, name in enumerate(names)
           if name}


def topology_styles(names: Iterable[str]) -> dict[str, Style]:
    """Return the style of each topology: a shipped one always has the same, others the first free from a digest on."""
    names = list(dict.fromkeys(names))
    taken = {_PLACES[name] for name in names if name in _PLACES}
    total, styles = len(COLOURS) * len(DASHES), {}
    for name in names:
        place = _PLACES.get(name)
        if place is None:
            place = zlib.crc32(name.encode()) % total
            if len(taken) < total:
                while place in taken:
                    place = (place + 1) % total
            taken.add(place)
        styles[name] = _style(place)
    return styles


MODELS = {
    "consensus model": Style(COLOURS[0], "-", "o"),
    "mean peer": Style(COLOURS[1], "--", "s"),
    "worst peer": Style(COLOURS[2], ":", "X"),
    "pooled": Style(COLOURS[6], ":", "D"),
    "pooled-steps": Style(COLOURS[5], ":", "d"),
    "server": Style(FAINT, "--", "P"),
    "voting": Style(FAINT, "--", "P"),
    "local-only": Style(FAINT, "-.", "v"),
}
"""The models of a run, and the baselines."""


def model_styles(names: Iterable[str]) -> dict[str, Style]:
    """Return the style of each model: that of ``MODELS``, or one of those that are left."""
    names = list(names)
    free = iter([_style(place) for place in (3, 4, 5, 7, 0, 1, 2) if _style(place).colour not in {
        MODELS[name].colour for name in names if name in MODELS}] + [_style(6)])
    last = _style(6)
    return {name: MODELS[name] if name in MODELS else next(free, last) for name in names}
