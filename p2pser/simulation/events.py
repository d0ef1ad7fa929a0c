"""Asynchronous algorithms in one process: an event heap in simulated time drives all peers and their messages.

Deterministic, on every processor: time is counted in whole ticks, events of the same tick happen in the order in which
they were scheduled, and every draw (the time of a round, the faults of a message) is a function of (seed, peer, count).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from p2pser.base import seeding
from p2pser.base.errors import LocalProtocolError
from p2pser.config import Config
from p2pser.gossip.algorithm import Local, State
from p2pser.gossip.asynchronous import Asynchronous, AsynchronousPeer, Message, Place, Staleness
from p2pser.graph.spec import Topology
from p2pser.run.participant import Cohort
from p2pser.run.rounds import Before, Hook
from p2pser.simulation import framing
from p2pser.simulation.clock import TICKS, Clock, ticks
from p2pser.simulation.mixer import Faults
from p2pser.simulation.scenario import Scenario
from p2pser.simulation.timeline import Traffic
from p2pser.training.hosted import LocalWork

DEAD_AFTER = 8.0
"""Simulated seconds after which neighbours treat a peer as dead: the default of ``network.dead_after``."""


@dataclass
class _Training:
    """A peer's current round of local steps, in ticks."""

    began: int
    step: int
    ends: int


