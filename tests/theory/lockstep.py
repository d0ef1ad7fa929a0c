"""Rounds of an algorithm over a mixer, for tests that need no session."""

from __future__ import annotations

from collections.abc import Callable

from p2pser.gossip.algorithm import Algorithm, Local, State
from p2pser.gossip.mixer import Breaks, Mixer
from p2pser.run.rounds import Before, Hook, LockStep


def run(algorithm: Algorithm, state: State, local: Local, mixer: Mixer, rounds: int, start: int = 0, *,
        before_round: Before | None = None, after_round: Hook | None = None,
        next_round: Callable[[int], int] = lambda round: round + 1,
        breaks: Callable[[int], Breaks] | None = None) -> State:
    """Run rounds ``start`` .. ``rounds`` - 1 as ``LockStep`` does, and return the state after the last."""
    return LockStep(algorithm, mixer, rounds, next_round, breaks).run(
        state, local, start, before_round=before_round or _nothing, after_round=after_round or _nothing)


def _nothing(round: int, state: State) -> None:
    pass
