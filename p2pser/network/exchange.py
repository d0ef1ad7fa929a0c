"""The exchange: who is waited for, what is mixed, what is settled late. Pure: time and messages are passed in.

An exchange is keyed by (step, sender). It ends when each neighbour has delivered, is lost (DEAD or left), has
skipped it (it sent a later step: a link keeps its order), or has reported no progress for ``round_timeout``.
Deadlines on arrivals alone would cascade along the graph and make results depend on timing.

**The mean is conserved.** Mixing is a sum of flows x_i += W_ij (x_j - x_i), and each end applies its half when it
holds the other's row; nobody waits for an acknowledgement. An end that left a flow out keeps its own row of that
exchange and applies its half when the late row comes, within the edge's last ``SETTLE_WINDOW`` exchanges; headers carry
which of these the sender has not mixed, so that a row that a broken connection lost is sent again. The last header
that names an exchange is its sender's last word on it: later it settles nothing, so that both ends know. What stays
open after that is lost, and its size is reported as drift (of links that go both ways: else no end knows it).

**The window.** Where W changes or links go one way, a neighbour that waits for others than us could run ahead of us as
far as it likes. So no exchange ends before those who were sent the one before it have gone past that, or are lost, or
have stopped: nobody starts exchange e before its receivers of e - 2 have read it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

from torch import Tensor

from p2pser.base.errors import LocalProtocolError
from p2pser.gossip.mixer import Late, Step, in_order
from p2pser.wire.messages import SETTLE_WINDOW, Phase, Progress

AHEAD = 2
"""Steps ahead of ours that are kept for each neighbour. In lock-step a neighbour leads by one at most."""

Value: TypeAlias = "Tensor | bytes"


class DeliveryStatus(Enum):
    """What became of a neighbour in one exchange."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    LOST = "lost"
    SKIPPED = "skipped"
    GIVEN_UP = "given up"


@dataclass(frozen=True)
class Outcome:
    """An exchange that is over: messages in ascending order of sender, who delivered nothing, and what came late."""

    step: Step
    values: tuple[tuple[int, Value], ...]
    missing: tuple[tuple[int, DeliveryStatus], ...]
    late: tuple[Late, ...]


@dataclass
class _Past:
    """A row exchange that is over: our row in it, and the flows that we left out or that the other end may have."""

    own: Tensor
    weights: Mapping[int, float]
    receivers: frozenset[int]
    unmixed: set[int]
    flows: dict[int, float]
    resent: set[int] = field(default_factory=set)
    open_there: set[int] = field(default_factory=set)


