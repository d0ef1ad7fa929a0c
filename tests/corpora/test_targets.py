"""Votes as soft labels, dimensions on one scale, and where emotions lie among them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from p2pser.base.errors import CorpusError
from p2pser.config import Config
from p2pser.corpora import prosody
from p2pser.corpora.emotions import PROTOTYPES, nearest_emotion
from p2pser.corpora.manifest import Clip, Corpus
from p2pser.corpora.partitioning import to_learn
from p2pser.corpora.targets import dimensions, shares, with_dimensions

LABELS = ("anger", "fear", "sadness")


def clip(name: str = "a", emotion: str | None = "anger", votes: dict[str, float] | None = None,
         **rated: float) -> Clip:
    return Clip(Path(f"{name}.wav"), "s", emotion, votes=votes or {}, **rated)


@pytest.mark.parametrize(("votes", "expected"), [
    ({}, (1, 0, 0)),  # no votes
    ({"anger": 0.8}, (0.8, 0.1, 0.1)),  # the rest of the votes is unspecified
    ({"anger": 0.6, "fear": 0.4}, (0.6, 0.4, 0)),
    ({"anger": 0.5, "fear": 0.3, "joy": 0.2}, (0.625, 0.375, 0)),  # joy is not among the labels
    ({"joy": 1.0}, (1, 0, 0)),
    ({"anger": 0.5, "fear": 0.2, "sadness": 0.1}, (0.625, 0.25, 0.125)),
])
def test_votes_become_shares(votes: dict[str, float], expected: tuple[float, ...]) -> None:
    found = shares([clip(votes=votes)], LABELS)
    np.testing.assert_allclose(found, [expected], rtol=1e-6)
    assert found.dtype == np.float32


def test_a_clip_of_another_emotion_has_no_shares() -> None:
    assert np.isnan(shares([clip(emotion="joy", votes={"anger": 1.0})], LABELS)).all()
    assert shares([], LABELS).shape == (0, 3)


def test_dimensions_are_brought_to_one_scale() -> None:
    corpus = Corpus("made-up", "1", (clip("a", None, arousal=1.0, valence=3.0, dominance=5.0), clip("b", arousal=2.0),
                                     clip("c"), clip("d", None), clip("e", "joy")))
    found = with_dimensions(corpus, LABELS, (1.0, 5.0))
    assert [one.path.stem for one in found.clips] == ["a", "b", "c"]
    assert [path.stem for path, _ in found.left_out] == ["d", "e"]
    np.testing.assert_array_equal(dimensions(found.clips), [[-1, 0, 1], [-0.5, np.nan, np.nan], [np.nan] * 3])
    again = with_dimensions(found, LABELS)  # which has its scale now
    np.testing.assert_array_equal(dimensions(again.clips), dimensions(found.clips))
    only = with_dimensions(corpus, (), (1.0, 5.0))
    assert [one.path.stem for one in only.clips] == ["a", "b"]
    assert dimensions([]).shape == (0, 3)


def test_one_sentence_for_what_does_not_fit() -> None:
    rated = Corpus("made-up", "1", (clip("a", arousal=3.0),))
    with pytest.raises(CorpusError, match=r"a\.wav has arousal 3, outside -1 to 1: set corpus\.scale"):
        with_dimensions(rated, LABELS)
    with pytest.raises(CorpusError, match="lowest value first"):
        with_dimensions(rated, LABELS, (5.0, 1.0))
    with pytest.raises(CorpusError, match=r"no clip with arousal, .* set training\.task to classes"):
        with_dimensions(Corpus("made-up", "1", (clip(),)), LABELS)


def test_what_is_learned_follows_the_task() -> None:
    corpus = Corpus("made-up", "1", (clip("a", "anger", arousal=0.5), clip("b", "fear"), clip("c", None, valence=0.1)))

    def learned(task: str) -> tuple[tuple[str, ...], list[str]]:
        labels, found = to_learn(Config().with_settings([f"training.task={task}"]), corpus)
        return labels, [one.path.stem for one in found.clips]

    assert learned("classes") == (("anger", "fear"), ["a", "b"])
    assert learned("dimensions") == ((), ["a", "c"])
    assert learned("both") == (("anger", "fear"), ["a", "b", "c"])


def test_soft_labels_need_votes() -> None:
    silent = Corpus("made-up", "1", (clip("a", "anger"), clip("b", "fear")))
    wanted = Config().with_settings(["training.soft_labels=true"])
    with pytest.raises(CorpusError, match="made-up has no listeners' votes"):
        to_learn(wanted, silent)
    to_learn(wanted.with_settings(["corpus.partition=own"]), silent)
    to_learn(wanted, Corpus("made-up", "1", (clip("a", votes={"anger": 0.7}), clip("b", "fear"))))


def test_the_nearest_prototype() -> None:
    for name, place in PROTOTYPES.items():
        assert nearest_emotion(*place) == name
        assert all(-1 <= value <= 1 for value in place)
    assert nearest_emotion(0.9, 0.9, 0.9) == "happiness"


def test_synthetic_ratings_follow_prosody_within_an_emotion() -> None:
    takes = [take for speaker in prosody.plan(0) for take in speaker.takes]
    rated = np.array([take.affect for take in takes])
    assert np.abs(rated).max() <= 1
    of = {emotion: rated[[take.emotion == emotion for take in takes]] for emotion in prosody.EMOTIONS}
    for one in of.values():  # more than a name's place: they vary within an emotion
        assert (one.std(axis=0) > 0.1).all()
    means = {emotion: one.mean(axis=0) for emotion, one in of.items()}
    assert means["anger"][0] > means["neutral"][0] > means["sadness"][0]
    assert means["happiness"][1] > means["neutral"][1] > means["fear"][1]
    assert means["anger"][2] > means["neutral"][2] > means["fear"][2]
    units = np.array([take.prosody for take in takes]) / prosody.UNITS
    explained = np.corrcoef(units @ np.array(prosody.AFFECT[0]), rated[:, 0])[0, 1]
    assert explained > 0.8
    assert [take.affect for speaker in prosody.plan(1) for take in speaker.takes] != [take.affect for take in takes]
