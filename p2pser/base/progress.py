"""Progress on standard error: a bar on a terminal, a line from time to time elsewhere."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from p2pser.base.wording import duration, size

if TYPE_CHECKING:
    from rich.progress import Progress

EVERY = 60.0
"""Seconds between two lines where standard error is no terminal."""


class Bar:
    """Shows how far some work is; any thread may call it. ``progress`` makes one."""

    def __init__(self, shown: Progress | None, what: str, total: int | None, unit: str = "") -> None:
        self._shown, self._what, self._total, self._unit = shown, what, total, unit
        self._task = shown.add_task(what, total=total) if shown is not None and not shown.disable else None
        self._lock = threading.Lock()
        self._done, self._told = 0, time.monotonic()
        self._first: tuple[float, int] | None = None

    @property
    def shows(self) -> bool:
        """Whether a bar is visible."""
        return self._task is not None

    def __call__(self, done: int, text: str = "") -> None:
        """Show the amount done so far, and ``text`` beside the bar."""
        with self._lock:
            self._move(done, text)

    def advance(self, amount: int = 1, text: str = "") -> None:
        """Add to the amount done so far, and show ``text`` beside the bar."""
        with self._lock:
            self._move(self._done + amount, text)

    def _move(self, done: int, text: str) -> None:
        self._done, now = done, time.monotonic()
        self._first = self._first or (now, done)
        if self._shown is not None and self._task is not None:
            self._shown.update(self._task, completed=done, description=text or self._what)
        elif self._shown is not None and now - self._told >= EVERY:
            self._told = now
            print(f"p2pser: {self._what}: {self._line(now)}", file=sys.stderr, flush=True)

    def _line(self, now: float) -> str:
        """Return the amount done and, as far as it can be known, the time left at the pace so far."""
        done, *total = [size(amount) if self._unit == "bytes" else str(amount)
                        for amount in (self._done, self._total) if amount is not None]
        since, before = self._first or (now, 0)
        left = f", about {duration((now - since) * (self._total - self._done) / (self._done - before))} left" \
            if self._total is not None and before < self._done < self._total else ""
        return " of ".join([done, *total]) + left


@contextlib.contextmanager
def progress(what: str, total: int | None, *, wanted: bool = True, transient: bool = False,
             unit: Literal["", "bytes"] = "") -> Iterator[Bar]:
    """Show how far the block is: a bar on a terminal or in a notebook, elsewhere a line every ``EVERY`` seconds.

    Parameters
    ----------
    what : the text beside the bar.
    total : the amount of work; None if it is unknown.
    wanted : whether to show anything at all.
    transient : whether the bar disappears when the work is done.
    unit : ``"bytes"`` shows sizes and the rate, ``""`` plain numbers.
    """
    if not wanted:
        yield Bar(None, what, total)
        return
    from rich import progress as rich
    from rich.console import Console

    console = Console(stderr=True)
    amount = (rich.DownloadColumn(), rich.TransferSpeedColumn()) if unit == "bytes" else (rich.MofNCompleteColumn(),)
    text = rich.TextColumn("{task.description}", markup=False)  # a name may look like markup
    with rich.Progress(text, rich.BarColumn(), *amount, rich.TimeRemainingColumn(), console=console,
                       transient=transient, disable=not (console.is_terminal or console.is_jupyter)) as shown:
        yield Bar(shown, what, total, unit)
