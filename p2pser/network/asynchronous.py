"""An asynchronous algorithm between processes: a peer answers messages between its local steps, there are no rounds.

The I/O thread receives and sends while training holds the processor; the training thread handles the messages after
each local step.
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
from p2pser.network.exchange import LONGEST
from p2pser.network.mixer import NetworkMixer
from p2pser.run.rounds import Before, Hook
from p2pser.wire.messages import Header

REMIND_AFTER = 5.0
"""Seconds until a reminder for the answer to an open exchange; they double with each one. Links lose only what their
bounded queues drop, so this is rare."""
MAX_EARLY = 8
"""Messages of a neighbour that are kept until this peer trains too."""


class AsynchronousDriver:
    """Drives one peer of an asynchronous algorithm over the mixer's links.

    Create it before the set-up: neighbours may train already while this peer does not.

    Parameters
    ----------
    mixer:
        The peer's mixer. Messages of rounds 0 .. R-1 are the driver's, the others (set-up, the end) the mixer's.
    algorithm:
        The algorithm.
    seed:
        The run's seed.
    rounds:
        R, the rounds of training.
    clock:
        Returns the time [s].
    """

    def __init__(self, mixer: NetworkMixer, algorithm: Asynchronous, *, seed: int, rounds: int,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self.mixer, self.rounds, self.clock = mixer, rounds, clock
        self._algorithm, self._seed = algorithm, seed
        self.node: AsynchronousPeer | None = None
        self.waited_s = 0.0
        """Seconds without a local step, because an exchange had reached the bound, or was still open at the end."""
        self._early: dict[int, deque[Message]] = {j: deque(maxlen=MAX_EARLY) for j in mixer.neighbours}
        self._closed = False
        self._remind_at = math.inf
        self._remind_after = REMIND_AFTER
        mixer.on(range(rounds), self._arrived)

    def run(self, state: State, local: Local, start: int, *, before_round: Before, after_round: Hook) -> State:
        """Train rounds ``start`` .. R-1, then wait until no exchange is open.

        A neighbour that reports no progress for ``network.round_timeout`` while this peer must wait for its answer is
        lost.

        Parameters
        ----------
        state:
            The peer's state at the beginning of round ``start``.
        local:
            The local work; it must call ``local_step`` after each step.
        start:
            The first round.
        before_round, after_round:
            Called with the round and the state, as in ``run.rounds.run``.

        Returns
        -------
        State
            The state after the last round.
        """
        place = Place(self.mixer.me, self.mixer.neighbours, self._seed)
        self.node = node = AsynchronousPeer(self._algorithm, state, place, start)
        self.mixer.breaks(start)  # of before
        for j in sorted(self._early):
            for message in self._early.pop(j):
                try:
                    self._receive(message)
                except RemoteProtocolError as error:
                    self.mixer.strike(j, str(error))
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
        """Report a finished local step, and answer the messages that have arrived."""
        self.mixer.local_step(peer, step)
        self._look()

    def close(self) -> None:
        """End, when all reachable peers have ended their rounds: no message can arrive any more."""
        self._closed = True
        self._node().close()

    def report(self) -> dict[str, Any]:
        """Return the algorithm's counters and the seconds waited, as plain data; none of a peer that never trained."""
        return {} if self.node is None else {**self.node.report(), "waited_s": self.waited_s}

    # Inside -------------------------------------------------------------------------------------------------

    def _node(self) -> AsynchronousPeer:
        if self.node is None:
            raise LocalProtocolError("an asynchronous run is driven before it has begun")
        return self.node

    def _wait(self, unfinished: Callable[[], bool]) -> None:
        """Answer neighbours until ``unfinished`` is False."""
        began = self.clock()
        while unfinished():
            now, longest = self.clock(), LONGEST * self.mixer.exchange.round_timeout
            for j in set(self.mixer.exchange.stuck(now)) & self._node().open.keys():
                self.mixer.drop(j, f"peer {j} reported no progress for {self.mixer.exchange.round_timeout:g} s while "
                                    "an exchange waited for its answer")
            for j in self._node().open if now - began >= longest else ():
                self.mixer.drop(j, f"peer {j} gave no answer for {longest:g} s")
            self.mixer.waits()  # else our neighbours would give us up before we give that one up
            self._look(min(max(0.0, self._remind_at - now), 1.0))
        self.waited_s += self.clock() - began

    def _look(self, timeout: float = 0.0) -> None:
        """Handle messages, waiting at most ``timeout`` seconds for one; drop the lost; send reminders that are due."""
        self.mixer.listen(timeout)
        node = self._node()
        self._mend(node)
        if not node.open:
            self._remind_at, self._remind_after = math.inf, REMIND_AFTER
        elif self._remind_at == math.inf:
            self._remind_at = self.clock() + self._remind_after
        elif self.clock() >= self._remind_at:
            self._remind_after *= 2
            self._remind_at = self.clock() + self._remind_after
            self._send(node.remind())

    def _mend(self, node: AsynchronousPeer) -> None:
        """Go on without lost neighbours, and with those that are back and train."""
        for _, j in self.mixer.breaks(node.clock).reset:
            node.renewed(j)
        for j in self.mixer.lost:
            node.gone(j)
        for j in self.mixer.training():
            if j not in node.place.neighbours:
                node.back(j)

    def _arrived(self, peer: int, header: Header, payload: memoryview) -> None:
        """Handle a message of a training round. Raises RemoteProtocolError where it does not fit."""
        if self._closed:
            return
        message = received(peer, self.mixer.me, Step(header.round, header.slot), payload, header.codec, header.size)
        if self.node is None:
            self._early[peer].append(message)
        else:
            self._receive(message)

    def _receive(self, message: Message) -> None:
        node = self._node()
        self._mend(node)  # before a message of a new process is taken for one of its former process
        try:
            self._send(node.receive(message))
        except RemoteProtocolError:
            self._send(node.refuse(message))  # else its sender would wait, and the others at the end for its sender
            raise

    def _send(self, messages: list[Message]) -> None:
        for message in messages:
            if message.dst not in self.mixer.lost:
                self.mixer.send(message.dst, message.step, message.payload, message.codec, message.size)
