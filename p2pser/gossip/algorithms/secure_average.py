"""Federated averaging without a server: local steps, then the exact mean of all rows by a secure sum."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import networkx as nx
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from p2pser.base.errors import ConfigError, P2PSERError
from p2pser.base.registries import ALGORITHMS
from p2pser.config import Config
from p2pser.gossip import requirements
from p2pser.gossip.agreement.budget import Budget
from p2pser.gossip.agreement.consensus import Consensus
from p2pser.gossip.agreement.masks import FixedPoint, Integers
from p2pser.gossip.agreement.newest import Age, newest
from p2pser.gossip.agreement.private_mean import private_mean, rosters
from p2pser.gossip.agreement.secure_sum import secrets_of, secure_sum
from p2pser.gossip.algorithm import Algorithm, Local, State
from p2pser.gossip.mixer import Mixer
from p2pser.graph.spec import Topology
from p2pser.graph.summary import diameter
from p2pser.wire.codec import plausible


@ALGORITHMS.register("secure-average")
@dataclass(frozen=True, kw_only=True)
class SecureAverage(Algorithm):
    """Federated averaging (FedAvg) without a server: the exact mean of all rows, of which no peer sees a part.

    In round r each peer i takes K local steps, then all take the mean, weighted by p_i::

        z_i  = local_K(x, r)
        x   <- sum_i p_i z_i / sum_i p_i         p_i = 1, or the peer's clips (``gossip.weighting=clips``)

    The sum is a secure sum (``gossip.agreement.secure_sum``) over all peers that reach each other, along the topology's
    edges: partial sums under masks go up a spanning tree, the total comes down. So all peers hold x to the last bit,
    and learn nothing but sums over all. Numbers are in fixed point of ``bits``; weights are summed like rows.

    The mixing weights W are not used. A peer sends about two rows a round, as in a ring's gossip. In a round without a
    total (a peer has died, or fewer than ``privacy.least`` reach each other) each peer trains on from its own row and
    sends it to none; x stays the last total, which is the run's model and what a newcomer is sent. At the end all
    peers take the newest total.

    Assumes a static undirected graph. The optimiser's state (momentum) is not averaged. A peer can send wrong numbers
    as in any average, and a peer near the tree's root a wrong total.

    With a budget (``privacy.epsilon``) each unit (a clip, a speaker or a site) takes the K local steps from x on its
    own clips with a fresh optimiser, and what is summed are clipped updates and noise (``agreement.private_mean``)::

        x   <- x + (sum_u min(1, norm / |d_u|) d_u + noise) / (sampling * units)         d_u = local_K,u(x, r) - x

    In a round without a total x stays. Training ends when a peer's budget is spent.

    References: H. B. McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data",
    AISTATS 2017; K. Bonawitz et al., "Practical Secure Aggregation for Privacy-Preserving Machine Learning", CCS 2017
    (masks in pairs); H. B. McMahan et al., "Learning Differentially Private Recurrent Language Models", ICLR 2018
    (clipped updates of all clips of a person).
    """

    bits: int = 32
    """bits of a number in the sum: 32, or 64 for finer steps and twice the bytes"""
    bound: float = 32.0
    """the largest magnitude of a parameter; larger ones are clipped to it in the sum"""
    most_clips: int = 1000
    """with gossip.weighting=clips, the most clips that count for a peer"""

    own_weights: ClassVar[bool] = True
    consensus: ClassVar[bool] = False
    one_model: ClassVar[bool] = True
    sums: ClassVar[bool] = True
    requires = (requirements.static_symmetric,)

    @property
    def slots(self) -> int:
        """Exchanges of a round in which nothing is lost and a row is one chunk."""
        return 4 * diameter(self.context.topology.graph)

    @property
    def least(self) -> int:
        """The fewest peers whose sum is made."""
        return self.context.config.privacy.least

    @cached_property
    def numbers(self) -> FixedPoint:
        """The fixed point of rows."""
        heaviest = self.most_clips if self.weighs_clips else 1
        bits = 64 if self.budget is not None and self.budget.largest >= 2.0**31 else self.bits
        return FixedPoint(bits, self.bound, self.context.topology.size, heaviest)

    @cached_property
    def budget(self) -> Budget | None:
        """What the run may reveal of a unit; None: there is no noise."""
        return Budget.of(self.context.config, self.context.topology.size)

    def validate(self, config: Config, topology: Topology) -> Iterable[str]:
        """Refuse changing and directed graphs, too few peers, and numbers that do not fit the integers."""
        super().validate(config, topology)
        if topology.size < self.least:
            raise ConfigError(f"{self.name} sums over at least {self.least} peers (privacy.least), and the topology "
                              f"{topology.name!r} has {topology.size}: take more peers, or gossip.algorithm=dfedavg")
        if self.bits not in (32, 64) or not self.bound > 0 or self.most_clips < 1:
            raise ConfigError(f"{self.name} needs bits of 32 or 64, a bound above 0 and most_clips of 1 or more, not "
                              f"{self.bits}, {self.bound:g} and {self.most_clips}: set gossip.parameters")
        if not self.numbers.fits:
            raise ConfigError(f"{self.bits} bits leave too few for numbers up to {self.bound:g} of {topology.size} "
                              f"peers: set gossip.parameters.bits=64")
        W = topology.entries()
        if len(W.to) + (W.own != 0).sum() != topology.size + 2 * topology.graph.number_of_edges():
            raise ConfigError(f"{self.name} sends over every link, and the weights of {topology.name!r} are 0 on some: "
                              "remove these links, or set weights: metropolis")
        return ()

    def begin(self, state: State, mixer: Mixer) -> None:
        """Add ``own`` (B, D), from which a peer trains, and ``last`` (B, 2): the round of the total that is x (-1:
        none), and how many peers it was over.
        """
        state.rows.setdefault("own", state.rows["x"].clone())
        state.rows.setdefault("last", torch.tensor([[-1, 0]] * len(mixer.peers), dtype=torch.int64))

    def round(self, state: State, local: Local, mixer: Mixer, round: int) -> State:
        """Train, and sum from Step(round, 0) on."""
        if self.budget is not None:
            return self._budgeted(self.budget, state, local, mixer, round)
        trained = local.train(state, round, rows=state.rows["own"])
        inputs = {i: self._input(mixer, i, round, trained[b], local.clips[b]) for b, i in enumerate(mixer.peers)}
        totals = secure_sum(mixer, round, inputs, self.context.topology.graph, least=self.least,
                            plausible=lambda total: self._mean(total) is not None)
        x, last, own = state.rows["x"].clone(), state.rows["last"].clone(), trained.clone()
        for b, i in enumerate(mixer.peers):
            total = totals[i]
            if total is not None and (mean := self._mean(total)) is not None:
                x[b] = own[b] = torch.from_numpy(mean).to(x.dtype)
                last[b] = torch.tensor([round, int(total[0])])
        state.rows |= {"x": x, "last": last, "own": own}
        return state

    def _budgeted(self, budget: Budget, state: State, local: Local, mixer: Mixer, round: int) -> State:
        x, last = state.rows["x"].clone(), state.rows["last"].clone()
        updates = {i: _updates(local, b, x[b], round) for b, i in enumerate(mixer.peers)}
        means = private_mean(mixer, round, updates, x.shape[1], budget, self.numbers, self.context.topology.graph,
                             least=self.least)
        for b, i in enumerate(mixer.peers):
            if (mean := means[i]) is not None:
                x[b] += torch.from_numpy(mean[0]).to(x.dtype)
                last[b] = torch.tensor([round, mean[1]])
        state.rows |= {"x": x, "last": last, "own": x}
        return state

    def ended(self, mixer: Mixer, round: int) -> bool:
        """Whether a hosted peer has spent its budget: a sum over all peers in ``round`` would exceed it."""
        if self.budget is None:
            return False
        secrets, size = secrets_of(mixer), self.context.topology.size
        for i in mixer.peers:
            if not self.budget.allows(rosters(secrets, i, round, size)):
                secrets.tell(i, round, f"the budget (privacy.epsilon={self.budget.epsilon:g}) is spent, so that "
                                       "training ends here")
                return True
        return False

    def budget_report(self, mixer: Mixer) -> Mapping[str, Any] | None:
        """Return what the sums have revealed, of the hosted peer that gave most."""
        if self.budget is None:
            return None
        secrets, budget = secrets_of(mixer), self.budget
        return budget.report(max((rosters(secrets, i) for i in mixer.peers),
                                 key=lambda given: budget.spent(given, budget.colluding)))

    def _input(self, mixer: Mixer, peer: int, round: int, row: Tensor, clips: int) -> Integers:
        """Return [1, weight, row times weight] in fixed point."""
        numbers, values = self.numbers, row.to(torch.float64).numpy()
        if not np.isfinite(values).all():
            raise P2PSERError(f"the parameters of peer {peer} are no longer finite in round {round}; lower training.lr "
                              "or look for features of extreme size")
        weight = min(clips, self.most_clips) if self.weighs_clips else 1
        whole, clipped = numbers.encode(values, weight)
        if clipped:
            secrets_of(mixer).tell(peer, round, f"{clipped} parameters beyond {self.bound:g} were clipped in the sum: "
                                            "raise gossip.parameters.bound")
        return np.concatenate([np.array([1, weight], dtype=numbers.dtype), whole])

    def _mean(self, total: Integers) -> NDArray[np.float64] | None:
        """Return the mean row (D,); None where the total cannot be one."""
        count, weight = int(total[0]), int(total[1])
        if not 0 < weight <= count * self.numbers.heaviest:
            return None
        mean = self.numbers.decode(total[2:], weight)
        return mean if np.abs(mean).max(initial=0.0) <= self.bound else None

    def finish(self, state: State, mixer: Mixer, round: int, graph: nx.Graph, dead: tuple[int, ...] = ()) -> Consensus:
        """Give all reachable peers the newest total; where none was ever made, each keeps its own row."""
        peers, last = mixer.peers, state.rows["last"].tolist()
        rows, ages, exchanges = newest(mixer, round, {i: Age(*last[b]) for b, i in enumerate(peers)},
                                       {i: state.rows["x"][b] for b, i in enumerate(peers)}, graph, dead,
                                       rounds=self.context.config.training.rounds, largest=plausible(self.bound))
        made = all(age.round >= 0 for age in ages.values())
        if rows.keys() < set(peers) or not made:
            return Consensus(state.rows["x" if made else "own"].to(torch.float64), math.nan, exchanges, dead, False)
        state.rows["x"] = torch.stack([rows[i] for i in peers])
        return Consensus(state.rows["x"].to(torch.float64), 0.0, exchanges, dead, True)


def _updates(local: Local, b: int, row: Tensor, round: int) -> Iterator[NDArray[np.float64]]:
    """Yield what each unit of the ``b``-th hosted peer adds to ``row`` (D,)."""
    for unit in range(local.units[b]):
        yield local.update(b, row, round, unit).to(torch.float64).numpy()
