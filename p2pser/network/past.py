"""Finished exchanges, which a peer remembers until both ends of each edge have applied the flow. Pure.

An edge's settle window is the last SETTLE_WINDOW row exchanges that we posted while the neighbour took part: so flows
that a broken connection left open are settled when the neighbour comes back, however long it was away. Our half of a
flow that leaves the window is forgotten; ``unmixed`` still lists it, so that the neighbour knows. The neighbour's half
is unconfirmed until its later message does not list the exchange: then both ends have applied the flow.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from p2pser.base.errors import LocalProtocolError
from p2pser.gossip.mixer import Step
from p2pser.wire.messages import SETTLE_WINDOW

PAST_BYTES = 128 << 20
"""Own rows of past exchanges that are kept for late rows, the last one apart [B]."""


@dataclass
class Past:
    """A row exchange that we have posted."""

    own: Tensor | None
    """Our row in it; None once no late row needs it, or where it would take too much memory."""
    weights: Mapping[int, float]
    receivers: frozenset[int]
    counts: Mapping[int, int]
    """The number of row exchanges posted with each of its neighbours, up to and including this one."""
    unmixed: set[int] = field(default_factory=set)
    """Sources whose flow we have not applied, and may still apply."""
    flows: dict[int, float] = field(default_factory=dict)
    """Norm of each flow that we have applied, by source."""
    resent: set[int] = field(default_factory=set)
    open_there: set[int] = field(default_factory=set)
    """Receivers that have not applied the flow of our row."""
    mixed_there: set[int] = field(default_factory=set)
    """Receivers that have applied it."""

    def unconfirmed(self) -> set[int]:
        """Return the receivers that have not confirmed that they have applied the flow of our row."""
        return set(self.receivers - self.mixed_there)

    def note(self, step: Step, sender: int, at: Step, unmixed: Collection[Step]) -> None:
        """Note whether a neighbour's message of the step ``at`` lists this exchange, that of ``step``, as unmixed."""
        if sender not in self.receivers or sender in self.mixed_there:
            return
        if step in unmixed or _too_early(step, unmixed):
            self.open_there.add(sender)
        elif step < at:
            self.open_there.discard(sender)
            self.mixed_there.add(sender)

    def release(self, beyond: Collection[int] = ()) -> bool:
        """Drop our row if no late row needs it any more; return whether it was dropped.

        beyond : neighbours whose settle window the exchange has left.
        """
        needed = bool(self.unmixed) or not self.unconfirmed().issubset(beyond)
        self.own = self.own if needed else None
        return not needed

    def one_sided(self, neighbours: Iterable[int]) -> float:
        """Return the sum of the norms of the flows from these neighbours that we have applied."""
        return sum(self.flows.get(j, 0.0) for j in neighbours)


