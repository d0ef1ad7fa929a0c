"""A progress bar on standard error."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

Advance = Callable[[int, str], None]
"""Called with the amount done so far and the text beside the bar."""


@contextlib.contextmanager
def progress(what: str, total: int, *, wanted: bool = True, transient: bool = False) -> Iterator[Advance]:
    """Show a bar for ``total`` units of work and yield the function that moves it.

    Parameters
    ----------
    what : the text beside the bar until the first call.
    total : the amount of work.
    wanted : whether to show anything at all.
    transient : whether the bar disappears when the work is done.
    """
    if not wanted:
        yield lambda done, text: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=transient) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done, text: bar.update(task, completed=done, description=text or what)
