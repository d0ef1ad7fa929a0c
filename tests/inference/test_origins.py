"""The clips that test a model of several corpora: of all or of one; training clips among them are reported."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from p2pser.base.errors import CorpusError
from p2pser.config import Config, FeatureSettings, ModelSettings
from p2pser.corpora import combined as several
from p2pser.corpora.manifest import Clip, Corpus, assemble
from p2pser.corpora.partitioning import partition_corpus
from p2pser.experiments.evaluation_set import choose
from p2pser.features import clip_features
from p2pser.models import directory
from p2pser.models.directory import Card
from p2pser.models.origin import Origin
from p2pser.models.rows import Schema


def corpus_of(name: str, speakers: int, emotions: tuple[str, ...], split: str | None = None) -> Corpus:
    root = Path("/data") / name
    clips = [Clip(root / f"{s}-{number}.wav", f"s{s}", emotion) for s in range(speakers)
             for number, emotion in enumerate(emotions)]
    return assemble(name, "1", clips, [], root, split=split)


A = corpus_of("a", 4, ("anger", "fear", "neutral"), "loso")
B = corpus_of("b", 3, ("anger", "calm", "fear", "surprise"))
BOTH = several.combine([A, B])


def card(**origin: object) -> Card:
    known = {"name": "a+b", "version": "a 1, b 1", "split": "each", "fold": 3, "corpora": {"a": "1", "b": "1"},
             "map": {"calm": "neutral"}, **origin}
    return Card(labels=("anger", "fear", "neutral"), shape=(2,), model=ModelSettings(), features=FeatureSettings(),
                normalise="none", statistics=None, corpus=Origin(**known))  # type: ignore[arg-type]


def test_on_all_its_corpora_the_fold_that_training_left_out() -> None:
    chosen = choose(card(), BOTH)
    assert chosen.split == "a loso:s3 + b group:3/0"
    assert chosen.overlap == 0
    assert "note: calm counts as neutral (3 clips)" in chosen.notes
    assert {chosen.corpus.clips[i].emotion for i in chosen.folds[0]} == {"anger", "fear", "neutral"}
    everything = choose(card(), BOTH, everything=True)
    assert everything.overlap == 5
    assert any("trained on 5 of the 7 test speakers" in note for note in everything.notes)


def test_on_one_of_its_corpora_that_one_s_fold() -> None:
    for corpus, number in ((A, 3), (B, 0)):
        chosen, whole = choose(card(), corpus), choose(card(), BOTH)
        assert chosen.overlap == 0
        (fold,) = chosen.folds
        tested = {f"{corpus.name}/{chosen.corpus.clips[i].speaker}" for i in fold}
        assert tested == {whole.corpus.clips[i].speaker for i in whole.folds[0]
                          if whole.corpus.clips[i].corpus == corpus.name}
        assert chosen.split.endswith(str(number))


@pytest.mark.parametrize(("origin", "corpus", "overlap", "message"), [
    ({"split": "group:4"}, A, None, "this corpus alone does not show of which speakers: evaluate on a\\+b"),
    ({"split": "none"}, A, 4, "trained on 4 of the 4"),
    ({"split": "corpus:a", "fold": 0}, A, None, ""),
    ({"split": "corpus:a", "fold": 0}, B, 3, "trained on 3 of the 3"),
    ({"split": "corpus", "fold": 1}, B, None, ""),
    ({"split": "corpus", "fold": 3}, B, None, ""),
    ({"split": "corpus", "fold": 1}, A, 4, "trained on 4 of the 4"),
    ({"train": ("b",)}, A, None, ""),
    ({"own": True}, A, None, ""),
    ({"corpora": {"a": "2", "b": "1"}, "version": "a 2, b 1"}, A, None, ""),
])
def test_the_overlap_with_one_corpus_of_several(origin: dict[str, object], corpus: Corpus, overlap: int | None,
                                           message: str) -> None:
    chosen = choose(card(**origin), corpus, known_labels=True)
    assert chosen.overlap == overlap
    notes = " ".join(note for note in chosen.notes if "counts as" not in note)
    if message:
        assert re.search(message, notes), notes
    else:
        assert notes == ""


def test_emotions_of_another_corpus_must_be_left_out_by_name() -> None:
    other = corpus_of("c", 3, ("anger", "boredom", "fear"))
    with pytest.raises(CorpusError, match="does not know \\(boredom"):
        choose(card(), other)
    assert choose(card(), other, known_labels=True).overlap is None


def test_a_corpus_that_the_card_does_not_name_shares_no_speaker() -> None:
    known = {"name": "emodb", "version": "1", "corpora": {}, "languages": ("de",), "map": {}}
    other = dataclasses.replace(A, name="ravdess", clips=tuple(dataclasses.replace(clip, language="en")
                                                               for clip in A.clips))
    chosen = choose(card(**known), other)
    assert chosen.overlap == 0
    assert "note: ravdess is not among the corpora that the card names, so the model knows none of its speakers" \
        in chosen.notes
    assert any("these clips are in en, and the model was trained on de" in note for note in chosen.notes)
    assert choose(card(**{**known, "own": True}), other).overlap is None  # peers' own recordings may be of any corpus
    assert choose(card(**{**known, "name": "my-clips"}), other).overlap is None
    again = choose(card(**{**known, "languages": ("de", "en")}), other)
    assert not any("languages" in note for note in again.notes)


def test_a_card_on_disk_names_the_corpora(tmp_path: Path) -> None:
    schema = Schema.of(nn.Linear(1, 1))
    settings = Config().with_settings(["corpus.map=calm=neutral", "corpus.train=[a]", "corpus.fold=2"])
    made = dataclasses.replace(card(), corpus=Origin.of(settings, BOTH), shape=clip_features.shape(FeatureSettings()))
    assert made.corpus == Origin("a+b", "a 1, b 1", False, "each", 2, 0, False, {"a": "1", "b": "1"}, ("a",),
                                 {"calm": "neutral"})
    directory.save(tmp_path / "model", torch.zeros(schema.size), schema, made)
    assert directory.read_card(tmp_path / "model")[0].corpus == made.corpus
    path = tmp_path / "model" / "card.json"
    document = json.loads(path.read_text())
    for later in ("corpora", "train", "map"):  # as an older version wrote it
        del document["corpus"][later]
    path.write_text(json.dumps(document))
    old = directory.read_card(tmp_path / "model")[0].corpus
    assert (old.corpora, old.train, old.map) == ({}, (), {})


@pytest.mark.parametrize(("corpora", "synthetic", "message"), [
    ({"a": "1", "synthetic:es": "1"}, False, "partly on synthetic speech (synthetic:es)"),
    ({"synthetic:de": "1", "synthetic:es": "1"}, True, "trained on synthetic speech"),
    ({"a": "1", "b": "1"}, False, ""),
])
def test_a_model_trained_on_synthetic_speech_too_warns(corpora: dict[str, str], synthetic: bool, message: str) -> None:
    warning = card(corpora=corpora, synthetic=synthetic).warning
    assert message in warning
    assert bool(message) == bool(warning)


def test_partitioned_and_evaluated_are_the_same_clips(tmp_path: Path) -> None:
    for name, emotions in (("a", ("anger", "fear")), ("b", ("anger", "calm", "fear"))):
        for emotion in emotions:
            for speaker in "pqr":
                path = tmp_path / name / emotion / speaker / "1.wav"
                path.parent.mkdir(parents=True)
                path.touch()
    settings = Config().with_settings(["corpus.name=folder+folder", "corpus.fold=1",
                                       f"corpus.data=[{tmp_path / 'a'}, {tmp_path / 'b'}]"])
    partitioning = partition_corpus(settings, 2)
    made = dataclasses.replace(card(), labels=partitioning.labels, corpus=Origin.of(settings, partitioning.corpus))
    chosen = choose(made, several.load(settings.corpus))
    assert np.array_equal(chosen.folds[0], partitioning.split.test)
    assert chosen.corpus.clips == partitioning.corpus.clips


def test_another_folder_of_the_same_name_is_another_corpus(tmp_path: Path) -> None:
    def folder(place: str, speakers: str) -> Path:
        for emotion in ("anger", "fear"):
            for speaker in speakers:
                path = tmp_path / place / "wav" / emotion / speaker / "1.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
        return tmp_path / place / "wav"

    settings = Config().with_settings(["corpus.name=folder", f"corpus.data={folder('a', 'pqrs')}"])
    made = dataclasses.replace(card(), corpus=Origin.of(settings, several.load(settings.corpus)))
    assert choose(made, several.load(settings.corpus)).overlap == 0
    for place, speakers in (("b", "tuvw"), ("a", "pqrst")):  # others of the same number, and one more
        other = several.load(Config().with_settings(
            ["corpus.name=folder", f"corpus.data={folder(place, speakers)}"]).corpus)
        chosen = choose(made, other)
        assert (chosen.overlap, len(chosen.folds)) == (None, 4)


def test_clips_whose_consent_is_over_are_not_tested() -> None:
    def clips(**extra: str) -> Corpus:
        return dataclasses.replace(A, name="c", clips=tuple(
            dataclasses.replace(clip, extra=extra) if clip.speaker == "s0" else clip for clip in A.clips))

    for extra, why in (({"consent_until": "2001-01-01"}, "the consent to its use is over"),
                       ({"purpose": "therapy"}, "the consent is for therapy, not for research")):
        made = dataclasses.replace(card(), training={"purpose": "research"})
        chosen = choose(made, clips(**extra))
        assert sum(map(len, chosen.folds)) == 9
        assert f"note: 3 clips are left out: 3 × {why}" in chosen.notes
    assert sum(map(len, choose(made, clips(purpose="research")).folds)) == 12
