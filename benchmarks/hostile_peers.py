"""Hostile peers among honest ones: the UAR of the honest peers by gossip rule and attack."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import networkx as nx
import numpy as np

from p2pser.base import seeding
from p2pser.base.errors import P2PSERError, TopologyError
from p2pser.config import Config
from p2pser.evaluation.metrics import uar_pooled
from p2pser.features.federation import Federation
from p2pser.gossip.attacks import ATTACKS, Attack
from p2pser.graph.spec import Topology
from p2pser.simulation.engine import simulate
from p2pser.simulation.scenario import Scenario

RULES = ("dfedavg", "self-centred-clipping", "median", "trimmed-mean", "krum")
NOBODY, SILENT = "nobody", "silent"
"""Beside the attacks: all peers are honest; the hostile peers take no part."""
TRIES = 2000


def place(graph: nx.Graph, count: int, most: int, seed: int = 0) -> tuple[int, ...]:
    """Return ``count`` peers to be hostile, ascending: no honest peer has more than ``most`` of them for neighbours,
    and the honest peers are connected without them.

    Parameters
    ----------
    graph : of all peers.
    count : the number of hostile peers.
    most : the largest number of hostile neighbours of an honest peer.
    seed : of the 2000 sets that are tried. The first in which an honest peer has ``most`` hostile neighbours (or all)
        is taken, else the first that fits.

    Raises TopologyError where none fits.
    """
    target, fallback = min(most, count), None
    peers = sorted(graph)
    draw = seeding.generator(seed, "hostile")
    for _ in range(TRIES if 0 <= count < len(peers) else 0):
        chosen = set(draw.choice(peers, count, replace=False).tolist())
        honest = [i for i in peers if i not in chosen]
        beside = max(len(chosen & set(graph[i])) for i in honest)
        if beside <= most and (fallback is None or beside == target) and nx.is_connected(graph.subgraph(honest)):
            fallback = tuple(sorted(chosen))
            if beside == target:
                return fallback
    if fallback is not None:
        return fallback
    raise TopologyError(f"no {count} of the {len(peers)} peers were found that could be hostile so that no honest peer "
                        f"has more than {most} of them for neighbours and the others stay connected: take a graph with "
                        "more peers or of a higher degree")


@dataclass(frozen=True)
class Outcome:
    """One run. mean, worst: UAR over the honest peers, each with its own model; None where training broke down.

    distance: consensus distance of the honest peers at the end. attack: one of ``ATTACKS``, ``nobody`` or ``silent``.
    """

    rule: str
    attack: str
    mean: float | None
    worst: float | None
    distance: float | None


def measure(
    config: Config,
    topology: Topology,
    federation: Federation,
    hostile: Sequence[int],
    rules: Sequence[str] = RULES,
    attacks: Sequence[str] = (NOBODY, SILENT, *ATTACKS),
    observe: Callable[[Outcome], None] | None = None,
) -> list[Outcome]:
    """Run each rule under each attack and return the outcomes, in order.

    Parameters
    ----------
    config, topology, federation : of each run.
    hostile : the hostile peers (``place``). Robust rules have the largest number of hostile neighbours of an honest
        peer as their setting.
    rules : gossip algorithms.
    attacks : of ``ATTACKS``, ``silent``, or ``nobody``: then all peers are honest, and the means are over all.
    observe : called with each outcome.

    Raises ConfigError where a rule does not fit the topology.
    """
    most = max(len(set(hostile) & set(topology.neighbours(i))) for i in range(topology.size) if i not in hostile)
    outcomes = []
    for rule in rules:
        bound = [] if rule == "dfedavg" else [f"gossip.parameters.hostile={most}"]
        chosen = config.with_settings([f"gossip.algorithm={rule}", *bound])
        for attack in attacks:
            outcomes.append(_outcome(chosen, topology, federation, hostile, attack))
            if observe is not None:
                observe(outcomes[-1])
    return outcomes


def _outcome(config: Config, topology: Topology, federation: Federation, hostile: Sequence[int],
             attack: str) -> Outcome:
    rule = config.gossip.algorithm
    sent = {} if attack in (NOBODY, SILENT) else dict.fromkeys(hostile, Attack(attack))
    try:
        dead = dict.fromkeys(hostile, 0) if attack == SILENT else {}
        run = simulate(config, topology, federation, Scenario(dead=dead, hostile=sent), each_peer=False)
    except P2PSERError as error:
        if type(error) is not P2PSERError:  # a setting or the data: no run at all
            raise
        return Outcome(rule, attack, None, None, None)
    each = [uar_pooled(predictions) for predictions in run.peer_predictions]
    return Outcome(rule, attack, float(np.mean(each)), min(each), run.history[-1].distance)


def table(outcomes: Sequence[Outcome]) -> str:
    """Return the mean UAR of the honest peers as a Markdown table, with a row for each rule and a column for
    each attack.
    """
    attacks = list(dict.fromkeys(outcome.attack for outcome in outcomes))
    means = {(outcome.rule, outcome.attack): outcome.mean for outcome in outcomes}
    lines = [["rule", *attacks], ["---"] * (len(attacks) + 1)]
    for rule in dict.fromkeys(outcome.rule for outcome in outcomes):
        values = [means.get((rule, attack)) for attack in attacks]
        lines.append([rule, *("-" if value is None else f"{value:.3f}" for value in values)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
