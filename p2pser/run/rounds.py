"""The loop over communication rounds, the same for the network and the simulator."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from p2pser.gossip.algorithm import Algorithm, Local, State
from p2pser.gossip.mixer import Breaks, Mixer

Hook: TypeAlias = Callable[[int, State], None]
"""Called with (round, state)."""
Before: TypeAlias = Callable[[int, State], int | None]
"""Called with (round, state) before a round; returns the round to go on with instead, None for this one."""


def run(
    algorithm: Algorithm,
    state: State,
    local: Local,
    mixer: Mixer,
    rounds: int,
    start: int = 0,
    *,
    before_round: Before | None = None,
    after_round: Hook | None = None,
    next_round: Callable[[int], int] | None = None,
    breaks: Callable[[int], Breaks] | None = None,
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
    breaks : returns what has happened to edges until the start of a round; default: no edge ever breaks.
    """
    state.breakable = breaks is not None
    algorithm.begin(state, mixer)
    round = start
    while round < rounds and not algorithm.ended(mixer, round):
        if breaks is not None:
            mend(algorithm, state, mixer, breaks(round))
        if before_round is not None and (instead := before_round(round, state)) is not None:
            round = instead
            continue
        state = algorithm.round(state, local, mixer, round)
        if after_round is not None:
            after_round(round, state)
        round = max(round + 1, next_round(round)) if next_round is not None else round + 1
    return state


def begin_edges_anew(algorithm: Algorithm, state: State, mixer: Mixer) -> None:
    """Go on over another graph: W has changed, so that both ends of every edge begin it anew."""
    for edge in sorted(state.edges):
        algorithm.on_edge_broken(state, mixer.peers, edge)
    state.edges = {}
    algorithm.on_join(state, mixer)


def mend(algorithm: Algorithm, state: State, mixer: Mixer, breaks: Breaks) -> None:
    """Let the algorithm go on without broken edges, and begin anew with neighbours that begin afresh."""
    for edge in breaks.broken:
        algorithm.on_edge_broken(state, mixer.peers, edge)
    for edge in breaks.reset:
        algorithm.on_edge_reset(state, mixer.peers, edge)
