"""The outcome of a run: written to the peer's folder before anything else at the end, and handed over to neighbours.

The other files of the end (the model directory, the personal model, ``finished.json``) are derived from it. So a peer
that is killed at any instant of the end, and started again, ends with the same model without its neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from p2pser.base.frames import finite
from p2pser.gossip.agreement.consensus import Consensus
from p2pser.graph.spec import Topology
from p2pser.peer.join_state import call_fields, read_call
from p2pser.run import checkpoint
from p2pser.run.setup import RollCall

ROW, SUMS = "x", "setup.sums"
"""Names of the rows of parameters and of the statistics' sums in a checkpoint."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended for a peer.

    final : the final consensus; its rows (1, D) float64 are the peer's model.
    call : the roll call. sums : (S,) of the statistics.
    givers : the neighbours that have handed it over; () if this peer took part in the end.
    """

    final: Consensus
    call: RollCall
    sums: Tensor
    givers: tuple[int, ...] = ()

    @property
    def row(self) -> Tensor:
        """The model (D,) float64."""
        return self.final.rows[0]

    def fields(self) -> dict[str, Any]:
        """Return all except the tensors, as plain data."""
        final = self.final
        return {"call": call_fields(self.call), "distance": finite(final.distance),
                "exchanges": final.exchanges, "dead": list(final.dead), "converged": final.converged,
                "sought": final.sought}


def read(fields: Mapping[str, Any], row: Tensor, sums: Tensor, topology: Topology, rounds: int,
         givers: tuple[int, ...] = ()) -> Outcome:
    """Return the outcome that has these ``Outcome.fields`` and the tensors (D,) and (S,).

    Raises KeyError, TypeError or ValueError for fields of another form.
    """
    distance, exchanges, dead = fields["distance"], fields["exchanges"], fields["dead"]
    if distance is not None and not (type(distance) is float and 0 <= distance < math.inf):
        raise ValueError(f"a difference of {distance}")
    if type(exchanges) is not int or not 0 <= exchanges < 2**31:
        raise ValueError(f"{exchanges} exchanges")
    if not (len(dead) <= topology.size and all(type(i) is int and 0 <= i < topology.size for i in dead)):
        raise ValueError("the peers that took no part")
    if not (type(fields["converged"]) is type(fields["sought"]) is bool):
        raise ValueError("whether the peers agreed")
    final = Consensus(row[None], math.nan if distance is None else distance, exchanges, tuple(sorted(set(dead))),
                      fields["converged"], fields["sought"])
    return Outcome(final, read_call(fields["call"], topology, rounds), sums, givers)


def keep(folder: Path, round: int, outcome: Outcome, summary: Mapping[str, Any]) -> None:
    """Write an outcome and the summary so far. Raises OSError where it cannot be written."""
    meta = {"outcome": outcome.fields(), "givers": list(outcome.givers), "summary": dict(summary)}
    checkpoint.write(folder, round, {ROW: outcome.row[None], SUMS: outcome.sums[None]}, {}, meta)


def kept(folder: Path, round: int, topology: Topology) -> tuple[Outcome, dict[str, Any]] | None:
    """Return the outcome and the summary of ``keep``; None if there is none that is complete."""
    if round not in checkpoint.available(folder):
        return None
    rows, _, meta = checkpoint.load(folder, round)
    try:
        outcome = read(meta["outcome"], rows[ROW][0], rows[SUMS][0], topology, round, tuple(meta["givers"]))
        return outcome, dict(meta["summary"])
    except (KeyError, TypeError, ValueError):
        return None  # written by another version: the end of the run is repeated
