"""The live table: what it shows of each record, with and without a terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from p2pser.base.wording import size
from p2pser.cli.live import LiveTable
from p2pser.watch.signs import signs


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def console(terminal: bool, width: int = 120, height: int = 40) -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    colours = "truecolor" if terminal else None
    return Console(file=out, force_terminal=terminal, width=width, height=height, color_system=colours), out


def shown(table: LiveTable, width: int = 120) -> list[str]:
    """Return the lines of the table as text."""
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(table.render())
    return [line.strip() for line in out.getvalue().splitlines() if line.strip()]


RECORD = {"peer": 1, "round": 12, "loss": 1.0234, "uar": 0.5678, "distance": 0.00312,
          "bytes_sent": 12_345_678, "links": {"0": "alive", 2: "DEAD"}, "at": "2026-01-01T00:00:00Z"}


def test_a_record_fills_its_row_and_no_other() -> None:
    table = LiveTable(3, "ring of 3", rounds=40, console=console(True)[0])
    table.update(RECORD)
    lines = shown(table)
    assert lines[0].startswith("ring of 3")
    assert lines[1].split() == ["peer", "round", "loss", "UAR", "distance", "sent", "links"]
    assert lines[3].split() == ["1", "12/40", "1.023", "0.568", "3.1e-03", "12.3", "MB", "●0", "✕2"]
    assert lines[2].split() == ["0", "0", "B", "starting"]


def test_values_absent_from_a_record_stay() -> None:
    table = LiveTable(2, "two", console=console(True)[0])
    table.update(RECORD)
    table.update({"peer": 1, "round": 13, "loss": None, "links": {2: "alive"}})
    table.update({"peer": 7, "round": 1})
    row = table.rows[1]
    assert (row.round, row.loss, row.uar, row.links) == (13, 1.0234, 0.5678, {0: "alive", 2: "alive"})
    assert set(table.rows) == {0, 1}


def test_states_of_a_peer() -> None:
    table = LiveTable(2, "two", console=console(True)[0])
    table.update({"peer": 0, "state": "killed"})
    table.update({"peer": 1, "round": 0})
    assert [row.state for row in table.rows.values()] == ["killed", "training"]
    assert shown(table)[2].endswith("killed")


def test_a_peer_is_dead_when_its_neighbours_report_it_until_it_sends_a_record() -> None:
    table = LiveTable(3, "ring", console=console(True)[0])
    table.update({"peer": 1, "round": 5})
    table.update({"peer": 0, "round": 9, "links": {1: "dead", 2: "alive"}})
    assert table.rows[1].state == "dead"
    assert table.line() == "round 9, 1 of 2 peers have begun, 0 B sent, 1 link ends dead, 1 dead"
    table.update({"peer": 1, "round": 6})
    assert table.rows[1].state == "training"


def test_a_terminal_gets_colours_and_the_last_state() -> None:
    target, out = console(True)
    with LiveTable(2, "ring", console=target) as table:
        table.update({"peer": 0, "round": 39, "links": {1: "alive"}})
        table.note("peer 1 is late")
    text = out.getvalue()
    assert "\x1b[32m●" in text
    assert "peer 1 is late" in text
    assert "39" in text.split("links")[-1]


def test_without_a_terminal_plain_lines_now_and_then() -> None:
    target, out = console(False)
    clock = Clock()
    with LiveTable(2, "ring [of] 2", rounds=40, console=target, every=5, clock=clock) as table:
        for round in range(20):
            clock.now += 1
            table.update({"peer": round % 2, "round": round, "loss": 2.0, "uar": 0.5,
                          "bytes_sent": 1000 * round})
        table.update({"peer": 1, "state": "killed"})
        table.update({"peer": 0, "links": {1: "suspect"}})
    text = out.getvalue()
    assert "\x1b" not in text
    lines = text.splitlines()
    assert lines[0] == "ring [of] 2"
    assert lines[1] == "round 3–4 of 40, loss 2.000, UAR 0.500 (worst 0.500), 7.0 kB sent"
    assert len(lines) == 1 + 4 + 1
    assert lines[-1].endswith("37.0 kB sent, 1 link ends suspect, 1 killed")


def test_before_any_peer_has_begun() -> None:
    target, out = console(False)
    with LiveTable(8, "ring", console=target):
        pass
    assert out.getvalue().splitlines() == ["ring", "0 of 8 peers have begun"]


def test_with_more_peers_than_lines_those_with_bad_links_are_shown() -> None:
    table = LiveTable(100, "many", console=console(True, height=15)[0])
    for peer in range(100):
        table.update({"peer": peer, "round": 5, "links": {0: "dead" if peer == 77 else "alive"}})
    lines = shown(table)
    assert len(lines) <= 15
    assert any(line.split()[0] == "77" for line in lines[2:])
    assert lines[-1] == "… and 90 more peers"


def test_many_links_are_counted() -> None:
    states = dict.fromkeys(range(17), "alive") | {17: "dead", 18: "suspect"}
    assert signs(states).plain == "●×17 ◐×1 ✕×1"
    assert signs(states | {19: "unheard-of"}).plain == "●×17 ◐×1 ✕×1 ?×1"
    assert signs({3: "left", 1: "waiting"}).plain == "○1 –3"
    assert signs({1: "unheard-of"}).plain == "?1"


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"),
                                             (999_949, "999.9 kB"), (999_960, "1.0 MB"), (54 * 10**11, "5400.0 GB")])
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text
