"""The gain and the cost of personal parameters: on other clips of a peer's speakers, and on unseen speakers.

A share of each peer's clips is held out from its training, drawn within each speaker and emotion. The predictions of
the peer's model for them count as *own speakers*, those for the test fold's speakers, which no peer has, as *unseen*.
Features are normalised by speaker before a peer's clips are split, so a clip is scaled the same whether it trains or is
held out. The figure of each way is the mean UAR of the peers' models, so that every peer has the same weight.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from p2pser.base import seeding
from p2pser.base.errors import ConfigError
from p2pser.config import Config
from p2pser.evaluation import metrics
from p2pser.features.federation import Examples, Federation
from p2pser.features.normalisation import by_speaker
from p2pser.graph.spec import Topology
from p2pser.models.inference import logits
from p2pser.models.nested import Nested
from p2pser.run.participant import Cohort
from p2pser.run.session import train_alone
from p2pser.simulation.engine import simulate

HELD_OUT = 0.25
WAYS: Mapping[str, tuple[str, ...]] = {
    "all shared": ("gossip.share=all",),
    "local head": ("gossip.share=body",),
    "local first layer": ("gossip.share=upper",),
}
"""The settings of each way; ``, fine-tuned`` is appended for its personal models, and ``alone`` is local-only."""
ALONE = "alone"


def split(examples: Examples, peer: int, seed: int) -> tuple[Examples, Examples]:
    """Return a peer's clips to train on and those held out: ``HELD_OUT`` of each speaker's of each emotion, rounded by
    chance, drawn by (seed, peer); at least one clip stays to train on.
    """
    draw = seeding.generator(seed, "own clips", peer)
    groups: dict[tuple[str, int], list[int]] = defaultdict(list)
    for index, key in enumerate(zip(examples.speakers, examples.labels.tolist())):
        groups[key].append(index)
    out: list[int] = []
    for key in sorted(groups):
        count = int(HELD_OUT * len(groups[key]) + draw.random())
        out += draw.permutation(groups[key])[: min(count, len(groups[key]) - 1)].tolist()
    chosen = np.isin(np.arange(len(examples)), out)
    return examples.take(np.flatnonzero(~chosen)), examples.take(np.flatnonzero(chosen))


def measure(config: Config, topology: Topology, federation: Federation,
            done: Callable[[str], None] = lambda what: None) -> list[dict[str, Any]]:
    """Return, for each way, the UAR of each peer's model on its own speakers' held-out clips and on unseen speakers.

    Raises ConfigError where nothing is held out, no steps of fine-tuning are asked for, or features are normalised by
    statistics of all peers.
    """
    if federation.test is None or not config.training.fine_tune or federation.normalise == "global":
        raise ConfigError("personal models are measured on a split that holds clips out, after one or more steps of "
                          "training.fine_tune, on features normalised by speaker or not at all (features.normalise)")
    scaled = {i: _scaled(examples, federation.normalise) for i, examples in federation.train.items()}
    parts = {i: split(examples, i, config.seed) for i, examples in scaled.items()}
    test = _scaled(federation.test, federation.normalise)
    trained = dataclasses.replace(federation, train={i: train for i, (train, _) in parts.items()}, test=test,
                                  normalise="none")
    own = {i: held_out for i, (_, held_out) in parts.items()}
    results = []
    for name, settings in WAYS.items():
        run = simulate(config.with_settings(settings), topology, trained, each_peer=False)
        networks = {i: run.networks[run.widths[i]] for i in own}
        results.append(_result(name, run.final.rows, networks, own, test))
        if run.personal is not None:
            results.append(_result(f"{name}, fine-tuned", run.personal, networks, own, test))
        done(name)
    cohort = Cohort(config, trained, trained.train)
    cohort.prepare_alone(None)
    networks = {participant.id: participant.network for participant in cohort.participants}
    results.append(_result(ALONE, train_alone(cohort, config.training.rounds), networks, own, test))
    done(ALONE)
    return [{**result, "fold": config.corpus.fold, "seed": config.seed} for result in results]


def _scaled(examples: Examples, how: str) -> Examples:
    if how == "none":
        return examples
    return dataclasses.replace(examples, features=by_speaker(examples.features, examples.speakers, None))


def _result(way: str, rows: Tensor, networks: Mapping[int, Nested], own: Mapping[int, Examples],
            test: Examples) -> dict[str, Any]:
    return {"way": way, **{name: [_uar(networks[i], rows[k], clips[i]) for k, i in enumerate(sorted(own))]
                           for name, clips in (("own", own), ("unseen", dict.fromkeys(own, test)))}}


def _uar(network: Nested, row: Tensor, clips: Examples) -> float:
    network.schema.bind(network.module, network.own(row.to(torch.float32)))
    predicted = logits(network.module, clips.features).argmax(axis=1)
    classes = int(max(clips.labels.max(), predicted.max())) + 1
    return float(metrics.uar(metrics.confusion(clips.labels, predicted, classes)))


def tabulate(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each way: mean UAR over peers, folds and seeds, on own and on unseen speakers, and the
    differences to ``all shared``, with the half width of a 95 % interval over (fold, seed) pairs (normal, of paired
    differences).
    """
    by_run = {(result["way"], result["fold"], result["seed"]): result for result in results}
    ways = list(dict.fromkeys(result["way"] for result in results))
    pairs = sorted({(result["fold"], result["seed"]) for result in results})
    rows = []
    for way in ways:
        row: dict[str, Any] = {"way": way}
        for name in ("own", "unseen"):
            ours, base = ([float(np.mean(by_run[(each, *pair)][name])) for pair in pairs] for each in (way, ways[0]))
            differences = np.subtract(ours, base)
            spread = float(1.96 * differences.std(ddof=1) / np.sqrt(len(pairs))) if len(pairs) > 1 else float("nan")
            row |= {name: float(np.mean(ours)), f"{name}_gain": float(differences.mean()), f"{name}_half_width": spread}
        rows.append(row)
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows as a Markdown table."""
    lines = [["parameters", "own speakers", "difference", "unseen speakers", "difference"], ["---"] * 5]
    for row in rows:
        line = [row["way"]]
        for name in ("own", "unseen"):
            line += [f"{row[name]:.3f}", f"{100 * row[f'{name}_gain']:+.1f} ± {100 * row[f'{name}_half_width']:.1f}"]
        lines.append(line)
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
