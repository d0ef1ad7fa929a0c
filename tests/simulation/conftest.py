"""A small federation of made-up features: no corpus, no recordings."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest

from p2pser.config import Config
from p2pser.corpora.folds import Split
from p2pser.corpora.manifest import Corpus
from p2pser.features.federation import Examples, Federation
from p2pser.graph.spec import Topology

LABELS = ("anger", "joy", "sadness")


def examples(draw: np.random.Generator, centres: np.ndarray, speaker: str, clips: int, likes: int) -> Examples:
    labels = np.where(draw.random(clips) < 0.6, likes, draw.integers(0, 3, clips)).astype(np.int64)
    features = centres[labels] + draw.normal(size=(clips, centres.shape[1])) * 1.5
    paths = tuple(f"{speaker}/{i}" for i in range(clips))
    return Examples(features.astype(np.float32), labels, (speaker,) * clips, paths)


@pytest.fixture
def made_up():
    """Return a function: (config, topology, federation) of some peers, each with mostly one emotion."""

    def make(peers: int = 5, normalise: str = "none", **settings: object) -> tuple[Config, Topology, Federation]:
        draw = np.random.default_rng(1)
        centres = draw.normal(size=(3, 12))
        train = {i: examples(draw, centres, f"s{i}", 20 + 5 * i, i % 3) for i in range(peers)}
        test = examples(draw, centres, "t", 120, 0)
        split = Split("made-up", (), (), ("t",), True)
        clips = Corpus("made-up", "1", (), (), default_split="none")
        federation = Federation(LABELS, train, test, split, clips, normalise, [], 0, ((),) * peers)
        plain = {"training.rounds": 12, "training.local_steps": 3, "model.hidden": [8], **settings}
        config = Config().with_settings([f"{name}={value}" for name, value in plain.items()])
        return config, Topology("ring", nx.cycle_graph(peers), {}, "metropolis", {}), federation

    return make

