"""The ranking of a benchmark as text."""

from __future__ import annotations

from p2pser.experiments.bench.ranking import Place, Ranking
from p2pser.experiments.report.grid_tables import points, shown

HEAD = ("scheme", "rank", "UAR", "to pooled", "to the first", "p (Holm)", "worst peer", "MB/peer", "at the end")
"""The head of the table."""


def text_rows(ranking: Ranking) -> list[tuple[str, ...]]:
    """Return the table under ``HEAD``, a row a result."""
    return [_row(place) for place in ranking.places]


def _row(place: Place) -> tuple[str, ...]:
    own, behind = place.outcome, place.behind
    return (place.name, "–" if place.rank is None else str(place.rank), shown(own.average("uar"), ".3f"),
            points(own.gap), points(behind), "–" if behind is None else f"{behind.holm:.3f}",
            shown(own.average("uar_worst_peer"), ".3f"), shown(own.average("bytes_per_peer"), ".1f", 1e-6),
            shown(own.average("bytes_final_per_peer"), ".1f", 1e-6))


def legend(ranking: Ranking) -> str:
    """Return what the table's reader needs to know."""
    bench = ranking.bench
    return "\n".join([
        f"{len(bench.trials)} trials each: {len(bench.folds)} folds, {bench.seeds} seeds. rank: 1 + the number of "
        "schemes that are better by more than noise, so schemes that are alike share one. UAR: mean over folds and "
        "seeds, of speakers that no peer trained on. to pooled, to the first: mean paired difference in points [95 %, "
        "Student's t]; p of a randomisation test of its signs, corrected by Holm. worst peer: its own model after the "
        "last round. MB/peer: payload in the rounds, at the end that of the final consensus.", *ranking.notes])
