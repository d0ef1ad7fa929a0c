"""The live table of a run, a row for each peer, on standard error.

On a terminal the table is redrawn; elsewhere (a log file, CI) a plain line is printed every few seconds.
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

from p2pser.base.wording import number, size
from p2pser.cli.output import printable_lines
from p2pser.watch.signs import signs

GONE = ("dead", "killed", "failed")
"""States of a peer that has left the run; its last values do not count."""

PLAIN_EVERY = 5.0
"""Seconds between two plain lines where there is no terminal."""


@dataclass
class Row:
    """The latest values of one peer; None before the first."""

    round: int | None = None
    loss: float | None = None
    uar: float | None = None
    ccc: float | None = None
    distance: float | None = None
    bytes_sent: int = 0
    links: dict[int, str] = field(default_factory=dict)
    state: str = "starting"


class LiveTable:
    """The state of the peers of a run: a context manager, updated from one thread.

    Parameters
    ----------
    peers : number of peers; their ids are 0 to peers - 1.
    title : the text above the table.
    rounds : number of rounds of the run.
    console : the console to draw on; default: standard error.
    every : time between plain lines where there is no terminal [s].
    clock : a monotonic clock [s].

    Example
    -------
    >>> with LiveTable(8, "ring of 8, synthetic") as table:                                     # doctest: +SKIP
    ...     for record in records:  # {"peer": 3, "round": 10, "loss": 1.2, "links": {2: "alive", 4: "dead"}}
    ...         table.update(record)
    """

    def __init__(self, peers: int, title: str, *, rounds: int | None = None, console: Console | None = None,
                 every: float = PLAIN_EVERY, clock: Callable[[], float] = time.monotonic) -> None:
        self.rows = {peer: Row() for peer in range(peers)}
        self._title = title
        self._rounds = rounds
        self._console = console or Console(stderr=True)
        self._every = every
        self._clock = clock
        self._began = self._printed_at = clock()
        self._printed = ""
        self._live: Live | None = None
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            self._live = Live(console=self._console, get_renderable=self.render, refresh_per_second=4)

    def __enter__(self) -> LiveTable:
        self._began = self._printed_at = self._clock()
        if self._live:
            self._live.start()
        else:
            self._print(self._title)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self._live:
            self._live.stop()  # draws the last state once more
        elif (line := self.line()) != self._printed:
            self._print(line)

    def update(self, record: Mapping[str, Any]) -> None:
        """Take a line of telemetry of one peer into the table.

        ``record`` needs "peer"; "round", "loss", "uar", "ccc" (its mean), "distance" (consensus distance, relative),
        "bytes_sent", "links" ({neighbour: state}) and "state" ("training", "killed", …) are shown. Values that are
        absent or None stay as they were; other entries, and records of unknown peers, are ignored.
        """
        row = self.rows.get(int(record["peer"]))
        if row is None:
            return
        for name in ("round", "loss", "uar", "distance", "bytes_sent"):
            if (value := record.get(name)) is not None:
                setattr(row, name, value)
        if (values := [value for value in (record.get("ccc") or {}).values() if value is not None]):
            row.ccc = sum(values) / len(values)
        if links := record.get("links"):
            # A new dict, since the drawing thread may be reading the old one.
            row.links = {**row.links, **{int(peer): str(state).lower() for peer, state in links.items()}}
            for peer, state in row.links.items():
                if state == "dead" and peer in self.rows and self.rows[peer].state not in GONE:
                    self.rows[peer].state = "dead"  # a dead peer sends no state
        if record.get("state") is not None:
            row.state = str(record["state"])
        elif record.get("round") is not None:
            row.state = "training"
        if self._live is None and self._clock() - self._printed_at >= self._every and self.line() != self._printed:
            self._print(self.line())

    def note(self, sentence: str) -> None:
        """Print a sentence above the table."""
        self._console.print(Text(printable_lines(sentence)))

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
        """Return the state of the whole run as one plain line."""
        present = [row for row in self.rows.values() if row.state not in GONE]
        rounds = [row.round for row in present if row.round is not None]
        if not rounds:
            return f"0 of {len(self.rows)} peers have begun"
        slowest, fastest = min(rounds), max(rounds)
        between = f"{slowest}–{fastest}" if slowest != fastest else f"{slowest}"
        parts = [f"round {between}" + (f" of {self._rounds}" if self._rounds is not None else "")]
        if len(rounds) < len(present):
            parts.append(f"{len(rounds)} of {len(present)} peers have begun")
        losses = [row.loss for row in present if row.loss is not None]
        if losses:
            parts.append(f"loss {sum(losses) / len(losses):.3f}")
        uars = [row.uar for row in present if row.uar is not None]
        if uars:
            parts.append(f"UAR {sum(uars) / len(uars):.3f} (worst {min(uars):.3f})")
        cccs = [row.ccc for row in present if row.ccc is not None]
        if cccs:
            parts.append(f"CCC {sum(cccs) / len(cccs):.3f} (worst {min(cccs):.3f})")
        distances = [row.distance for row in present if row.distance is not None]
        if distances:
            parts.append(f"consensus distance {max(distances):.1e}")
        parts.append(f"{size(sum(row.bytes_sent for row in self.rows.values()))} sent")
        bad = Counter(state for row in present for state in row.links.values() if state != "alive")
        parts += [f"{count} link ends {state}" for state, count in sorted(bad.items())]
        states = Counter(row.state for row in self.rows.values() if row.state not in ("training", "starting"))
        parts += [f"{count} {state}" for state, count in sorted(states.items())]
        return ", ".join(parts)

    def _print(self, line: str) -> None:
        self._printed_at, self._printed = self._clock(), line
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _of_rounds(self, round: int | None) -> str:
        return "" if round is None else f"{round}" if self._rounds is None else f"{round}/{self._rounds}"

    def _shown(self) -> list[int]:
        """Return the peers that fit on the screen, in ascending order: those with bad links first, then the slowest."""
        room = max(3, self._console.height - 5)
        if len(self.rows) <= room:
            return list(self.rows)

        def priority(peer: int) -> tuple[int, int, int]:
            row = self.rows[peer]
            bad = sum(state in ("dead", "suspect") for state in row.links.values())
            return -bad, -1 if row.round is None else row.round, peer

        return sorted(sorted(self.rows, key=priority)[:room])
