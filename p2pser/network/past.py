"""What a peer remembers of finished exchanges, until both ends of their edges have applied their flows. Pure.

An edge's settle window is the last SETTLE_WINDOW row exchanges that we posted while the neighbour took part: what a cut
leaves open is settled when the neighbour comes back, however long it was. Our half of a flow that leaves the window is
forgotten; ``unmixed`` goes on to name it, so that the neighbour knows. The neighbour's half is unconfirmed until a
later message of it does not name the exchange: then both ends have applied the flow.
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
    """How many row exchanges we had posted with each of its neighbours, this one included."""
    unmixed: set[int] = field(default_factory=set)
    """Sources whose flow we have not applied, and may still apply."""
    flows: dict[int, float] = field(default_factory=dict)
    """Norm of each flow that we have applied, by source."""
    resent: set[int] = field(default_factory=set)
    open_there: set[int] = field(default_factory=set)
    """Receivers that have not applied the flow of our row."""
    mixed_there: set[int] = field(default_factory=set)
    """Receivers that have."""

    def unconfirmed(self) -> set[int]:
        """Return the receivers of which we do not know that they have applied the flow of our row."""
        return set(self.receivers - self.mixed_there)

    def note(self, step: Step, sender: int, at: Step, unmixed: Collection[Step]) -> None:
        """Note what a neighbour's message of the step ``at`` says of this exchange, that of ``step``."""
        if sender not in self.receivers or sender in self.mixed_there:
            return
        if step in unmixed or _too_early(step, unmixed):
            self.open_there.add(sender)
        elif step < at:
            self.open_there.discard(sender)
            self.mixed_there.add(sender)

    def release(self, beyond: Collection[int] = ()) -> bool:
        """Drop our row where no late row needs it any more; return whether it is so.

        beyond : neighbours whose settle window the exchange has left.
        """
        needed = bool(self.unmixed) or not self.unconfirmed().issubset(beyond)
        self.own = self.own if needed else None
        return not needed

    def one_sided(self, neighbours: Iterable[int]) -> float:
        """Return the sum of the norms of the flows that we have applied, and these neighbours have not."""
        return sum(self.flows.get(j, 0.0) for j in neighbours)


