"""The terminal view of a run: what it shows, that it follows the files, and how it ends."""

from __future__ import annotations

import asyncio
import fcntl
import json
import re
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

from recordings import moment, write
from textual.pilot import Pilot
from textual.widgets import DataTable, Sparkline, Static

from p2pser.watch.screen import COLUMNS, TerminalView

HOSTILE = "[red]bold[/red] \x1b[2J <b>"


def shown(app: TerminalView, what: str) -> str:
    """The text of a part of the screen."""
    return str(app.query_one(f"#{what}", Static).render())


def rows(app: TerminalView) -> list[list[str]]:
    """The text of the table of peers."""
    table = app.query_one(DataTable)
    return [[str(table.get_cell(row.key, name)) for name in COLUMNS] for row in table.ordered_rows]


def use(folder: Path, steps: Callable[[TerminalView, Pilot[None]], Awaitable[None]]) -> TerminalView:
    """Run the view without a terminal, and ``steps`` in it."""
    async def run() -> TerminalView:
        app = TerminalView(folder)
        async with app.run_test(size=(110, 40)) as pilot:
            await pilot.pause()
            await steps(app, pilot)
        return app

    return asyncio.run(run())


def test_it_shows_a_run_and_what_changes_in_it(tmp_path: Path) -> None:
    told = [{"after": 5, "kind": "dead", "peer": 2, "silence": 8.0}, {"after": 6, "kind": "trouble", "reason": HOSTILE}]
    run = write(tmp_path / "pilot", [(0, 1), (1, 2)], done={1: 4}, more={1: told})

    async def steps(app: TerminalView, pilot: Pilot[None]) -> None:
        assert shown(app, "headline") == "pilot  4 of 12 rounds are over; about 16 s left, then the consensus"
        assert rows(app) == [
            ["0", "✓ finished", "12/12", "0.708", "0.125", "1.7e-02", "12.0 kB", "●1"],
            ["1", "! stalled", "4/12", "0.374", "0.385", "1.0e-01", "8.0 kB", "●0 ✕2"],
            ["2", "✓ finished", "12/12", "0.706", "0.145", "1.7e-02", "12.0 kB", "●1"]]
        assert "peer 1 waits for, or goes on without: peer 2 at tcp://127.0.0.1:5702: lost" in shown(app, "waits")
        assert shown(app, "title-uar") == "UAR 0.707"
        assert len(app.query_one("#curve-loss", Sparkline).data or ()) == 12
        lines = shown(app, "lines").splitlines()
        assert sum("trouble: [red]bold[/red]  [2J <b>" in line for line in lines) == 1
        assert any(line.endswith("peer 1: peer 2 is lost, after 8.0 s of silence") for line in lines)
        with (run / "peer-1" / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"at": moment(11), "round": 4, "loss": 0.25, "uar": 0.5}) + "\n")
        app.look()
        await pilot.pause()
        assert rows(app)[1][:5] == ["1", "! stalled", "5/12", "0.500", "0.250"]
        shutil.rmtree(run / "peer-0")
        write(tmp_path / "more", [(0, 1)], only=[0]).joinpath("peer-0").rename(run / "peer-10")
        app.look()
        await pilot.pause()
        assert [row[0] for row in rows(app)] == ["1", "2", "10"]
        (run / "peer-2").rename(run / "peer-3")
        app.look()
        await pilot.pause()
        assert [row[0] for row in rows(app)] == ["1", "3", "10"]
        shutil.rmtree(run)
        app.look()
        assert "holds no peer's folder" in shown(app, "headline")
        await pilot.press("q")

    with (run / "peer-1" / "lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        app = use(run, steps)
    assert (app.return_code, app.is_running) == (0, False)


def test_it_shows_a_run_before_the_first_round_and_one_of_many_peers(tmp_path: Path) -> None:
    async def empty(app: TerminalView, pilot: Pilot[None]) -> None:
        assert [shown(app, f"title-{name}") for name in ("uar", "bytes")] == ["UAR –", "sent in a round –"]
        assert rows(app)[0] == ["0", "✕ killed", "0/12", "", "", "", "0 B", "●1"]

    async def many(app: TerminalView, pilot: Pilot[None]) -> None:
        assert len(rows(app)) == 60
        assert app.query_one(DataTable).size.height <= 16
        assert app.query_one("#events").size.height > 5

    use(write(tmp_path / "empty", [(0, 1)], done={0: 0}, only=[0]), empty)
    ended = use(write(tmp_path / "many", [(i, (i + 1) % 60) for i in range(60)], rounds=2), many)
    ended.look()  # the timer may come once more


def test_it_fits_a_small_terminal(tmp_path: Path) -> None:
    async def run() -> str:
        app = TerminalView(write(tmp_path / "pilot", [(0, 1)]))
        async with app.run_test(size=(60, 20)) as pilot:
            await pilot.pause()
            return re.sub("<[^>]*>", "", app.export_screenshot()).replace("&#160;", " ")

    text = asyncio.run(run())
    for words in ("2 of 2 peers agreed", "finished", "12/12", "0.708", "loss 0.130", "has finished"):
        assert words in text
