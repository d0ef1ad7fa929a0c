"""The live table of a run: one line a peer while it trains, on standard error.

On a terminal a rich table that redraws itself; without one (a log file, CI) a plain line every few seconds.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

LINKS = {
    "alive": ("●", "green"),
    "waiting": ("○", "dim"),
    "suspect": ("◐", "yellow"),
    "left": ("–", "dim"),
    "dead": ("✕", "red"),
}
"""Sign and style of each state of a link; signs differ too, for who sees no colours."""

GONE = ("dead", "killed", "failed")
"""States of a peer that is out of the run; what it said last no longer counts."""

NAMED_LINKS = 6
"""A peer with more links than this has them counted instead of named."""

PLAIN_EVERY = 5.0
"""Seconds between two plain lines where there is no terminal."""


@dataclass
class Row:
    """The last that is known of one peer; None where it has not said yet."""

    round: int | None = None
    loss: float | None = None
    uar: float | None = None
    ccc: float | None = None
    distance: float | None = None
    bytes_sent: int = 0
    links: dict[int, str] = field(default_factory=dict)
    state: str = "starting"


class LiveTable:
    """Shows how the peers of a run are doing: a context manager, updated from one thread.

    peers: how many (ids 0 .. peers-1). title: what runs, shown above the table. rounds: how many there will
    be. console: where to show it (default: standard error). every: seconds between plain lines where there is
    no terminal. clock: seconds, monotonic.

    Example::

        with LiveTable(8, "ring of 8, synthetic") as table:
            for record in records:  # {"peer": 3, "round": 10, "loss": 1.2, "links": {2: "alive", 4: "dead"}}
                table.update(record)
    """

    def __init__(self, peers: int, title: str, *, rounds: int | None = None, console: Console | None = None,
                 every: float = PLAIN_EVERY, clock: Callable[[], float] = time.monotonic) -> None:
        self.rows = {peer: Row() for peer in range(peers)}
        self._title = title
        self._rounds = rounds
        self._console = console or Console(stderr=True)
        self._every = every
        self._clock = clock
        self._began = self._spoke = clock()
        self._spoken = ""
        self._live: Live | None = None
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            self._live = Live(console=self._console, get_renderable=self.render, refresh_per_second=4)

    def __enter__(self) -> LiveTable:
        self._began = self._spoke = self._clock()
        if self._live:
            self._live.start()
        else:
            self._say(self._title)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self._live:
            self._live.stop()  # draws the last state once more
        elif (line := self.line()) != self._spoken:
            self._say(line)

    def update(self, record: Mapping[str, Any]) -> None:
        """Take what one peer says of itself.

        record: a line of telemetry, of which "peer" is needed and "round", "loss", "uar", "ccc" (its mean), "distance"
        (consensus distance, relative), "bytes_sent", "links" ({neighbour: state}) and "state" ("training",
        "killed", …) are shown; what it lacks or gives as None stays as it was, what else it holds is ignored.
        Records of unknown peers are ignored.
        """
        row = self.rows.get(int(record["peer"]))
        if row is None:
            return
        for name in ("round", "loss", "uar", "distance", "bytes_sent"):
            if (value := record.get(name)) is not None:
                setattr(row, name, value)
        if (known := [value for value in (record.get("ccc") or {}).values() if value is not None]):
            row.ccc = sum(known) / len(known)
        if links := record.get("links"):
            # A new dict, since the drawing thread may be reading the old one.
            row.links = {**row.links, **{int(peer): str(state).lower() for peer, state in links.items()}}
            for peer, state in row.links.items():
                if state == "dead" and peer in self.rows and self.rows[peer].state not in GONE:
                    self.rows[peer].state = "dead"  # it cannot say so itself
        if record.get("state") is not None:
            row.state = str(record["state"])
        elif record.get("round") is not None:
            row.state = "training"
        if self._live is None and self._clock() - self._spoke >= self._every and self.line() != self._spoken:
            self._say(self.line())

    def note(self, sentence: str) -> None:
        """Print a sentence that stays, above the table."""
        self._console.print(Text(sentence))

    def render(self) -> Table:
        """Return the table as it is now."""
        table = Table(title=f"{self._title} · {self._clock() - self._began:.0f} s", title_justify="left",
                      title_style="bold", pad_edge=False, box=None, header_style="dim")
        rates = any(row.ccc is not None for row in self.rows.values())
        for name in ("peer", "round", "loss", "UAR", *(["CCC"] if rates else []), "distance", "sent"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("links", no_wrap=True)
        table.add_column("", no_wrap=True)
        shown = self._shown()
        for peer in shown:
            row = self.rows[peer]
            gone = row.state in GONE
            table.add_row(str(peer), self._of_rounds(row.round), number(row.loss, ".3f"),
                          number(row.uar, ".3f"), *([number(row.ccc, ".3f")] if rates else []),
                          number(row.distance, ".1e"), size(row.bytes_sent),
                          signs(row.links), "" if row.state == "training" else row.state,
                          style="dim" if gone else "")
        if len(shown) < len(self.rows):
            table.caption = f"… and {len(self.rows) - len(shown)} more peers"
        return table

    def line(self) -> str:
        """Return the whole run in one plain line."""
        here = [row for row in self.rows.values() if row.state not in GONE]
        rounds = [row.round for row in here if row.round is not None]
        if not rounds:
            return f"0 of {len(self.rows)} peers have begun"
        slowest, fastest = min(rounds), max(rounds)
        between = f"{slowest}–{fastest}" if slowest != fastest else f"{slowest}"
        parts = [f"round {between}" + (f" of {self._rounds}" if self._rounds is not None else "")]
        if len(rounds) < len(here):
            parts.append(f"{len(rounds)} of {len(here)} peers have begun")
        losses = [row.loss for row in here if row.loss is not None]
        if losses:
            parts.append(f"loss {sum(losses) / len(losses):.3f}")
        uars = [row.uar for row in here if row.uar is not None]
        if uars:
            parts.append(f"UAR {sum(uars) / len(uars):.3f} (worst {min(uars):.3f})")
        cccs = [row.ccc for row in here if row.ccc is not None]
        if cccs:
            parts.append(f"CCC {sum(cccs) / len(cccs):.3f} (worst {min(cccs):.3f})")
        distances = [row.distance for row in here if row.distance is not None]
        if distances:
            parts.append(f"consensus distance {max(distances):.1e}")
        parts.append(f"{size(sum(row.bytes_sent for row in self.rows.values()))} sent")
        bad = Counter(state for row in here for state in row.links.values() if state != "alive")
        parts += [f"{count} link ends {state}" for state, count in sorted(bad.items())]
        states = Counter(row.state for row in self.rows.values() if row.state not in ("training", "starting"))
        parts += [f"{count} {state}" for state, count in sorted(states.items())]
        return ", ".join(parts)

    def _say(self, line: str) -> None:
        self._spoke, self._spoken = self._clock(), line
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _of_rounds(self, round: int | None) -> str:
        return "" if round is None else f"{round}" if self._rounds is None else f"{round}/{self._rounds}"

    def _shown(self) -> list[int]:
        """The peers that fit on the screen: those in trouble first, then the slowest; in ascending order."""
        room = max(3, self._console.height - 5)
        if len(self.rows) <= room:
            return list(self.rows)

        def trouble(peer: int) -> tuple[int, int, int]:
            row = self.rows[peer]
            bad = sum(state in ("dead", "suspect") for state in row.links.values())
            return -bad, -1 if row.round is None else row.round, peer

        return sorted(sorted(self.rows, key=trouble)[:room])


def number(value: float | None, form: str) -> str:
    """Return the number in this form, or nothing for None."""
    return "" if value is None else format(value, form)


def size(count: int) -> str:
    """Return a number of bytes in decimal units: ``"12.3 MB"``.

    >>> size(999), size(12_345_678)
    ('999 B', '12.3 MB')
    """
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.95 or unit == "GB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def signs(links: Mapping[int, str]) -> Text:
    """Return the links as coloured signs: named by neighbour where they are few, else counted by state."""
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
        text.append(label, style="red" if state == "dead" else "")
    return text
