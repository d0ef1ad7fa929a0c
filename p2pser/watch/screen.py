"""The terminal view of a run: a table of its peers, curves, events."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.widgets import DataTable, Footer, Sparkline, Static

from p2pser.base.errors import P2PSERError
from p2pser.base.wording import duration, number, size
from p2pser.peer.view import PeerView, RunView
from p2pser.watch.document import CURVES, Observer, Point, events, headline, over_peers, seconds_left, waits
from p2pser.watch.signs import signs

EVERY = 1.0
"""Seconds between two looks at the files, at least."""
COLUMNS = ("peer", "does", "rounds", "UAR", "loss", "distance", "sent", "links")
DOES = {"training": ("▶", "dodger_blue1"), "waiting": ("…", "yellow"), "stalled": ("!", "yellow"),
        "agreeing": ("≈", "magenta"), "done": ("✓", "green"), "finished": ("✓", "green"), "interrupted": ("‖", "dim"),
        "failed": ("✕", "red"), "killed": ("✕", "red")}
TITLES = {"uar": "UAR", "loss": "loss", "distance": "distance", "bytes": "sent in a round"}


class TerminalView(App[None]):
    """Shows a run until q.

    folder : of a run, or of one peer in it.
    """

    CSS = """
    #headline { height: auto; padding: 0 1; }
    #peers { height: auto; max-height: 40%; }
    #waiting { height: auto; max-height: 25%; padding: 0 1; display: none; }
    #waits { color: $warning; }
    #curves { height: 5; margin: 1 0 0 0; }
    #curves Vertical { width: 1fr; padding: 0 1; }
    Sparkline { height: 4; }
    #events { border-top: solid $primary; padding: 0 1; }
    """
    TITLE = "p2pser watch"
    BINDINGS: ClassVar[list[BindingType]] = [("q", "quit", "quit")]
    ENABLE_COMMAND_PALETTE = False

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._observer = Observer(folder)
        self._shown: dict[str, Text] = {}

    def compose(self) -> ComposeResult:
        yield Static(id="headline")
        yield DataTable(id="peers", cursor_type="none")
        with VerticalScroll(id="waiting"):
            yield Static(id="waits")
        with Horizontal(id="curves"):
            for name in TITLES:
                with Vertical():
                    yield Static(id=f"title-{name}")
                    yield Sparkline(id=f"curve-{name}")
        with VerticalScroll(id="events"):
            yield Static(id="lines")
        yield Footer()

    def on_mount(self) -> None:
        table = self.query_one(DataTable)
        for name in COLUMNS:
            table.add_column(name, key=name)
        self._follow()

    def _follow(self) -> None:
        began = time.monotonic()
        self.look()
        # Of a large run a look takes long: no more than a fifth of a core goes to it.
        self.set_timer(max(EVERY, 4 * (time.monotonic() - began)), self._follow)

    def look(self) -> None:
        """Read the files again, and show what has changed."""
        if not self.query(DataTable):
            return  # the timer may come once more while the view closes
        try:
            run = self._observer.look()
        except P2PSERError as error:  # the folder is gone
            self._say("headline", Text(str(error), style="red"))
            return
        left = seconds_left(run)
        self._say("headline", Text.assemble((run.name, "bold"), "  ", headline(run), "" if left is None else
                                            f"; about {duration(left)} left, then the consensus"))
        self._rows(run)
        waiting = [f"peer {peer.peer} waits for, or goes on without: {sentence}"
                   for peer in run.peers for sentence in waits(peer)]
        self.query_one("#waiting").display = bool(waiting)
        self._say("waits", Text("\n".join(waiting)))
        for name, title in TITLES.items():
            self._curve(name, title, over_peers(run, CURVES[name]))
        self._say("lines", Text("\n").join(
            Text(f"{at.astimezone():%H:%M:%S} {'! ' if bad else ''}peer {peer}: {text}", style="red" if bad else "")
            for at, peer, bad, text in events(run)))

    def _say(self, where: str, text: Text) -> None:
        if self._shown.get(where) != text:
            self._shown[where] = text
            self.query_one(f"#{where}", Static).update(text)

    def _rows(self, run: RunView) -> None:
        table: DataTable[Text] = self.query_one(DataTable)
        for key in {str(key.value) for key in table.rows} - {str(peer.peer) for peer in run.peers}:
            table.remove_row(key)
        known = len(table.rows)
        for peer in run.peers:
            cells, key = _cells(peer), str(peer.peer)
            if key not in table.rows:
                table.add_row(*cells, key=key)
                continue
            for name, cell in zip(COLUMNS, cells):
                if table.get_cell(key, name) != cell:
                    table.update_cell(key, name, cell, update_width=True)
        if len(table.rows) > known:
            table.sort("peer", key=lambda cell: int(cell.plain))

    def _curve(self, name: str, title: str, points: list[Point]) -> None:
        means = [point.mean for point in points]
        newest = "–" if not means else size(means[-1]) if name == "bytes" else number(
            means[-1], ".1e" if name == "distance" else ".3f")
        self._say(f"title-{name}", Text.assemble((title, "bold"), f" {newest}"))
        self.query_one(f"#curve-{name}", Sparkline).data = [
            math.log10(value) for value in means if value > 0] if name == "distance" else means


def _cells(peer: PeerView) -> list[Text]:
    sign, style = DOES.get(peer.activity, ("·", "dim"))
    return [Text(str(peer.peer), justify="right"), Text(f"{sign} {peer.activity}", style=style),
            *(Text(cell, justify="right") for cell in (
                f"{peer.round}/{peer.rounds}", number(peer.newest("uar"), ".3f"), number(peer.newest("loss"), ".3f"),
                number(peer.newest("distance"), ".1e"), size(peer.newest("bytes_sent") or 0))),
            signs({j: link.state for j, link in peer.links.items()})]
