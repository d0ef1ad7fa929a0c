"""What parameters tell of a speaker: literal values, and clips that are scaled as the run has scaled them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from p2pser.base.atomic import write_json
from p2pser.base.errors import CheckpointError, CorpusError, ModelError
from p2pser.config import Config
from p2pser.features.federation import Federation
from p2pser.graph.spec import load
from p2pser.peer.folder import PeerFolder
from p2pser.peer.outcome import SUMS
from p2pser.privacy import remains
from p2pser.privacy.attacks.membership import losses
from p2pser.privacy.remains import DRAWS, Losses, compare, figure, measure, within_emotions
from p2pser.run import checkpoint
from p2pser.run.participant import Cohort, together
from p2pser.simulation.engine import simulate

MadeUp = Callable[..., tuple[Config, Federation]]
TOPOLOGY = load("ring", 3)


def of(values: list[float], labels: list[int], speakers: str) -> Losses:
    return Losses(np.array(values), np.array(labels), np.array(list(speakers)))


def test_losses_are_compared_within_emotions() -> None:
    members = of([0.1, 0.4, 0.9, 0.2], [0, 0, 1, 2], "aaaa")
    others = of([0.4, 0.5, 0.3, 0.8, 0.1], [0, 0, 0, 1, 3], "xyyyy")
    # Emotion 0: 0.1 is below all three, 0.4 below one and equal to one. Emotion 1: none. 2 and 3: no counterpart.
    assert within_emotions(members, others).tolist() == [(1 + 0.5 + 0) / 3]
    u, v = np.array([[1.0, 0, 1, 0], [0, 2, 0, 0]]), np.array([[1.0, 1, 1, 0, 0], [0, 0, 3, 1, 0]])
    assert within_emotions(members, others, u, v).tolist() == [1.0, 0.0]  # the first: label 1 has no other clip
    assert np.isnan(within_emotions(of([1.0], [4], "a"), others)).all()


def test_speakers_are_drawn_and_then_their_clips() -> None:
    counts = of([0.0] * 5, [0] * 5, "xyyxy").drawn(np.random.default_rng(0))
    assert counts.shape == (DRAWS, 5)
    of_x, of_y = counts[:, [0, 3]].sum(axis=1), counts[:, [1, 2, 4]].sum(axis=1)
    assert set(zip(of_x, of_y)) == {(4.0, 0.0), (2.0, 3.0), (0.0, 6.0)}
    assert (of([0.0] * 3, [0] * 3, "xxx").drawn(np.random.default_rng(0)).sum(axis=1) == 3).all()


def test_a_figure_and_its_interval() -> None:
    members, strangers = of([0.1] * 9 + [0.9], [0] * 10, "a" * 10), of([0.5] * 20, [0] * 20, "x" * 10 + "y" * 10)
    found = figure(members, strangers)
    assert (found.auc, found.clips, found.speakers) == (0.9, 10, 1)
    assert (found.low, found.high) == (pytest.approx(0.7), 1.0)
    assert str(found) == "0.90 [0.70, 1.00]"
    with pytest.raises(CorpusError, match="no emotion of these speakers"):
        figure(of([0.1], [1], "a"), strangers)


def test_a_speaker_is_beyond_the_limit_where_no_stranger_reaches() -> None:
    speaker, none = of([0.3] * 10, [0] * 10, "a" * 10), of([], [], "")
    alike = of([0.4, 0.5] * 10, [0] * 20, "xy" * 10)
    found = compare("the model", speaker, none, alike, 0.55)
    assert (found.speaker.auc, found.others, found.strangers, found.stranger_clips) == (1.0, None, 2, 20)
    assert found.each == (1.0, 0.0)  # x against y, and y against x
    assert found.verdict == "unclear"  # the model distinguishes a stranger from the other as well
    alike = of([0.4, 0.5, 0.5, 0.4] * 5, [0] * 20, "xxyy" * 5)
    found = compare("the model", speaker, of([0.3], [0], "b"), alike, 0.55)
    assert (found.each, found.verdict) == ((0.5, 0.5), "EXCEEDED")
    assert remains.Remains.read(found.to_dict()) == found
    found = compare("the model", speaker, none, of([0.4] * 9, [0] * 9, "x" * 9), 0.55)
    assert (found.speaker.low, found.each, found.verdict) == (1.0, (), "unclear")  # one stranger may differ from all


@pytest.fixture
def trained(made_up: MadeUp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
            ) -> Callable[..., tuple[Config, Federation, PeerFolder]]:
    """Return a function: the settings, data and folder of peer 0, with speakers s0 and s1 and a checkpoint of round 3;
    s4 and s5 are held out of training."""

    def make(how: str, **settings: object) -> tuple[Config, Federation, PeerFolder]:
        config, whole = made_up(6, how, **settings)
        config = config.with_settings([f"peer.out={tmp_path}"])
        train = {0: together([whole.train[0], whole.train[1]]), 1: whole.train[2], 2: whole.train[3]}
        test = together([whole.train[4], whole.train[5]])
        held = (tuple(range(32)), tuple(range(32, 48)), tuple(range(48, 64)))
        federation = replace(whole, train=train, test=test, held=held)
        monkeypatch.setattr(remains, "federate", lambda *_, **__: federation)
        result = simulate(config, TOPOLOGY, federation, each_peer=False)
        sums, folder = Cohort(config, federation, train).sums().mean(0), PeerFolder(config, TOPOLOGY, 0)
        checkpoint.save(folder.checkpoints, 3, {"x": result.row[None].float(), SUMS: sums[None]}, {}, {})
        return config, federation, folder

    return make


@pytest.mark.parametrize("how", ["speaker", "global", "none"])
def test_clips_are_scaled_as_in_the_run(trained: Callable[..., tuple[Config, Federation, PeerFolder]], how: str,
                                        monkeypatch: pytest.MonkeyPatch) -> None:
    config, federation, folder = trained(how)
    cohort = Cohort(config, federation, {0: federation.train[0]})
    whole = Cohort(config, federation, federation.train)
    cohort.prepare(whole.sums().mean(0), 3)
    scaled = cohort.work.learners[0].features.numpy()
    seen = []
    monkeypatch.setattr(remains, "losses", lambda module, features, labels: seen.append(features)
                        or losses(module, features, labels))
    (found,) = measure(config, TOPOLOGY, 0, folder, "s1", learned=True)
    mine, others, strangers = seen
    np.testing.assert_allclose(np.concatenate([others, mine]), scaled, rtol=1e-5, atol=1e-5)
    if how != "speaker":
        np.testing.assert_allclose(strangers, cohort._test, rtol=1e-5, atol=1e-5)
    assert (found.of, found.speaker.clips, found.stranger_clips) == ("the checkpoint of round 3", 16, 32)
    assert found.others is not None
    assert found.others.clips == 16


@pytest.mark.parametrize("settings", [{"model.name": "svm", "model.parameters.random_features": 16},
                                      {"gossip.algorithm": "push-sum"}])
def test_families_and_algorithms(trained: Callable[..., tuple[Config, Federation, PeerFolder]],
                                 settings: dict[str, object]) -> None:
    config, _, folder = trained("none", **settings)  # an SVM has scores, which are read as logits
    (found,) = measure(config, TOPOLOGY, 0, folder, "s1", learned=True)
    assert 0 <= found.speaker.low <= found.speaker.auc <= found.speaker.high <= 1


def test_who_was_trained_on_is_no_stranger(trained: Callable[..., tuple[Config, Federation, PeerFolder]]) -> None:
    """A split given in the call may hold out a speaker who was trained on: the clips of the last start say so."""
    config, federation, folder = trained("none")
    assert federation.test is not None
    known = [*federation.train[0].paths[:20], federation.test.paths[0]]
    write_json(folder.clips, {path: ["", ""] for path in known})
    (found,) = measure(config, TOPOLOGY, 0, folder, "s1", learned=True)
    assert (found.strangers, found.stranger_clips) == (1, 16)
    assert found.others is not None
    assert found.others.clips == 16  # s0's, all known
    (found,) = measure(config, TOPOLOGY, 0, folder, "s0", learned=True)
    assert found.others is not None
    assert found.others.clips == 4  # of s1 the last start knew four clips
    write_json(folder.clips, {path: ["", ""] for path in (*known, federation.test.paths[-1])})
    with pytest.raises(CorpusError, match=r"no recordings of speakers on whom no peer has trained.*corpus.split"):
        measure(config, TOPOLOGY, 0, folder, "s1", learned=True)


def test_there_is_nothing_to_measure(trained: Callable[..., tuple[Config, Federation, PeerFolder]]) -> None:
    config, _, folder = trained("none")
    with pytest.raises(CorpusError, match="none of the speaker's clips"):
        measure(config, TOPOLOGY, 0, folder, "s2", learned=True)
    checkpoint.save(folder.checkpoints, 4, {"x": torch.zeros(1, 2)}, {}, {})
    with pytest.raises(ModelError, match="the checkpoint of round 4 has 2 parameters"):
        measure(config, TOPOLOGY, 0, folder, "s1", learned=True)
    with pytest.raises(CheckpointError, match="no parameters of training"):
        measure(config, TOPOLOGY, 0, PeerFolder(config, TOPOLOGY, 1), "s1", learned=True)
