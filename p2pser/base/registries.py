"""The registries: one for each kind of thing that can be added to p2pser.

They are here, below all other packages, so that settings can be checked against the names without importing the things.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from p2pser.base.errors import CorpusError, ModelError, TopologyError
from p2pser.base.registry import Registry

ALGORITHMS: Registry[Any] = Registry("gossip algorithm", "p2pser.algorithms", "p2pser.gossip.algorithms")
"""Subclasses of ``p2pser.Algorithm``, by the value of ``gossip.algorithm``."""

FEATURES: Registry[Any] = Registry("feature kind", "p2pser.features", "p2pser.features.kinds")
"""Subclasses of ``p2pser.features.kind.FeatureKind``, by the value of ``features.kind``."""

FAMILIES: Registry[Any] = Registry("model family", "p2pser.families", "p2pser.models.families", error=ModelError)
"""Subclasses of ``p2pser.models.family.Family``, by the value of ``model.name``."""

CORPORA: Registry[Any] = Registry("corpus", "p2pser.corpora", "p2pser.corpora.adapters", error=CorpusError)
"""Subclasses of ``p2pser.corpora.adapter.Adapter``, by the value of ``corpus.name``."""

GRAPHS: Registry[Any] = Registry("graph kind", "p2pser.graphs", modules=("p2pser.graph.graph_kinds",),
                                 error=TopologyError)
"""``p2pser.graph.kind.GraphKind`` of graphs, by the value of ``kind`` in topology files."""

SCHEDULES: Registry[Any] = Registry("schedule", "p2pser.schedules", modules=("p2pser.graph.schedules",),
                                    error=TopologyError)
"""``p2pser.graph.kind.GraphKind`` of schedules, graphs that change with each exchange."""

COMPRESSORS: Registry[Any] = Registry("compressor", "p2pser.compressors", modules=(
    "p2pser.wire.codec", "p2pser.wire.low_rank", "p2pser.wire.quantised", "p2pser.wire.sparse"))
"""Subclasses of ``p2pser.wire.codec.Form``, by their name on the wire."""

T = TypeVar("T")


def register_algorithm(name: str) -> Callable[[T], T]:
    """Return a decorator that registers a subclass of ``Algorithm`` for ``gossip.algorithm=NAME``."""
    return ALGORITHMS.register(name)


def register_compressor(name: str) -> Callable[[T], T]:
    """Return a decorator that registers a compressor for the ``compressor`` of algorithms that take one."""
    return COMPRESSORS.register(name)


def register_features(name: str) -> Callable[[T], T]:
    """Return a decorator that registers a feature kind for ``features.kind=NAME``."""
    return FEATURES.register(name)


def register_family(name: str) -> Callable[[T], T]:
    """Return a decorator that registers a family of models for ``model.name=NAME``."""
    return FAMILIES.register(name)


def register_corpus(name: str) -> Callable[[T], T]:
    """Return a decorator that registers the adapter of a corpus for ``corpus.name=NAME``."""
    return CORPORA.register(name)
