"""Figures of one figure of schemes against another: what degree, contraction, heterogeneity, bytes and deaths do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from p2pser.experiments.grid.cells import Place
from p2pser.experiments.grid.file import UNDISTURBED
from p2pser.experiments.grid.summary import SchemeFigures, Summary
from p2pser.experiments.report.canvas import new_figure
from p2pser.experiments.report.figures.common import (
    FEW,
    WIDE,
    Look,
    dress,
    label_outer,
    legend_below,
    log_x,
    marker_for,
    panels,
)
from p2pser.experiments.report.styles import FAINT, INK, PALE, Style


def target(summary: Summary, place: Place) -> Any | None:
    """Return the figure of rounds to the target against the measured contraction of an exchange."""
    look = Look(summary, place)
    known = [each for each in look.schemes if each.facts["contraction_measured"] is not None]
    if not known:
        return None
    figure, axes = look.by_algorithm()
    rounds = max(row["rounds"] or 0 for rows in summary.trials[place].values() for row in rows)
    never = rounds * 1.095
    for panel, algorithm in zip(axes, look.algorithms):
        panel.axhspan(rounds * 1.03, rounds * 1.16, color=PALE, alpha=0.5, linewidth=0)
        for each in known:
            if each.algorithm == algorithm:
                reached = each.rounds_to_target
                _point(panel, look, each, each.facts["contraction_measured"], never if reached is None else reached,
                       filled=reached is not None)
        panel.set_xlim(-0.04, 1.04)
        panel.set_ylim(0, rounds * 1.16)
        ticks = sorted({round(rounds * share / 4) for share in range(5)})
        panel.set_yticks([*ticks, never], [*map(str, ticks), "never"])
        dress(panel, title=look.title(algorithm))
    label_outer(axes, "share of the distance left by an exchange", f"rounds to {summary.grid.target:.0%} of pooled",
                FEW)
    legend_below(figure, _topologies(look))
    return figure


def gap_by_degree(summary: Summary, place: Place) -> Any | None:
    """Return the figure of the final gap to pooled against the mean degree."""
    look = Look(summary, place)
    known = [each for each in look.schemes if each.gap_to_pooled is not None]
    if not known:
        return None
    figure, axes = look.by_algorithm()
    for panel, algorithm in zip(axes, look.algorithms):
        own = [each for each in known if each.algorithm == algorithm]
        degrees = [each.facts["degree_mean"] for each in own]
        for place_among, each in enumerate(own):  # graphs of one degree stand side by side
            alike = degrees.count(degrees[place_among])
            aside = degrees[:place_among].count(degrees[place_among]) - (alike - 1) / 2
            _with_interval(panel, look, each, degrees[place_among] * 1.08**aside)
        panel.axhline(0, color=FAINT, linewidth=0.9)
        log_x(panel, 2)
        dress(panel, title=look.title(algorithm))
    label_outer(axes, "degree: messages of a peer an exchange", "UAR minus pooled [points]", FEW)
    legend_below(figure, _topologies(look))
    return figure


def gap_by_heterogeneity(summary: Summary) -> Any | None:
    """Return the figure of the final gap to pooled against how much the peers' emotions differ; None for one partition.
    """
    places = [place for place in summary.places if place.fault == UNDISTURBED]
    groups = sorted({(place.corpus, place.peers) for place in places})
    if len({place.partition for place in places}) < 2:
        return None
    look = Look(summary, places[0])
    figure, axes = panels(len(groups) * len(look.algorithms), height=3.2, width=WIDE, columns=FEW, sharey=True)
    for panel, (corpus, peers, algorithm) in zip(axes, ((*group, name) for group in groups
                                                       for name in look.algorithms)):
        for topology in look.topologies:
            line = sorted(((each.facts["skew"], each) for place in places if (place.corpus, place.peers) == (
                corpus, peers) for each in summary.at(place) if (each.topology, each.algorithm) == (
                topology, algorithm) and each.gap_to_pooled is not None), key=lambda pair: pair[0])
            style = look.styles[topology]
            panel.plot([skew for skew, _ in line], [100 * each.gap_to_pooled.mean for _, each in line
                                                   if each.gap_to_pooled], color=style.colour, linestyle=style.dash,
                       marker=style.marker, linewidth=1.6, markersize=6)
        panel.axhline(0, color=FAINT, linewidth=0.9)
        title = [f"{corpus}, {peers} peers" if len(groups) > 1 else "", look.title(algorithm)]
        dress(panel, title=", ".join(filter(None, title)))
    label_outer(axes, "heterogeneity of the peers' emotions", "UAR minus pooled [points]", FEW)
    legend_below(figure, _topologies(look))
    return figure


def exposure(summary: Summary, place: Place) -> Any | None:
    """Return the figure of how many other peers a curious one can solve for when its run only gossips."""
    look = Look(summary, place)
    known = {each.topology: each for each in look.schemes}
    figure = new_figure(7.5, 1.2 + 0.36 * len(known))
    axes = figure.subplots()
    for at, (topology, each) in enumerate(reversed(known.items())):
        peers, after = each.facts["exposed_peers"], each.facts["exposed_after"]
        axes.barh(at, peers, color=look.styles[topology].colour, height=0.62, alpha=0.85)
        axes.text(peers + 0.15, at, f"{peers:g} after {after:g} exchange{'s' * (after != 1)}", va="center",
                  fontsize=8.5, color=INK)
    axes.axvline(place.peers - 1, color=FAINT, linestyle="--", linewidth=1)
    axes.set_yticks(range(len(known)), list(reversed(known)))
    axes.set_xlim(0, (place.peers - 1) * 1.28)
    axes.set_xticks([tick for tick in axes.get_xticks() if tick <= place.peers - 1 and tick == int(tick)])
    dress(axes, x=f"other peers (of {place.peers - 1}) whose first row the most curious peer can solve for")
    return figure


def pareto(summary: Summary, place: Place) -> Any | None:
    """Return the figure of UAR against bytes, a panel an algorithm, with the front of all schemes and its ties."""
    look = Look(summary, place)
    known = [each for each in look.schemes if each.bytes_per_peer and each.standing is not None]
    if len(known) < 2:
        return None
    front = sorted(((_megabytes(each), each.uar) for each in known if each.standing == "front"),
                   key=lambda point: (point[0], -point[1]))
    end = max(map(_megabytes, known)) * 1.3
    figure, axes = look.by_algorithm(height=3.6, sharex=True)
    for panel, algorithm in zip(axes, look.algorithms):
        panel.step([*(x for x, _ in front), end], np.maximum.accumulate([*(y for _, y in front), 0.0]), where="post",
                   color=FAINT, linewidth=1.3, zorder=1)
        for each in known:
            own, style = each.algorithm == algorithm, look.styles[each.topology]
            fill = {"front": "full", "tied": "left", "dominated": "none"}[each.standing or "dominated"]
            more: dict[str, Any] = {"marker": style.marker, "color": style.colour, "fillstyle": fill, "markersize": 9,
                                    "markerfacecoloralt": "white", "zorder": 3}
            panel.plot(_megabytes(each), each.uar, linestyle="", markeredgewidth=1.4,
                       **(more if own else {"marker": ".", "color": PALE, "markersize": 5, "zorder": 2}))
        log_x(panel)
        dress(panel, title=look.title(algorithm))
    label_outer(axes, "MB sent by a peer in the rounds", "UAR on the held-out speakers", FEW)
    ink = Style(INK, "", "o")
    legend_below(figure, [
        *_topologies(look), marker_for("front", ink),
        marker_for("tied: within noise of a cheaper one", ink, fillstyle="left", markerfacecoloralt="white"),
        marker_for("dominated", ink, fillstyle="none"),
        *([marker_for("other algorithms", Style(PALE, "", "."))] if len(look.algorithms) > 1 else [])])
    return figure


def deaths(summary: Summary) -> Any | None:
    """Return the figure of the rounds that each death costs; None where no peer dies in the grid."""
    places = [place for place in summary.places if summary.grid.conditions[place.fault].deaths]
    known = {place: [each for each in summary.at(place) if each.rounds_lost_per_death is not None] for place in places}
    known = {place: each for place, each in known.items() if each}
    if not known:
        return None
    figure, axes = panels(len(known), height=0.9 + 0.3 * max(map(len, known.values())), columns=2, width=5.4)
    for panel, (place, schemes) in zip(axes, known.items()):
        look = Look(summary, place)
        for at, each in enumerate(reversed(schemes)):
            lost = each.rounds_lost_per_death or 0.0
            panel.barh(at, lost, color=look.styles[each.topology].colour, height=0.62, alpha=0.85)
            panel.text(lost, at, f" {lost:.1f}", va="center", fontsize=8.5, color=INK)
        panel.set_yticks(range(len(schemes)), [look.name(each) for each in reversed(schemes)])
        panel.set_xlim(0, 1.15 * max(0.5, *(each.rounds_lost_per_death or 0.0 for each in schemes)))
        dress(panel, title=str(place), x="rounds lost by each death")
    return figure


def distance_theory(summary: Summary, place: Place) -> Any | None:
    """Return the figure of the mean consensus distance in training against what the eigenvalues of W predict.

    Drifts of the peers that stay the same each round add up to sum_k W^k: in direction i of W's eigenvectors to
    l_i / (1 - l_i). Only for static graphs with a symmetric W.
    """
    from matplotlib.ticker import NullFormatter

    from p2pser.graph import spec

    look = Look(summary, place)
    points: list[tuple[SchemeFigures, float, float]] = []
    for each in look.schemes:
        topology = spec.load(next(name for name in summary.grid.topologies
                                  if spec.load(name, place.peers).name == each.topology), place.peers)
        W = topology.matrix() if topology.schedule is None else None
        if W is None or not np.allclose(W, W.T):
            continue
        eigenvalues = np.linalg.eigvalsh(W)[:-1]
        predicted = float(np.sqrt(np.mean((eigenvalues / (1 - eigenvalues)) ** 2)))
        distances = [value for run in summary.curve(place, each.scheme, "distance") for value in run if value]
        if predicted > 1e-9 and distances:
            points.append((each, predicted, float(np.mean(distances))))
    if len({predicted for _, predicted, _ in points}) < 2:
        return None
    figure, axes = look.by_algorithm()
    for panel, algorithm in zip(axes, look.algorithms):
        own = [(each, x, y) for each, x, y in points if each.algorithm == algorithm]
        if own:
            factor = float(np.exp(np.mean([np.log(y / x) for _, x, y in own])))
            ends = np.array([min(x for _, x, _ in own), max(x for _, x, _ in own)])
            panel.plot(ends, factor * ends, color=INK, linestyle=":", linewidth=1.3)
        for each, x, y in own:
            _point(panel, look, each, x, y)
        dress(panel, title=look.title(algorithm))
    for panel in axes:
        log_x(panel)
        panel.set_yscale("log")
        panel.yaxis.set_minor_formatter(NullFormatter())
    lowest, highest = min(y for _, _, y in points), max(y for _, _, y in points)
    axes[0].set_ylim(10 ** np.floor(np.log10(lowest)), 10 ** np.ceil(np.log10(highest)))
    label_outer(axes, "predicted: rms of $\\lambda/(1-\\lambda)$", "consensus distance, mean over rounds", FEW)
    used = dict.fromkeys(each.topology for each, _, _ in points)
    legend_below(figure, _topologies(look, used))
    return figure


def _point(axes: Any, look: Look, each: SchemeFigures, x: float, y: float, filled: bool = True) -> None:
    style = look.styles[each.topology]
    axes.plot(x, y, marker=style.marker, color=style.colour, linestyle="", markersize=8, clip_on=False,
              markerfacecolor=style.colour if filled else "white", zorder=3)


def _with_interval(axes: Any, look: Look, each: SchemeFigures, x: float) -> None:
    style, gap = look.styles[each.topology], each.gap_to_pooled
    assert gap is not None
    if gap.low is not None and gap.high is not None:
        axes.plot([x, x], [100 * gap.low, 100 * gap.high], color=style.colour, linewidth=1.3, alpha=0.8)
    axes.plot(x, 100 * gap.mean, marker=style.marker, color=style.colour, linestyle="", markersize=8)


def _topologies(look: Look, names: Iterable[str] | None = None) -> list[Any]:
    """Return a marker for a legend for each topology."""
    return [marker_for(name, look.styles[name]) for name in (look.topologies if names is None else names)]


def _megabytes(each: SchemeFigures) -> float:
    return 1e-6 * (each.bytes_per_peer or 0.0)
