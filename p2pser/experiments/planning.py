"""From what is to be compared to a plan of runs: schemes, folds and seeds checked, data read, features in the cache."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from operator import index
from pathlib import Path

from p2pser.base.arguments import several
from p2pser.base.errors import ConfigError
from p2pser.base.registries import FAMILIES
from p2pser.config import Config
from p2pser.corpora.partitioning import splits
from p2pser.experiments import tuning
from p2pser.experiments.data_digest import data_digest
from p2pser.experiments.grids import grid
from p2pser.experiments.jobs import BASELINES, Plan, of_run
from p2pser.experiments.schemes import Scheme, schemes_of
from p2pser.features.federation import federate
from p2pser.graph.spec import Topology

MOST_SEEDS = 1000
"""The most seeds of a comparison: more are a seed that was given as their number."""


def plan(
    config: Config,
    topologies: Sequence[Topology],
    *,
    algorithms: Sequence[str] = (),
    kinds: Collection[str] | None = None,
    seeds: int = 1,
    folds: Sequence[int] | None = None,
    tune: str = "",
    inner: int = 3,
    calibrate: bool = False,
    dimensions: bool = False,
    whole_names: bool = False,
    out: Path | None = None,
    progress: bool = False,
) -> Plan:
    """Return the runs of a comparison. The corpus is read, and its features are in the cache, where workers find them.

    Parameters
    ----------
    config : the settings of all runs.
    topologies : of equal size.
    algorithms : each with each topology (``schemes.schemes_of``); empty: that of ``config``.
    kinds : the kinds of runs, of ``gossip`` and ``jobs.BASELINES``; None: all that the model allows.
    seeds : how many, counted from ``config.seed``.
    folds : numbers; None: all folds.
    tune : a grid that each scheme and baseline chooses from on inner folds (``grids.grid``); empty: nothing is chosen.
    inner : how many inner folds.
    calibrate : run the inner folds even where nothing is chosen: their logits serve the temperature.
    dimensions : whether the results are read without UAR, so that ``training.task`` may be dimensions.
    whole_names : as in ``schemes.schemes_of``.
    out : the folder in which finished runs are kept, so that a second call computes only what is missing; None: they
        are not kept.
    progress : show the extraction of features.

    Raises ConfigError, TopologyError, CorpusError where these do not fit.
    """
    points = grid(tune) or (("",) if calibrate else ())
    schemes = schemes_of(config, topologies, algorithms, points, whole_names=whole_names)
    for _, scheme in schemes.values():
        scheme.require_same_clips()
    tasks = {each.training.task for _, scheme in schemes.values() for each in (scheme.config, *scheme.choices.values())}
    if "dimensions" in tasks and not (dimensions and not tune):
        raise ConfigError("training.task=dimensions learns no emotions, and these results are compared by their UAR: "
                          "take training.task=both" + ("" if dimensions else ", or p2pser crossval"))
    if not 1 <= seeds <= MOST_SEEDS:
        raise ConfigError(f"{seeds} seeds: give how many there are, from 1 to {MOST_SEEDS}; the first one is --seed")
    numbers = fold_numbers(folds)
    known = splits(config, numbers or ())
    allowed = ("gossip", *baselines_of(config))
    whole = Plan(
        topologies={label: topology for label, (topology, _) in schemes.items()},
        schemes={label: scheme for label, (_, scheme) in schemes.items()} | {"": Scheme.of(config, points=points)},
        seeds=tuple(range(config.seed, config.seed + seeds)), folds=numbers or tuple(range(len(known))), out=out,
        inner=inner, kinds=tuple(kind for kind in allowed if kinds is None or kind in kinds))
    federation = federate(of_run(config, config.seed, whole.folds[0]), whole.peers, hub=whole.hub, progress=progress)
    if whole.tunes:
        tuning.groups(federation, inner)
    return replace(whole, data=data_digest(config, federation.corpus))


def fold_numbers(folds: Iterable[int] | None) -> tuple[int, ...] | None:
    """Return the given numbers of folds as plain ones; None, for all folds, as it is.

    Raises ConfigError where there is none, or one twice.
    """
    numbers = None if folds is None else tuple(map(index, several(folds)))
    if numbers is not None and not len(set(numbers)) == len(numbers) > 0:
        raise ConfigError(f"folds {numbers}: name each fold once, and at least one")
    return numbers


def baselines_of(config: Config) -> tuple[str, ...]:
    """Return the baselines that exist for the run's model: a server averages, which trees do not allow, and trees have
    no steps.
    """
    without = ("server", "pooled-steps") if FAMILIES[config.model.name].boosts else ("voting",)
    return tuple(kind for kind in BASELINES if kind not in without)
