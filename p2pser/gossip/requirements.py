"""Requirements of algorithms on a run: each function raises ConfigError with the condition and the remedy.

Those that take an algorithm's name, the settings and the topology are what ``Algorithm.requires`` lists.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import networkx as nx
import numpy as np

from p2pser.base.errors import ConfigError, TopologyError
from p2pser.base.registries import ALGORITHMS, FAMILIES
from p2pser.base.wording import peer_list
from p2pser.config import Config
from p2pser.graph.spec import Topology
from p2pser.models.widths import widths

if TYPE_CHECKING:
    from p2pser.gossip.algorithm import Algorithm

SAMPLED = 16
"""Exchanges of a random schedule whose matrices are checked."""


def plain_sgd(name: str, config: Config, topology: Topology) -> None:
    """Refuse local momentum and AdamW: the local steps must be gradient steps."""
    training = config.training
    if training.optimizer != "sgd":
        raise ConfigError(f"{name} takes plain gradient steps, and training.optimizer is {training.optimizer}: "
                          "set training.optimizer=sgd, or use gossip.algorithm=dfedavg")
    if training.momentum:
        raise ConfigError(f"{name} takes gradient steps without local momentum, and training.momentum is "
                          f"{training.momentum:g}: set training.momentum=0, or use gossip.algorithm=dfedavg")


def one_local_step(name: str, config: Config, topology: Topology, *, instead: str) -> None:
    """Refuse more than one local step; ``instead`` is the algorithm that allows them."""
    if config.training.local_steps != 1:
        raise ConfigError(f"{name} takes one gradient a round, and training.local_steps is "
                          f"{config.training.local_steps}: set training.local_steps=1, or use "
                          f"gossip.algorithm={instead}")


def constant_rate(name: str, config: Config, topology: Topology) -> None:
    """Refuse a learning rate that changes from round to round."""
    if config.training.schedule != "constant":
        raise ConfigError(f"{name} needs the same learning rate in every round, and training.schedule is "
                          f"{config.training.schedule}: set training.schedule=constant")


def uniform_weighting(name: str, config: Config, topology: Topology) -> None:
    """Refuse the clip-weighted chain, whose matrix is not symmetric."""
    if config.gossip.weighting != "uniform":
        raise ConfigError(f"{name} needs a symmetric mixing matrix, and gossip.weighting={config.gossip.weighting} "
                          "makes it asymmetric: set gossip.weighting=uniform")


def below_one(**factors: float) -> None:
    """Refuse factors of a memory that are not in [0, 1), by their names."""
    for name, value in factors.items():
        if not 0 <= value < 1:
            raise ConfigError(f"gossip.parameters.{name} = {value:g} must be at least 0 and below 1")


def outer_step(momentum: float, rate: float, **pull: float) -> None:
    """Refuse factors of an outer step with which rows that differ move apart. ``pull``: its name and value."""
    below_one(momentum=momentum)
    if not 0 < rate < math.inf:
        raise ConfigError(f"gossip.parameters.rate = {rate:g} must be above 0 and finite")
    for name, value in pull.items():
        if not 0 < value <= 1 + momentum:
            raise ConfigError(f"gossip.parameters.{name} = {value:g} must be above 0 and at most 1 + momentum = "
                              f"{1 + momentum:g}: beyond that, rows that differ move apart")


def static_symmetric(name: str, config: Config, topology: Topology) -> None:
    """Refuse schedules and directed graphs."""
    if topology.schedule is not None:
        raise ConfigError(f"{name} needs one symmetric mixing matrix for all rounds, and the topology "
                          f"{topology.name!r} is directed or changes: take a static undirected graph, or "
                          "gossip.algorithm=gradient-tracking where the matrices are doubly stochastic")


def doubly_stochastic(name: str, config: Config, topology: Topology) -> None:
    """Refuse matrices that do not conserve the mean of the rows."""
    if topology.stochastic != "doubly":
        raise ConfigError(f"{name} needs doubly stochastic mixing matrices, and those of the topology "
                          f"{topology.name!r} are only {topology.stochastic}-stochastic: take an undirected graph or "
                          "a directed one with equally many links in and out, or gossip.algorithm=push-sum")


def averaging(name: str, config: Config, topology: Topology) -> None:
    """Refuse column-stochastic matrices: their exchanges do not average, so that the rows never agree."""
    if topology.stochastic == "column":
        raise ConfigError(f"{name} averages rows, which the column-stochastic matrices of the directed topology "
                          f"{topology.name!r} do not: use gossip.algorithm=push-sum, or an undirected graph")


def budgeted(algorithm: Algorithm, config: Config) -> None:
    """Refuse a budget (``privacy.epsilon``) where something leaves the peers that it does not count."""
    privacy, training = config.privacy, config.training
    if privacy.epsilon is None:
        return
    if not algorithm.sums:
        raise ConfigError(f"privacy.epsilon needs sums under masks to add noise to, and gossip.algorithm="
                          f"{algorithm.name} sends rows: set gossip.algorithm=secure-average, or leave epsilon out")
    by_itself = privacy.unit == "site"
    for setting, wrong, instead in (
        ("gossip.weighting", config.gossip.weighting == "clips", "uniform"),
        ("training.balance", training.balance != "none", "none"),
        ("training.task", training.task != "classes", "classes"),
        ("model.name", FAMILIES[config.model.name].weighs_clips, "mlp"),
        ("training.own_classes", training.own_classes and not by_itself, "false"),
        ("augment.copies", config.augment.copies > 0 and privacy.unit == "clip", "0"),
    ):
        if wrong:
            section, _, name = setting.partition(".")
            given = getattr(getattr(config, section), name)
            raise ConfigError(f"privacy.epsilon does not count what {setting}={given} tells of a peer's clips: set "
                              f"{setting}={instead}, or leave epsilon out")


def held_out(algorithm: Algorithm, config: Config, topology: Topology) -> None:
    """Refuse held-out speakers (``training.held_out``) where there is nothing that the peers could calibrate on them,
    or where their sums would reveal what a budget does not count.
    """
    training = config.training
    if not training.held_out:
        return
    for wrong, why in (
        (training.task == "dimensions", "training.task=dimensions learns no emotions"),
        (algorithm.boosts, f"model.name={config.model.name} gives no probabilities that could be scaled"),
        (not (algorithm.consensus or algorithm.sums),
         f"with gossip.algorithm={algorithm.name} each peer keeps a model of its own"),
        (config.gossip.share != ("all",), "with gossip.share each peer keeps a part of its model at home"),
        (len(set(widths(config.model, topology.size))) > 1, "model.width gives the peers different models"),
        (config.privacy.epsilon is not None, "privacy.epsilon does not count what the sums of the calibration reveal"),
    ):
        if wrong:
            raise ConfigError("training.held_out holds speakers out of training to calibrate the common model's "
                              f"probabilities of emotions, and {why}: set training.held_out=0")


def exchanging_parts(algorithm: Algorithm, topology: Topology, widths: Sequence[float], share: Sequence[str],
                     missing: Collection[int] = ()) -> None:
    """Refuse a partial exchange of rows where it has no meaning.

    Parameters
    ----------
    algorithm : the run's algorithm.
    topology : the run's topology.
    widths : each peer's width.
    share : ``gossip.share``.
    missing : peers of unknown width, which are assumed to be wide enough.

    Raises ConfigError for an algorithm that does more than mix rows, or matrices that are not symmetric, and
    TopologyError where the holders of a width are not connected by edges among themselves.
    """
    several = len(set(widths)) > 1
    if not several and tuple(share) == ("all",):
        return
    if not algorithm.parts:
        what = "peers of different width (model.width)" if several else f"gossip.share={','.join(share)}"
        only = ", ".join(name for name, kind in ALGORITHMS.items() if kind.parts)
        raise ConfigError(f"gossip.algorithm={algorithm.name} does more than mix rows, and cannot have "
                          f"{what}: take one that only mixes ({only})")
    if not several:
        return
    schedule = topology.schedule
    for t in range(1 if schedule is None else schedule.period or SAMPLED):
        W = topology.matrix(t)
        if not np.allclose(W, W.T, rtol=0, atol=1e-12):
            raise ConfigError("peers of different width (model.width) need symmetric mixing matrices, and those of the "
                              f"topology {topology.name!r} are not: take an undirected graph")
    for width in sorted(set(widths)):
        holders = [i for i, own in enumerate(widths) if own >= width or i in missing]
        together = nx.connected_components(topology.graph.subgraph(holders))
        parts = sorted(together, key=lambda part: (len(part), min(part)))
        if len(parts) > 1:
            raise TopologyError(f"{peer_list(sorted(parts[0]))} of the topology {topology.name!r} can reach the others "
                                f"of model.width {width:g} or more only through narrower peers, which lack their "
                                "parameters: link them, or give the peers between them that width")
