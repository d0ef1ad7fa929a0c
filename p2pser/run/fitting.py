"""A check that an algorithm and a model fit a run, before its data are read."""

from __future__ import annotations

from p2pser.config import Config
from p2pser.gossip.registry import create, validate
from p2pser.graph.spec import Topology
from p2pser.models import for_run


def fitting(config: Config, topology: Topology) -> None:
    """Raise ConfigError or TopologyError where the algorithm and the model of a run do not fit it."""
    config = for_run(config, topology.size)
    validate(create(config.gossip.algorithm, config.gossip.parameters, config, topology), config, topology)