class Exchange:
    """The state machine of one peer's exchanges with its neighbours, or with some of them in each.

    round_timeout: seconds without progress after which a neighbour is left out of an exchange.
    """

    def __init__(self, me: int, neighbours: Iterable[int], round_timeout: float) -> None:
        self.me = me
        self.neighbours = tuple(sorted(neighbours))
        self.round_timeout = round_timeout
        self.drift = 0.0
        """Sum of the norms of the flows that only one end has applied for good."""
        self.messages_late = 0
        self.spread = 0.0
        """Largest ||x_j - x_i|| / ||x_i|| over the neighbours in the last row exchange."""
        self.fit: Callable[[int, Tensor, Tensor], Tensor] = lambda sender, own, value: value
        """(sender, our row, what came) -> what came, as a row like ours: where rows are exchanged in part."""
        self._step: Step | None = None
        self._posted: Step | None = None
        self._own: Tensor | None = None
        self._weights: Mapping[int, float] = {}
        self._receivers: frozenset[int] = frozenset()
        self._sources = self.neighbours
        self._readers: tuple[int, ...] = ()
        self._read: Step | None = None
        self._arrived: dict[int, OrderedDict[Step, Value]] = {j: OrderedDict() for j in self.neighbours}
        self._newest: dict[int, Step] = {}
        self._progress: dict[int, tuple[Progress, float]] = {}
        self._lost: set[int] = set()
        self._returning: set[int] = set()
        self._past: OrderedDict[Step, _Past] = OrderedDict()
        self._late: list[Late] = []

    # What happens -------------------------------------------------------------------------------------------

    def post(self, step: Step, own: Tensor | None, weights: Mapping[int, float],
             receivers: Iterable[int] | None = None) -> None:
        """We send our message of ``step``; ``own`` is our row where it is a row that all ``receivers`` mix.

        weights: those of the rows that we mix, by source. receivers: default the sources.
        """
        if self._posted is not None and step <= self._posted:
            raise LocalProtocolError(f"step {step} posted after {self._posted}")
        self._posted, self._own, self._weights = step, own, dict(weights)
        self._receivers = frozenset(weights if receivers is None else receivers)

    def begin(self, step: Step, sources: Iterable[int] | None = None, readers: Iterable[int] = (),
              read: Step | None = None) -> None:
        """We wait for the messages of ``step`` from now on; earlier ones that come later are late.

        sources: who sends to us in this step, default all neighbours. readers: who must have gone past ``read``
        before this exchange ends.
        """
        self._step = step
        self._sources = self.neighbours if sources is None else tuple(sorted(sources))
        self._readers, self._read = tuple(sorted(readers)), read
        for arrived in self._arrived.values():
            for old in [other for other in arrived if other < step]:
                del arrived[old]

    def deliver(self, sender: int, step: Step, value: Value, unmixed: Iterable[Step], now: float) -> None:
        """A complete message of a neighbour has come, new or again."""
        if sender not in self._arrived:
            return
        self._returning.discard(sender)
        self._touch(sender, now)
        self._note_unmixed(sender, step, unmixed)
        self._newest[sender] = max(step, self._newest.get(sender, step))
        if (self._step is not None and step < self._step) or step in self._past:
            self._settle(sender, step, value)
            return
        arrived = self._arrived[sender]
        arrived.setdefault(step, value)
        if len(arrived) > AHEAD + 1:
            # They went on without us: what we wait for now is still mixed, and from the newest we go on.
            del arrived[min(other for other in arrived if other != self._step)]

    def progress(self, sender: int, progress: Progress, now: float) -> bool:
        """A header of a neighbour told how far it is; True where that is news."""
        known = self._progress.get(sender)
        # Chunks carry the progress of when their row was posted: an older one is no news.
        if known is not None and progress <= known[0]:
            return False
        self._progress[sender] = (progress, now)
        return True

    def lost(self, sender: int) -> None:
        """A neighbour is DEAD or has left: it is not waited for again, unless it comes back (``returned``)."""
        self._lost.add(sender)
        self._returning.discard(sender)

    def returned(self, sender: int) -> None:
        """A neighbour that was lost is back, and knows nothing of what was.

        It is sent to, but not waited for before ``expect`` or its first message. What was open with its former life
        stays open.
        """
        self._lost.discard(sender)
        self._returning.add(sender)
        self._arrived[sender].clear()
        self._newest.pop(sender, None)
        self._progress.pop(sender, None)
        for past in self._past.values():
            self.drift += past.flows.get(sender, 0.0) if sender in past.open_there else 0.0
            past.receivers -= {sender}
            past.unmixed.discard(sender)
            past.open_there.discard(sender)

    def expect(self, sender: int) -> None:
        """One that is back has been told where we are: from the next exchange on it is waited for."""
        self._returning.discard(sender)

    @property
    def returning(self) -> tuple[int, ...]:
        """Who has come back, was told nothing and has sent nothing."""
        return tuple(sorted(self._returning))

    def resume_waiting(self, now: float) -> None:
        """This process was paused: nobody is blamed for the time in which we did not listen."""
        self._progress = {j: (progress, now) for j, (progress, _) in self._progress.items()}

    # What follows -------------------------------------------------------------------------------------------

    def statuses(self, now: float) -> dict[int, DeliveryStatus]:
        """What has become of each source in the present exchange."""
        return {j: self._status(j, now) for j in self._sources}

    def waiting(self, now: float) -> tuple[int, ...]:
        """The neighbours that the present exchange still waits for: for their message, or to read ours."""
        silent = {j for j in self._sources if self._status(j, now) is DeliveryStatus.WAITING}
        return tuple(sorted(silent.union(j for j in self._readers if self._unread(j, now))))

    def finish(self, now: float) -> Outcome | None:
        """Return the exchange's outcome if it is over, else None."""
        step = self._step
        if step is None or step != self._posted:
            raise LocalProtocolError(f"step {step} collected but {self._posted} was posted last")
        statuses = self.statuses(now)
        if DeliveryStatus.WAITING in statuses.values() or any(self._unread(j, now) for j in self._readers):
            return None
        values = tuple((j, self._fitted(j, self._arrived[j].pop(step), self._own))
                       for j, status in statuses.items() if status is DeliveryStatus.DELIVERED)
        if self._own is not None:
            self._remember(step, dict(values))
        late, self._late = in_order(self._late), []
        missing = tuple((j, status) for j, status in statuses.items() if status is not DeliveryStatus.DELIVERED)
        return Outcome(step, values, missing, late)

    def deadline(self, now: float) -> float | None:
        """When the next neighbour is given up unless it reports progress [s]; None where nobody can be."""
        due = [self._progress[j][1] + self.round_timeout for j in self.waiting(now) if self._can_give_up(j)]
        return min(due, default=None)

    def stuck(self, now: float) -> tuple[int, ...]:
        """The neighbours that live and have reported no progress for ``round_timeout``."""
        return tuple(j for j in self.neighbours if j not in self._lost and self._can_give_up(j)
                     and now - self._progress[j][1] >= self.round_timeout)

    def unmixed(self, neighbour: int) -> tuple[Step, ...]:
        """The steps among the last exchanges whose flow with ``neighbour`` we have not applied."""
        return tuple(step for step, past in self._past.items() if neighbour in past.unmixed)

    def resend(self) -> list[tuple[int, Step, Tensor]]:
        """Rows that a neighbour said it has not mixed and that we have: to be sent once more, once."""
        due = []
        for step, past in self._past.items():
            for j in sorted(past.open_there - past.resent - past.unmixed):
                past.resent.add(j)
                due.append((j, step, past.own))
        return due

    def close(self) -> None:
        """No flow is settled any more; what is open now on one side only counts as drift."""
        for past in self._past.values():
            self._forget(past)
        self._past.clear()
        self._late.clear()

    def ahead(self) -> Step | None:
        """The newest step that a live neighbour has sent, to which a peer that was left behind jumps."""
        return max((step for j, step in self._newest.items() if j not in self._lost), default=None)

    # Inside -------------------------------------------------------------------------------------------------

    def _status(self, j: int, now: float) -> DeliveryStatus:
        assert self._step is not None
        # Who has come back since our row went out without it: neither end mixes.
        without = self._own is not None and j not in self._weights
        if self._step in self._arrived[j] and not without:
            return DeliveryStatus.DELIVERED
        if j in self._lost or without:
            return DeliveryStatus.LOST
        if self._newest.get(j, self._step) > self._step:
            return DeliveryStatus.SKIPPED
        return DeliveryStatus.GIVEN_UP if j in self._returning or self._stopped(j, now) else DeliveryStatus.WAITING

    def _unread(self, j: int, now: float) -> bool:
        """Whether a reader may still be going to read what it was sent."""
        if j in self._lost or self._stopped(j, now):
            return False
        return self._read is not None and (j not in self._progress or self._progress[j][0][:2] <= self._read)

    def _stopped(self, j: int, now: float) -> bool:
        return self._can_give_up(j) and now - self._progress[j][1] >= self.round_timeout

    def _can_give_up(self, j: int) -> bool:
        # Before training a neighbour may wait for an operator to start somebody; only death ends that.
        return j in self._progress and self._progress[j][0].phase > Phase.SETUP

    def _touch(self, sender: int, now: float) -> None:
        if sender in self._progress:
            self._progress[sender] = (self._progress[sender][0], now)

    def _note_unmixed(self, sender: int, told_at: Step, unmixed: Iterable[Step]) -> None:
        unmixed = set(unmixed)
        if not unmixed and not any(sender in past.open_there for past in self._past.values()):
            return
        for step, past in self._past.items():
            # A sender that has had SETTLE_WINDOW exchanges since has forgotten this one: its silence means nothing.
            forgotten = self._since(step, told_at) >= SETTLE_WINDOW
            if sender in past.receivers and not forgotten:
                (past.open_there.add if step in unmixed else past.open_there.discard)(sender)

    def _since(self, step: Step, before: Step | None = None) -> int:
        """How many row exchanges we have posted after ``step`` (and before another one)."""
        known = {*self._past, *([self._posted] if self._own is not None and self._posted else [])}
        return sum(step < other and (before is None or other < before) for other in known)

    def _settle(self, sender: int, step: Step, value: Value) -> None:
        past = self._past.get(step)
        if past is None or sender not in past.unmixed or isinstance(value, bytes) or self._since(step) >= SETTLE_WINDOW:
            return
        value = self.fit(sender, past.own, value)
        past.unmixed.discard(sender)
        past.flows[sender] = past.weights[sender] * float((value.to(past.own.dtype) - past.own).norm())
        self.messages_late += 1
        self._late.append(Late((self.me, sender), step, past.weights[sender], past.own, value))

    def _fitted(self, sender: int, value: Value, own: Tensor | None) -> Value:
        return value if own is None or not isinstance(value, Tensor) else self.fit(sender, own, value)

    def _forget(self, past: _Past) -> None:
        self.drift += sum(past.flows[j] for j in past.open_there if j in past.flows)

    def _remember(self, step: Step, values: Mapping[int, Value]) -> None:
        own = self._own
        assert own is not None
        rows = {j: value.to(own.dtype) for j, value in values.items() if isinstance(value, Tensor)}
        gaps = {j: float((row - own).norm()) for j, row in rows.items()}
        self.spread = max(gaps.values(), default=0.0) / max(float(own.norm()), 1e-300)
        flows = {j: self._weights[j] * gap for j, gap in gaps.items()}
        self._past[step] = _Past(own, self._weights, self._receivers, set(self._weights) - set(values), flows)
        while len(self._past) > SETTLE_WINDOW:
            self._forget(self._past.popitem(last=False)[1])

