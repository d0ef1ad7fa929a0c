"""Runs of every synchronous algorithm, with what has a memory, a draw or weights of its own."""

from __future__ import annotations

from typing import Any

from p2pser.graph.spec import Topology, load, parse

PEERS, ROUNDS = 6, 12

PLAIN = "training.momentum=0"
SINGLE = ("training.local_steps=1", PLAIN)
CLIPS = "gossip.weighting=clips"
DIGRAPH = {"graph": {"kind": "random-digraph", "peers": PEERS, "seed": 3}}
MATCHING = {"graph": {"kind": "random-matching", "peers": PEERS, "seed": 1}}
REGULAR = {"graph": {"kind": "random-regular", "peers": PEERS, "degree": 4, "seed": 1}}
LAZY = {"graph": {"kind": "chain", "peers": PEERS}, "weights": "lazy"}

CASES: dict[str, tuple[str | dict[str, Any], tuple[str, ...]]] = {
    "dfedavg": ("ring", ("training.optimizer=adamw", CLIPS)),
    "dfedavg on base-2": ("base-2", ()),
    "d-psgd": ("one-peer-exponential", SINGLE),
    "quasi-global-momentum": ("ring", (PLAIN,)),
    "noloco": ("ring", ("training.optimizer=adamw", CLIPS)),
    "noloco on matchings": (MATCHING, ()),
    "gasloc": ("ring", ("gossip.parameters={momentum: 0.3}",)),
    "mosaic": ("ring", ("gossip.parameters={momentum: 0.8}", PLAIN)),
    "mosaic on a random graph": (REGULAR, ("gossip.parameters={exchanges: 2}",)),
    "d2": ("ring", (*SINGLE, "training.schedule=constant")),
    "gradient-tracking": ("ring", (*SINGLE, CLIPS)),
    "gradient-tracking on base-2": ("base-2", SINGLE),
    "k-gt": ("ring", (PLAIN,)),
    "push-sum": ("directed-ring", ()),
    "push-sum by clips": (DIGRAPH, (CLIPS,)),
    "overlap": ("ring", (CLIPS,)),
    "overlap with momentum": ("ring", ("gossip.parameters={momentum: 0.8}", PLAIN)),
    "overlap on matchings": (MATCHING, ()),
    "multi-step": ("base-2", ("gossip.parameters={exchanges: 3}",)),
    "multi-step, accelerated": (LAZY, ("gossip.parameters={exchanges: 2, chebyshev: true}",)),
    "relay": ("tree", (CLIPS,)),
    "relay on a spanning tree": ("ring", ("gossip.parameters={spanning_tree: true}",)),
    "choco": ("ring", ("gossip.parameters={compressor: top-k, share: 0.05, bits: 8}",)),
    "choco with qsgd": ("tree", ("gossip.parameters={compressor: qsgd}",)),
    "choco with low-rank": ("ring", ("gossip.parameters={compressor: low-rank}",)),
    "sparse-loco": ("ring", ("gossip.parameters={share: 0.05}",)),
    "power-gossip": ("ring", ("gossip.parameters={iterations: 2}",)),
    "fedavg": ("server", ("gossip.parameters={sample: 0.5}", CLIPS, "features.normalise=global")),
    "fedopt": ("server", ("gossip.parameters={optimizer: yogi}",)),
    "scaffold": ("server", ("gossip.parameters={sample: 0.5}", PLAIN)),
    "self-centred-clipping": ("ring", ()),
    "median": ("ring", ()),
    "trimmed-mean": ("ring", ()),
    "krum": (REGULAR, ()),
    "hubs": ("complete", (CLIPS,)),
    "hubs on a star": ("star", ()),
    "secure-average": ("ring", (CLIPS,)),
    "trees": ("ring", ("model.name=xgb", "model.parameters.depth=2")),
}
"""The topology (shipped, or a document) and what is set."""


def of(name: str) -> str:
    """The algorithm of a case."""
    return name.partition(",")[0].partition(" ")[0]


def settings(name: str) -> list[str]:
    """What a case sets, with the rounds and steps that all share."""
    return [f"gossip.algorithm={of(name)}", f"training.rounds={ROUNDS}", "training.local_steps=2",
            "peer.checkpoint_every=2", *CASES[name][1]]


def topology(name: str) -> Topology:
    """The topology of a case."""
    document = CASES[name][0]
    return load(document, peers=PEERS) if isinstance(document, str) else parse(document, "test")
