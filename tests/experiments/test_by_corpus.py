"""Figures of several corpora in one run, a corpus at a time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from click.testing import CliRunner

from p2pser.cli.simulate import simulate
from p2pser.corpora.folds import Split
from p2pser.corpora.manifest import Corpus, Part
from p2pser.evaluation.metrics import Predictions
from p2pser.experiments.by_corpus import of_corpus, uar_by_corpus
from p2pser.features.federation import Examples, Federation

PATHS = ("a/1.wav", "b/1.wav", "a/2.wav", "b/2.wav")


def said(predicted: list[int]) -> Predictions:
    return Predictions.of([0, 0, 1, 1], predicted, ["a/x", "b/x", "a/x", "b/x"], 2, paths=PATHS)


def test_a_corpus_s_clips_and_the_peers_that_hold_such() -> None:
    one = of_corpus(said([0, 1, 1, 1]), "a")
    assert one is not None
    assert one.predicted.tolist() == [0, 1]
    assert of_corpus(said([0, 1, 1, 1]), "c") is None
    assert of_corpus(Predictions.of([0], [0], ["x"], 2), "a") is None

    def examples(*paths: str) -> Examples:
        return Examples(np.zeros((len(paths), 1), np.float32), np.zeros(len(paths), np.int64), paths, paths)

    parts = tuple(Part(name, "1", False, "loso", Path(name)) for name in "ab")
    federation = Federation(("anger", "fear"), {0: examples("a/9"), 1: examples(), 2: examples("b/9")}, None,
                            Split("none", (), (), (), True), Corpus("a+b", "", (), parts=parts), "none", [], 0, ())
    alone = [said([0, 0, 1, 1]), said([0, 0, 1, 0])]
    found = uar_by_corpus(federation, said([0, 1, 1, 0]), alone, [said([1, 0, 0, 1])])
    assert found == {"a": {"consensus": 1.0, "local_only": 1.0, "pooled": 0.0},
                     "b": {"consensus": 0.0, "local_only": 0.5, "pooled": 1.0}}


def test_simulate_tells_each_corpus(spoken_tones: Callable[[int], Path], tmp_path: Path) -> None:
    paths = [spoken_tones(3), spoken_tones(3)]
    arguments = ["--corpus", ",".join(map(str, paths)), "--peers", "3", "--out", str(tmp_path), "--rounds", "2"]
    for setting in ("training.local_steps=2", "model.hidden=[8]", "features.kind=logmel", "features.n_mels=16",
                    "features.seconds=0.4", "model.name=cnn2d", "corpus.map=happiness=sadness"):
        arguments += ["--set", setting]
    document = json.loads(CliRunner().invoke(simulate, [*arguments, "--json"], catch_exceptions=False).stdout)
    names = document["corpus"].split("+")
    assert list(document["uar_by_corpus"]) == names
    assert len(names) == 2
    assert all(0 <= value <= 1 for one in document["uar_by_corpus"].values() for value in one.values())
    assert document["labels"] == ["anger", "sadness"]
    assert any(note.startswith("happiness counts as sadness (18 clips)") for note in document["notes"])
    text = CliRunner().invoke(simulate, arguments, catch_exceptions=False).stdout
    assert f"on {names[0]}: consensus model" in text
    assert "happiness counts as sadness" in text
    card = json.loads((Path(document["out"]) / "model" / "card.json").read_text())
    assert list(card["corpus"]["corpora"]) == names
    assert card["corpus"]["map"] == {"happiness": "sadness"}
