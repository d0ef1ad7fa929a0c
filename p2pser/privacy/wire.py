"""What peers received in a recorded run, and what observers know of another peer's parameters from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from p2pser.gossip.agreement.masks import FixedPoint
from p2pser.gossip.mixer import Step
from p2pser.gossip.pairs import read_part
from p2pser.gossip.reading import Edge
from p2pser.graph.spec import Topology
from p2pser.privacy.masked import opened
from p2pser.run.setup import STATISTICS
from p2pser.wire.codec import Received


@dataclass(frozen=True)
class View:
    """What observers know of a peer's local work in one round.

    start : (D,) float32, the parameters with which the peer began it. update : (D,), what its local steps added. own :
    whether they are that peer's own; False: they are of several peers together, this one among them. seen : (D,) bool,
    the entries at which the observers know it; elsewhere ``update`` is 0.
    """

    start: Tensor
    update: Tensor
    own: bool
    seen: Tensor


@dataclass
class Wire:
    """A ``simulation.witness.Witness`` that keeps what the attacks look at.

    initial : (D,) float32, the parameters with which all peers begin; public. rounds : the training rounds of which
    rows are kept. counts : clips by peer, where they weigh in W. shares : (N,), the share of each peer in a sum over
    all, where rounds end with one; None: each mixes with W. numbers : how such sums are written. rejoins : whether
    observers have lost their state, so that the attacked peer has sent them the parameters with which it begins. sent :
    (D,) bool, the entries of a row that are sent; the others are taken to be the initial ones. slots : the exchanges of
    a round. fragment : the entries of a row that cross an edge in an exchange (``Algorithm.fragment``).
    """

    topology: Topology
    initial: Tensor
    rounds: frozenset[int]
    counts: Mapping[int, int] | None = None
    shares: NDArray[np.float64] | None = None
    numbers: FixedPoint | None = None
    rejoins: bool = False
    sent: Tensor | None = None
    slots: int = 1
    fragment: Callable[[Edge, int], slice | None] = lambda edge, t: None
    rows: dict[int, dict[Edge, Tensor]] = field(default_factory=dict)
    """By round and edge (dst, src)."""
    fragments: dict[int, dict[Edge, tuple[slice, Tensor]]] = field(default_factory=dict)
    """The entries of a row, and their numbers, that were received in a round in place of a whole row, by edge."""
    octets: dict[int, dict[Edge, list[bytes]]] = field(default_factory=dict)
    """The messages of a round that are no rows, by round and edge."""
    sums: dict[Edge, bytes] = field(default_factory=dict)
    """The first message of the statistics, by edge."""
    starts: dict[int, Tensor] = field(default_factory=dict)
    """The rows (N, D) with which the peers begin a round, of which each knows its own; NaN for a lost peer."""
    ends: dict[int, Tensor] = field(default_factory=dict)
    """The rows (N, D) after the round's local work, of which each knows its own."""
    unread: bool = False
    """Whether messages of a round came that are neither rows nor sums under masks."""
    exchanges: dict[int, int] = field(default_factory=dict)
    """The number of exchanges in each round, set-up and end included."""

    def received(self, at: Step, edge: Edge, message: Received | None) -> None:
        """Keep a message that came over ``edge`` (dst, src); None: it came, and its content was not kept."""
        self.exchanges[at.round] = max(self.exchanges.get(at.round, 0), at.slot + 1)
        if message is None:
            return
        body = message.body
        if self.numbers is not None and not isinstance(body, Tensor) and at.round in self.rounds:
            self.octets.setdefault(at.round, {}).setdefault(edge, []).append(bytes(body))
        if at.slot:
            return
        if at.round == STATISTICS and not isinstance(body, Tensor):
            self.sums[edge] = bytes(body)
        if at.round in self.rounds and (part := self.fragment(edge, at.round * self.slots)) is not None:
            _, sent = read_part(message, at.round * self.slots, self.initial[part])
            self.fragments.setdefault(at.round, {})[edge] = part, sent
            return
        size = len(self.initial) if self.sent is None else int(self.sent.sum())
        if isinstance(body, Tensor) and len(body) >= size and self._kept(at.round):
            # What algorithms send beside the parameters comes behind them: one number is the weight of a sum.
            row = body[:size]
            weight = float(body[-1]) if len(body) == size + 1 else 1.0
            self.rows.setdefault(at.round, {})[edge] = self._whole((row / weight if weight > 0 else row).to(
                torch.float32))
        self.unread |= at.round >= 0 and not isinstance(body, Tensor) and self.numbers is None and self._kept(at.round)

    def _whole(self, row: Tensor) -> Tensor:
        if self.sent is None:
            return row
        whole = self.initial.clone()
        whole[self.sent] = row
        return whole

    def held(self, round: int, rows: Tensor) -> None:
        """Keep the parameters (N, D) with which the peers begin ``round``."""
        if self._kept(round):
            self.starts[round] = rows.clone()

    def trained(self, round: int, rows: Tensor) -> None:
        """Keep what the local work of ``round`` has made, (N, D)."""
        if self._kept(round):
            self.ends[round] = rows.clone()

    def _kept(self, round: int) -> bool:
        # The rows of the round before show where a peer's local work begins, those of the round after what came of it.
        return bool({round - 1, round, round + 1} & self.rounds)

    # What observers know ------------------------------------------------------------------------------------

    def observers(self, peer: int, colluding: int) -> tuple[int, ...]:
        """Return so many neighbours of a peer, ascending from it on: the observers of that peer."""
        ring = sorted(self.topology.neighbours(peer), key=lambda other: (other - peer) % self.topology.size)
        return tuple(sorted(ring[:colluding]))

    @property
    def _sent(self) -> Tensor:
        return torch.ones(len(self.initial), dtype=torch.bool) if self.sent is None else self.sent

    @property
    def unreadable(self) -> bool:
        """Whether the rounds' messages are of a form that no attack here reads."""
        return self.unread and not self.rows and not self.fragments

    def sums_of(self, peer: int, observers: Sequence[int], size: int) -> NDArray[np.float64] | None:
        """Return the row of sums, (size,) float64, that a peer sent first; None where no observer got one."""
        for observer in observers:
            message = self.sums.get((observer, peer), b"")
            if len(message) >= 8 * size:
                return np.frombuffer(message, dtype="<f8", count=size)
        return None

    def view(self, peer: int, observers: Sequence[int], round: int) -> View | None:
        """Return what observers know of a peer's local work in a round; None where nothing was kept of it."""
        row = self._row(peer, observers, round)
        if row is not None:
            start = self._start(peer, observers, round)
            return _known(View(start, row - start, own=True, seen=self._sent))
        if round in self.fragments:
            return self._parts(peer, observers, round)
        return self._together(observers, round)

    def masked(self, peer: int, observers: Sequence[int], round: int) -> View | None:
        """Return what a peer's part of a sum under masks says, read as if it had none; None where it sent none."""
        if self.numbers is None or round not in self.starts:
            return None
        for observer in observers:
            messages = self.octets.get(round, {}).get((observer, peer), [])
            row = opened(messages, self.numbers, len(self.initial))
            if row is not None:
                start = self.starts[round][observer]
                return _known(View(start, row - start, own=True, seen=self._sent))
        return None

    def _parts(self, peer: int, observers: Sequence[int], round: int) -> View | None:
        """Return what the parts of a peer's row say; where it began is taken to be where the observers began."""
        start = self.initial
        if round:
            start = self.starts[round][peer] if self.rejoins else self.starts[round][list(observers)].mean(0)
        update, seen = torch.zeros_like(start), torch.zeros(len(start), dtype=torch.bool)
        for observer in observers:
            if (observer, peer) in self.fragments[round]:
                part, sent = self.fragments[round][observer, peer]
                update[part], seen[part] = sent - start[part], True
        return _known(View(start, update, own=True, seen=seen)) if seen.any() else None

    def _together(self, observers: Sequence[int], round: int) -> View | None:
        """Return the mean update of the other peers that an observer's mixed row contains, without the observers' own
        parts.
        """
        first = observers[0]
        if not {round, round + 1} <= self.starts.keys() or round not in self.ends:
            return None
        start, mixed, ends = self.starts[round][first], self.starts[round + 1][first], self.ends[round]
        weights = self.topology.matrix(round, self.counts)[first] if self.shares is None else self.shares
        shares = torch.tensor([weights[observer] for observer in observers], dtype=torch.float32)
        others = (mixed - shares @ ends[list(observers)]) / (1 - shares.sum())
        return _known(View(start, others - start, own=False, seen=self._sent))

    def direct(self, observers: Sequence[int], round: int) -> int:
        """Return the number of other peers whose own row, or a part of it, the observers receive in a round."""
        received = self.rows.get(round, {}).keys() | self.fragments.get(round, {}).keys()
        return len({src for dst, src in received if dst in observers} - set(observers))

    def _row(self, peer: int, observers: Sequence[int], round: int) -> Tensor | None:
        """Return the row that a peer ended a round's local work with, as one of the observers received or has it."""
        rows = self.rows.get(round, {})
        if peer in observers:
            return self.ends[round][peer] if round in self.ends else None
        return next((rows[observer, peer] for observer in observers if (observer, peer) in rows), None)

    def _start(self, peer: int, observers: Sequence[int], round: int) -> Tensor:
        """Return where a peer's local work began: what it mixed in the round before, of which the observers know some
        rows; the others are guessed to be their mean. A peer that rejoins is sent it.
        """
        if round == 0:
            return self.initial
        if self.rejoins:
            return self.starts[round][peer]
        weights = self.topology.matrix(round - 1, self.counts)[peer]
        known = {src: row for src in np.flatnonzero(weights).tolist()
                 if (row := self._row(src, observers, round - 1)) is not None}
        shares = torch.tensor([weights[src] for src in known], dtype=torch.float32)
        stack = torch.stack(list(known.values()))
        return shares @ stack + (1 - shares.sum()) * stack.mean(0)


def _known(view: View) -> View | None:
    """Return the view; None where it depends on a row of a lost peer."""
    return view if bool(torch.isfinite(view.update).all()) else None
