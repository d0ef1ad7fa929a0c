"""The results of a simulated run: after each round, and at its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from p2pser.base.frames import frame
from p2pser.config import Config
from p2pser.evaluation.metrics import Predictions
from p2pser.evaluation.outputs import Ccc, Outputs, ccc_of_several
from p2pser.features.federation import Federation
from p2pser.features.normalisation import Statistics
from p2pser.gossip.agreement.consensus import Consensus
from p2pser.gossip.algorithm import Algorithm, State
from p2pser.gossip.partial import Parts
from p2pser.graph.spec import Topology
from p2pser.models.calibrated import NOT_ASKED, Calibrated
from p2pser.models.nested import Nested
from p2pser.models.rows import Schema
from p2pser.run.participant import Cohort
from p2pser.simulation.timeline import Mark

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Round:
    """The results after a communication round (the first is 1).

    Round r of an asynchronous algorithm ends when the peers have done r rounds each on average.

    loss : mean over the living peers that trained; None where none did.
    uar : on the held-out clips: "mean" and "worst" over the living peers' models, "consensus" of their mean; None where
        they were not evaluated.
    distance : the consensus distance.
    bytes : payload bytes sent so far, mean over the peers.
    seconds : simulated seconds until all peers had done the round; None without a clock.
    ccc : of each dimension, for the same models as ``uar``; None where no dimension is learned.
    """

    round: int
    loss: float | None
    uar: Mapping[str, float | None]
    distance: float
    bytes: float
    seconds: float | None = None
    ccc: Mapping[str, Ccc | None] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the round as plain data."""
        return {**self.__dict__, "uar": dict(self.uar), "ccc": None if self.ccc is None else dict(self.ccc)}


@dataclass(frozen=True)
class Simulation:
    """A finished simulated run.

    ``rows`` (N, D) float32 are the peers' after the last round, ``row`` (d,) float32 is the consensus model. Without a
    final consensus (robust algorithms, hostile peers) ``row`` is the first living peer's own. Where models have
    different widths, ``rows`` are those of the whole network, with zeros where a peer's has no parameter, and ``row``
    (of ``schema``) is the widest peer's. Where peers do not share all parameters (``gossip.share``) there is no common
    model: ``row`` is the first peer's, ``predictions`` and ``outputs`` are None.
    """

    config: Config
    topology: Topology
    federation: Federation
    schema: Schema
    history: tuple[Round, ...]
    rows: Tensor
    row: Tensor
    statistics: Statistics | None
    final: Consensus
    final_distance: tuple[float, ...]
    """Consensus distance before each exchange of the final consensus."""
    consensus_distance: float
    """Consensus distance of the rows that the peers adopted."""
    outputs: Outputs | None
    """The consensus model's outputs for the held-out clips; None where no clips are held out."""
    peer_outputs: tuple[Outputs, ...]
    """Each living peer's outputs after the last round, or those of a sample."""
    living: tuple[int, ...]
    """The honest peers that did not die, of which all figures are."""
    slem: float
    bytes_training: np.ndarray
    """Payload bytes that each peer sent in the rounds, (N,)."""
    messages_training: np.ndarray
    """Messages that each peer sent in the rounds, (N,)."""
    bytes_final: np.ndarray
    messages_late: int
    wall_s: float
    notes: tuple[str, ...] = ()
    """Warnings of the algorithm and of the session."""
    asynchronous: Mapping[str, Any] | None = None
    """Staleness, refusals and drift of an algorithm without lock-step (simulation.events.total)."""
    hostile: tuple[int, ...] = ()
    widths: tuple[float, ...] = ()
    """The width of each peer's model (``model.width``)."""
    networks: Mapping[float, Nested] = field(default_factory=dict)
    """The networks by width; the whole one is among them."""
    final_outputs: tuple[Outputs, ...] = ()
    """Each living peer's outputs after the final consensus, where their models differ."""
    personal: Tensor | None = None
    """Each living peer's fine-tuned model (``training.fine_tune``), like ``rows``; None without."""
    personal_outputs: tuple[Outputs, ...] = ()
    budget: Mapping[str, Any] | None = None
    """The privacy budget that the run has spent (``Algorithm.budget_report``); None without a budget."""
    marks: tuple[Mark, ...] = ()
    """Each peer's time and traffic after the set-up, after each round and at the end; () without a clock."""
    calibrated: Calibrated = NOT_ASKED
    """The calibration on speakers that the peers held out of training (``training.held_out``)."""

    def to_frame(self) -> pandas.DataFrame:
        """Return the rounds as a pandas frame, a line per round. Raises ConfigError where pandas is not installed."""
        return frame([round.to_dict() for round in self.history])

    @property
    def predictions(self) -> Predictions | None:
        """The consensus model's predictions of the held-out clips' emotions; None where there is none."""
        return None if self.outputs is None else self.outputs.predictions

    @property
    def peer_predictions(self) -> tuple[Predictions, ...]:
        """Each living peer's predictions after the last round, before the final consensus."""
        return tuple(outputs.predictions for outputs in self.peer_outputs if outputs.predictions is not None)


