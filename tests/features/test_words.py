"""Features of what was said: from a manifest's transcripts to a model that reads words beside the voice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner

import p2pser
from p2pser import models
from p2pser.base.errors import ConfigError, CorpusError
from p2pser.cli.predict import predict
from p2pser.config import Config, FeatureSettings
from p2pser.corpora.folds import folds
from p2pser.corpora.manifest import read_manifest
from p2pser.features import clip_features
from p2pser.features.extraction import extract
from p2pser.features.federation import federate
from p2pser.features.kinds.words import LONGEST, Words, plain
from p2pser.graph import spec
from p2pser.models import directory
from p2pser.models.rows import Schema
from p2pser.run.card import card as card_of
from p2pser.simulation.engine import simulate

RATE = 16000
SECRET = "the zyzzyva sings"
SAID = {"anger": ("go away now", "I hate this", SECRET), "happiness": ("what a lovely day", "we won", "so glad")}
SPEAKERS = ("ann", "bob", "cy", "dee")


def words(text: str, width: int = 256) -> np.ndarray:
    return Words(sample_rate=RATE, width=width).read(text)


def likeness(one: str, other: str) -> float:
    return float(words(one)[2:] @ words(other)[2:]) / 256


# -- the kind ------------------------------------------------------------------------------------------------------


def test_words_are_hashed_alike_everywhere() -> None:
    found = words("Der Hund bellt.", 16)
    assert found.dtype == np.float32
    # Constants: peers on other machines, and models of other years, must find the same numbers.
    np.testing.assert_allclose(found[:2], [1.0, np.log(4)], rtol=1e-6)
    assert "".join("+" if value > 0 else "-" for value in found[2:]) == EXPECTED
    assert np.linalg.norm(found[2:]) == pytest.approx(4.0)
    np.testing.assert_array_equal(found, words("  der\u00a0HUND\x00\tbellt. ", 16))
    assert list(words("")) == [0.0] * 258
    assert len(clip_features.names(FeatureSettings(kind="functionals+words", parameters={"width": 64}))) == 691 + 66


EXPECTED = "-+++--++-----+++"


def test_texts_with_common_words_are_alike() -> None:
    assert likeness("the dog sits by the door", "the dogs sit by a door") > 0.4
    assert abs(likeness("the dog sits by the door", "quick brown foxes jump")) < 0.25
    assert likeness("not good", "good not") < 0.999  # pairs of words have an order


@pytest.mark.parametrize("text", ["\u202e\u0301\U0001f600", "\ud800x", "4711", "\x00", "....", "ﷺ" * 5000, "a" * 10**6,
                                  "字" * 9, "word " * 200_000])
def test_any_text_costs_only_itself(text: str) -> None:
    found = words(text)
    assert np.isfinite(found).all()
    assert found[0] == (0.0 if not plain(text) else 1.0)
    assert len(plain(text)) <= LONGEST


def test_a_wrong_width_is_refused() -> None:
    for width in (12, 0, -8, 10**6):
        with pytest.raises(ConfigError, match="multiple of 8"):
            Words(sample_rate=RATE, width=width)


# -- manifests ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two emotions whose voices are alike and whose words differ: four speakers, three sentences each."""
    root = tmp_path_factory.mktemp("said")
    random = np.random.default_rng(0)
    rows = ["path,speaker,emotion,transcript"]
    for speaker in SPEAKERS:
        for emotion, sentences in SAID.items():
            for k, text in enumerate(sentences):
                name = f"{speaker}-{emotion}-{k}.wav"
                buzz = 0.2 * np.sign(np.sin(2 * np.pi * 140 * np.arange(RATE // 3) / RATE))
                soundfile.write(root / name, buzz + random.normal(0, 0.01, buzz.size), RATE)
                rows.append(f"{name},{speaker},{emotion},{text}")
    (root / "clips.csv").write_text("\n".join(rows) + "\n")
    return root / "clips.csv"


@pytest.fixture
def run(manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Config]:
    monkeypatch.setenv("P2PSER_CACHE", str(tmp_path / "cache"))

    def make(*more: str) -> Config:
        return Config().with_settings(["corpus.name=manifest", f"corpus.data={manifest}", "model.hidden=8",
                                       "features.kind=functionals+words", "features.parameters.width=64",
                                       "training.rounds=8", *more])

    return make


def test_a_hostile_transcript_costs_only_itself(tmp_path: Path) -> None:
    for name in "abcde":
        soundfile.write(tmp_path / f"{name}.wav", 0.1 * np.ones(RATE // 2) * (-1) ** np.arange(RATE // 2), RATE)
    cells = ["x" * 1_000_000, "a\x00b", "42", "", '"two\nlines, ""quoted"""']
    (tmp_path / "clips.csv").write_text("path,emotion,transcript\n" + "".join(
        f"{name}.wav,anger,{cell}\n" for name, cell in zip("abcde", cells)), encoding="utf-8")
    corpus = read_manifest(tmp_path / "clips.csv")
    assert (len(corpus.clips), corpus.left_out) == (5, ())
    found = extract([clip.path for clip in corpus.clips], FeatureSettings(kind="words"),
                    texts=[clip.transcript for clip in corpus.clips])
    assert [values is not None for values in found.features] == [True, True, True, False, True]
    assert [reason for _, reason in found.left_out] == ["it has no transcript, and the features are of words alone"]


def test_no_word_is_written_to_the_cache_or_sent_to_helpers(run: Callable[..., Config], tmp_path: Path,
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[bytes] = []
    from p2pser.features import extractor

    start = extractor._send
    monkeypatch.setattr(extractor, "_send", lambda helper, head, paths: (
        sent.append(json.dumps([head, [str(path) for path in paths]]).encode()), start(helper, head, paths)))
    found = federate(run(), 3, workers=2)
    assert found.train[0].features.shape[1] == 691 + 66
    assert len(sent) == 2
    everything = b"".join(path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file())
    assert everything
    assert "zyzzyva" not in (everything + b"".join(sent)).decode(errors="replace")
    assert not [path for path in (tmp_path / "cache" / "features").iterdir() if "words" in path.name]


def test_words_stand_where_their_kind_is_named(run: Callable[..., Config]) -> None:
    after, before = (federate(run(f"features.kind={kind}"), 3, workers=1).train[0].features
                     for kind in ("functionals+words", "words+functionals"))
    np.testing.assert_array_equal(after[:, :691], before[:, 66:])
    np.testing.assert_array_equal(after[:, 691:], before[:, :66])


# -- sentences -------------------------------------------------------------------------------------------------------


def test_no_fold_by_sentence_trains_on_a_tested_speaker_or_sentence(manifest: Path) -> None:
    corpus = read_manifest(manifest)
    made = folds(corpus, "sentence:2:loso")
    assert len(made) == 8
    assert sorted(index for fold in made for index in fold.test) == list(range(24))
    for fold in made:
        said, heard = ([corpus.clips[index] for index in part] for part in (fold.train, fold.test))
        assert fold.disjoint
        assert not {clip.transcript for clip in said} & {clip.transcript for clip in heard}
        assert not {clip.speaker for clip in said} & {clip.speaker for clip in heard}
        assert len(said) == 9
    for wrong, why in (("sentence:7", "needs 7 sentences; said has 6"), ("sentence", "number of folds"),
                       ("sentence:2:none", "divides the folds")):
        with pytest.raises(CorpusError, match=why.replace("said", ".*")):
            folds(corpus, wrong)


def test_repeated_sentences_and_missing_ones_are_told(run: Callable[..., Config], manifest: Path) -> None:
    notes = federate(run("corpus.split=loso"), 3, workers=1).notes
    assert any(note.startswith("6 of the 6 sentences of the test clips are trained on too") for note in notes)
    assert not any("trained on too" in note for note in
                   federate(run("corpus.split=sentence:2:loso"), 3, workers=1).notes)
    some = manifest.parent / "some.csv"
    some.write_text(manifest.read_text().replace("we won", ""))
    notes = federate(run("corpus.split=loso", f"corpus.data={some}"), 3, workers=1).notes
    assert any(note.startswith("4 of 24 clips have no transcript") for note in notes)
    with pytest.raises(CorpusError, match="4 of 24 clips of some have none"):
        federate(run("corpus.split=sentence:2", f"corpus.data={some}"), 3, workers=1)


# -- a model ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def model(run: Callable[..., Config], tmp_path: Path) -> Callable[..., Path]:
    """A model directory, trained in a moment."""
    def make(*more: str) -> Path:
        config, topology = run("corpus.split=loso", "training.lr=0.05", *more), spec.load("ring", 3)
        found = simulate(config, topology, federate(config, 3, workers=1))
        folder = tmp_path / f"model{len(more)}"
        directory.save(folder, found.row, found.schema, card_of(found.config, topology, found.federation,
                                                                found.statistics, agreed=3))
        test = found.predictions
        assert test is not None
        assert (test.predicted == test.targets).mean() > 0.9  # by the words: the voices are alike
        return folder

    return make


def test_a_model_reads_words_beside_the_voice(model: Callable[..., Path], manifest: Path) -> None:
    folder = model("features.normalise=global")
    assert "zyzzyva" not in (folder / "card.json").read_text()
    clip = manifest.parent / "ann-anger-0.wav"
    predictor = p2pser.load(folder)
    assert predictor.card.model.parameters["late"] == "691,66"
    answers = predictor.predict([clip, clip, clip], texts=[SECRET, "so glad", ""], together=False)
    angry = [each.probabilities["anger"] for each in answers]
    assert min(angry[0], angry[2]) > angry[1]  # words that speak for it, unknown ones, words that speak against it
    assert any("1 of 3 recordings have no transcript" in remark for remark in predictor.remarks)
    assert not any("transcript" in remark for remark in (predictor.predict(manifest), predictor.remarks)[1])
    with pytest.raises(CorpusError, match="2 texts for 1 recording:"):
        predictor.predict(clip, texts=["a", "b"])
    said = [CliRunner().invoke(predict, [str(folder), str(clip), "--json", *more])
            for more in ((), ("--text", SECRET), ("--text", SECRET, "--window", "0.3"))]
    assert [each.exit_code for each in said] == [0, 0, 2], said
    assert "zyzzyva" not in said[1].output
    assert "one whole recording" in said[2].output
    assert "transcript" in said[0].output
    assert "transcript" not in said[1].output


def test_a_model_of_words_alone_needs_them(model: Callable[..., Path], manifest: Path) -> None:
    folder = model("features.kind=words", "features.normalise=global")
    clip = str(manifest.parent / "ann-anger-0.wav")
    without, with_words = (CliRunner().invoke(predict, [str(folder), clip, *more])
                           for more in ((), ("--text", "so glad")))
    assert (without.exit_code, with_words.exit_code) == (2, 0)
    assert "the model reads words alone" in without.output
    assert "happiness" in with_words.output


def test_late_parts_have_networks_of_their_own() -> None:
    settings = Config().with_settings(["model.hidden=4", "model.parameters.late=3,2"]).model
    network = models.build(settings, (5,), 2, 0).eval()
    assert Schema.of(network).size == (3 * 4 + 4 + 4 * 2 + 2) + (2 * 4 + 4 + 4 * 2 + 2)
    both = network(torch.tensor([[1.0, 2, 3, 4, 5]]))
    alone = [network(torch.tensor([row])) for row in ([1.0, 2, 3, 0, 0], [0.0, 0, 0, 4, 5], [0.0, 0, 0, 0, 0])]
    torch.testing.assert_close(both, alone[0] + alone[1] - alone[2])
    assert all(not torch.equal(one, alone[2]) for one in alone[:2])
