"""A comparison as text, and as the files of its folder."""

from __future__ import annotations

from pathlib import Path

from p2pser.base.atomic import put, write_json
from p2pser.base.frames import to_csv
from p2pser.base.wording import counted
from p2pser.experiments.compare import BaselineRow, Comparison, SchemeRow
from p2pser.experiments.differences import PairedDifference
from p2pser.experiments.report.runs import compare_picture

FILES = ("table.csv", "comparison.json", "comparison.png")
"""What ``write`` writes."""

BUDGETS = ("pooled: one model on all peers' clips, which draws as many as they do, in batches of 64 and so in more "
           "steps than a peer takes; pooled-steps: as many clips in as many steps, in larger batches.")
"""What a reader must know of the two budgets of pooled training."""

HEAD = ("", "gap", "degree", "MB/peer", "UAR (a)", "to pooled", "to pooled-steps", "over local", "distance",
        "to 95 %: rounds", "MB", "final")
"""The table's head, over ``text_rows``."""


def write(comparison: Comparison, out: Path) -> None:
    """Write ``FILES`` into a folder."""
    put(out / "table.csv", to_csv(comparison.rows()).encode())
    compare_picture(out / "comparison.png",
                    {label: {"uar": curves.uar, "distance": curves.distance}
                     for label, curves in comparison.curves.items()},
                    {row.baseline: row.uar for row in comparison.baselines})
    write_json(out / "comparison.json", {**comparison.to_dict(), "out": str(out)})


def points(difference: PairedDifference | None) -> str:
    """Return a paired difference in points of UAR, with its interval where there is one."""
    if difference is None:
        return "-"
    low, high = difference.low, difference.high
    interval = "" if low is None or high is None else f" [{100 * low:+.1f}, {100 * high:+.1f}]"
    return f"{100 * difference.mean:+.1f}{interval}"


def text_rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """Return the table's rows under ``HEAD`` as text, schemes first."""
    return [*map(_scheme, comparison.schemes), *map(_baseline, comparison.baselines)]


def _scheme(row: SchemeRow) -> tuple[str, ...]:
    low, high = row.degree["min"], row.degree["max"]
    return (
        row.scheme, f"{row.spectral_gap:.3f}", f"{low}" if low == high else f"{low}-{high}",
        _megabytes(row.bytes_per_peer), with_sd(row.uar, row.uar_sd), points(row.gap_to_pooled),
        points(row.gap_to_pooled_steps), points(row.gain_over_local),
        "-" if row.consensus_distance is None else f"{row.consensus_distance:.1e}",
        "-" if row.rounds_to_95 is None else str(row.rounds_to_95),
        "-" if row.bytes_to_95 is None else _megabytes(row.bytes_to_95),
        f"{row.final_exchanges:.0f}" + ("" if row.converged else " (given up)"),
    )


def _baseline(row: BaselineRow) -> tuple[str, ...]:
    sent = _megabytes(row.bytes_per_peer) if row.baseline == "server" else "-"
    return (row.baseline, "", "", sent, with_sd(row.uar, row.uar_sd), points(row.gap_to_pooled),
            points(row.gap_to_pooled_steps), "", "", "", "", "")


def _megabytes(size: float) -> str:
    return f"{size / 1e6:.1f}"


def with_sd(uar: float, sd: float | None) -> str:
    """Return a UAR with its standard deviation over seeds, where there are several."""
    return f"{uar:.3f}" + ("" if sd is None else f" ±{sd:.3f}")


def legend(comparison: Comparison) -> str:
    """Return what the table's reader needs to know, in a few lines."""
    corpus = comparison.corpus
    name = corpus["name"] + (" (synthetic: for trying the system only)" if corpus["synthetic"] else "")
    return "\n".join([
        f"{name}: {comparison.clips} held-out clips of {counted(comparison.speakers, 'speaker')} in "
        f"{counted(len(comparison.folds), 'fold')}, {counted(len(comparison.seeds), 'seed')}, "
        f"{counted(comparison.peers, 'peer')}, {comparison.rounds} rounds of {comparison.local_steps} local steps; "
        f"normalisation {comparison.normalise}; "
        f"chance {comparison.chance:.3f}",
        "gap: spectral gap 1 - slem. MB/peer: payload of the rounds, sent by a peer. UAR (a): mean over folds of the "
        "recall over the classes present, of the consensus model (where there is none, of each peer's), mean and sd "
        "over seeds. to pooled, to pooled-steps, over local: mean paired difference over folds and seeds [95 % paired "
        "speaker bootstrap], points. distance: consensus distance after the last round. to 95 %: rounds and MB/peer "
        "until the mean UAR is 95 % of pooled's. final: exchanges of the final consensus.",
        BUDGETS,
        f"selection: {comparison.selection}; test speakers that were trained on: {comparison.speaker_overlap}",
        *comparison.notes])
