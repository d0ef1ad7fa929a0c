"""The evaluation of a model directory on recordings with labels."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from tone_models import tone, trained

import p2pser
from p2pser import models
from p2pser.base.errors import CorpusError
from p2pser.cli.evaluate import evaluate
from p2pser.config import configured
from p2pser.corpora import loading as corpora
from p2pser.experiments import model_evaluation as evaluation
from p2pser.experiments.evaluation_set import choose
from p2pser.features.federation import federate
from p2pser.features.normalisation import Statistics
from p2pser.inference.predictor import Predictor
from p2pser.models import directory
from p2pser.models.heard import Heard
from p2pser.models.rows import Schema
from p2pser.run.card import card
from p2pser.simulation.engine import simulate


def test_cli_evaluate_tests_the_fold_that_training_left_out(model: Path, folder: Path) -> None:
    done = CliRunner().invoke(evaluate, [str(model), "--data", str(folder), "--json"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert (document["clips"], document["speakers"], document["split"]) == (8, 1, "loso:spk1")
    assert (document["speaker_overlap"], document["peers"], document["chance"]) == (0, 3, 0.5)
    assert document["uar"]["folds"] == 1.0
    assert document["uar"]["folds_interval"] is None  # one speaker
    assert document["normalise"] == "global"
    text = CliRunner().invoke(evaluate, [str(model), "--data", str(folder)]).stdout
    for part in ("UAR (a) mean over folds   1.000", "UAR (b) pooled", "macro F1", "chance 0.500", "majority 0.500",
                 "recall   anger 1.00", "selection:", "trained on: 0", "confusion"):
        assert part in text


def test_cli_evaluate_writes_predictions_and_draws_them(model: Path, folder: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(evaluate, [str(model), "--data", str(folder), "--csv", str(tmp_path / "p.csv"),
                                         "--plot", str(tmp_path / "c.png")])
    assert done.exit_code == 0, done.output
    lines = (tmp_path / "p.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "corpus,path,speaker,gender,fold,target,predicted,p_anger,p_sadness"
    assert len(lines) == 1 + 8
    assert lines[1].split(",", 1)[1].startswith("anger/spk1/0.wav,spk1,,1,anger,anger,0.")
    assert (tmp_path / "c.png").stat().st_size > 5_000
    assert "no temperature was fitted" in done.stdout


@pytest.mark.parametrize("task", ["both", "dimensions"])
def test_cli_evaluate_tells_the_concordance_of_dimensions(folder: Path, tmp_path: Path, task: str) -> None:
    corpus, card = corpora.load("folder", folder), trained(folder, "global")[2]
    level = {"anger": 0.9, "sadness": -0.5}
    rows = [f"{clip.path},{clip.speaker},{clip.emotion},{level[clip.emotion or '']}" for clip in corpus.clips]
    (tmp_path / "m.csv").write_text("\n".join(["path,speaker,emotion,arousal", *rows]) + "\n", encoding="utf-8")
    labels = card.labels if task == "both" else ()
    module = models.build(card.model, card.shape, len(labels) + 3, seed=0)
    schema = Schema.of(module)
    directory.save(tmp_path / "model", schema.flatten(module), schema,
                   dataclasses.replace(card, labels=labels, task=task))
    arguments = [str(tmp_path / "model"), "--corpus", "manifest", "--data", str(tmp_path / "m.csv"),
                 "--csv", str(tmp_path / "p.csv"), "--plot", str(tmp_path / "c.png")]
    done = CliRunner().invoke(evaluate, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert (document["clips"], document["speakers"]) == (24, 3)
    assert -1 < document["ccc"]["arousal"]["pooled"] < 1
    assert document["ccc"]["valence"] == {"pooled": None, "folds": None, "interval": None}
    assert ("uar" in document) == (tmp_path / "c.png").exists() == (task == "both")
    lines = (tmp_path / "p.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + 24
    assert ("p_anger" in lines[0]) == (task == "both")
    assert ("predicted_arousal" in lines[0]) == (task == "dimensions")
    text = CliRunner().invoke(evaluate, arguments).stdout
    assert "CCC over all clips   arousal " in text
    assert ("UAR (b)" in text) == (task == "both")


def test_cli_evaluate_all_notes_shared_speakers(model: Path, folder: Path) -> None:
    done = CliRunner().invoke(evaluate, [str(model), "--data", str(folder), "--all", "--json"])
    document = json.loads(done.stdout)
    assert (document["clips"], document["speakers"], document["speaker_overlap"]) == (24, 3, 2)
    assert len(document["uar"]["by_fold"]) == 3
    assert any("2 of the 3 test speakers" in note for note in document["notes"])


def test_enrolment_is_reported_for_speaker_models(speaker_model: Path, folder: Path) -> None:
    predictor = p2pser.load(speaker_model)
    chosen = choose(predictor.card, corpora.load("folder", folder), everything=True)
    report = evaluation.evaluate(predictor, chosen, workers=1)
    assert list(report.by_enrolment) == [0, 1, 2, 5, 8]
    assert report.text().splitlines()[1].startswith("without recordings of the speaker, as predict answers: UAR (a) ")


def test_the_outputs_are_those_of_the_test_of_the_run(folder: Path, tmp_path: Path) -> None:
    config = configured({"corpus.name": "folder", "corpus.data": str(folder), "corpus.fold": 1, "model.hidden": [4],
                         "features.normalise": "speaker", "training.rounds": 1})
    run = simulate(config, p2pser.topology("complete", 2), federate(config, 2, workers=1))
    directory.save(tmp_path / "model", run.row, run.schema,
                   card(run.config, run.topology, run.federation, run.statistics, agreed=2))
    predictor = p2pser.load(tmp_path / "model")
    chosen = choose(predictor.card, corpora.load("folder", folder))
    found = evaluation.evaluate(predictor, chosen, workers=1).predictions
    tested = run.predictions
    assert found is not None
    assert tested is not None
    assert tested.logits is not None
    assert found.paths == tested.paths
    np.testing.assert_allclose(found.logits, tested.logits, rtol=1e-4, atol=1e-5)


def test_a_prediction_has_the_temperature_of_the_clips_that_were_heard(speaker_model: Path, folder: Path) -> None:
    plain, scaled = p2pser.load(speaker_model), p2pser.load(speaker_model)
    scaled.card = replace(scaled.card, heard=(Heard(0, 4.0, 0.5, 0.1, 0.6), Heard(2, 0.5, 0.9, 0.1, 0.9)))
    assert "UAR 0.50, instead of 0.90 after 2 clips" in scaled.note()
    clip, others = folder / "anger" / "spk0" / "0.wav", sorted((folder / "anger" / "spk0").iterdir())

    def odds(predictor: Predictor, own: Statistics | None) -> float:
        chances = next(predictor.each([clip], own)).probabilities
        return math.log(chances["anger"] / chances["sadness"])

    for heard, temperature in ((0, 4.0), (1, 4.0), (2, 0.5), (4, 0.5)):
        own = plain.enrol(others[:heard]) if heard else None
        assert odds(plain, own) == pytest.approx(temperature * odds(scaled, own), rel=1e-4)


def test_evaluate_tells_what_predict_answers(speaker_model: Path, folder: Path) -> None:
    predictor = p2pser.load(speaker_model)
    chosen = choose(predictor.card, corpora.load("folder", folder), split="none", everything=True)
    report = evaluation.calibrate(replace(evaluation.evaluate(predictor, chosen, workers=1), speaker_overlap=0))
    assert [each.clips for each in report.heard] == [0, 1, 2, 5, 8]
    predictor.card = replace(predictor.card, heard=report.heard)
    strange = evaluation.evaluate(predictor, chosen, workers=1).curve()[0]
    clips = [(label, path) for label in predictor.labels for path in sorted((folder / label).rglob("*.wav"))]
    answers = list(predictor.each(path for _, path in clips))
    assert strange["confidence"] == pytest.approx(np.mean([max(a.probabilities.values()) for a in answers]), abs=1e-6)
    assert strange["uar"] == pytest.approx(np.mean([a.label == label for a, (label, _) in zip(answers, clips)]))
    assert "8 to 8, without labels: transductive" in report.normalise_note
    assert "by the number of clips" in report.text()


def test_another_corpus_is_tested_whole_with_unknown_overlap(folder: Path, tmp_path: Path) -> None:
    card = trained(folder, "global", name="elsewhere")[2]
    chosen = choose(card, corpora.load("folder", folder))
    assert sum(map(len, chosen.folds)) == 24
    assert chosen.overlap is None
    own = trained(folder, "global", own=True)[2]
    assert choose(own, corpora.load("folder", folder)).overlap is None


def test_labels_that_the_model_does_not_know(model: Path, folder: Path, tmp_path: Path) -> None:
    for speaker in ("a", "b"):
        for emotion in ("anger", "fear"):
            tone(tmp_path / "c" / emotion / speaker / "0.wav", 500.0)
    done = CliRunner().invoke(evaluate, [str(model), "--data", str(tmp_path / "c")])
    assert isinstance(done.exception, CorpusError)
    assert "does not know (fear; it knows anger, sadness)" in str(done.exception)
    done = CliRunner().invoke(evaluate, [str(model), "--data", str(tmp_path / "c"), "--known-labels", "--json"])
    assert json.loads(done.stdout)["clips"] == 2
    wrong = CliRunner().invoke(evaluate, [str(model), "--data", str(folder), "--folds", "9"])
    assert "fold 9 does not exist" in str(wrong.exception)
    both = CliRunner().invoke(evaluate, [str(model), "--data", str(folder), "--folds", "0", "--all"])
    assert both.exit_code == 2
