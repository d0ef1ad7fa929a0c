"""An asynchronous algorithm between processes: messages are answered between local steps, nobody waits for a round.

The I/O thread receives and sends while training holds the processor; the training thread looks at what has come after
each local step.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from p2pser.base.errors import LocalProtocolError
from p2pser.gossip.algorithm import Local, State
from p2pser.gossip.asynchronous import Asynchronous, Message, Node, Place, received
from p2pser.gossip.mixer import Step
from p2pser.network.mixer import NetworkMixer
from p2pser.run.rounds import Hook
from p2pser.wire.messages import Header

PATIENCE = 5.0
"""Seconds after which an open exchange is asked for again; then twice as long, and so on. Links lose nothing but what
their bounded queues drop, so this is rare."""
EARLY = 8
"""Messages of a neighbour that are kept until this peer trains too."""


class AsynchronousDriver:
    """Drives one peer's Node over the network's io.

    seed: the run's. rounds: R; messages of rounds 0 .. R-1 are the node's, others (set-up, the end) the mixer's. To be
    made before the set-up: neighbours may train already while this peer does not.
    """

    def __init__(self, mixer: NetworkMixer, algorithm: Asynchronous, *, seed: int, rounds: int,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self.mixer, self.rounds, self.clock = mixer, rounds, clock
        self._algorithm, self._seed = algorithm, seed
        self.node: Node | None = None
        self.waited_s = 0.0
        """Seconds in which no local step was taken because an exchange stood at the bound, or at the end was open."""
        self._early: dict[int, deque[Message]] = {j: deque(maxlen=EARLY) for j in mixer.neighbours}
        self._due = math.inf
        self._patience = PATIENCE
        mixer.interceptor = self._arrived

    def run(self, state: State, local: Local, start: int, *, before_round: Hook, after_round: Hook) -> State:
        """Train rounds ``start`` .. R-1, then close what is open; return the state.

        Hooks as in ``gossip.run.run``. Local work must call ``local_step`` after each local step. A neighbour for
        whose answer this peer waits at the bound, and that reports no progress for ``network.round_timeout``, is lost.
        """
        place = Place(self.mixer.me, self.mixer.neighbours, self._seed)
        self.node = node = Node(self._algorithm, state, place, start)
        for j in sorted(self._early):
            for message in self._early.pop(j):
                self._receive(message)
        self._look()
        while node.clock < self.rounds:
            round = node.clock
            self._wait(lambda: node.held)
            before_round(round, node.state)
            self._send(node.train(local))
            after_round(round, node.state)
            self._look()
        self._wait(lambda: bool(node.open))
        return node.state

    def local_step(self, peer: int, step: int) -> None:
        """A local step is done: tell it, and answer what has come."""
        self.mixer.local_step(peer, step)
        self._look()

    def close(self) -> None:
        """All reachable peers have ended their rounds: nothing comes any more."""
        self.mixer.interceptor = None
        self._node().close()

    def report(self) -> dict[str, Any]:
        """Return the node's accounting and the seconds waited, as plain data."""
        return {**self._node().report(), "waited_s": self.waited_s}

    # Inside -------------------------------------------------------------------------------------------------

    def _node(self) -> Node:
        if self.node is None:
            raise LocalProtocolError("an asynchronous run is driven before it has begun")
        return self.node

    def _wait(self, unfinished: Callable[[], bool]) -> None:
        """Answer others for as long as an exchange of ours must have its answer first."""
        began = self.clock()
        while unfinished():
            now = self.clock()
            for j in set(self.mixer.exchange.stuck(now)) & self._node().open.keys():
                self.mixer.drop(j, f"peer {j} reported no progress for {self.mixer.exchange.round_timeout:g} s while "
                                    "an exchange waited for its answer")
            self._look(min(max(0.0, self._due - now), 1.0))
        self.waited_s += self.clock() - began

    def _look(self, timeout: float = 0.0) -> None:
        """Take what has come, waiting at most so long; forget the lost; ask again where it is time."""
        self.mixer.listen(timeout)
        node = self._node()
        for j in self.mixer.lost:
            node.gone(j)
        if not node.open:
            self._due, self._patience = math.inf, PATIENCE
        elif self._due == math.inf:
            self._due = self.clock() + self._patience
        elif self.clock() >= self._due:
            self._patience *= 2
            self._due = self.clock() + self._patience
            self._send(node.remind())

    def _arrived(self, peer: int, header: Header, payload: memoryview) -> bool:
        """A message has come: True where it is the node's. Raises RemoteProtocolError where it does not fit."""
        if not 0 <= header.round < self.rounds:
            return False
        message = received(peer, self.mixer.me, Step(header.round, header.slot), payload, header.codec, header.size)
        if self.node is None:
            self._early[peer].append(message)
        else:
            self._receive(message)
        return True

    def _receive(self, message: Message) -> None:
        self._send(self._node().receive(message))

    def _send(self, messages: list[Message]) -> None:
        for one in messages:
            if one.dst not in self.mixer.lost:
                self.mixer.send(one.dst, one.step, one.payload, one.codec, one.size)
