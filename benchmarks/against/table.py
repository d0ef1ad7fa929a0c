"""The table of the benchmark: medians over the turns, and ratios to p2pser in the same turn."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Figures = Mapping[str, Any]
"""The figures of one run."""

MODELS = {"mlp": "MLP, 96 k", "cnn": "CNN, 98 k"}


def median(figures: Figures, what: str) -> float:
    """Return a figure of one run; of those of each round the median."""
    value = figures[what]
    return float(statistics.median(value) if isinstance(value, list) else value)


def ratio(own: Sequence[Figures], others: Sequence[Figures], what: str) -> float | None:
    """Return the median over the turns of how many times p2pser's figure the other's is; None without common turns."""
    mine = {figures["repeat"]: figures for figures in own if what in figures}
    both = [median(figures, what) / median(mine[figures["repeat"]], what) for figures in others
            if what in figures and figures["repeat"] in mine]
    return statistics.median(both) if both else None


def over_turns(runs: Sequence[Figures], what: str) -> list[float]:
    """Return a figure of every turn that has it."""
    return [median(run, what) for run in runs if what in run]


def shown(values: Sequence[float], form: Callable[[float], str]) -> str:
    """Return the median, with the lowest and the highest where there are several; a dash without values."""
    if not values:
        return "–"
    middle = form(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({form(min(values))}–{form(max(values))})"


def short(figures: Figures) -> str:
    """Return a run's figures in a few words."""
    if "error" in figures:
        return str(figures["error"])
    return f"{1000 * median(figures, 'round_s'):.4g} ms a round, {figures['memory_mb']:.0f} MB"


def text(cells: Mapping[Any, Mapping[str, Sequence[Figures]]]) -> str:
    """Return the tables in Markdown, by cell and system."""
    parts = [_table(f"{MODELS[cell.model]}, {cell.peers} {'processes' if cell.processes else 'simulated peers'}",
                    systems, cell.processes) for cell, systems in cells.items()]
    return "\n\n".join(parts) if parts else "nothing has been measured yet"


def _table(title: str, systems: Mapping[str, Sequence[Figures]], processes: bool) -> str:
    heads = [title, "a round [ms]", "times p2pser's", "processor a round [ms]", "times p2pser's", "memory [MB]",
             *(["start [s]", "bytes a payload byte"] if processes else [])]
    lines = [heads, ["---"] * len(heads)]
    own = systems.get("p2pser", ())
    for name, runs in systems.items():
        if all("error" in run for run in runs):
            lines.append([name, str(runs[-1]["error"]), *[""] * (len(heads) - 2)])
            continue
        row = [name]
        for what in ("round_s", "cpu_s"):
            row.append(shown(over_turns(runs, what), lambda value: f"{1000 * value:.3g}" if value < 1
                             else f"{1000 * value:,.0f}"))
            times = ratio(own, runs, what)
            row.append("" if name == "p2pser" or times is None else f"{times:.2f}")
        row.append(f"{statistics.median(over_turns(runs, 'memory_mb')):,.0f}")
        if processes:
            row += [shown(over_turns(runs, "start_s"), "{:.1f}".format),
                    shown(over_turns(runs, "bytes_per_payload_byte")[:1], "{:.4f}".format)]
        lines.append(row)
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
