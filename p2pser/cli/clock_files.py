"""The files of a simulated clock: single links between peers, and the times at which peers leave and return."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from p2pser.base.documents import read_text
from p2pser.base.errors import ConfigError

if TYPE_CHECKING:
    from p2pser.gossip.reading import Edge
    from p2pser.simulation.links import Way

WAYS = ("from", "to", "latency_ms", "mbit")
TRACE = ("peer", "leaves_s", "returns_s")


def read_ways(path: Path, peers: int) -> dict[Edge, Way]:
    """Return the links of a CSV file, by (dst, src); a link given in one direction only holds for both.

    Raises ConfigError where the file has another form, or names a peer that does not exist.
    """
    from p2pser.simulation.links import Way

    ways: dict[Edge, Way] = {}
    for number, row in _rows(path, WAYS, "the links"):
        src, dst = (_peer(row[name], peers, path, number) for name in WAYS[:2])
        latency, rate = (_number(row[name], name, path, number) for name in WAYS[2:])
        if (dst, src) in ways or src == dst or rate == 0:
            raise ConfigError(f"the links {path}, line {number}: the link from {src} to {dst} is given twice, leads to "
                              "itself or has the rate 0: give each link once, between two peers, with a rate above 0")
        ways[dst, src] = Way(latency / 1000, rate * 125_000)
    return {(src, dst): way for (dst, src), way in ways.items()} | ways


def read_trace(path: Path, peers: int) -> dict[int, Sequence[tuple[float, float]]]:
    """Return the absences of each peer of a CSV file, (leaves, returns) [s]; with an empty returns_s it stays away.

    Raises ConfigError where the file has another form, or a peer leaves before it has returned.
    """
    trace: dict[int, list[tuple[float, float]]] = {}
    for number, row in _rows(path, TRACE, "the trace"):
        peer = _peer(row["peer"], peers, path, number)
        leaves = _number(row["leaves_s"], "leaves_s", path, number)
        returns = _number(row["returns_s"], "returns_s", path, number) if row["returns_s"] else math.inf
        times = trace.setdefault(peer, [])
        if returns <= leaves or (times and leaves < times[-1][1]):
            raise ConfigError(f"the trace {path}, line {number}: peer {peer} leaves at {leaves:g} s, before it has "
                              "returned, or returns before it leaves: give its absences in order of time")
        times.append((leaves, returns))
    return dict(trace)


def _rows(path: Path, names: tuple[str, ...], what: str) -> Iterator[tuple[int, Mapping[str, str]]]:
    reader = csv.reader(io.StringIO(read_text(path, what, ConfigError), newline=""))
    form = f"its first line must be {','.join(names)}, and each other line has {len(names)} values"
    try:
        if tuple(cell.strip() for cell in next(reader, [])) != names:
            raise ConfigError(f"{what} {path}: {form}")
        for cells in reader:
            if cells and len(cells) != len(names):
                raise ConfigError(f"{what} {path}, line {reader.line_num}: {form}")
            if cells:
                yield reader.line_num, dict(zip(names, (cell.strip() for cell in cells)))
    except csv.Error as error:
        raise ConfigError(f"{what} {path}, line {reader.line_num}: {error}: {form}") from None


def _peer(text: str, peers: int, path: Path, line: int) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 8 and int(text) < peers):
        raise ConfigError(f"{path}, line {line}: {text!r} is not a peer: give a number from 0 to {peers - 1}")
    return int(text)


def _number(text: str, name: str, path: Path, line: int) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < 1e12:
        raise ConfigError(f"{path}, line {line}: {name} is {text!r}: give a number of 0 or more")
    return value
