"""Noise that sums to zero between neighbours: what it hides from the audit, and what it costs in UAR.

In each round the ends of every edge draw the same noise from a secret of theirs. One adds it to the row that it sends
to all of its neighbours, the other subtracts it, so the mean of all rows is as without noise. An observer takes out
what it drew itself; the noise of a peer's other edges remains. The attacks are those of ``p2pser audit --before`` with
dfedavg. UAR is the consensus model's on held-out speakers, the mean over folds. ``privacy`` gives the worst attack
after any of the rounds, with a 95 % interval over peers.

References: Y. Allouah et al., "The Privacy Power of Correlated Noise in Decentralized Learning", ICML 2024 (noise
shared by the ends of an edge); S. Biswas et al., "Low-Cost Privacy-Preserving Decentralized Learning", PoPETs 2025
(noise that sums to zero over a peer's messages).

    python benchmarks/zero_sum_noise.py --corpus emodb --data FOLDER --peers 10 --folds all --seeds 3
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any

import numpy as np
import pairs
import torch
from torch import Tensor

from p2pser.base import seeding
from p2pser.base.registries import ALGORITHMS
from p2pser.config import Config
from p2pser.features.federation import Federation, federate
from p2pser.gossip.algorithm import Local, State
from p2pser.gossip.algorithms.dfedavg import DFedAvg
from p2pser.gossip.mixer import Mixer, Step
from p2pser.graph.spec import Topology, load
from p2pser.privacy import runs
from p2pser.privacy.audit import audit
from p2pser.privacy.wire import View, Wire
from p2pser.simulation.engine import simulate

NAME = "zero-sum-noise"
FOUND = (("sex", "UAR"), ("speaker", "top-1"), ("membership", "AUC"), ("labels", "correlation"))


def shared_noise(config: Config, peer: int, neighbour: int, round: int, like: Tensor) -> Tensor:
    """Return what ``peer`` adds to its row (D,) for an edge; its neighbour adds the opposite."""
    first, second = sorted((peer, neighbour))
    draw = seeding.torch_generator(config.seed, f"{NAME} {first} {second}", round)
    scale = float(config.gossip.parameters["noise"]) * (1 if peer == first else -1)
    return scale * torch.randn(like.shape, generator=draw)


def all_noise(config: Config, topology: Topology, peer: int, round: int, like: Tensor) -> Tensor:
    """Return what ``peer`` adds to its row (D,) in a round."""
    each = [shared_noise(config, peer, neighbour, round, like) for neighbour in topology.neighbours(peer)]
    return torch.stack(each).sum(0)


@ALGORITHMS.register(NAME)
@dataclass(frozen=True, kw_only=True)
class ZeroSumNoise(DFedAvg):
    """``dfedavg`` whose rows carry noise that sums to zero between neighbours."""

    noise: float = 0.0
    """standard deviation of the noise of an edge in each number of a row"""

    def round(self, state: State, local: Local, mixer: Mixer, round: int) -> State:
        """Take the local steps of ``round``, add noise and mix."""
        z = local.train(state, round).clone()
        for b, peer in enumerate(mixer.peers):
            z[b] += all_noise(self.context.config, self.context.topology, peer, round, z[b])
        state.rows["x"] = mixer.mix(z, Step(round, 0))
        return state


@dataclass
class NoisyWire(Wire):
    """A wire whose observers take the noise out of rows that they know."""

    config: Config = field(default_factory=Config)

    def view(self, peer: int, observers: Sequence[int], round: int) -> View | None:
        """Return what observers know of a peer's local work in a round."""
        view = super().view(peer, observers, round)
        if view is None:
            return None
        known = [shared_noise(self.config, peer, observer, round, view.update) for observer in observers
                 if observer in self.topology.neighbours(peer)]
        return replace(view, update=view.update - torch.stack(known).sum(0))


