"""Waiting for the neighbours that an algorithm cannot do without: a client for its hub, a hub for a client."""

from __future__ import annotations

import math
from collections.abc import Callable

from p2pser.base.errors import P2PSERError
from p2pser.gossip.algorithm import Algorithm
from p2pser.network.awaited import LONGEST
from p2pser.network.mixer import NetworkMixer
from p2pser.network.states import State
from p2pser.peer.reporter import Reporter

NEVER_BACK = (State.DONE, State.BANNED)


class Needed:
    """Checks before a round whether enough neighbours take part in it, and waits for those that may return.

    A lost neighbour is treated as one that is absent at the start; one that has returned is waited for until it trains.

    Parameters
    ----------
    algorithm : knows the neighbours without which a peer cannot continue (``Algorithm.ends``).
    mixer : knows the neighbours.
    reporter : receives sentences and events.
    patience : longest wait for a lost neighbour [s]; None: no limit.
    """

    def __init__(self, algorithm: Algorithm, mixer: NetworkMixer, reporter: Reporter, patience: float | None) -> None:
        self._algorithm, self._mixer, self._reporter = algorithm, mixer, reporter
        self._patience = math.inf if patience is None else patience

    def missing(self, last: bool) -> bool:
        """Whether to wait. last: all rounds are over; then also for each neighbour that has returned, since it cannot
        take part later.
        """
        roster, algorithm = self._mixer.roster, self._algorithm
        return self._without(lambda j: not roster.awaited(j)) is not None or (
            last and algorithm.served and bool(roster.returning()))

    def wait(self, last: bool, meanwhile: Callable[[], None]) -> None:
        """Wait as long as neighbours are ``missing``.

        meanwhile : called repeatedly; answers the requests of neighbours that return.

        Raises P2PSERError where the time is over, or no lost neighbour can return.
        """
        mixer, roster, before, since = self._mixer, self._mixer.roster, "", 0.0
        longest = LONGEST * mixer.exchange.awaited.round_timeout
        # A neighbour may be lost and come back again and again without ever training.
        end = mixer.io.clock() + self._patience + longest
        while self.missing(last):
            now, lost = mixer.io.clock(), self._without(roster.gone)
            reason = lost or self._without(lambda j: not roster.awaited(j))
            back = ", ".join(map(str, roster.returning()))
            sentence = f"waiting, since {lost}: start what is missing with the same command" if lost else \
                f"waiting until peer {back} trains again"
            if sentence != before:
                before, since = sentence, now
                self._reporter.waiting(sentence)
            limit = mixer.exchange.awaited.round_timeout if reason is None else longest
            until = min(since + (self._patience if lost else limit), end)
            if reason is None and now >= until:
                return  # they take the model at the end
            if now >= until or self._without(lambda j: roster.state(j) in NEVER_BACK) is not None:
                raise P2PSERError(f"{reason}: training cannot go on; start all peers again with the same commands, and "
                                  "they resume from the newest checkpoint that all have")
            meanwhile()
            mixer.listen(min(until, mixer.waits()) - now)

    def _without(self, gone: Callable[[int], bool]) -> str | None:
        """Return why this peer cannot continue without the neighbours that are ``gone``; None if it can."""
        return self._algorithm.ends(self._mixer.me, {j for j in self._mixer.neighbours if gone(j)})
