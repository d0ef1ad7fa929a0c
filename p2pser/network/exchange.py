"""One peer's exchanges: which neighbours it waits for, what it mixes, which late rows it settles. Pure.

The caller passes time and messages in. A message belongs to a step, (round, slot). An exchange ends when each neighbour
has delivered its message, is lost (silent or left), has skipped the step (it sent a later message, and a connection
keeps its order), or has reported no progress for ``round_timeout``. Deadlines on arrivals alone would cascade along the
graph and make results depend on timing.

**The mean is conserved.** Mixing is a sum of flows x_i += W_ij (x_j - x_i), and each end applies its half when it has
the other's row, without waiting for an acknowledgement. An end that left a flow out keeps its own row of that exchange
and applies its half when the late row arrives, within the edge's last SETTLE_WINDOW exchanges. Headers list which of
these the sender has not mixed, so that a row lost with a broken connection is sent again. The last header that can list
an exchange is final: the sender no longer settles it, and the receiver knows that. A flow that is open then is lost,
and its size is reported as drift (on two-way edges; at a one-way edge neither end can know).

**The window.** Where W changes or edges are one-way, a neighbour that waits for other peers than us could run ahead of
us without limit. So an exchange ends only when the receivers of the one before have gone past it, are lost, or have
stopped: no peer begins exchange e before its receivers of e - 2 have read it.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

import torch
from torch import Tensor

from p2pser.base.errors import LocalProtocolError
from p2pser.gossip.mixer import Late, Step, distance, in_order
from p2pser.network.awaited import Awaited
from p2pser.network.past import PastExchanges
from p2pser.network.roster import Roster
from p2pser.network.states import State
from p2pser.wire.codec import Received

AHEAD = 2
"""Messages for later steps that are kept for each neighbour; in lock-step a neighbour is at most one step ahead."""

NEVER = Step(2**31, 0)
"""The step to ``begin`` where no exchange follows: no message is kept."""

Value: TypeAlias = "Received | Tensor"
"""A message before it is read, or the row that was read from it."""


class DeliveryStatus(Enum):
    """The status of a neighbour's message in one exchange."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    LOST = "lost"
    SKIPPED = "skipped"
    GIVEN_UP = "given up"
    REFUSED = "refused"
    """It has arrived, and is not the message that is due."""


@dataclass(frozen=True)
class Outcome:
    """A finished exchange: messages by sender, ascending; sources that delivered none; late rows to settle."""

    step: Step
    values: tuple[tuple[int, Value], ...]
    missing: tuple[tuple[int, DeliveryStatus], ...]
    late: tuple[Late, ...]