def total(accounts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the sum of the reports of several peers (``AsynchronousPeer.report``)."""
    histogram = np.sum([account["staleness"]["histogram"] for account in accounts], axis=0).tolist()
    stale = Staleness(tuple(histogram))
    return {"staleness": {"mean": stale.mean, "max": stale.max, "histogram": histogram,
                          "bound": accounts[0]["staleness"]["bound"]},
            **{name: sum(account[name] for account in accounts) for name in ("refused", "open", "drift")}}


class Events:
    """All peers of an asynchronous run. A peer answers messages between its local steps.

    Parameters
    ----------
    algorithm : the run's.
    x : (N, D), the initial rows.
    local : each peer's local work, hosting one row.
    topology : the run's.
    clock : the time of local steps and messages.
    rounds : R.
    seed : the run's.
    faults : ``loss`` and ``duplication`` of messages are probabilities, ``delay`` is that of a delay by up to
        ``longest`` ordinary rounds; ``until`` counts the messages of a sender.
    dead : {peer: round}: the peer is silent from the start of that round on.
    """

    def __init__(self, algorithm: Asynchronous, x: Tensor, local: Sequence[Local], topology: Topology, clock: Clock,
                 rounds: int, *, seed: int = 0, faults: Faults | None = None,
                 dead: Mapping[int, int] | None = None) -> None:
        self.topology, self.clock, self.rounds = topology, clock, rounds
        self.faults, self.dead = faults, dict(dead or {})
        self._now = 0
        self.finished: dict[int, float] = {}
        """The second at which each peer had finished its last round and all its exchanges."""
        self.idle_s = np.zeros(topology.size)
        """Simulated seconds for which each peer took no local step before its last round was done, (N,)."""
        self.nodes = [
            AsynchronousPeer(algorithm, State({"x": x[i : i + 1].clone()}), Place(i, topology.neighbours(i), seed))
            for i in range(topology.size)]
        self._local = list(local)
        self._heap: list[tuple[int, int, Callable[..., int | None], tuple[Any, ...]]] = []
        self._scheduled = 0
        self._training: dict[int, _Training] = {}
        self._reminding: set[int] = set()
        self._held_since: dict[int, int] = {}
        self._free = [0] * topology.size  # when each line is free to send again
        self._filled = [0] * topology.size  # when it has received all that is on its way
        self.traffic = Traffic(topology.size)

    @property
    def now(self) -> float:
        """Simulated seconds since the start."""
        return self._now / TICKS

    @property
    def rows(self) -> Tensor:
        """The peers' models as they are now, (N, D)."""
        return torch.cat([node.algorithm.model(node.state) for node in self.nodes])

    @property
    def living(self) -> tuple[int, ...]:
        """Peers that have not fallen silent."""
        return tuple(i for i, node in enumerate(self.nodes) if not self._silent(i, node.clock))

    def run(self, after_round: Callable[[int], None] = lambda peer: None, until: float = math.inf) -> None:
        """Run until all peers have done their rounds and no event is left, or until a simulated second.

        after_round : called with a peer after each of its rounds. Raises LocalProtocolError where a peer can never go
        on (a deadlock).
        """
        if not self._scheduled:
            for i in range(len(self.nodes)):
                self._go_on(i)
        self._handle(until, after_round)
        if self._heap:
            return
        stuck = [i for i in self.living if i not in self.finished]
        if stuck:
            raise LocalProtocolError(f"peers {stuck} wait for ever at {self.now:.3f} s: a deadlock")
        # Between processes no message is lost in the end: links send those of a broken connection again.
        self.faults = None
        for i in self.living:
            self._post(self.nodes[i].remind())
        self._handle(math.inf, lambda peer: None)
        for i in self.living:
            self.nodes[i].close()

    def each_round(self, after_round: Callable[[int], None]) -> None:
        """Run to the end; call ``after_round(r)`` when the living peers have done r + 1 rounds each, on average."""
        counted, living = 0, set(self.living) - self.dead.keys()

        def count(peer: int) -> None:
            nonlocal counted
            counted += peer in living
            if peer in living and counted % len(living) == 0:
                after_round(counted // len(living) - 1)

        self.run(count)

    # Events -------------------------------------------------------------------------------------------------

    def _schedule(self, at: int, act: Callable[..., int | None], *arguments: Any) -> None:
        self._scheduled += 1
        heapq.heappush(self._heap, (at, self._scheduled, act, arguments))

    def _handle(self, until: float, after_round: Callable[[int], None]) -> None:
        """Handle all events up to a simulated second."""
        while self._heap and self._heap[0][0] <= until * TICKS:
            self._now, _, act, arguments = heapq.heappop(self._heap)
            peer = act(*arguments)
            if peer is not None:
                after_round(peer)

    def _silent(self, i: int, round: int) -> bool:
        return i in self.dead and round >= self.dead[i]

    def _go_on(self, i: int) -> None:
        """Begin the peer's next round, unless it is training, held, dead or finished."""
        node = self.nodes[i]
        if i in self._training or i in self.finished:
            return
        if self._silent(i, node.clock):
            for j in self.topology.neighbours(i):
                self._schedule(self._now + ticks(DEAD_AFTER), self._gone, j, i)
            self.finished[i] = self.now
        elif node.clock >= self.rounds:
            if not node.open:
                self.finished[i] = self.now
        elif node.held:
            self._held_since.setdefault(i, self._now)
        else:
            self.idle_s[i] += (self._now - self._held_since.pop(i, self._now)) / TICKS
            node.begin()
            step = self.clock.step(i, node.clock)
            ends = self._now + self._local[i].steps * step
            self._training[i] = _Training(self._now, step, ends)
            self._schedule(ends, self._trained, i)

    def _trained(self, i: int) -> int:
        node = self.nodes[i]
        del self._training[i]
        self._post(node.end(self._local[i].train(node.state, node.clock, rows=node.start)))
        self._go_on(i)
        return i

    def _arrived(self, message: Message) -> None:
        """Deliver a message: at once, or after the current local step."""
        training = self._training.get(message.dst)
        if training is None:
            self._received(message)
            return
        steps = -((training.began - self._now) // training.step)  # rounded up
        self._schedule(min(training.began + steps * training.step, training.ends), self._received, message)

    def _received(self, message: Message) -> None:
        node = self.nodes[message.dst]
        if not self._silent(message.dst, node.clock):
            self._post(node.receive(message))
            self._go_on(message.dst)

    def _gone(self, i: int, neighbour: int) -> None:
        self.nodes[i].gone(neighbour)
        self._go_on(i)

    def _remind(self, i: int) -> None:
        self._reminding.discard(i)
        node = self.nodes[i]
        if node.open and not self._silent(i, node.clock):
            self._post(node.remind())
            self._watch(i, 0)

    # Messages -----------------------------------------------------------------------------------------------

    def _post(self, messages: list[Message]) -> None:
        """Send messages: in turn over the sender's line, then with the latency; faults are drawn."""
        for message in messages:
            i, size = message.src, len(message.payload)
            self.traffic.count(np.array([message.dst]), np.array([i]), np.array([size]))
            links, carried = self.clock.links, float(framing.on_the_line(framing.sent(np.array([size])))[0])
            began = max(self._free[i], self._now)
            self._free[i] = began + ticks(carried / links.at(i).up)
            came = began + ticks(carried / links.rate(message.dst, i) + links.latency(message.dst, i))
            # The receiver's line carries its messages in turn.
            came = max(came, self._filled[message.dst] + ticks(carried / links.at(message.dst).down))
            self._filled[message.dst] = came
            for late in self._delays(i):
                self._schedule(came + late, self._arrived, message)
            self._watch(i, size)

    def _watch(self, i: int, size: int) -> None:
        """Schedule a reminder, if an exchange is open: after four times the longest time of an answer."""
        if i not in self._reminding and self.nodes[i].open:
            self._reminding.add(i)
            slowest = max(self.clock.slow.values(), default=1.0) * self.clock.step_s
            links = self.clock.links
            way = max((links.latency(j, i) + len(self.nodes) * size / links.rate(j, i)
                       for j in self.topology.neighbours(i)), default=0.0)
            answer = 2 * way + slowest
            self._schedule(max(self._free[i], self._now) + ticks(4 * answer), self._remind, i)

    def _delays(self, i: int) -> list[int]:
        """Return the delay in ticks of each copy of a message of ``i`` that arrives."""
        faults, count = self.faults, int(self.traffic.messages_sent[i])
        if faults is None or (faults.until is not None and count > faults.until):
            return [0]
        drawn = seeding.generator(faults.seed, "faults", i, count)
        lost, twice = drawn.random(2) < (faults.loss, faults.duplication)
        copies = (0 if lost else 1) + int(twice)
        ordinary = faults.longest * self.clock.step_s * self._local[i].steps
        return [ticks(drawn.random() * ordinary) if drawn.random() < faults.delay else 0 for _ in range(copies)]


class EventDriver:
    """The driver of asynchronous algorithms in a session that hosts all peers (``run.session.Driver``)."""

    def __init__(self, algorithm: Asynchronous, topology: Topology, scenario: Scenario, config: Config,
                 cohort: Cohort) -> None:
        self._algorithm, self._topology, self._scenario = algorithm, topology, scenario
        self._config, self._cohort = config, cohort
        self._events: Events | None = None
        self._works: list[LocalWork] = []

    def run(self, state: State, local: Local, start: int, *, before_round: Before, after_round: Hook) -> State:
        """Run all rounds by the clock; round r ends when the peers have done r + 1 rounds each on average."""
        self._works = [LocalWork([learner]) for learner in self._cohort.work.learners]
        events = self._events = Events(
            self._algorithm, state.rows["x"], self._works, self._topology, self._scenario.clock or Clock(),
            self._config.training.rounds, seed=self._config.seed, faults=self._scenario.faults,
            dead=self._scenario.dead)
        events.each_round(lambda round: after_round(round, State({"x": events.rows})))
        return State({"x": events.rows})

    def close(self) -> None:
        """Every event has happened when ``run`` returns."""

    @property
    def now(self) -> float:
        """Simulated seconds since the start."""
        return 0.0 if self._events is None else self._events.now

    @property
    def traffic(self) -> Traffic:
        """The bytes and messages that each peer sent and received."""
        return Traffic(self._topology.size) if self._events is None else self._events.traffic

    @property
    def losses(self) -> list[float]:
        """The mean loss of each peer's last round; NaN before its first."""
        return [work.losses[0] if work.losses else math.nan for work in self._works]

    def report(self, living: Sequence[int]) -> dict[str, Any]:
        """Return the staleness, refusals and drift of the living peers together (``total``)."""
        nodes = [] if self._events is None else self._events.nodes
        return total([nodes[i].report() for i in living])
