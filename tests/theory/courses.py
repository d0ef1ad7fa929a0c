"""Rounds that end when they have shown what they can."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from lockstep import run

from p2pser.gossip.algorithm import Algorithm, State

REST = 1e-12
"""Rows that move by no more in ``STILL`` rounds are at rest."""
STILL = 40


Reached: TypeAlias = "Callable[[int, State], bool]"
"""Whether rounds may end after one: (round, state)."""


class _End(Exception):
    pass


def run_until(reached: Reached, algorithm: Algorithm, state: State, work: Any, mixer: Any,
              rounds: int, *, after_round: Callable[[int, State], None] | None = None, **options: Any) -> State:
    """Run at most so many rounds; return the state after the first at which ``reached(round, state)`` holds."""
    latest = state

    def after(round: int, state: State) -> None:
        nonlocal latest
        latest = state
        if after_round is not None:
            after_round(round, state)
        if reached(round, state):
            raise _End

    with contextlib.suppress(_End):
        return run(algorithm, state, work, mixer, rounds, after_round=after, **options)
    return latest


def at_rest(since: int = 0) -> Reached:
    """Return a ``reached``: all rows are where they were STILL rounds ago; not asked before round ``since``."""
    before: dict[str, torch.Tensor] = {}

    def reached(round: int, state: State) -> bool:
        nonlocal before
        if round < since or round % STILL:
            return False
        kept, before = before, {name: row.clone() for name, row in state.rows.items()}
        return bool(kept) and all(float((before[name] - row).abs().max()) <= REST for name, row in kept.items())

    return reached
