"""The loop over communication rounds, the same for the network and the simulator."""

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

    Parameters
    ----------
    algorithm, state, local, mixer : the run's.
    rounds : R.
    start : the first round to run.
    before_round : called with the state at a round's start, as a checkpoint holds it.
    after_round : called with the mixed state.
    next_round : returns the round after a given one, so that a peer can jump to the round of its neighbours; default,
        and where it returns an earlier one: the next round.
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
