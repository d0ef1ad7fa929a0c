"""All figures of a grid: which there are, what they show, and how they are written."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from p2pser.base.atomic import new_file
from p2pser.experiments.grid.cells import Place, folder
from p2pser.experiments.grid.file import UNDISTURBED
from p2pser.experiments.grid.summary import Summary
from p2pser.experiments.report.figures import curves, peers, relations
from p2pser.experiments.report.page import Picture

FORMATS = ("svg", "pdf", "png")
"""The formats of each figure."""


@dataclass(frozen=True)
class Drawing:
    """A figure that a report may have: drawn for each place, or (``whole``) once; None where there is nothing to see.
    """

    name: str
    title: str
    caption: str
    draw: Callable[..., Any | None]
    faults: bool = False
    """Whether places with faults have it too."""


EACH: tuple[Drawing, ...] = (
    Drawing("uar-rounds", "UAR against rounds", "A panel a topology; the means of the others are grey.",
            partial(curves.uar_against, against="round"), faults=True),
    Drawing("uar-bytes", "UAR against bytes", "The same against the payload that a peer has sent (logarithmic).",
            partial(curves.uar_against, against="bytes_per_peer")),
    Drawing("uar-seconds", "UAR against predicted seconds",
            "The same against the simulated clock: local steps, latency and bandwidth of the grid's links "
            "(logarithmic).", partial(curves.uar_against, against="seconds")),
    Drawing("differences", "Paired differences between schemes",
            "Mean difference in UAR over the folds and seeds that both have. More than noise: a randomisation test of "
            "the signs, corrected by Holm for all pairs, at the level of 5 %.", peers.differences),
    Drawing("pareto", "What accuracy costs",
            "A scheme is dominated where one that sends no more is significantly better, on the front where it is "
            "significantly better than all that send less, else tied.", relations.pareto),
    Drawing("distance", "Consensus distance and theory",
            "In training, then in the final consensus. Theory's lines begin at its first distance: the worst case of "
            "plain gossip, and of the Chebyshev iteration that the final consensus runs. Distances below 1e-6 are not "
            "drawn.", curves.distance),
    Drawing("distance-theory", "Consensus distance against the eigenvalues of W",
            "If the peers' drifts stay the same from round to round, the distance is proportional to the root mean "
            "square of l / (1 - l) over the eigenvalues l of W but the first. The dotted line has slope 1; its height "
            "is fitted. Static graphs only.", relations.distance_theory),
    Drawing("target", "Rounds to the target against contraction",
            "Contraction: the factor by which an exchange reduces the distance of random rows, measured down to 1e-6.",
            relations.target),
    Drawing("gap-degree", "Final gap to pooled against degree",
            "Mean paired difference with its 95 % interval (Student's t over folds and seeds).",
            relations.gap_by_degree),
    Drawing("models", "Own models and the consensus model",
            "Own models are those that the peers hold after the last round, before the final consensus.",
            peers.models, faults=True),
    Drawing("peers-degree", "Spread of the peers' own models by degree",
            "Each point is a peer in one trial, beside the mean of all peers of that trial; all algorithms together.",
            peers.by_degree),
    Drawing("exposure", "What a curious peer can solve for",
            "From the rows that it receives in exchanges without local work between them, by linear algebra.",
            relations.exposure),
)
WHOLE: tuple[Drawing, ...] = (
    Drawing("gap-heterogeneity", "Final gap to pooled against heterogeneity",
            "Heterogeneity: the mean total variation distance between the emotions of a peer's clips and of all.",
            relations.gap_by_heterogeneity),
    Drawing("deaths", "Rounds lost by deaths",
            "How many rounds before its end the undisturbed run had the UAR with which the disturbed run ended, "
            "divided by the number of deaths (mean curves over folds and seeds).", relations.deaths),
)


def pictures(summary: Summary, place: Place | None, out: Path) -> Iterator[Picture]:
    """Draw the figures of a place (None: of the whole grid), write them into ``out``, and yield them."""
    for drawing in WHOLE if place is None else EACH:
        if place is not None and place.fault != UNDISTURBED and not drawing.faults:
            continue
        figure = drawing.draw(summary) if place is None else drawing.draw(summary, place)
        if figure is None:
            continue
        name = drawing.name if place is None else f"{drawing.name}-{folder(place)}"
        contents = {ending: _rendered(figure, ending) for ending in FORMATS}
        for ending, content in contents.items():
            with new_file(out / f"{name}.{ending}", durable=False) as file:
                file.write(content)
        yield Picture(name, drawing.title, drawing.caption, contents["svg"])


def _rendered(figure: Any, ending: str) -> bytes:
    """Return a figure in a format, without the time of its making: the same figure has the same bytes."""
    import matplotlib

    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(ending)
    target = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "p2pser"}):
        figure.savefig(target, format=ending, metadata=undated)
    return target.getvalue()
