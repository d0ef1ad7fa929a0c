"""A gossip algorithm: mix every few rounds, and only a part of the way."""

from dataclasses import dataclass

import p2pser


@p2pser.register_algorithm("lazy")
@dataclass(frozen=True, kw_only=True)
class Lazy(p2pser.Algorithm):
    """Local steps; every k-th round, x_i <- (1 - a) z_i + a sum_j W_ij z_j."""

    every: int = 2
    """Rounds between two exchanges (k)."""
    share: float = 0.5
    """How far a row moves to the mean of its neighbourhood (a)."""

    def round(self, state, local, mixer, round):
        """Take the local steps of a round, and mix in every k-th."""
        rows = local.train(state, round)
        if round % self.every == 0:
            rows = rows + self.share * (mixer.mix(rows, p2pser.Step(round, 0)) - rows)
        state.rows["x"] = rows
        return state
