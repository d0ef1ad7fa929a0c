"""The links of a peer as coloured signs: the same in the demo's table and the views of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from rich.text import Text

LINKS = {
    "alive": ("●", "green"),
    "returning": ("◌", "cyan"),
    "apart": ("◌", "cyan"),
    "waiting": ("○", "dim"),
    "not met": ("○", "dim"),
    "suspect": ("◐", "yellow"),
    "silent": ("◐", "yellow"),
    "left": ("–", "dim"),
    "dead": ("✕", "red"),
    "lost": ("✕", "red"),
    "refused": ("✕", "red"),
    "banned": ("✕", "red"),
}
"""Sign and style of each state of a link; the signs differ for users who do not see the colours."""

NAMED_LINKS = 6
"""The links of a peer that has more are counted instead of named."""


def signs(links: Mapping[int, str]) -> Text:
    """Return the links as coloured signs: one for each neighbour, or one for each state where they are many."""
    text = Text()
    if len(links) <= NAMED_LINKS:
        shown = [(links[peer], str(peer)) for peer in sorted(links)]
    else:
        counts = Counter(links.values())
        shown = [(state, f"×{counts[state]}") for state in (*LINKS, *sorted(set(counts) - set(LINKS)))
                 if counts[state]]
    for state, label in shown:
        sign, style = LINKS.get(state, ("?", ""))
        text.append(f"{' ' if text else ''}{sign}", style=style)
        text.append(label, style="red" if style == "red" else "")
    return text
