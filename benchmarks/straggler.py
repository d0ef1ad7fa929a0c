"""A straggler: simulated seconds until the UAR of the consensus model is 95 % of that of pooled training, by
synchronous and asynchronous algorithms.

Peer 3's local steps take five times as long as the others' (0.05 s per step, links of a WAN). Each scheme's learning
rate is chosen on inner folds of training speakers; UAR over time is the mean over folds and seeds of the consensus
model's. The same runs without a straggler stand beside it. Finished runs are kept in --out.

    python benchmarks/straggler.py --corpus ravdess --data FOLDER --peers 20 [--folds all] [--seeds 3] [--json]
"""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import numpy as np
import pairs

from p2pser.config import Config
from p2pser.experiments import baselines, tuning
from p2pser.features.federation import Federation, federate
from p2pser.graph import spec
from p2pser.simulation.clock import preset
from p2pser.simulation.engine import simulate
from p2pser.simulation.scenario import Scenario

SCHEMES = ("dfedavg", "overlap", "ad-psgd", "stale-gossip")
RATES = (0.02, 0.05, 0.1)
STRAGGLER, FACTOR = 3, 5.0
INNER = 2
NEAR = 0.95


def run(config: Config, federation: Federation, peers: int, factor: float) -> Any:
    """Return a run over a WAN with a straggler (factor 1: none)."""
    clock = preset("wan", slow={STRAGGLER: factor} if factor != 1 else {}, seed=config.seed)
    return simulate(config, spec.load("ring", peers), federation, Scenario(clock=clock), each_peer=False)


def rate(config: Config, federation: Federation, peers: int) -> float:
    """Return the learning rate with the highest UAR over the inner folds."""
    scores = {str(lr): [[run(config.with_settings([f"training.lr={lr}"]), tuning.inner(federation, number, INNER),
                             peers, FACTOR).predictions] for number in range(INNER)] for lr in RATES}
    return float(tuning.best(scores))


def rates(config: Config, peers: int) -> dict[str, float]:
    """Return each scheme's learning rate, and pooled's, from inner folds."""
    federation = federate(config, peers)
    scores = {str(lr): [[baselines.pooled(config.with_settings([f"training.lr={lr}"]),
                                          tuning.inner(federation, number, INNER)).predictions[0]]
                        for number in range(INNER)] for lr in RATES}
    return {"pooled": float(tuning.best(scores)), **{
        scheme: rate(config.with_settings([f"gossip.algorithm={scheme}"]), federation, peers) for scheme in SCHEMES}}


def pair(config: Config, peers: int, chosen: dict[str, float]) -> dict[str, Any]:
    """Return pooled's UAR and each scheme's history on one (fold, seed)."""
    federation = federate(config, peers)
    document: dict[str, Any] = {"histories": {}, "pooled": baselines.pooled(
        config.with_settings([f"training.lr={chosen['pooled']}"]), federation).uar}
    for scheme in SCHEMES:
        own = config.with_settings([f"gossip.algorithm={scheme}", f"training.lr={chosen[scheme]}"])
        for factor in (FACTOR, 1.0):
            history = run(own, federation, peers, factor).history
            document["histories"][f"{scheme} {factor:g}"] = [[round.seconds, round.uar["consensus"]]
                                                             for round in history]
    return document


def reached(histories: list[list[list[float]]], level: float) -> tuple[float | None, float, float]:
    """Return (seconds until the mean UAR is ``level``, None where it never is; the mean at the end; the mean end)."""
    moments = sorted({seconds for history in histories for seconds, _ in history})
    curves = []
    for history in histories:
        seconds, uar = np.array(history).T
        at = np.searchsorted(seconds, moments, side="right") - 1
        curves.append(np.where(at >= 0, uar[np.maximum(at, 0)], 0.0))
    mean = np.mean(curves, axis=0)
    above = np.flatnonzero(mean >= level)
    end = float(np.mean([history[-1][0] for history in histories]))
    return (moments[above[0]] if len(above) else None), float(mean[-1]), end


def main() -> None:
    parser = pairs.options(__doc__, "straggler")
    parser.add_argument("--peers", type=int, default=16)
    given = parser.parse_args()
    documents = []
    for config in pairs.each(pairs.settings(given), given):
        # Chosen once a fold, by its first seed.
        first = config.with_settings(["seed=0"])
        chosen = pairs.kept(given.out / "rates", first, partial(rates, first, given.peers),
                            peers=given.peers)
        documents.append(pairs.kept(given.out, config, partial(pair, config, given.peers, chosen),
                                    peers=given.peers, rates=chosen))
    pooled = float(np.mean([document["pooled"] for document in documents]))
    rows = {name: reached([document["histories"][name] for document in documents], NEAR * pooled)
            for name in documents[0]["histories"]}
    if given.json:
        print(json.dumps({"pooled": pooled, "level": NEAR * pooled, "runs": rows}))
        return
    print(f"| {given.corpus} | seconds to {NEAR * pooled:.3f} | UAR at the end | end | no straggler: seconds | UAR |")
    print("|---|---|---|---|---|---|")
    for scheme in SCHEMES:
        slow, alike = rows[f"{scheme} {FACTOR:g}"], rows[f"{scheme} 1"]
        seconds = ["never" if row[0] is None else f"{row[0]:.1f} s" for row in (slow, alike)]
        print(f"| {scheme} | {seconds[0]} | {slow[1]:.3f} | {slow[2]:.1f} s | {seconds[1]} | {alike[1]:.3f} |")
    print(f"{len(documents)} (fold, seed) pairs, {given.peers} peers on a ring, pooled {pooled:.3f}; "
          f"kept in {given.out}")


if __name__ == "__main__":
    main()