def noisy(config: Config, topology: Topology, federation: Federation, rounds: tuple[int, ...], rejoins: bool
          ) -> runs.RecordedRun:
    """Return a simulated run, whose observers know the noise of their own edges."""
    run = runs.simulated(config, topology, federation, rounds, rejoins)
    wire = NoisyWire(**{each.name: getattr(run.wire, each.name) for each in fields(Wire)}, config=config)
    for round, rows in wire.ends.items():  # what each peer sent is what it knows of its own row
        for peer in range(topology.size):
            rows[peer] += all_noise(config, topology, peer, round, rows[peer])
    return replace(run, wire=wire)


def privacy(config: Config, topology: Topology, federation: Federation, colluding: int, seeds: int) -> dict[str, Any]:
    """Return for each of ``FOUND`` the worst attack's value and interval."""
    found = audit(config, topology, federation, colluding=colluding, seeds=seeds, source=noisy).findings
    worst = {about: max((each for each in found if (each.about, each.measure) == (about, measure)),
                        key=lambda each: each.value) for about, measure in FOUND}
    return {about: [each.value, each.low, each.high, each.attack, each.rounds] for about, each in worst.items()}


def added(config: Config, topology: Topology, federation: Federation) -> float:
    """Return the length of a row's noise, as observers see it, by that of the update of the first round."""
    run = noisy(config, topology, federation, (1,), False)
    ratios = []
    for peer in run.subjects.peers:
        observers = run.wire.observers(peer, 1)
        view, update = run.wire.view(peer, observers, 0), run.wire.ends[0][peer] - run.wire.initial
        assert view is not None
        update = update - all_noise(config, topology, peer, 0, update)
        ratios.append(float((view.update - update).norm() / update.norm()))
    return float(np.mean(ratios))


def uar(config: Config, topology: str, peers: int) -> float | None:
    """Return the consensus model's UAR on the speakers of a fold, who are at no peer."""
    run = simulate(config, load(topology, peers), federate(config, peers), each_peer=False)
    return None if run.outputs is None else run.outputs.uar


def cases(given: argparse.Namespace) -> Iterator[tuple[Topology, float]]:
    """Yield each topology with each noise."""
    for name in given.topologies.split(","):
        for noise in given.noise.split(","):
            yield load(name, given.peers), float(noise)


def main() -> None:
    """Print a line for each topology and noise."""
    parser = pairs.options(__doc__, NAME)
    parser.add_argument("--peers", type=int, default=10)
    parser.add_argument("--colluding", type=int, default=1)
    parser.add_argument("--topologies", default="ring,exponential,complete")
    parser.add_argument("--noise", default="0,0.01,0.1,1")
    given = parser.parse_args()
    base = pairs.settings(given, "peer.evaluate_every=1000000", f"gossip.algorithm={NAME}")
    whole = base.with_settings(["corpus.split=none"])
    federation = federate(whole, given.peers)
    for topology, noise in cases(given):
        setting = f"gossip.parameters={{noise: {noise}}}"
        attacked = whole.with_settings([setting])
        uars = [pairs.kept(given.out, config, partial(uar, config, topology.name, given.peers - 1),
                           topology=topology.name) for config in pairs.each(base.with_settings([setting]), given)]
        line = {"topology": topology.name, "noise": noise, "by the update": added(attacked, topology, federation),
                **privacy(attacked, topology, federation, given.colluding, given.seeds), "uar": float(np.mean(uars)),
                "runs": len(uars)}
        print(json.dumps(line) if given.json else as_text(line), flush=True)


def as_text(line: dict[str, Any]) -> str:
    """Return a line of the table in Markdown."""
    def interval(value: float, low: float, high: float, *_: Any) -> str:
        return f"{value:.2f} [{low:.2f} {high:.2f}]"

    found = " | ".join(interval(*line[about]) for about, _ in FOUND)
    return (f"| {line['topology']} | {line['noise']:g} | {line['by the update']:.1f} | {found} | {line['uar']:.3f} "
            f"({line['runs']}) |")


if __name__ == "__main__":
    main()
