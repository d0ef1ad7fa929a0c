"""What the robust algorithms have in common: neighbours that send anything at all, and rules that bear some of them."""

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
from p2pser.topology.spec import Topology


class Heard(NamedTuple):
    """A neighbour's row (D,), every number of it finite. weight: W_ij."""

    peer: int
    weight: float
    row: Tensor


def ordered(rows: Sequence[Tensor]) -> list[Tensor]:
    """Return the rows, each (D,), with every coordinate ascending from the first to the last.

    By an odd-even transposition network: a minimum and a maximum of whole rows at a time. torch.sort over so few rows
    of so many coordinates takes ten times as long.
    """
    rows = list(rows)
    for turn in range(len(rows)):
        for k in range(turn % 2, len(rows) - 1, 2):
            rows[k], rows[k + 1] = torch.minimum(rows[k], rows[k + 1]), torch.maximum(rows[k], rows[k + 1])
    return rows


@dataclass(frozen=True, kw_only=True)
class Robust(Algorithm):
    """Local steps, then a rule that combines a peer's own row with what its neighbours sent::

        z_i  = local_K(x_i, r)
        x_i <- combine(z_i; z_j of the neighbours j)

    Hostile are neighbours that may send anything, and different rows to different peers. A row that holds a number
    that is not finite is hostile for certain: it is left out and counts as one of them.

    Nothing is conserved: what the rule does not believe is lost, so the honest rows agree near their mean, not at it,
    also where nobody is hostile. Late rows are not settled and a missing neighbour is one that sent nothing. Nothing
    is remembered, so that an edge which comes back after a gap needs nothing.

    Only training is robust. The floods before and after it (who holds which checkpoint, clip counts, the statistics of
    ``features.normalise=global``, which edges are cut) believe everybody, and so would a final consensus: a single
    hostile peer moves it anywhere. So there is none: each peer ends with its own row.
    """

    hostile: int = 1
    """b, the most hostile neighbours of any honest peer"""

    consensus: ClassVar[bool] = False
    rows_needed: ClassVar[int] = 1
    """A peer needs 2 b and so many rows, its own counted."""

    def validate(self, config: Config, topology: Topology) -> Iterable[str]:
        """Raises ConfigError for b < 0, schedules and directed graphs, weighting by clips, and too few neighbours."""
        if self.hostile < 0:
            raise ConfigError(f"gossip.parameters.hostile = {self.hostile} must be 0 or more")
        if topology.schedule is not None:
            raise ConfigError(f"{self.name} counts hostile neighbours of an undirected graph, and the topology "
                              f"{topology.name!r} is directed or changes: take a static undirected graph")
        if config.gossip.weighting != "uniform":
            raise ConfigError(f"{self.name} cannot believe what neighbours say of their clips: set "
                              "gossip.weighting=uniform")
        peer = min(range(topology.size), key=lambda i: len(topology.neighbours(i)))
        rows, needed = len(topology.neighbours(peer)) + 1, 2 * self.hostile + self.rows_needed
        if rows < needed:
            offset = f" + {self.rows_needed}"
            raise ConfigError(f"{self.name} bears b = {self.hostile} hostile neighbours where a peer has 2 b{offset} = "
                              f"{needed} rows, its own counted, and peer {peer} has {rows}: take a graph of a degree "
                              f"of {needed - 1} or more, or lower gossip.parameters.hostile")
        return ()

    def round(self, state: State, local: Local, mixer: Mixer, round: int) -> State:
        """Take the local steps of ``round`` and combine at Step(round, 0); ``state.rows["x"]`` is replaced."""
        rows, at = local.train(state, round), Step(round, 0)
        mixer.post(at, Outbox(rows=rows))
        state.rows["x"] = self.combined(rows, mixer.collect(at), mixer.peers)
        return state

    def combined(self, rows: Tensor, inbox: Inbox, peers: Sequence[int]) -> Tensor:
        """Return the hosted rows (B, D), each combined with what came for it."""
        heard: dict[int, list[Heard]] = {peer: [] for peer in peers}
        refused = dict.fromkeys(peers, 0)
        for src, dst, weight, value in zip(inbox.src.tolist(), inbox.dst.tolist(), inbox.weight.tolist(),
                                           inbox.values):
            assert isinstance(value, Tensor)
            if torch.isfinite(value).all():
                heard[dst].append(Heard(src, weight, value.to(rows.dtype)))
            else:
                refused[dst] += 1
        return torch.stack([self.combine(peer, row, heard[peer], max(0, self.hostile - refused[peer]))
                            for peer, row in zip(peers, rows)])

    def combine(self, peer: int, own: Tensor, heard: Sequence[Heard], hostile: int) -> Tensor:
        """Return the new row (D,) of ``peer`` from its own and its neighbours', ascending.

        hostile: how many of those heard may be hostile.
        """
        raise TypeError(f"{type(self).__name__} has no rule")

    def settle(self, state: State, late: tuple[Late, ...], peers: Sequence[int]) -> None:
        """Late rows are not believed."""