class PastExchanges(OrderedDict[Step, Past]):
    """The row exchanges of which an edge is not settled, the oldest first."""

    def __init__(self) -> None:
        super().__init__()
        self._lost = 0.0
        self._counts: Counter[int] = Counter()
        """How many row exchanges we have posted with each neighbour."""
        self._forgotten: dict[int, deque[Step]] = {}
        """The last exchanges of each edge that we have not mixed, and never will."""
        self._carried = False
        """Whether these are of before a change of the topology, and nothing was posted since."""
        self._posted: tuple[Step, Past] | None = None
        """The exchange that has not ended."""
        self._newest: dict[int, tuple[Step, frozenset[Step]]] = {}
        """The step of each neighbour's newest message, and what it had not mixed then."""

    @property
    def drift(self) -> float:
        """The sum of the norms of the flows that our end has applied and the other end has not; at the end of training
        also of those that it has not confirmed."""
        return self._lost + sum(
            past.one_sided(j for j in past.open_there if self.since(step, j) >= SETTLE_WINDOW)
            for step, past in self.items())

    def post(self, step: Step, weights: Mapping[int, float], receivers: frozenset[int],
             neighbours: Iterable[int]) -> Past:
        """Note that we post a row, while these neighbours take part; return what is kept of it, still without the row.
        """
        if self._carried and step.round >= 0:
            self._carried = False
            self._undo(step)
        self._counts.update(neighbours)
        past = Past(None, weights, receivers, {j: self._counts[j] for j in receivers.union(weights)})
        self._posted = step, past
        return past

    def end(self, unmixed: set[int], flows: dict[int, float]) -> None:
        """The exchange that was posted last has ended. Forget what can be settled no more."""
        if self._posted is None:
            raise LocalProtocolError("an exchange ends that was not posted")
        step, past = self._posted
        past.unmixed, past.flows = unmixed, flows
        self[step], self._posted = past, None
        self._forget()
        self._bound_memory()

    def beyond(self, step: Step) -> list[int]:
        """Return the neighbours that have gone on too far, without this exchange, to settle it."""
        return [j for j, (_, unmixed) in self._newest.items() if _too_early(step, unmixed)]

    def note_unmixed(self, sender: int, at: Step, unmixed: Iterable[Step]) -> None:
        """Note which of our rows a neighbour had not mixed when it sent its message of the step ``at``."""
        named = frozenset(unmixed)
        if sender not in self._newest or at > self._newest[sender][0]:
            self._newest[sender] = at, named
        for step, past in self.items():
            past.note(step, sender, at, named)
            past.release()
        if self._posted is not None:  # the neighbour may end it, and go on, before we do
            step, past = self._posted
            past.note(step, sender, at, named)

    def since(self, step: Step, neighbour: int) -> int:
        """Return how many row exchanges with a neighbour we have posted after one with it."""
        return self._counts[neighbour] - self[step].counts[neighbour]

    def own_for(self, sender: int, step: Step) -> Tensor | None:
        """Return our row, to settle a late one of a neighbour with; None where that is settled, or too late."""
        past = self.get(step)
        settles = past is not None and sender in past.unmixed and self.since(step, sender) < SETTLE_WINDOW
        return past.own if past is not None and settles else None

    def settled(self, sender: int, step: Step, gap: float | None) -> float:
        """Note that a late row has come. Return its weight.

        gap : the norm of the difference between the two rows; None where the row does not fit, and is not mixed.
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
        """Return (receiver, step, our row) for rows that a receiver has not mixed and we have; each is due once."""
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
        """A neighbour was started again and remembers nothing. What its earlier incarnation left open stays open."""
        for past in [*self.values(), *([] if self._posted is None else [self._posted[1]])]:
            self._lost += past.one_sided(past.open_there & {neighbour})
            past.receivers -= {neighbour}
            past.unmixed.discard(neighbour)
            past.open_there.discard(neighbour)
        self._forgotten.pop(neighbour, None)
        self._newest.pop(neighbour, None)

    def carry(self, dropped: Iterable[tuple[int, Step]]) -> None:
        """Go on after a change of the topology: what is open is settled no more, and both ends still learn of it.

        dropped : late rows, by neighbour and step, that have come and are not mixed.
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
        """Settle nothing from now on; ``unmixed`` goes on to name what is open, since others may close later.

        What a neighbour has not confirmed counts as lost: it may have closed before our row came.
        """
        for step, past in self.items():
            self._lost += past.one_sided(past.unconfirmed())
            self._never(step, past.unmixed)
        self.clear()

    # Inside -------------------------------------------------------------------------------------------------

    def _undo(self, step: Step) -> None:
        """The peers have resumed at a checkpoint, and do the exchanges from ``step`` on again."""
        for later in [other for other in self if other >= step]:
            del self[later]
        for forgotten in self._forgotten.values():
            while forgotten and forgotten[-1] >= step:
                forgotten.pop()

    def _forget(self) -> None:
        """Forget what has left the settle window, but not the flows that the other end has not confirmed."""
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
        """The flows of an exchange from these neighbours are never applied."""
        for j in neighbours:
            self._forgotten.setdefault(j, deque(maxlen=SETTLE_WINDOW)).append(step)

    def _bound_memory(self) -> None:
        """Forget the oldest own rows beyond PAST_BYTES, but never the last one: late rows of those stay open."""
        taken = 0
        for past in list(reversed(self.values()))[1:]:
            taken += 0 if past.own is None else past.own.nbytes
            if taken > PAST_BYTES:
                past.own = None


def _too_early(step: Step, unmixed: Collection[Step]) -> bool:
    """Whether a message that names these exchanges says nothing of an earlier one: we assume that it was forgotten."""
    return len(unmixed) >= SETTLE_WINDOW and step < min(unmixed)
