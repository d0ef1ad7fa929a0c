"""Federations from arrays: the clips of each peer, and one sentence for arrays that do not fit together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from p2pser.base.errors import CorpusError
from p2pser.features.arrays import from_arrays
from p2pser.features.federation import Federation, normalised

SPEAKERS = ("ann", "ann", "bob", "bob", "bob", "cy", "cy", "ann")
LABELS = ("joy", "anger", "joy", "anger", "neutral", "joy", "neutral", "joy")
TEST = (False, False, False, False, False, True, True, False)
FEATURES = np.arange(24, dtype=np.float64).reshape(8, 3) ** 1.5


def made(**changes: Any) -> Federation:
    arguments: dict[str, Any] = {"features": FEATURES, "labels": LABELS, "speakers": SPEAKERS, "peers": 2,
                                 "test": TEST, **changes}
    return from_arrays(**arguments)


def test_whole_speakers_are_partitioned_over_peers() -> None:
    federation = made()
    assert federation.labels == ("anger", "happiness", "neutral")
    assert federation.held == ((0, 1, 7), (2, 3, 4))
    assert [federation.train[peer].speakers for peer in (0, 1)] == [("ann",) * 3, ("bob",) * 3]
    assert [federation.train[peer].labels.tolist() for peer in (0, 1)] == [[1, 0, 1], [1, 0, 2]]
    np.testing.assert_array_equal(federation.train[0].features, FEATURES[[0, 1, 7]].astype(np.float32))
    assert federation.train[0].features.dtype == np.float32
    assert federation.test is not None
    assert (federation.test.speakers, federation.test.labels.tolist()) == (("cy", "cy"), [1, 2])
    assert federation.test.paths == ("array/5", "array/6")
    assert (federation.split.train, federation.split.test) == ((0, 1, 2, 3, 4, 7), (5, 6))
    assert (federation.split.test_speakers, federation.split.disjoint) == (("cy",), True)
    assert (federation.speaker_overlap, federation.normalise, federation.left_out) == (0, "speaker", [])


def test_owners_and_a_hub() -> None:
    federation = made(peers=3, hub=1, owners=[2, 0, 2, 0, 0, 9, 9, 2])
    assert federation.held == ((1, 3, 4), (), (0, 2, 7))
    assert federation.train[1].features.shape == (0, 3)
    assert federation.normalise == "global"  # ann and bob have clips at both peers
    assert made(peers=3, hub=0).held == ((), (0, 1, 7), (2, 3, 4))


def test_speakers_on_both_sides_are_counted_and_noted() -> None:
    federation = made(test=[False] * 6 + [True, True])
    assert federation.speaker_overlap == 2
    assert not federation.split.disjoint
    assert any("2 speakers are in training and in the test set" in note for note in federation.notes)


def test_without_a_test_set() -> None:
    federation = made(test=None)
    assert federation.test is None
    assert sum(map(len, federation.train.values())) == 8
    assert federation.split.disjoint


def test_the_order_of_labels_and_the_partition_can_be_chosen() -> None:
    federation = made(label_order=("neutral", "joy", "sadness", "anger"), partition="iid", seed=3, normalise="none")
    assert federation.labels == ("neutral", "happiness", "sadness", "anger")
    assert federation.held == made(partition="iid", seed=3).held != made(partition="iid", seed=4).held
    assert federation.normalise == "none"
    labels = {index: label for peer in (0, 1)
              for index, label in zip(federation.held[peer], federation.train[peer].labels.tolist())}
    assert labels == {0: 1, 1: 3, 2: 1, 3: 3, 4: 0, 7: 1}


def test_matrices_are_normalised_globally_by_default() -> None:
    federation = made(features=np.ones((8, 4, 5)))
    assert federation.normalise == "global"
    assert federation.train[0].features.shape == (3, 4, 5)


def test_unknown_speakers_leave_the_overlap_open() -> None:
    federation = made(speakers=("",) * 8, partition="iid")
    assert (federation.normalise, federation.split.disjoint) == ("global", False)
    with pytest.raises(CorpusError, match="speaker statistics need the speaker of every clip"):
        made(speakers=("",) * 8, partition="iid", normalise="speaker")


def test_genders_and_numpy_strings_are_taken() -> None:
    federation = made(labels=np.array(LABELS), speakers=np.array(SPEAKERS), genders=np.array(list("ffmmm") + [""] * 3))
    assert federation.train[1].genders == ("m", "m", "m")
    assert all(type(name) is str for name in federation.train[1].speakers)
    assert made().train[1].genders == ()


def test_the_version_is_that_of_the_content() -> None:
    other = FEATURES.copy()
    other[3, 1] += 1
    versions = [made(**changes).corpus.version
                for changes in ({}, {}, {"features": other}, {"speakers": SPEAKERS[::-1]})]
    assert versions[0] == versions[1]
    assert len(set(versions)) == 3


def test_speaker_statistics_are_those_of_the_speaker() -> None:
    scaled = normalised(made().train[0], "speaker", None)
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-6)


@pytest.mark.parametrize(("changes", "message"), [
    ({"features": [[1, 2], [3]]}, "features are not an array of numbers"),
    ({"features": [["a"]] * 8}, "features are not an array of numbers"),
    ({"features": np.ones(8)}, r"features have the shape \(8,\)"),
    ({"features": np.ones((8, 0))}, r"features have the shape \(8, 0\)"),
    ({"features": np.where(np.arange(24).reshape(8, 3) % 10 == 7, np.nan, 1)},
     "features of 2 of 8 clips are not finite float32 numbers, the first of clip 2"),
    ({"features": np.full((8, 3), 1e300)}, "features of 8 of 8 clips are not finite"),
    ({"features": FEATURES + 1j}, "features are not an array of numbers, .*, but of type complex128"),
    ({"features": FEATURES.astype("M8[s]")}, r"features are not an array of numbers, .*, but of type datetime64\[s\]"),
    ({"features": FEATURES.astype(str)}, "features are not an array of numbers"),
    ({"labels": None}, "features need their labels"),
    ({"labels": 5}, "labels has 1 entries"),
    ({"speakers": 5}, "speakers has 1 entries"),
    ({"test": [[True], [True, False]]}, "entries of test are not truths"),
    ({"owners": [[0], [0, 1]]}, "owners are not whole numbers"),
    ({"hub": 2}, "the hub, 2, is not one of the peers 0 to 1"),
    ({"peers": 10**12}, "6 training clips are too few for 1000000000000 peers"),
    ({"labels": LABELS[:7]}, "labels has 7 entries, and features has 8 clips"),
    ({"labels": "anger"}, "labels has 1 entries"),
    ({"labels": [1] * 8}, "labels are strings, and that of clip 0 is 1"),
    ({"labels": ["joy", "", *LABELS[2:]]}, "the label of clip 1 is empty"),
    ({"labels": ["joy"] * 8}, "2 labels or more, and all clips are happiness"),
    ({"label_order": ("joy", "anger", "neutrl")}, "clip 4, 'neutral', is not in label_order; did you mean 'neutrl'"),
    ({"label_order": ("joy", "anger", "neutral", "joy")}, "names 'happiness' twice"),
    ({"speakers": (*SPEAKERS, "cy")}, "speakers has 9 entries"),
    ({"genders": ["female"] * 8}, "'female' is none of them"),
    ({"test": [0, 1] * 4}, r"entries of test are not truths \(bool\), one for each clip, but of type int64"),
    ({"test": [True]}, r"test has the shape \(1,\): give a truth"),
    ({"test": [True] * 8}, "all clips are test clips"),
    ({"owners": [0] * 8}, "peer 1 owns no training clip"),
    ({"owners": [0, 1, 2, 1, 0, 0, 0, 0]}, "the owner of clip 2, 2, is not one of 0 to 1"),
    ({"owners": [0, 1, -1, 1, 0, 0, 0, 0]}, "the owner of clip 2, -1, is not one of 0 to 1"),
    ({"owners": [0, 1, 0, 1, 0, 0, 0, 0], "hub": 0}, "the owner of clip 0, 0, is the hub"),
    ({"owners": [0.5] * 8}, "owners are not whole numbers, a peer for each clip, but of type float64"),
    ({"owners": [0] * 7}, r"owners have the shape \(7,\): give a peer for each of the 8 clips"),
    ({"peers": 0}, "0 peers cannot hold clips"),
    ({"peers": 7}, "6 training clips are too few for 7 peers"),
    ({"partition": "by-speaker"}, "there is no partition 'by-speaker'"),
    ({"normalise": "globl"}, "there is no normalisation 'globl'; did you mean 'global'"),
])
def test_arrays_that_do_not_fit_are_refused_in_one_sentence(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        made(**changes)
