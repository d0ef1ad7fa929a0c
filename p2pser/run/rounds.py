"""The loop over communication rounds, one for the network and the simulator."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from p2pser.gossip.algorithm import Algorithm, Local, State
from p2pser.gossip.mixer import Mixer

Hook: TypeAlias = Callable[[int, State], None]
"""Called with (round, state)."""


def run(
    algorithm: Algorithm,
    state: State,
    local: Local,
    mixer: Mixer,
    rounds: int,
    start: int = 0,
    *,
    before_round: Hook | None = None,
    after_round: Hook | None = None,
    next_round: Callable[[int], int] | None = None,
) -> State:
    """Run rounds ``start .. rounds-1`` and return the state after the last.

    ``before_round`` sees the state that a checkpoint of the round's start holds, ``after_round`` the mixed
    one. ``next_round(round)`` names the round after ``round``: a mixer whose neighbours are further ahead
    jumps there; without it, or where it looks back, it is ``round + 1``.
    """
    algorithm.begin(state, mixer)
    round = start
    while round < rounds:
        if before_round is not None:
            before_round(round, state)
        state = algorithm.round(state, local, mixer, round)
        if after_round is not None:
            after_round(round, state)
        round = max(round + 1, next_round(round)) if next_round is not None else round + 1
    return state
