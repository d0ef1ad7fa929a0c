"""What a peer's own parameters give and cost: how its clips are split, and what is tabulated."""

from __future__ import annotations

from collections import Counter

import networkx as nx
import numpy as np
import personal_models as personal
import pytest

from p2pser.base.errors import ConfigError
from p2pser.config import Config
from p2pser.corpora.folds import Split
from p2pser.corpora.manifest import Corpus
from p2pser.features.federation import Examples, Federation
from p2pser.graph.spec import Topology

LABELS = ("anger", "joy", "sadness")


def examples(speaker: str, clips: int, seed: int) -> Examples:
    draw = np.random.default_rng(seed)
    labels = np.arange(clips) % 3
    features = np.eye(3)[labels] * 2 + draw.normal(size=(clips, 3)) + draw.normal(size=3) * 3
    paths = tuple(f"{speaker}/{k}" for k in range(clips))
    return Examples(features.astype(np.float32), labels, (speaker,) * clips, paths)


def federation(normalise: str = "speaker") -> Federation:
    train = {i: examples(f"s{i}", 48, i) for i in range(4)}
    return Federation(LABELS, train, examples("t", 60, 9), Split("made-up", (), (), ("t",), True),
                      Corpus("made-up", "1", (), (), default_split="none"), normalise, [], 0,
                      ((),) * 4)


def test_a_quarter_of_each_emotion_is_held_out_and_never_trained_on() -> None:
    whole = examples("s", 48, 0)
    train, held_out = personal.split(whole, 3, 0)
    assert sorted(train.paths + held_out.paths) == sorted(whole.paths)
    assert Counter(held_out.labels.tolist()) == {0: 4, 1: 4, 2: 4}
    again = personal.split(whole, 3, 0)[1]
    assert again.paths == held_out.paths
    assert personal.split(whole, 4, 0)[1].paths != held_out.paths
    single = personal.split(whole.take(np.array([0, 1, 2])), 0, 0)
    assert len(single[0]) == 3


def test_each_way_is_measured_on_own_and_on_unseen_speakers() -> None:
    config = Config().with_settings(["model.hidden=[8]", "training.rounds=4", "training.fine_tune=20", "seed=2"])
    topology = Topology("ring", nx.cycle_graph(4), {}, "metropolis", {})
    results = [one for fold in range(2) for one in
               personal.measure(config.with_settings([f"corpus.fold={fold}"]), topology, federation())]
    ways = list(dict.fromkeys(one["way"] for one in results))
    assert ways == [*(name + more for name in personal.WAYS for more in ("", ", fine-tuned")), personal.ALONE]
    assert all(len(one["own"]) == len(one["unseen"]) == 4 for one in results)
    shared = next(one for one in results if one["way"] == "all shared")
    assert len(set(shared["unseen"])) == 1
    rows = personal.tabulate(results)
    assert (rows[0]["own_gain"], rows[0]["unseen_gain"]) == (0, 0)
    assert rows[1]["own"] - rows[0]["own"] == pytest.approx(rows[1]["own_gain"])
    assert personal.table(rows).count("\n") == 2 + len(ways)


def test_what_cannot_be_measured_is_refused() -> None:
    topology = Topology("ring", nx.cycle_graph(4), {}, "metropolis", {})
    for settings, normalise in (([], "speaker"), (["training.fine_tune=5"], "global")):
        with pytest.raises(ConfigError, match="fine_tune"):
            personal.measure(Config().with_settings(settings), topology, federation(normalise))
