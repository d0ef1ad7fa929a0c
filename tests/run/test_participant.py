"""The participants of a process: whose statistics scale what, and in which layout their rows are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from p2pser.base.errors import CorpusError, LocalProtocolError
from p2pser.config import Config
from p2pser.corpora.folds import Split
from p2pser.corpora.manifest import Corpus
from p2pser.features.federation import Examples, Federation
from p2pser.features.normalisation import Statistics, from_sums
from p2pser.features.normalisation import sums as sums_of
from p2pser.run import participant
from p2pser.run.participant import Cohort, together

FEATURES = {0: [[0.0, 1.0], [2.0, 5.0], [4.0, 3.0]], 1: [[10.0, -1.0], [14.0, 1.0]]}
TEST = [[5.0, 2.0], [7.0, 0.0], [-3.0, 8.0]]


def examples(features: list[list[float]], speaker: str) -> Examples:
    labels = np.arange(len(features)) % 2
    return Examples(np.array(features, dtype=np.float32), labels.astype(np.int64), (speaker,) * len(features),
                    tuple(f"{speaker}{k}" for k in range(len(features))))


def cohort(normalise: str, test: bool = True, **options: object) -> Cohort:
    train = {i: examples(features, f"s{i}") for i, features in FEATURES.items()}
    federation = Federation(("joy", "anger"), train, examples(TEST, "t") if test else None,
                            Split("none", (), (), ("t",), True), Corpus("numbers", "1", ()), normalise, [], 0, ())
    config = Config().with_settings(["model.hidden=[]", "training.batch_size=2",
                                     *[f"{name}={value}" for name, value in options.items()]])
    return Cohort(config, federation, train)


def scaled(cohort: Cohort) -> np.ndarray:
    """What the model sees of the held-out clips: the logits of a model that copies its two inputs."""
    row = torch.tensor([1.0, 0.0, 0.0, 1.0, 0.0, 0.0])
    return cohort.predictions(row).logits


def test_global_normalisation_scales_held_out_clips_by_all_training_clips() -> None:
    team = cohort("global")
    team.prepare(team.sums().mean(0), 2)
    # Of the five training clips: means 6 and 1.8, population variances 27.2 and 4.16.
    expected = (np.array(TEST) - [6.0, 1.8]) / np.sqrt([27.2, 4.16])
    np.testing.assert_allclose(scaled(team), expected, rtol=1e-5)
    np.testing.assert_allclose(team.work.learners[1].features.numpy(),
                               (np.array(FEATURES[1]) - [6.0, 1.8]) / np.sqrt([27.2, 4.16]), rtol=1e-5)


def test_public_statistics_scale_every_clip_and_ask_no_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Statistics(600.0, np.array([2.0, -1.0]), np.array([4.0, 1.5]))
    monkeypatch.setattr(participant, "public_statistics", lambda settings: table)
    team = cohort("public")
    assert team.sums().shape == (2, 0)
    team.prepare(team.sums()[0], 2)
    np.testing.assert_allclose(scaled(team), (np.array(TEST) - [2.0, -1.0]) / [4.0, 1.5], rtol=1e-6)
    np.testing.assert_allclose(team.work.learners[0].features.numpy(),
                               np.clip((np.array(FEATURES[0]) - [2.0, -1.0]) / [4.0, 1.5], -8, 8), rtol=1e-6)
    assert (team.statistics, team.statistics_of) == (table, "the synthetic corpus")


def test_speaker_normalisation_scales_held_out_clips_by_their_own_speaker() -> None:
    team = cohort("speaker")
    team.prepare(team.sums()[0], 2)
    # Of the three held-out clips: means 3 and 10/3, variances 56/3 and 104/9; steadied by those of the training clips.
    clips = np.concatenate([one.examples.features for one in team.participants])
    mean = (3 * np.array([3.0, 10 / 3]) + clips.mean(axis=0)) / 4
    variance = (3 * np.array([56 / 3, 104 / 9]) + 5 * clips.var(axis=0)) / 8
    expected = (np.array(TEST) - mean) / np.sqrt(variance)
    np.testing.assert_allclose(scaled(team), expected, rtol=1e-5)


def test_a_speaker_s_lone_clip_is_scaled_by_those_of_its_peer_too() -> None:
    train = {3: together([examples(FEATURES[0], "s"), examples([[10.0, -1.0]], "lone")])}
    federation = Federation(("joy", "anger"), train, None, Split("none", (), (), (), True), Corpus("numbers", "1", ()),
                            "speaker", [], 0, ())
    team = Cohort(Config().with_settings(["model.hidden=[]", "training.batch_size=2"]), federation, train)
    team.prepare_alone(None)
    # Of the four clips: means 4 and 2, population variances 14 and 5.
    expected = (np.array([10.0, -1.0]) - [7.0, 0.5]) / np.sqrt(np.array([14, 5]) * 5 / 6)
    np.testing.assert_allclose(team.work.learners[0].features[3].numpy(), expected, rtol=1e-5)


def test_without_normalisation_clips_stay_as_they_are() -> None:
    team = cohort("none")
    team.prepare(team.sums()[0], 2)
    np.testing.assert_array_equal(scaled(team), np.array(TEST, dtype=np.float32))


def test_only_what_depends_on_other_peers_needs_statistics() -> None:
    def columns(normalise: str, *settings: str) -> int:
        return cohort(normalise, **dict(each.split("=") for each in settings)).sums().shape[1]

    assert [columns(how) for how in ("none", "speaker", "global")] == [0, 0, 1 + 2 * 2]
    assert columns("speaker", "training.balance=weights") == 1 + 2 * 2
    assert columns("speaker", "training.balance=weights", "training.task=both") == 1 + 2 * (2 + 6)
    assert columns("speaker", "model.name=svm") == 1
    assert columns("global", "model.name=svm") == 1 + 2 * 2


def test_support_vector_machines_learn_the_number_of_all_clips() -> None:
    for normalise in ("none", "global"):
        team = cohort(normalise, **{"model.name": "svm"})
        team.prepare(team.sums().mean(0), 2)
        assert [learner.objective.clips for learner in team.work.learners] == [5, 5]


def test_clips_are_also_learned_as_those_of_speakers_who_are_not_enrolled() -> None:
    team = cohort("speaker", **{"augment.unenrolled": True})
    sums = team.sums().mean(0)
    team.prepare(sums, 2)
    statistics = team.statistics
    assert statistics is not None
    assert statistics.mean.tolist() == [6.0, pytest.approx(1.8)]
    assert team.statistics_of == "the training speakers"
    plain = cohort("speaker")
    plain.prepare_alone(None)
    for place, learner in enumerate(team.work.learners):
        clips = np.array(FEATURES[place], dtype=np.float32)
        own, strange = learner._versions.view(2, len(clips), 2).numpy()
        np.testing.assert_array_equal(own, plain.work.learners[place].features.numpy())
        np.testing.assert_array_equal(strange, statistics.apply(clips))
    # A peer's process, which hosts one peer, makes the same of the same sums, and its card says the same.
    one = Cohort(team.config, team.federation, {1: team.federation.train[1]}, compact=True)
    one.prepare(sums, 2)
    assert torch.equal(one.work.learners[0]._versions, team.work.learners[1]._versions)
    assert one.statistics is not None
    assert one.statistics.to_dict() == statistics.to_dict()
    # Alone, its own statistics serve.
    one.prepare_alone(None)
    np.testing.assert_array_equal(one.work.learners[0]._versions[2:].numpy(),
                                  from_sums(sums_of(np.array(FEATURES[1]))).apply(np.array(FEATURES[1])))


def test_the_card_has_the_hosted_peers_statistics_where_no_others_are_asked_for() -> None:
    assert cohort("none").statistics is None
    team = cohort("speaker")
    assert team.statistics is not None
    assert team.statistics.mean.tolist() == [6.0, pytest.approx(1.8)]
    assert team.statistics_of == "the training speakers"
    one = Cohort(team.config, team.federation, {1: team.federation.train[1]}, compact=True)
    assert one.statistics is not None
    assert one.statistics.mean.tolist() == [12.0, 0.0]
    assert one.statistics_of == "peer 1's own 2 clips (1 speaker)"
    agreed = Cohort(team.config, replace(team.federation, normalise="global"), {1: team.federation.train[1]},
                    compact=True)
    agreed.prepare(cohort("global").sums().mean(0), 2)
    assert agreed.statistics_of == "the training speakers"


def test_the_class_weights_come_from_all_peers_clips() -> None:
    team = cohort("none", **{"training.balance": "weights"})
    team.prepare(team.sums().mean(0), 2)
    # Three clips of joy and two of anger: weights 5/6 and 5/4.
    weights = [learner.objective.weights.tolist() for learner in team.work.learners]
    assert weights == [pytest.approx([5 / 6, 5 / 4])] * 2
    alone = cohort("none", **{"training.balance": "weights"})
    alone.prepare_alone(None)
    assert alone.work.learners[0].objective.weights.tolist() == pytest.approx([3 / 4, 3 / 2])


def test_rows_are_whole_in_a_simulation_and_compact_in_a_peers_process() -> None:
    team = cohort("none", **{"model.hidden": "[4]", "model.width": "0.5,1"})
    assert team.initial().shape == (2, team.whole.schema.size) == (2, 2 * 4 + 4 + 4 * 2 + 2)
    narrow = team.participants[0]
    assert int(narrow.network.held.sum()) == 2 * 2 + 2 + 2 * 2 + 2
    assert torch.equal(team.initial()[0], team.whole.start * narrow.network.held)
    compact = Cohort(team.config, team.federation, {0: team.federation.train[0]}, compact=True)
    assert torch.equal(compact.initial()[0], team.whole.start[narrow.network.held])
    assert compact.schema.size == 12


def test_use_before_preparation_and_without_held_out_clips_is_refused() -> None:
    with pytest.raises(LocalProtocolError, match="before it is prepared"):
        cohort("none").work  # noqa: B018
    without = cohort("none", test=False)
    without.prepare(without.sums()[0], 2)
    with pytest.raises(CorpusError, match="no clips are held out"):
        without.evaluate(torch.zeros(6))


def test_together_keeps_order_and_drops_what_not_all_have() -> None:
    both = together([examples(FEATURES[1], "b"), examples(FEATURES[0], "a")])
    assert both.speakers == ("b", "b", "a", "a", "a")
    assert both.features[:, 0].tolist() == [10.0, 14.0, 0.0, 2.0, 4.0]
    assert both.genders == ()
    assert both.soft is None
