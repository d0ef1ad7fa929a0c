"""A topology in numbers, for ``p2pser topology show`` and ``compare``."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import Any

import networkx as nx
import numpy as np

from p2pser.graph import spectral, theory
from p2pser.graph.exposure import exposure
from p2pser.graph.spec import Topology

PARAMETERS = 100_000
"""The default number of model parameters for the bytes of an exchange."""
FLOAT32 = 4
"""Bytes of one parameter in a message."""


def diameter(graph: nx.Graph) -> int:
    """Return the largest number of links on a shortest path between two peers that a path connects."""
    neighbours = {i: list(graph[i]) for i in graph}
    before: dict[int, int] = {}
    reached, links = {i: 1 << i for i in graph}, -1
    while reached != before:
        # The next link for all peers at once. Sets are the bits of whole numbers, as every peer process needs this and
        # SciPy's sparse graphs would cost each of them 30 MB.
        before = reached
        reached = {i: reduce(or_, (before[j] for j in near), before[i]) for i, near in neighbours.items()}
        links += 1
    return max(0, links)


def summarise(topology: Topology, parameters: int = PARAMETERS) -> dict[str, Any]:
    """Return a topology's size, degrees and rate of convergence under uniform weights; plain values, ready for JSON.

    Keys: name, peers, edges (links, each counted once), directed, connected, degree {min, mean, max},
    diameter (links), slem, spectral_gap, rounds_to_1e-6 (exchanges of plain gossip; None: never), weights,
    exposure {peers, exchanges} (the most peers whose rows a curious peer can compute, and after how many exchanges).

    For schedules and directed links, edges and diameter count all links that any exchange uses, degree is the number of
    messages that a peer sends in an exchange, slem the contraction per exchange; further keys: stochastic, period
    (None: random), contraction over a period and contraction_is (see ``theory.Convergence``), finite_time_rounds (None:
    not within a period), messages_per_exchange and bytes_per_exchange (``parameters`` float32 values a message; means).
    """
    topology = topology.without_gaps()
    graph, seen = topology.graph, exposure(topology)
    more: dict[str, Any] = {}
    if topology.schedule is None:
        sent, slem = np.array([degree for _, degree in graph.degree]), spectral.slem(topology.entries())
        rounds = spectral.rounds_to(1e-6, slem)
    else:
        sent, speed = theory.messages(topology), theory.convergence(topology)
        slem, rounds, more = speed.per_exchange, speed.rounds, _exchanges(topology, sent, speed, parameters)
    return {
        "name": topology.name,
        "peers": topology.size,
        "edges": graph.number_of_edges(),
        "directed": topology.directed,
        "connected": nx.is_connected(graph),
        "degree": {"min": int(sent.min()), "mean": float(sent.mean()), "max": int(sent.max())},
        "diameter": diameter(graph),
        "slem": slem,
        "spectral_gap": 1.0 - slem,
        "rounds_to_1e-6": rounds,
        "weights": topology.weights,
        "exposure": {"peers": seen.peers, "exchanges": seen.exchanges},
        **more,
    }


def compare(topology: Topology, parameters: int = PARAMETERS, seed: int = 0) -> dict[str, Any]:
    """Return a topology's row of a comparison: ``summarise`` and, for static ones too, the keys of schedules.

    ``rounds_measured`` is the number of exchanges to 1e-6 from a random start of ``seed`` (None: more than
    ``theory.PATIENCE``).
    """
    extra = _exchanges(topology, theory.messages(topology), theory.convergence(topology), parameters)
    return summarise(topology, parameters) | extra | {"rounds_measured": theory.measured(topology, seed)}


def _exchanges(topology: Topology, sent: np.ndarray, speed: theory.Convergence, parameters: int) -> dict[str, Any]:
    each = float(sent.sum(axis=1).mean())
    return {
        "stochastic": topology.stochastic,
        "period": speed.period,
        "contraction": speed.contraction,
        "contraction_is": speed.means,
        "finite_time_rounds": speed.finite_time,
        "messages_per_exchange": each,
        "bytes_per_exchange": each * parameters * FLOAT32,
    }