class PastExchanges(OrderedDict[Step, Past]):
    """The row exchanges with at least one edge that is not settled, the oldest first."""

    def __init__(self) -> None:
        super().__init__()
        self._lost = 0.0
        self._counts: Counter[int] = Counter()
        """The number of row exchanges posted with each neighbour."""
        self._forgotten: dict[int, deque[Step]] = {}
        """The last exchanges of each edge that we have not mixed, and never will."""
        self._carried = False
        """Whether these date from before a change of the topology, and no exchange was posted since."""
        self._posted: tuple[Step, Past] | None = None
        """The exchange that has not ended."""
        self._newest: dict[int, tuple[Step, frozenset[Step]]] = {}
        """The step of each neighbour's newest message, and the steps that the message lists as not mixed."""

    @property
    def drift(self) -> float:
        """The sum of the norms of the flows that our end has applied and the other end has not; at the end of training
        also of the flows that the other end has not confirmed."""
        return self._lost + sum(
            past.one_sided(j for j in past.open_there if self.since(step, j) >= SETTLE_WINDOW)
            for step, past in self.items())

    def post(self, step: Step, weights: Mapping[int, float], receivers: frozenset[int],
             neighbours: Iterable[int]) -> Past:
        """Note that we post a row while these neighbours take part; return its entry, which lacks the row itself."""
        if self._carried and step.round >= 0:
            self._carried = False
            self._undo(step)
        self._counts.update(neighbours)
        past = Past(None, weights, receivers, {j: self._counts[j] for j in receivers.union(weights)})
        self._posted = step, past
        return past

    def end(self, unmixed: set[int], flows: dict[int, float]) -> None:
        """End the exchange posted last, and forget those that can no longer be settled."""
        if self._posted is None:
            raise LocalProtocolError("an exchange ends that was not posted")
        step, past = self._posted
        past.unmixed, past.flows = unmixed, flows
        self[step], self._posted = past, None
        self._forget()
        self._bound_memory()

    def beyond(self, step: Step) -> list[int]:
        """Return the neighbours that are too far beyond this exchange to settle it."""
        return [j for j, (_, unmixed) in self._newest.items() if _too_early(step, unmixed)]

    def note_unmixed(self, sender: int, at: Step, unmixed: Iterable[Step]) -> None:
        """Note the steps that a neighbour's message of the step ``at`` lists as not mixed."""
        named = frozenset(unmixed)
        if sender not in self._newest or at > self._newest[sender][0]:
            self._newest[sender] = at, named
        for step, past in self.items():
            past.note(step, sender, at, named)
            past.release()
        if self._posted is not None:  # the neighbour may end that exchange before we do
            step, past = self._posted
            past.note(step, sender, at, named)

    def since(self, step: Step, neighbour: int) -> int:
        """Return the number of row exchanges posted with a neighbour after that of ``step``."""
        return self._counts[neighbour] - self[step].counts[neighbour]

    def own_for(self, sender: int, step: Step) -> Tensor | None:
        """Return our row, needed to settle a neighbour's late row; None where that is settled, or too late."""
        past = self.get(step)
        settles = past is not None and sender in past.unmixed and self.since(step, sender) < SETTLE_WINDOW
        return past.own if past is not None and settles else None

    def settled(self, sender: int, step: Step, gap: float | None) -> float:
        """Note that a late row has arrived. Return its weight.

        gap : the norm of the difference between the two rows; None where the row is invalid, and is not mixed.
        """
        past = self[step]
        past.unmixed.discard(sender)
        if gap is not None:
            past.flows[sender] = past.weights[sender] * gap
        past.release()
        return past.weights[sender]

    def unmixed(self, neighbour: int) -> tuple[Step, ...]:
        """Return the last SETTLE_WINDOW steps whose flow from a neighbour we have not applied."""
        unmixed = [*self._forgotten.get(neighbour, ()), *(at for at, past in self.items() if neighbour in past.unmixed)]
        return tuple(unmixed[-SETTLE_WINDOW:])

    def resend(self) -> list[tuple[int, Step, Tensor]]:
        """Return (receiver, step, our row) for the rows to send again (``Exchange.resend``)."""
        due = []
        for step, past in self.items():
            for j in sorted(past.open_there - past.resent):
                if j in past.weights and j not in past.flows:
                    continue  # neither end has mixed the other's row
                past.resent.add(j)
                if past.own is not None:
                    due.append((j, step, past.own))
        return due

    def restarted(self, neighbour: int) -> None:
        """Note that a neighbour was restarted without its memory (``Exchange.restarted``)."""
        for past in [*self.values(), *([] if self._posted is None else [self._posted[1]])]:
            self._lost += past.one_sided(past.open_there & {neighbour})
            past.receivers -= {neighbour}
            past.unmixed.discard(neighbour)
            past.open_there.discard(neighbour)
        self._forgotten.pop(neighbour, None)
        self._newest.pop(neighbour, None)

    def carry(self, dropped: Iterable[tuple[int, Step]]) -> None:
        """Go on after a change of the topology: open flows stay open, and both ends still learn of them.

        dropped : late rows, by neighbour and step, that have arrived and are not mixed.
        """
        for j, step in dropped:
            self[step].flows.pop(j, None)
            self._never(step, (j,))
        for step, past in self.items():
            self._never(step, past.unmixed)
            past.unmixed.clear()
            past.own = None
        self._posted, self._carried = None, True
        self._newest.clear()

    def close(self) -> None:
        """Settle no more late rows. ``unmixed`` still lists the open flows, since neighbours may close later.

        Flows that a neighbour has not confirmed count as lost: it may have closed before our row arrived.
        """
        for step, past in self.items():
            self._lost += past.one_sided(past.unconfirmed())
            self._never(step, past.unmixed)
        self.clear()

    # Inside -------------------------------------------------------------------------------------------------

    def _undo(self, step: Step) -> None:
        """Forget the exchanges from ``step`` on: the peers have resumed at a checkpoint, and repeat them."""
        for later in [other for other in self if other >= step]:
            del self[later]
        for forgotten in self._forgotten.values():
            while forgotten and forgotten[-1] >= step:
                forgotten.pop()

    def _forget(self) -> None:
        """Forget the exchanges that have left the settle window, except flows that the other end has not confirmed."""
        for step, past in list(self.items()):
            beyond = {j for j in past.counts if self.since(step, j) >= SETTLE_WINDOW}
            self._never(step, past.unmixed & beyond)
            past.unmixed -= beyond
            if past.release(beyond) and not past.unconfirmed() & past.flows.keys():
                del self[step]
        while len(self) > SETTLE_WINDOW * (1 + len(self._counts)):
            step, past = self.popitem(last=False)
            self._never(step, past.unmixed)
            self._lost += past.one_sided(past.unconfirmed())

    def _never(self, step: Step, neighbours: Iterable[int]) -> None:
        """Note that the flows of an exchange from these neighbours will never be applied."""
        for j in neighbours:
            self._forgotten.setdefault(j, deque(maxlen=SETTLE_WINDOW)).append(step)

    def _bound_memory(self) -> None:
        """Drop our oldest rows beyond PAST_BYTES, but never the last one; late rows of those exchanges stay open."""
        taken = 0
        for past in list(reversed(self.values()))[1:]:
            taken += 0 if past.own is None else past.own.nbytes
            if taken > PAST_BYTES:
                past.own = None


def _too_early(step: Step, unmixed: Collection[Step]) -> bool:
    """Whether a step is earlier than a full list of unmixed steps reaches: its sender is assumed not to settle it."""
    return len(unmixed) >= SETTLE_WINDOW and step < min(unmixed)
