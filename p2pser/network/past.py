"""What a peer remembers of a finished exchange, until both ends of its links have applied their flows. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from p2pser.gossip.mixer import Step
from p2pser.wire.messages import SETTLE_WINDOW

PAST_BYTES = 128 << 20
"""Own rows of past exchanges that are kept for late rows, the last one apart [B]."""


@dataclass
class Past:
    """A finished row exchange that can still be settled."""

    own: Tensor | None
    """Our row in it; None once nobody needs it any more, or where it would take too much memory."""
    weights: Mapping[int, float]
    receivers: frozenset[int]
    unmixed: set[int]
    """Sources whose flow we have not applied."""
    flows: dict[int, float]
    """Norm of each flow that we have applied, by source."""
    resent: set[int] = field(default_factory=set)
    open_there: set[int] = field(default_factory=set)
    """Receivers that have not applied the flow of our row."""
    mixed_there: set[int] = field(default_factory=set)
    """Receivers that have."""

    def settled(self) -> bool:
        """Whether both ends of all its links have applied their flows."""
        return not self.unmixed and self.receivers <= self.mixed_there


class PastExchanges(OrderedDict[Step, Past]):
    """The last SETTLE_WINDOW row exchanges, the oldest first."""

    def __init__(self) -> None:
        super().__init__()
        self.posted: Step | None = None
        """The row exchange that we have posted and not finished."""

    def note_unmixed(self, sender: int, at: Step, unmixed: Iterable[Step]) -> None:
        """Note which of our rows a neighbour had not mixed when it sent its message of the step ``at``."""
        unmixed = set(unmixed)
        for step, past in self.items():
            known = step not in unmixed and (sender in past.mixed_there or step >= at)
            # After SETTLE_WINDOW further exchanges the sender has forgotten this one: its silence means nothing.
            if known or sender not in past.receivers or self.since(step, at) >= SETTLE_WINDOW:
                continue
            if step in unmixed:
                past.open_there.add(sender)
            else:
                past.open_there.discard(sender)
                past.mixed_there.add(sender)
            if past.settled():
                past.own = None

    def since(self, step: Step, before: Step | None = None) -> int:
        """Return how many row exchanges we have posted after a step (and before another one)."""
        known = {*self, *([self.posted] if self.posted is not None else [])}
        return sum(step < other and (before is None or other < before) for other in known)

    def resend(self) -> list[tuple[int, Step, Tensor]]:
        """Return (receiver, step, our row) for rows that a receiver has not mixed and we have; each is due once."""
        due = []
        for step, past in self.items():
            for j in sorted(past.open_there - past.resent - past.unmixed):
                past.resent.add(j)
                if past.own is not None:
                    due.append((j, step, past.own))
        return due

    def bound_memory(self) -> None:
        """Forget the oldest own rows beyond PAST_BYTES, but never the last one: late rows of those stay open."""
        taken = 0
        for past in list(reversed(self.values()))[1:]:
            taken += 0 if past.own is None else past.own.nbytes
            if taken > PAST_BYTES:
                past.own = None
