"""The loop over communication rounds, the same for the network and the simulator."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from torch import Tensor

from p2pser.base.errors import ConfigError
from p2pser.gossip.algorithm import Algorithm, Local, State
from p2pser.gossip.mixer import Breaks, Mixer

Hook: TypeAlias = Callable[[int, State], None]
"""Called with (round, state)."""
Before: TypeAlias = Callable[[int, State], int | None]
"""Called with (round, state) before a round; returns another round to continue with instead, or None."""


class LockStep:
    """The driver of synchronous algorithms: round after round, each ending with its exchanges.

    Parameters
    ----------
    algorithm, mixer : the run's.
    rounds : R.
    next_round : returns the round after a given one, so that a peer can jump to the round of its neighbours; default,
        and if it returns an earlier one: the next round.
    breaks : returns what has happened to edges until the start of a round; default: no edge ever breaks.
    """

    def __init__(self, algorithm: Algorithm, mixer: Mixer, rounds: int,
                 next_round: Callable[[int], int] = lambda round: round + 1,
                 breaks: Callable[[int], Breaks] | None = None) -> None:
        self._algorithm, self._mixer, self._rounds = algorithm, mixer, rounds
        self._next_round, self._breaks = next_round, breaks

    def run(self, state: State, local: Local, start: int, *, before_round: Before, after_round: Hook) -> State:
        """Run rounds ``start`` .. R-1 and return the state after the last.

        before_round : called with the state at a round's start, as a checkpoint holds it. after_round : called with the
        mixed state.
        """
        algorithm, mixer, round = self._algorithm, self._mixer, start
        state.breakable = self._breaks is not None
        algorithm.begin(state, mixer)
        while round < self._rounds and not algorithm.ended(mixer, round):
            if self._breaks is not None:
                mend(algorithm, state, mixer, self._breaks(round))
            if (instead := before_round(round, state)) is not None:
                round = instead
                continue
            form = _form(state.rows["x"])
            state = _whole(algorithm, algorithm.round(state, local, mixer, round), form)
            after_round(round, state)
            round = max(round + 1, self._next_round(round))
        return state

    def close(self) -> None:
        """Do nothing: no exchange is open after the last round."""


def _form(x: object) -> str:
    """Return type and shape of a tensor: ``torch.float32 (4, 9610)``."""
    return f"{x.dtype} {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__


def _whole(algorithm: Algorithm, state: object, form: str) -> State:
    """Return the state that a round returned. Raises ConfigError where the round, which may be a plug-in's, returned
    none, or parameters of another form than they had before it.
    """
    name = type(algorithm).__name__
    if not isinstance(state, State):
        raise ConfigError(f"the round of the algorithm {name} returned {type(state).__name__}, not the state: "
                          "end it with 'return state'")
    if (left := _form(state.rows.get("x"))) != form:
        raise ConfigError(f"the round of the algorithm {name} left {left} in rows['x'], not {form}")
    return state


def begin_edges_anew(algorithm: Algorithm, state: State, mixer: Mixer) -> None:
    """Continue over another graph: W has changed, so both ends of every edge begin it anew."""
    for edge in sorted(state.edges):
        algorithm.on_edge_broken(state, mixer.peers, edge)
    state.edges = {}
    algorithm.on_join(state, mixer)


def mend(algorithm: Algorithm, state: State, mixer: Mixer, breaks: Breaks) -> None:
    """Let the algorithm continue without broken edges, and begin anew on the edges to neighbours that begin afresh."""
    for edge in breaks.broken:
        algorithm.on_edge_broken(state, mixer.peers, edge)
    for edge in breaks.reset:
        algorithm.on_edge_reset(state, mixer.peers, edge)
