"""Make the algorithm of a run from its settings, and check that it fits the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from p2pser.base.errors import ConfigError
from p2pser.base.parameters import described, parameter_types, typed
from p2pser.base.registries import ALGORITHMS, COMPRESSORS, FAMILIES
from p2pser.config import Config
from p2pser.gossip import requirements
from p2pser.gossip.algorithm import Algorithm, Context
from p2pser.graph.spec import Topology
from p2pser.models.widths import widths
from p2pser.wire.codec import settings_of


def create(name: str, parameters: Mapping[str, Any], config: Config, topology: Topology) -> Algorithm:
    """Return the algorithm of a run, complete and immutable, whether or not ``validate`` is called.

    Parameters
    ----------
    name : a name in ``ALGORITHMS``, as in ``gossip.algorithm``.
    parameters : hyper-parameters, as in ``gossip.parameters``; those left out have their defaults.
    config : the run's settings.
    topology : the run's topology.

    Raises ConfigError for an unknown name or parameter (with the nearest), or a value of the wrong type.

    >>> from p2pser.graph.spec import load
    >>> create("multi-step", {"exchanges": 3}, Config(), load("ring")).slots
    3
    """
    kind: Any = ALGORITHMS[name]
    types = parameter_types(kind)
    own = {field.name: types[field.name] for field in fields(kind) if not field.metadata.get("internal")}
    further = _compressor_types(kind, parameters)
    given = typed(parameters, further | own, "gossip.parameters", name)
    if further:
        given["compression"] = tuple((key, given.pop(key)) for key in sorted(given.keys() - own.keys()))
    algorithm: Algorithm = kind(context=Context(name, config, topology), **given)
    return algorithm


def hyper_parameters(kind: type[Algorithm]) -> list[dict[str, Any]]:
    """Return name, default and description of each of an algorithm's hyper-parameters."""
    return [{"name": each.name, "default": each.default, "about": each.about} for each in described(kind)]


def _compressor_types(kind: type[Algorithm], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return {name: type} of the settings of an algorithm's compressor; empty where it has none."""
    default = next((field.default for field in fields(kind) if field.name == "compressor"), None)
    name = parameters.get("compressor", default)
    if default is None or not isinstance(name, str):
        return {}
    form = COMPRESSORS[name]
    types = parameter_types(form)
    return {field.name: types[field.name] for field in settings_of(form)}


def validate(algorithm: Algorithm, config: Config, topology: Topology) -> tuple[str, ...]:
    """Return warnings about a run with this algorithm. Raises ConfigError where the two do not fit."""
    boosts = FAMILIES[config.model.name].boosts
    if algorithm.boosts != boosts:
        work, other = ("averages parameters", "trees") if boosts else ("spreads trees", "dfedavg")
        raise ConfigError(f"gossip.algorithm={algorithm.name} {work}, and model.name={config.model.name} has "
                          f"none: set gossip.algorithm={other}, or another model")
    if topology.hub is not None and not algorithm.served:
        served = ", ".join(name for name, kind in ALGORITHMS.items() if kind.served)
        raise ConfigError(f"gossip.algorithm={algorithm.name} has no use for a hub, and {topology.name!r} has "
                          f"one (peer {topology.hub}): set gossip.algorithm to a server algorithm ({served}), or use "
                          "another topology, such as star.yaml")
    others = topology.schedule is not None or topology.weights != "metropolis"
    if config.gossip.weighting == "clips" and others and not (algorithm.own_weights or algorithm.served):
        raise ConfigError(f"gossip.weighting=clips needs a static undirected graph with Metropolis weights, and "
                          f"{topology.name!r} has others: set gossip.weighting=uniform, or gossip.algorithm=push-sum, "
                          "which weighs by itself")
    requirements.budgeted(algorithm, config)
    requirements.held_out(algorithm, config, topology)
    requirements.exchanging_parts(algorithm, topology, widths(config.model, topology.size), config.gossip.share)
    if config.training.fine_tune and algorithm.boosts:
        raise ConfigError("training.fine_tune takes steps on parameters, and trees have none: set training.fine_tune=0")
    return tuple(algorithm.validate(config, topology))
