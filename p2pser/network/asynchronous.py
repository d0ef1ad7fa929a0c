"""An asynchronous algorithm between processes: a peer answers messages between its local steps, without common rounds.

The I/O thread receives and sends while training uses the processor; the training thread handles the messages after each
local step.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from p2pser.base.errors import LocalProtocolError, RemoteProtocolError
from p2pser.gossip.algorithm import Local, State
from p2pser.gossip.asynchronous import Asynchronous, AsynchronousPeer, Message, Place, received
from p2pser.gossip.mixer import Step
from p2pser.network.awaited import LONGEST
from p2pser.network.mixer import NetworkMixer
from p2pser.run.rounds import Before, Hook
from p2pser.wire.messages import Header

REMIND_AFTER = 5.0
"""Seconds without an answer to an open exchange until a reminder, doubled with each reminder. Reminders are rare: only
bounded queues drop messages."""
MAX_EARLY = 8
"""Messages of a neighbour that are kept until this peer trains too."""


class AsynchronousDriver:
    """Runs one peer of an asynchronous algorithm over a mixer.

    Create it before the set-up: neighbours may train already while this peer does not.

    Parameters
    ----------
    mixer : the peer's mixer. The driver takes the messages of rounds 0 .. R-1, the mixer the others (set-up, end).
    algorithm : the algorithm.
    seed : the run's seed.
    rounds : R, the rounds of training.
    clock : returns the time [s].
    """

    def __init__(self, mixer: NetworkMixer, algorithm: Asynchronous, *, seed: int, rounds: int,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self.mixer, self.rounds, self.clock = mixer, rounds, clock
        self._algorithm, self._seed = algorithm, seed
        self.node: AsynchronousPeer | None = None
        self.waited_s = 0.0
        """Seconds spent waiting, because an exchange had reached the staleness bound, or was still open at the end."""
        self._early: dict[int, deque[Message]] = {j: deque(maxlen=MAX_EARLY) for j in mixer.neighbours}
        self._closed = False
        self._remind_at = math.inf
        self._remind_after = REMIND_AFTER
        mixer.on(range(rounds), self._arrived)

    def run(self, state: State, local: Local, start: int, *, before_round: Before, after_round: Hook) -> State:
        """Train rounds ``start`` .. R-1, then wait until no exchange is open.

        A neighbour that reports no progress for ``network.round_timeout`` while this peer must wait for its answer is
        dropped.

        Parameters
        ----------
        state : the peer's state at the beginning of round ``start``.
        local : the local work; it must call ``local_step`` after each step.
        start : the first round.
        before_round, after_round : called with the round and the state, as in ``run.rounds.LockStep``.

        Returns
        -------
        State
            The state after the last round.
        """
        place = Place(self.mixer.me, self.mixer.neighbours, self._seed)
        self.node = node = AsynchronousPeer(self._algorithm, state, place, start)
        self.mixer.breaks(start)  # those before training do not count
        for j in sorted(self._early):
            for message in self._early.pop(j):
                try:
                    self._receive(message)
                except RemoteProtocolError as error:
                    self.mixer.strike(j, str(error))
        self._handle()
        while node.clock < self.rounds:
            round = node.clock
            self._wait(lambda: node.held)
            before_round(round, node.state)
            self._send(node.train(local))
            after_round(round, node.state)
            self._handle()
        self._wait(lambda: bool(node.open))
        return node.state

    def local_step(self, peer: int, step: int) -> None:
        """Report a finished local step, and answer the messages that have arrived."""
        self.mixer.local_step(peer, step)
        self._handle()

    def close(self) -> None:
        """End, after all reachable peers have ended their rounds: no further message can arrive."""
        self._closed = True
        self._node().close()

    def report(self) -> dict[str, Any]:
        """Return the algorithm's counters and the seconds waited, as plain data; {} for a peer that never trained."""
        return {} if self.node is None else {**self.node.report(), "waited_s": self.waited_s}

    # Inside -------------------------------------------------------------------------------------------------

    def _node(self) -> AsynchronousPeer:
        if self.node is None:
            raise LocalProtocolError("an asynchronous driver is used before its run has begun")
        return self.node

    def _wait(self, unfinished: Callable[[], bool]) -> None:
        """Answer neighbours until ``unfinished`` is False."""
        began = self.clock()
        while unfinished():
            now, timeout = self.clock(), self.mixer.exchange.awaited.round_timeout
            longest = LONGEST * timeout
            for j in set(self.mixer.exchange.stuck(now)) & self._node().open.keys():
                self.mixer.drop(j, f"peer {j} reported no progress for {timeout:g} s while an exchange waited for its "
                                   "answer")
            for j in self._node().open if now - began >= longest else ():
                self.mixer.drop(j, f"peer {j} gave no answer for {longest:g} s")
            self.mixer.waits()  # else our own neighbours would give us up before we give up this one
            self._handle(min(max(0.0, self._remind_at - now), 1.0))
        self.waited_s += self.clock() - began

    def _handle(self, timeout: float = 0.0) -> None:
        """Handle messages, waiting at most ``timeout`` seconds for one, and send the reminders that are due."""
        self.mixer.listen(timeout)
        node = self._node()
        self._update_neighbours(node)
        if not node.open:
            self._remind_at, self._remind_after = math.inf, REMIND_AFTER
        elif self._remind_at == math.inf:
            self._remind_at = self.clock() + self._remind_after
        elif self.clock() >= self._remind_at:
            self._remind_after *= 2
            self._remind_at = self.clock() + self._remind_after
            self._send(node.remind())

    def _update_neighbours(self, node: AsynchronousPeer) -> None:
        """Go on without lost neighbours, and with those that have returned and train."""
        for _, j in self.mixer.breaks(node.clock).reset:
            node.renewed(j)
        for j in self.mixer.lost:
            node.gone(j)
        for j in self.mixer.training():
            if j not in node.place.neighbours:
                node.back(j)

    def _arrived(self, peer: int, header: Header, payload: memoryview) -> None:
        """Handle a message of a training round. Raises RemoteProtocolError where it is invalid."""
        if self._closed:
            return
        message = received(peer, self.mixer.me, Step(header.round, header.slot), payload, header.codec, header.size)
        if self.node is None:
            self._early[peer].append(message)
        else:
            self._receive(message)

    def _receive(self, message: Message) -> None:
        node = self._node()
        self._update_neighbours(node)  # else a message of a restarted neighbour might count for its earlier process
        try:
            self._send(node.receive(message))
        except RemoteProtocolError:
            self._send(node.refuse(message))  # else its sender would wait, and at the end the others for its sender
            raise

    def _send(self, messages: list[Message]) -> None:
        for message in messages:
            if message.dst not in self.mixer.lost:
                self.mixer.send(message.dst, message.step, message.payload, message.codec, message.size)
