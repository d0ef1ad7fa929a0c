"""The base of the robust algorithms: rules that combine rows although some neighbours are hostile."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from p2pser.base.errors import ConfigError
from p2pser.config import Config
from p2pser.gossip.algorithm import Algorithm, Local, State
from p2pser.gossip.mixer import Inbox, Late, Mixer, Outbox, Step
from p2pser.graph.spec import Topology


class NeighbourRow(NamedTuple):
    """A neighbour's row (D,) of finite numbers. weight: W_ij."""

    peer: int
    weight: float
    row: Tensor


def ordered(rows: Sequence[Tensor]) -> list[Tensor]:
    """Return the rows, each (D,), with every coordinate ascending from the first to the last.

    An odd-even transposition network, of minima and maxima of whole rows: for few rows of many coordinates torch.sort
    takes ten times as long.
    """
    rows = list(rows)
    for turn in range(len(rows)):
        for k in range(turn % 2, len(rows) - 1, 2):
            rows[k], rows[k + 1] = torch.minimum(rows[k], rows[k + 1]), torch.maximum(rows[k], rows[k + 1])
    return rows


@dataclass(frozen=True, kw_only=True)
class Robust(Algorithm):
    """Local steps, then a rule that combines a peer's own row with the rows of its neighbours::

        z_i  = local_K(x_i, r)
        x_i <- combine(z_i; z_j of the neighbours j)

    A hostile neighbour may send anything, and different rows to different peers. A message that the mixer refuses (no
    row of this model, or numbers that are not finite or not plausible) is certainly hostile: it counts as one of the b.

    No mean is conserved: rows that the rule rejects are lost, so the honest rows agree near their mean, not at it, even
    if no peer is hostile. Late rows are ignored, and a missing message is treated as if the neighbour did not exist.
    The algorithm has no memory, so an edge needs no repair after a gap.

    Only training is robust. The floods before and after it (the roll call with checkpoints and clip counts, the
    statistics of ``features.normalise=global``, the cut edges) trust all peers. So would a final consensus, which a
    single hostile peer could move anywhere; there is none, and each peer ends with its own row.
    """

    hostile: int = 1
    """b, the largest number of hostile neighbours of an honest peer"""

    consensus: ClassVar[bool] = False
    rows_needed: ClassVar[int] = 1
    """A peer needs 2 b plus this many rows, its own included."""

    def validate(self, config: Config, topology: Topology) -> Iterable[str]:
        """Raises ConfigError for b < 0, schedules and directed graphs, weighting by clips, and too few neighbours."""
        if self.hostile < 0:
            raise ConfigError(f"gossip.parameters.hostile = {self.hostile} must be 0 or more")
        if topology.schedule is not None:
            raise ConfigError(f"{self.name} counts the hostile neighbours in an undirected graph, and the topology "
                              f"{topology.name!r} is directed or changes: take a static undirected graph")
        if config.gossip.weighting != "uniform":
            raise ConfigError(f"{self.name} cannot trust the clip counts of neighbours: set "
                              "gossip.weighting=uniform")
        peer = min(topology.members, key=lambda i: len(topology.neighbours(i)))
        rows, needed = len(topology.neighbours(peer)) + 1, 2 * self.hostile + self.rows_needed
        if rows < needed:
            offset = f" + {self.rows_needed}"
            raise ConfigError(f"{self.name} tolerates b = {self.hostile} hostile neighbours where a peer has 2 "
                              f"b{offset} = {needed} rows, its own included, and peer {peer} has {rows}: take a graph "
                              f"of degree {needed - 1} or more, or lower gossip.parameters.hostile")
        return ()

    def round(self, state: State, local: Local, mixer: Mixer, round: int) -> State:
        """Take the local steps of ``round`` and combine at Step(round, 0); ``state.rows["x"]`` is replaced."""
        rows, at = local.train(state, round), Step(round, 0)
        mixer.post(at, Outbox(rows=rows))
        state.rows["x"] = self.combined(rows, mixer.collect(at), mixer.peers)
        return state

    def combined(self, rows: Tensor, inbox: Inbox[Tensor], peers: Sequence[int]) -> Tensor:
        """Return the hosted rows (B, D), each combined with the rows of its neighbours."""
        neighbours: dict[int, list[NeighbourRow]] = {peer: [] for peer in peers}
        refused = dict.fromkeys(peers, 0)
        for src, dst, weight, row in zip(inbox.src.tolist(), inbox.dst.tolist(), inbox.weight.tolist(), inbox.values):
            neighbours[dst].append(NeighbourRow(src, weight, row.to(rows.dtype)))
        for dst, _ in inbox.refused:
            refused[dst] += 1
        return torch.stack([self.combine(peer, row, neighbours[peer], max(0, self.hostile - refused[peer]))
                            for peer, row in zip(peers, rows)])

    def combine(self, peer: int, own: Tensor, neighbours: Sequence[NeighbourRow], hostile: int) -> Tensor:
        """Return the new row (D,) of ``peer`` from its own row and its neighbours' rows, ascending by peer.

        hostile: the number of neighbours' rows that may be hostile.
        """
        raise TypeError(f"{type(self).__name__} has no rule")

    def settle(self, state: State, late: tuple[Late, ...], peers: Sequence[int]) -> None:
        """Ignore late rows."""
