"""Exchange machines for tests: one that waits, and peers of a network without sockets."""

from __future__ import annotations

from dataclasses import dataclass, field

import networkx as nx
import numpy as np
import torch
from torch import Tensor

from p2pser.gossip.mixer import Step
from p2pser.graph.mixing import weight
from p2pser.network import events
from p2pser.network.awaited import Awaited
from p2pser.network.exchange import Exchange, Outcome
from p2pser.network.roster import Roster
from p2pser.network.states import Cause, State
from p2pser.wire.messages import Phase, Progress

TIMEOUT = 10.0


def row(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def train(round: int, peer: int, x: Tensor) -> Tensor:
    """Some local work that depends on nothing but its arguments."""
    return x * 0.9 + torch.from_numpy(np.random.Generator(np.random.Philox([round, peer])).normal(size=len(x)))


def lose(exchange: Exchange, j: int) -> None:
    exchange._roster.changed(events.Changed(j, State.PRESENT, State.LOST, Cause.DEATH), 0.0)


def at(round: int) -> Progress:
    return Progress(round, 0, Phase.EXCHANGE, 0)


def mixed(own: Tensor, outcome: Outcome, weights: dict[int, float]) -> Tensor:
    """As gossip.mixer.add_flows: the flows in ascending order, then the late ones."""
    new = own.clone()
    for j, value in outcome.values:
        new.add_(value - own, alpha=weights[j])
    for late in outcome.late:
        new.add_(late.value - late.own, alpha=late.weight)
    return new


@dataclass
class One:
    """A peer of the fake network."""

    me: int
    graph: nx.Graph
    timeout: float = TIMEOUT
    x: Tensor = field(default_factory=lambda: row(0, 0, 0))

    def __post_init__(self) -> None:
        degree = self.graph.degree
        self.weights = {j: weight(degree[self.me], degree[j]) for j in self.graph[self.me]}
        self.exchange = Exchange(self.me, Roster(self.graph[self.me]), Awaited(self.timeout))
        for j in self.graph[self.me]:
            self.exchange.awaited.progress(j, Progress(0, 0, Phase.TRAIN, 0), 0.0)

    def post(self, round: int) -> list[tuple[int, tuple[int, Step, Tensor, tuple[Step, ...]]]]:
        """Train and post: (destination, message) for every neighbour."""
        self.own = train(round, self.me, self.x)
        self.exchange.post(Step(round, 0), self.own, self.weights)
        return [(j, (self.me, Step(round, 0), self.own, self.exchange.unmixed(j))) for j in sorted(self.weights)]

    def finish(self, now: float) -> bool:
        outcome = self.exchange.finish(now)
        if outcome is not None:
            self.x = mixed(self.own, outcome, self.weights)
        return outcome is not None


def waiting_exchange(neighbours: tuple[int, ...] = (1, 2), phase: Phase = Phase.TRAIN, round: int = 0) -> Exchange:
    exchange = Exchange(0, Roster(neighbours), Awaited(TIMEOUT))
    for j in neighbours:
        exchange.awaited.progress(j, Progress(round, 0, phase, 0), 0.0)
    exchange.post(Step(round, 0), row(1), dict.fromkeys(neighbours, 0.25))
    exchange.begin(Step(round, 0))
    return exchange
