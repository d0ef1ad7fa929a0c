"""A progress bar on standard error."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rich.progress import Progress


class Bar:
    """Moves a progress bar; any thread may call it. ``progress`` makes one."""

    def __init__(self, shown: Progress | None, what: str, total: int | None) -> None:
        self._shown, self._what = shown, what
        self._task = None if shown is None else shown.add_task(what, total=total)

    @property
    def shows(self) -> bool:
        """Whether the bar is visible."""
        return self._shown is not None and not self._shown.disable

    def __call__(self, done: int, text: str = "") -> None:
        """Show the amount done so far, and ``text`` beside the bar."""
        if self._shown is not None and self._task is not None:
            self._shown.update(self._task, completed=done, description=text or self._what)

    def advance(self, amount: int = 1, text: str = "") -> None:
        """Add to the amount done so far, and show ``text`` beside the bar."""
        if self._shown is not None and self._task is not None:
            self._shown.update(self._task, advance=amount, description=text or self._what)


@contextlib.contextmanager
def progress(what: str, total: int | None, *, wanted: bool = True, transient: bool = False,
             unit: Literal["", "bytes"] = "") -> Iterator[Bar]:
    """Show a bar while the block runs, if standard error is a terminal or a notebook.

    Parameters
    ----------
    what : the text beside the bar.
    total : the amount of work; None if it is unknown.
    wanted : whether to show a bar at all.
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
        yield Bar(shown, what, total)
