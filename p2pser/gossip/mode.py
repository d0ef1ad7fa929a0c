"""What ``privacy.mode`` means for a peer: which algorithm it runs, and what its neighbours learn under it."""

from __future__ import annotations

from p2pser.base.errors import ConfigError
from p2pser.base.registries import ALGORITHMS
from p2pser.config import Config, GossipSettings
from p2pser.config.privacy import PRIVATE
from p2pser.gossip.algorithm import Algorithm
from p2pser.gossip.registry import create, validate
from p2pser.graph.spec import Topology


def by_mode(config: Config, topology: Topology) -> tuple[Config, str]:
    """Return the settings with the algorithm that ``privacy.mode`` asks for, and why that is not the private one.

    private: an algorithm of secure sums. auto: the same where there is a budget, and between sites, that is, where the
    topology file gives keys and has at least ``privacy.least`` peers, if no algorithm is asked for and the other
    settings allow it. gossip: as set.

    Raises ConfigError where the mode is private and the settings do not allow it.
    """
    mode, chosen = config.privacy.mode, config.gossip.algorithm
    asked = "algorithm" in config.gossip.model_fields_set or chosen != GossipSettings().algorithm
    if ALGORITHMS[chosen].sums or mode == "gossip":
        return config, ""
    if mode == "private" and asked:
        raise ConfigError(f"privacy.mode=private sends no rows to neighbours, and gossip.algorithm={chosen} does: "
                          "leave the algorithm out, or set privacy.mode=gossip")
    private = config.model_copy(update={"gossip": config.gossip.model_copy(update={"algorithm": PRIVATE})})
    sites = between_sites(topology, config.privacy.least) or config.privacy.epsilon is not None
    if mode == "auto" and (asked or not sites):
        return config, ""
    try:
        validate(create(PRIVATE, config.gossip.parameters, private, topology), private, topology)
    except ConfigError as error:
        if mode == "private" or config.privacy.epsilon is not None:
            raise
        return config, str(error)
    return private, ""


def between_sites(topology: Topology, least: int) -> bool:
    """Whether the topology file gives keys, and has at least ``least`` peers."""
    return topology.size >= least and any(entry.key is not None for entry in topology.peers.values())


def what_neighbours_learn(algorithm: Algorithm, topology: Topology, instead: str = "") -> str:
    """Return a sentence on what neighbours can learn of a peer's recordings. instead : why the mode is not private."""
    if algorithm.sums:
        budget, privacy = "", algorithm.context.config.privacy
        if privacy.epsilon is not None:
            budget = f"; noise keeps the loss of each {privacy.unit} within epsilon {privacy.epsilon:g}"
        who = "a peer learns" if topology.size < 4 else f"up to {topology.size - 2} peers together learn"
        return (f"private mode ({algorithm.name}): neighbours see numbers under masks and the mean over all peers; "
                f"{who} the mean of the others, and of no one peer{budget}")
    because = f"; not {PRIVATE}, because {instead}" if instead else ""
    return (f"plain gossip ({algorithm.name}): neighbours can read off the rows that they are sent who speaks, which "
            f"recordings were trained on and the shares of emotions{because}")
