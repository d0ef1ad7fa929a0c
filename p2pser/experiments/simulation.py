"""One simulated run beside local-only and pooled training: what ``p2pser simulate`` measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from p2pser.base.energy import Energy, Meter
from p2pser.base.progress import progress
from p2pser.config import Config
from p2pser.evaluation import metrics
from p2pser.evaluation.outputs import Outputs, ccc_of_several, in_short
from p2pser.experiments import temperature
from p2pser.experiments.baselines import Baseline, local_only, pooled
from p2pser.experiments.by_corpus import uar_by_corpus
from p2pser.features.federation import Federation
from p2pser.graph.spec import Topology
from p2pser.models.calibrated import NOT_ASKED, Calibrated
from p2pser.simulation.engine import simulate
from p2pser.simulation.results import Round, Simulation
from p2pser.simulation.resume import Keep
from p2pser.simulation.scenario import Scenario


@dataclass(frozen=True)
class SimulatedRun:
    """A simulation and what it is compared with; ``calibrated`` is what speakers outside the model's training say of
    its probabilities: those of inner folds, or those whom the peers held out. ``energy`` is that of the
    simulation alone.
    """

    simulation: Simulation
    local_only: Baseline | None = None
    pooled: Baseline | None = None
    calibrated: Calibrated = NOT_ASKED
    energy: Energy | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data: the keys that ``p2pser demo --json`` has, and more."""
        run, federation = self.simulation, self.simulation.federation
        agreed = isfinite(run.final.distance)
        return {
            "peers": run.topology.size,
            "rounds": run.config.training.rounds,
            "uar": self._uar(agreed),
            "uar_by_width": uar_by_width(run),
            "ccc": self._ccc(agreed),
            "consensus_distance": run.consensus_distance,
            "bytes_per_peer": float((run.bytes_training + run.bytes_final).mean()),
            "messages_late": run.messages_late,
            "peers_dead": [i for i in range(run.topology.size) if i not in run.living + run.hostile],
            "peers_hostile": list(run.hostile),
            "wall_s": run.wall_s,
            "energy": None if self.energy is None else self.energy.to_dict(),
            "simulated_s": run.history[-1].seconds if run.history else None,
            "asynchronous": run.asynchronous,
            "topology": run.topology.name,
            "corpus": federation.corpus.name,
            "synthetic": federation.corpus.synthetic,
            "labels": list(federation.labels),
            "split": federation.split.name,
            "test_speakers": list(federation.split.test_speakers),
            "speaker_overlap": federation.speaker_overlap,
            "normalise": federation.normalise,
            "notes": [*federation.notes, *run.notes],
            "slem": run.slem,
            "final": {"exchanges": run.final.exchanges, "converged": run.final.converged,
                      "bound": run.final.distance if agreed else None,
                      "bytes_per_peer": float(run.bytes_final.mean())},
            **self.calibrated.to_dict(),
            "privacy": None if run.budget is None else dict(run.budget),
            "uar_by_corpus": self._by_corpus(agreed),
        }

    def _uar(self, agreed: bool) -> dict[str, float | None]:
        run = self.simulation
        each = [metrics.uar_pooled(predictions) for predictions in run.peer_predictions]
        return {
            "consensus": metrics.uar_pooled(run.predictions) if run.predictions is not None and agreed else None,
            "mean_peer": sum(each) / len(each) if each else None,
            "worst_peer": min(each) if each else None,
            **({"fine_tuned": mean_uar(run.personal_outputs)} if run.personal is not None else {}),
            "local_only": None if self.local_only is None else self.local_only.uar,
            "pooled": None if self.pooled is None else self.pooled.uar,
        }

    def _ccc(self, agreed: bool) -> dict[str, Any] | None:
        run = self.simulation
        if run.outputs is None or run.outputs.ccc is None:
            return None
        mean, worst = ccc_of_several([outputs.ccc for outputs in run.peer_outputs])
        return {"consensus": run.outputs.ccc if agreed else None, "mean_peer": mean, "worst_peer": worst,
                "local_only": self.local_only and self.local_only.ccc, "pooled": self.pooled and self.pooled.ccc}

    def _by_corpus(self, agreed: bool) -> dict[str, dict[str, float | None]]:
        """Return the UAR on each of several corpora."""
        run = self.simulation
        return uar_by_corpus(run.federation, run.predictions if agreed else None,
                             self.local_only.predictions if self.local_only else (),
                             self.pooled.predictions if self.pooled else ())


def run(config: Config, topology: Topology, federation: Federation, scenario: Scenario | None = None, *,
        exact: bool = False, baselines: bool = True, calibrate: int | None = None, sample: int | None = None,
        show_progress: bool = False, keep: Keep | None = None) -> SimulatedRun:
    """Simulate a run, and what it is compared with.

    Parameters
    ----------
    config, topology, federation : the run's; the federation has the clips of all peers.
    scenario : what goes wrong, and what time costs.
    exact : mix bit for bit as between processes.
    baselines : train local-only and pooled models too, where clips are held out.
    calibrate : fit the temperature of the probabilities and the prediction sets on so many inner folds, each a run of
        its own.
    sample : of how many peers, drawn by the seed, the own models are evaluated; None: of all.
    show_progress : show a progress bar.
    keep : the checkpoints of the run (not of inner folds and baselines).
    """
    meter = Meter(config.peer.watts)
    with progress("round", config.training.rounds, wanted=show_progress) as bar:
        def observe(round: Round) -> None:
            meter.look()
            bar(round.round, in_words(round))

        simulation = simulate(config, topology, federation, scenario, exact=exact, sample=sample, keep=keep,
                              observe=observe)
    energy = meter.read()
    calibrated = simulation.calibrated
    if calibrate is not None:
        with progress("calibration", calibrate, wanted=show_progress) as bar:
            calibrated = temperature.fit(config, topology, federation, calibrate, bar)
    if not baselines or federation.test is None:
        return SimulatedRun(simulation, calibrated=calibrated, energy=energy)
    return SimulatedRun(simulation, local_only(config, federation), pooled(config, federation), calibrated, energy)


def in_words(round: Round) -> str:
    """Return a round's loss and the figures of the model that the consensus would be."""
    uar = round.uar["consensus"]
    ccc = in_short(round.ccc["consensus"]) if round.ccc else None
    return "round" + ("" if round.loss is None else f"  loss {round.loss:.3f}") \
        + ("" if uar is None else f"  UAR {uar:.3f}") \
        + ("" if ccc is None else f"  CCC {ccc:.3f}")


def mean_uar(outputs: Sequence[Outputs]) -> float | None:
    """Return the mean UAR of several models; None where none learned emotions."""
    known = [each.uar for each in outputs if each.uar is not None]
    return sum(known) / len(known) if known else None


def uar_by_width(run: Simulation) -> dict[str, float | None]:
    """Return the mean UAR of the models of each width at the end; empty where all have the same width."""
    by_width = {width: [outputs for i, outputs in zip(run.living, run.final_outputs) if run.widths[i] == width]
                for width in sorted(set(run.widths))}
    return {f"{width:g}": mean_uar(outputs) for width, outputs in by_width.items()} if len(by_width) > 1 else {}