LONG = 1 << 12
"""Length of rows from which on norms are computed row by row: those of many rows at once take four times as long, for
the same bits."""


def distance(rows: Tensor, mean: Tensor, mixed: Tensor | None = None) -> float:
    """Return the consensus distance sqrt(mean_i ||x_i - m||^2) / ||m|| of rows (B, D) to their mean m (D,).

    mixed : (B, D) bool, the entries that count (``Parts.mixed``); default: all.
    """
    if mixed is None and mean.numel() >= LONG:
        away = torch.stack([torch.linalg.vector_norm(row - mean) for row in rows]).to(torch.float64)
    else:
        apart = rows - mean if mixed is None else (rows - mean) * mixed
        away = torch.linalg.vector_norm(apart, dim=1).to(torch.float64)
    return float(away.square().mean().sqrt() / torch.linalg.vector_norm(mean, dtype=torch.float64))


def mean_of(rows: Tensor, share: Tensor, mixed: Tensor) -> Tensor:
    """Return the mean (D,) of each entry over the rows (B, D) that have it; 0 for an entry that no row has.

    share : (B,), the weights of the rows, which sum to 1.
    mixed : (B, D) bool, the entries that a row has.
    """
    has = mixed.to(rows.dtype)
    return (share @ (rows * has)) / (share @ has).clamp_min(torch.finfo(rows.dtype).tiny)


class Course:
    """The results after each round of a simulated run so far.

    Parameters
    ----------
    config, cohort, algorithm : the run's.
    living : the honest peers that never die, of which all figures are.
    parts : the entries of a row that cross each edge; None: all.
    counts : the clips of each peer where they weigh the mean; None: all peers weigh the same.
    each_peer : evaluate the peers' own models after every round, not only at the end.
    evaluated : the peers whose own models are evaluated, some of ``living``.
    observe : called with each round.
    """

    def __init__(self, config: Config, cohort: Cohort, algorithm: Algorithm, living: tuple[int, ...],
                 parts: Parts | None, counts: Mapping[int, int] | None, *, each_peer: bool,
                 evaluated: tuple[int, ...], observe: Callable[[Round], None] | None) -> None:
        self.living, self.evaluated = living, evaluated
        self.one_model = parts is None or parts.all_shared
        """Whether there is a model of all peers."""
        self.rounds: list[Round] = []
        self._config, self._cohort, self._algorithm = config, cohort, algorithm
        self._each_peer, self._observe = each_peer, observe
        self._mixed = None if parts is None else parts.mixed()[list(living)]
        weights = torch.tensor([float(counts[i]) if counts else 1.0 for i in living], dtype=torch.float64)
        self.share = weights / weights.sum()
        """The weight of each living peer in the mean, float64."""

    def mean(self, rows: Tensor) -> Tensor:
        """Return the mean (D,) of the living peers' rows (B, D): the consensus model, if there were a consensus now."""
        share = self.share.to(rows.dtype)
        return self._algorithm.mean(rows, share) if self._mixed is None else mean_of(rows, share, self._mixed)

    def distance(self, rows: Tensor, mean: Tensor) -> float:
        """Return the consensus distance of the living peers' rows (B, D) to their mean, where they are exchanged."""
        return distance(rows, mean, self._mixed)

    def after_round(self, round: int, state: State, sent: float, losses: Sequence[float],
                    seconds: float | None = None) -> None:
        """Measure the state after a round.

        Parameters
        ----------
        round, state : the round that has ended, and the state after it.
        sent : payload bytes so far, mean over the peers.
        losses : of all peers.
        seconds : simulated seconds since the start; None where they are not known.
        """
        rows, cohort = self._algorithm.model(state), self._cohort
        if len(self.living) < len(rows):  # else a copy of all of them
            rows = rows[list(self.living)]
        mean = self.mean(rows)
        last = round == self._config.training.rounds - 1
        chosen = set(self.evaluated)
        due = cohort.tests and ((round + 1) % self._config.peer.evaluate_every == 0 or last)
        outputs = [cohort.evaluate(row, i) for i, row in zip(self.living, rows) if i in chosen] \
            if due and (self._each_peer or last) else []
        uars = [each.uar for each in outputs if each.uar is not None]
        agreed = cohort.evaluate(mean) if due and self.one_model else None
        ccc = None if agreed is None or agreed.ccc is None else {
            **dict(zip(("mean", "worst"), ccc_of_several([each.ccc for each in outputs]))), "consensus": agreed.ccc}
        self.rounds.append(Round(
            round=round + 1,
            loss=_mean_known([losses[i] for i in self.living]),
            uar={"mean": float(np.mean(uars)) if uars else None, "worst": min(uars) if uars else None,
                 "consensus": None if agreed is None else agreed.uar},
            distance=self.distance(rows, mean),
            bytes=sent,
            seconds=seconds,
            ccc=ccc,
        ))
        if self._observe is not None:
            self._observe(self.rounds[-1])


def _mean_known(values: list[float]) -> float | None:
    """Return the mean of the values that are not NaN; None where all are."""
    known = [value for value in values if value == value]
    return float(np.mean(known)) if known else None