class Exchange:
    """The state machine of one peer's exchanges with its neighbours.

    Parameters
    ----------
    me : the peer's id.
    roster : its neighbours and their states.
    awaited : for how long it waits for them.
    """

    def __init__(self, me: int, roster: Roster, awaited: Awaited) -> None:
        self.me = me
        self.neighbours = roster.neighbours
        self.awaited = awaited
        self.messages_late = 0
        """Late rows that were settled."""
        self.spread = 0.0
        """Largest ||x_j - x_i|| / ||x_i|| over the neighbours in the last row exchange."""
        self.read: Callable[[int, Step, Tensor, Value], Tensor | None] = _as_it_is
        """(sender, step, our row, its message) -> its row, like ours; None where the message is not the one due."""
        self._roster = roster
        self._posted: Step | None = None
        """The step that we have posted last."""
        self._own: Tensor | None = None
        """Our row of that step; None where we sent messages of another kind."""
        self._weights: Mapping[int, float] = {}
        self._unsent: set[int] = set()
        """The neighbours that were not sent our message, or will not mix it: if they return during the exchange,
        neither end mixes."""
        self._sources = self.neighbours
        self._readers: tuple[int, ...] = ()
        self._read: Step | None = None
        self._arrived: dict[int, OrderedDict[Step, Value]] = {j: OrderedDict() for j in self.neighbours}
        self._newest: dict[int, Step] = {}
        """The latest step that each neighbour has sent."""
        self._void: dict[int, Step] = {}
        """The step of each neighbour's last invalid message."""
        self._past = PastExchanges()
        self._late: list[Late] = []

    # Inputs ---------------------------------------------------------------------------------------------------

    def post(self, step: Step, own: Tensor | None, weights: Mapping[int, float],
             receivers: Iterable[int] | None = None) -> None:
        """Note that we send our messages of a step.

        step : later than any step posted before; else LocalProtocolError is raised.
        own : our row, where all receivers are sent it to mix; else None.
        weights : the weights of the rows that we mix, by source.
        receivers : the receivers; by default the sources.
        """
        if self._posted is not None and step <= self._posted:
            raise LocalProtocolError(f"step {step} posted after {self._posted}")
        apart = {j for j in self.neighbours if not self._roster.takes_part(j)}
        self._posted, self._own, self._unsent = step, own, apart
        if own is None:
            return
        self._unsent = apart.union(self._past.beyond(step))  # these would not mix so late a row
        self._weights = {j: weight for j, weight in weights.items() if j not in self._unsent}
        receivers = frozenset(weights if receivers is None else receivers) - self._unsent
        past = self._past.post(step, self._weights, receivers, (j for j in self.neighbours if j not in apart))
        past.own = own

    def begin(self, step: Step, sources: Iterable[int] | None = None, readers: Iterable[int] = (),
              read: Step | None = None) -> None:
        """Wait for the messages of a step from now on; messages of earlier steps are late.

        step : the step.
        sources : the neighbours that send to us in this step; by default all of them.
        readers, read : the neighbours that must have gone past the step ``read`` before this exchange ends.
        """
        self.awaited.step = step
        self._sources = self.neighbours if sources is None else tuple(sorted(sources))
        self._readers, self._read = tuple(sorted(readers)), read
        for arrived in self._arrived.values():
            for earlier in [other for other in arrived if other < step]:
                del arrived[earlier]

    def deliver(self, sender: int, step: Step, value: Value, unmixed: Iterable[Step], now: float) -> Step | None:
        """Take a complete message of a neighbour. Return the step of a message dropped for lack of room, else None.

        Parameters
        ----------
        sender, step : the message's sender and step; a second copy changes nothing.
        value : a row, or bytes.
        unmixed : the last steps of the edge that the sender has not mixed.
        now : the time [s].
        """
        if sender not in self._arrived:
            return None
        self.awaited.message(sender, now)
        self._past.note_unmixed(sender, step, unmixed)
        self._newest[sender] = max(step, self._newest.get(sender, step))
        if (self.awaited.step is not None and step < self.awaited.step) or step in self._past:
            self._settle(sender, step, value)
            return None
        arrived = self._arrived[sender]
        arrived.setdefault(step, value)
        if len(arrived) > AHEAD + 1:
            # The sender has gone on without us: we still mix the step that we wait for, then jump to the newest.
            dropped = min(other for other in arrived if other != self.awaited.step)
            del arrived[dropped]
            return dropped
        return None

    def void(self, sender: int, step: Step) -> None:
        """Note that a neighbour's message of a step is invalid: the exchange goes on without it."""
        self._void[sender] = step

    def restarted(self, sender: int) -> None:
        """Note that a neighbour was restarted without its memory; the flows that it left open stay open."""
        self._arrived[sender].clear()
        self._unsent.add(sender)  # our message of this step went to its earlier process
        self._void.pop(sender, None)
        self._newest.pop(sender, None)
        self.awaited.restarted(sender)
        self._past.restarted(sender)

    @property
    def drift(self) -> float:
        """Sum of the norms of the flows that only our end has applied."""
        return self._past.drift

    # Outputs --------------------------------------------------------------------------------------------------

    def statuses(self, now: float) -> dict[int, DeliveryStatus]:
        """Return the status of each source in the present exchange."""
        self.awaited.begin(now)
        return {j: self._status(j, now) for j in self._sources}

    def waiting(self, now: float) -> tuple[int, ...]:
        """Return the neighbours that the present exchange waits for, to deliver or to read our last message."""
        silent = {j for j in self._sources if self._status(j, now) is DeliveryStatus.WAITING}
        return tuple(sorted(silent.union(j for j in self._readers if self._may_still_read(j, now))))

    def held_up(self, now: float) -> tuple[tuple[int, ...], float]:
        """Return the neighbours that the present exchange waits for, and for how long [s]; () and 0 without one."""
        lasts = self.awaited.lasts(now)
        return ((), 0.0) if lasts is None else (self.waiting(now), lasts)

    def finish(self, now: float) -> Outcome | None:
        """Return the outcome of the present exchange, None until it is over.

        Raises LocalProtocolError where the step that we wait for is not the last posted one.
        """
        step = self.awaited.step
        if step is None or step != self._posted:
            raise LocalProtocolError(f"step {step} collected but {self._posted} was posted last")
        statuses = self.statuses(now)
        if DeliveryStatus.WAITING in statuses.values() or any(self._may_still_read(j, now) for j in self._readers):
            return None
        given_up = [j for j in statuses if step not in self._arrived[j] and self.awaited.stopped(j, now)]
        delivered = [j for j, status in statuses.items() if status is DeliveryStatus.DELIVERED]
        values: dict[int, Value] = {}
        rows: dict[int, Tensor] = {}
        for j in delivered:
            message = self._arrived[j].pop(step)
            if self._own is None:
                values[j] = message
            elif (row := self.read(j, step, self._own, message)) is not None:
                values[j] = rows[j] = row
            else:
                statuses[j] = DeliveryStatus.REFUSED
        if self._own is not None:
            self._remember(step, self._own, rows, set(delivered))
        late, self._late = in_order(self._late), []
        self.awaited.end(given_up)
        missing = tuple((j, status) for j, status in statuses.items() if status is not DeliveryStatus.DELIVERED)
        return Outcome(step, tuple(values.items()), missing, late)

    def deadline(self, now: float) -> float | None:
        """Return when the next neighbour will be given up unless it makes progress [s]; None if none can be."""
        return self.awaited.deadline(self.waiting(now))

    def patient(self, now: float) -> bool:
        """Whether we wait for a neighbour that may itself wait for an operator, so that we are not stuck either."""
        return any(not self.awaited.may_be_given_up(j) for j in self.waiting(now))

    def stuck(self, now: float) -> tuple[int, ...]:
        """Return the living neighbours that have made no progress for ``round_timeout``."""
        return tuple(j for j in self.neighbours if not self._roster.gone(j) and self.awaited.stopped(j, now))

    def unmixed(self, neighbour: int) -> tuple[Step, ...]:
        """Return the last SETTLE_WINDOW steps whose flow from a neighbour we have not applied."""
        return self._past.unmixed(neighbour)

    def resend(self) -> list[tuple[int, Step, Tensor]]:
        """Return (receiver, step, our row) for the rows to send again: we have mixed these exchanges, the receiver not.

        Each is returned once.
        """
        return self._past.resend()

    def carried(self) -> PastExchanges:
        """End all settling at a change of the topology; return the open exchanges, for ``go_on_from``."""
        self._past.carry((late.edge[1], late.step) for late in self._late)
        return self._past

    def go_on_from(self, past: PastExchanges) -> None:
        """Take over the open exchanges from before a change of the topology."""
        self._past = past

    def close(self) -> tuple[Late, ...]:
        """Settle no more late rows; flows that the other end has not confirmed become drift.

        Returns the late rows since the last exchange: our headers have reported them as mixed.
        """
        self._past.close()
        late, self._late = in_order(self._late), []
        return late

    def newest(self, neighbour: int) -> Step:
        """Return the latest step that a neighbour has sent; before its first message, a step before the set-up."""
        return self._newest.get(neighbour, Step(-(2**31), 0))

    # Inside ---------------------------------------------------------------------------------------------------

    def _status(self, j: int, now: float) -> DeliveryStatus:
        step = self.awaited.step
        if step in self._arrived[j] and j not in self._unsent:
            return DeliveryStatus.DELIVERED
        if self._roster.gone(j) or j in self._unsent:
            return DeliveryStatus.LOST
        if step is not None and (self._newest.get(j, step) > step or self.awaited.is_beyond(j)):
            return DeliveryStatus.SKIPPED
        given_up = (self._roster.state(j) is State.RETURNING or self._void.get(j) == step
                    or self.awaited.stopped(j, now))
        return DeliveryStatus.GIVEN_UP if given_up else DeliveryStatus.WAITING

    def _may_still_read(self, j: int, now: float) -> bool:
        """Whether a reader has not gone past the step ``read``, and may still do so."""
        if self._read is None or not self._roster.awaited(j) or self.awaited.stopped(j, now):
            return False
        return not self.awaited.has_passed(j, self._read)

    def _settle(self, sender: int, step: Step, value: Value) -> None:
        own = self._past.own_for(sender, step)
        if own is None:
            return  # settled, too late, or too large to keep: an open flow stays open, as our headers show
        row = self.read(sender, step, own, value)
        weight = self._past.settled(sender, step, None if row is None else distance(row.to(own.dtype), own))
        if row is not None:
            self.messages_late += 1
            self._late.append(Late((self.me, sender), step, weight, own, row))

    def _remember(self, step: Step, own: Tensor, rows: Mapping[int, Tensor], delivered: set[int]) -> None:
        """Keep an exchange: the valid rows, by neighbour, and the neighbours that have delivered a message at all."""
        gaps = {j: distance(row.to(own.dtype), own) for j, row in rows.items()}
        self.spread = max(gaps.values(), default=0.0) / max(math.sqrt(float(torch.dot(own, own))), 1e-300)
        flows = {j: self._weights[j] * gap for j, gap in gaps.items()}
        self._past.end(set(self._weights) - delivered, flows)


def _as_it_is(sender: int, step: Step, own: Tensor, value: Value) -> Tensor | None:
    return value if isinstance(value, Tensor) else None
