"""Cross-validation: the same clips for all schemes, temperatures from inner folds, its tables, files and command."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from click.testing import CliRunner

from p2pser.base.errors import ConfigError, ModelError
from p2pser.base.registries import FAMILIES
from p2pser.cli.crossval import crossval as command
from p2pser.config import Config
from p2pser.evaluation import calibration, metrics
from p2pser.evaluation.metrics import Predictions
from p2pser.experiments import pool
from p2pser.experiments.crossval import (
    ALONE,
    CrossValidation,
    Setup,
    configured,
    crossval,
    prepare,
    summarised,
    topology_for,
)
from p2pser.experiments.held_sets import coverage_of
from p2pser.experiments.jobs import Job
from p2pser.experiments.report import crossval as report
from p2pser.experiments.results import Results, predictions
from p2pser.experiments.scheme_figures import temperatures_of
from p2pser.graph import spec

PLAIN = ["training.rounds=2", "training.local_steps=1", "model.name=cnn2d", "model.hidden=[4]", "features.kind=logmel",
         "features.n_mels=16", "features.seconds=0.4", "features.normalise=speaker", "corpus.split=loso"]


@pytest.fixture(scope="module")
def manifest(spoken_tones: Callable[[int], Path]) -> Path:
    """Three emotions of four speakers, two women and two men."""
    root = spoken_tones(4)
    lines = ["path,speaker,gender,emotion"]
    for path in sorted(root.glob("*/*/*.wav")):
        emotion, speaker, _ = path.relative_to(root).parts
        lines.append(f"{path.relative_to(root)},{speaker},{'fm'[int(speaker[-1]) % 2]},{emotion}")
    (root / "manifest.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root / "manifest.csv"


@pytest.fixture(scope="module")
def config(manifest: Path) -> Config:
    return Config().with_settings([*PLAIN, "corpus.name=manifest", f"corpus.data={json.dumps(str(manifest))}"])


@pytest.fixture(scope="module")
def done(config: Config, tmp_path_factory: pytest.TempPathFactory) -> tuple[Setup, Results, CrossValidation]:
    """All folds, two seeds, calibrated."""
    setup = prepare(topology_for(config, "ring"), config, models=["cnn2d"], seeds=2, inner=2,
                    out=tmp_path_factory.mktemp("cross"))
    results = pool.run_all(setup.plans, processes=1)
    return setup, results["cnn2d"], summarised(setup, results)


def test_all_schemes_are_tested_on_the_same_clips_of_all_folds(done) -> None:
    setup, _, cross = done
    runs = setup.plans["cnn2d"]
    assert (runs.peers, runs.folds, setup.split, setup.folds) == (3, (0, 1, 2, 3), "loso", 4)
    models = [model for by_seed in cross.predictions["cnn2d"].values() for seed in by_seed for model in seed]
    assert len(models) == 2 * (1 + 1 + 1 + 1 + 3)
    for model in models:
        assert len(model.targets) == len(set(model.paths)) == 36
        assert model.speakers == tuple(f"speaker{fold}" for fold in model.folds)
        assert model.genders == tuple("fm"[fold % 2] for fold in model.folds)
        assert model.logits is not None
        assert model.paths == models[0].paths


def test_temperatures_are_of_training_speakers_alone(done) -> None:
    setup, results, _ = done
    temperatures = temperatures_of(results, ("pooled", ""))
    assert temperatures is not None
    assert len(temperatures) == 4
    inner = [predictions(pool.stored(setup.plans["cnn2d"], Job("pooled", "", 0, 2, (number, 2), "")) or {})[0]
             for number in range(2)]
    assert {speaker for model in inner for speaker in model.speakers} == {"speaker0", "speaker1", "speaker3"}
    assert temperatures[2] == calibration.fit(inner)


def test_sets_of_emotions_are_covered_as_the_inner_folds_promise(done) -> None:
    _, _, cross = done
    (row,) = cross.models
    assert row.schemes["local"]["coverage"] is None  # a run ends with several models
    found = row.schemes["gossip"]["coverage"]
    assert list(found["levels"]) == ["0.8", "0.9", "0.95"]
    sizes = [level["size"] for level in found["levels"].values()]
    assert 1 <= sizes[0] <= sizes[1] <= sizes[2] <= 3
    assert {group: one["speakers"] for group, one in found["groups"]["sex"].items()} == {"f": 2, "m": 2}


def test_each_fold_takes_the_thresholds_of_its_own_inner_folds() -> None:
    """Two folds: the model of the first was sure of its inner speakers, that of the second was not."""
    def models(confidence: float, fold: int) -> Predictions:
        logits = np.tile([math.log(confidence / (1 - confidence)), 0.0], (40, 1))
        return Predictions.of(np.zeros(40, dtype=int), np.zeros(40, dtype=int), [f"s{k % 8}" for k in range(40)], 2,
                              folds=np.full(40, fold), logits=logits)

    tested = Predictions.concatenate([models(0.6, 0), models(0.6, 0)])
    results = SimpleNamespace(
        plan=SimpleNamespace(folds=(3, 5)), outer={}, first={"corpus": {"name": "c"}}, models=lambda *_: [[tested]],
        inner_models=lambda kind, label, fold: [models({3: 0.9, 5: 0.3}[fold], 0)])
    found = coverage_of(cast(Results, results), ("gossip", ""), [1.0, 1.0])
    assert found is not None
    assert found["levels"]["0.9"]["size"] == pytest.approx(1.5)  # sure: one emotion; not sure: both


def test_few_speakers_and_clips_are_said_to_be_few(done) -> None:
    _, _, cross = done
    cells = [cell for table in report.tables(cross) for row in table.rows for cell in row]
    assert any("(9 clips: too few to judge by)" in cell for cell in cells)
    assert any(cell.endswith(" (2*)") for cell in cells)
    legend = report.legend(cross)
    assert "(N*): too few speakers, fewer than 5, for an interval" in legend
    assert "intervals over 4 speakers say little" in legend


def test_the_document_holds_the_figures_of_the_predictions(done) -> None:
    _, _, cross = done
    document = json.loads(json.dumps(cross.to_dict(), allow_nan=False))
    assert (document["split"], document["clips"], document["speakers"], document["peers"]) == ("loso", 36, 4, 3)
    assert (document["seeds"], document["folds"], document["speaker_overlap"]) == ([0, 1], [0, 1, 2, 3], 0)
    assert (document["folds_of_split"], document["clips_per_speaker"]) == (4, [9, 9])
    (row,) = document["models"]
    assert row["parameters"] > 10
    assert row["clips_drawn"] == 3 * 2 * 1 * 4
    uar = {scheme: np.mean([metrics.uar_folds(model) for seed in by_seed for model in seed])
           for scheme, by_seed in cross.predictions["cnn2d"].items()}
    for scheme, figures in row["schemes"].items():
        assert figures["uar"]["folds"] == pytest.approx(uar[scheme])
        assert figures["models"] == (3 if scheme == "local" else 1)
        assert len(figures["temperatures"]) == 4
        assert figures["calibration"]["scaled"]["nll"] > 0
        assert figures["gender"]["f"]["speakers"] == figures["gender"]["m"]["speakers"] == 2
        assert figures["worst_speaker"]["uar"] == pytest.approx(min(figures["uar"]["by_fold"].values()))
    gossip = row["schemes"]["gossip"]
    assert gossip["gap_to_pooled"]["mean"] == pytest.approx(uar["gossip"] - uar["pooled"])
    assert gossip["gap_to_pooled_steps"]["mean"] == pytest.approx(uar["gossip"] - uar["pooled-steps"])
    assert gossip["gain_over_local"]["mean"] == pytest.approx(uar["gossip"] - uar["local"])
    assert gossip["gain_over_fedavg"]["mean"] == pytest.approx(uar["gossip"] - uar["fedavg"])
    assert row["schemes"]["local"]["gap_to_pooled"]["mean"] == pytest.approx(uar["local"] - uar["pooled"])
    assert gossip["uar_worst_peer"] <= gossip["uar_mean_peer"]
    assert gossip["messages_per_peer"] == 2 * 2
    assert list(gossip["uar"]["by_enrolment"]) == ["0", "1", "2", "5", "10", "all"]
    assert list(gossip["ece_by_enrolment"]) == list(gossip["uar"]["by_enrolment"])
    assert gossip["uar"]["by_enrolment"]["all"] == gossip["uar"]["folds"]


def test_the_tables_and_the_legend_say_it(done) -> None:
    _, _, cross = done
    tables = report.tables(cross)
    assert [table.title for table in tables] == ["UAR (a), unseen speakers", "cnn2d on logmel, normalisation speaker",
                                                 "recall", "whom it serves worse", "calibration",
                                                 "sets of emotions on new speakers", "sets at 90 % by group"]
    for table in tables:
        assert all(len(row) == len(table.head) for row in table.rows)
    assert [row[0] for row in tables[1].rows] == ["gossip", "  mean peer", "  worst peer", "fedavg", "pooled",
                                                  "pooled-steps", "local"]
    text = report.legend(cross)
    for part in ("36 held-out clips of 4 speakers in 4 of 4 folds, seeds 0, 1", "chance 0.333", "trained on: 0",
                 "selection: none", "messages a peer", "give a test speaker's statistics (all: 9 to 9)   0: 0."):
        assert part in text


def test_a_row_a_prediction(done) -> None:
    _, _, cross = done
    rows = list(cross.prediction_rows())
    assert len(rows) == 36 * 2 * (1 + 1 + 1 + 1 + 3)
    assert list(rows[0]) == ["corpus", "model", "scheme", "seed", "peer", "path", "speaker", "gender", "fold", "target",
                             "predicted", "p_anger", "p_happiness", "p_sadness"]
    for row in rows:
        assert sum(float(row[key]) for key in row if key.startswith("p_")) == pytest.approx(1, abs=1e-5)
        assert row["path"].startswith(f"{row['target']}/{row['speaker']}/")
        assert row["speaker"] == f"speaker{row['fold']}"
    assert {row["peer"] for row in rows if row["scheme"] == "local"} == {0, 1, 2}
    assert {row["peer"] for row in rows if row["scheme"] != "local"} == {""}
    one = [row for row in rows if (row["scheme"], row["seed"]) == ("pooled", 1)]
    pooled = cross.predictions["cnn2d"]["pooled"][1][0]
    assert np.mean([row["target"] == row["predicted"] for row in one]) == pytest.approx(metrics.accuracy(pooled))
    frame = pytest.importorskip("pandas") and cross.to_frame()
    assert frame["scheme"].tolist() == ["gossip", "fedavg", "pooled", "pooled-steps", "local"]
    assert frame["uar_folds"].tolist() == [row["uar"]["folds"] for row in cross.models[0].schemes.values()]
    assert len(cross.to_frame("predictions")) == len(rows)


def test_reliability_is_drawn_before_and_after(done) -> None:
    _, _, cross = done
    curves = report.reliabilities(cross, cross.models[0])
    assert list(curves) == ["gossip", "fedavg", "pooled", "pooled-steps", "local"]
    assert list(curves["gossip"]) == ["before", "after scaling"]
    assert curves["local"]["before"].share.sum() == pytest.approx(1)


def test_rows_are_of_the_fold_that_tested_the_clip(config: Config) -> None:
    setup = prepare(spec.load("ring", 3), config, models=["cnn2d"], schemes=["pooled"], folds=(3, 1), seeds=1,
                    calibrate=False)
    cross = crossval(setup, jobs=1)
    assert {(row["fold"], row["speaker"]) for row in cross.prediction_rows()} == {(3, "speaker3"), (1, "speaker1")}
    assert list(cross.models[0].schemes["pooled"]["uar"]["by_fold"]) == ["3", "1"]


def test_each_model_takes_features_of_the_form_it_needs(config: Config) -> None:
    chosen, note = configured(config, "gru:training.lr=0.01", ["functionals", "mfcc+chroma"])
    assert (chosen.model.name, chosen.features.kind, chosen.training.lr, note) == ("gru", "mfcc+chroma", 0.01, "")
    assert chosen.peer.evaluate_every == 2
    chosen, note = configured(config, "gru", ["functionals"])
    usual = FAMILIES["gru"].defaults["features.kind"]
    assert chosen.features.kind == usual
    assert note == f"gru takes {usual}: it cannot be trained on functionals"
    assert configured(config, "mlp", ["logmel", "functionals"])[0].features.kind == "functionals"
    own = configured(config, "gru:features.kind=logmel", ["functionals"])
    assert (own[0].features.kind, own[1]) == ("logmel", "")


@pytest.mark.parametrize("task", ["both", "dimensions"])
def test_dimensions_have_their_concordance(manifest: Path, tmp_path: Path, task: str) -> None:
    lines = manifest.read_text(encoding="utf-8").splitlines()
    levels = {"anger": 0.8, "happiness": 0.5, "sadness": -0.7}
    rated = [f"{line},{levels[line.rpartition(',')[2]]}" for line in lines[1:]]
    table = manifest.with_name(f"{task}.csv")
    table.write_text("\n".join([lines[0] + ",arousal", *rated]) + "\n", encoding="utf-8")
    config = Config().with_settings([*PLAIN, f"training.task={task}", "corpus.name=manifest",
                                     f"corpus.data={json.dumps(str(table))}"])
    setup = prepare(topology_for(config, "ring"), config, seeds=1, models=["cnn2d"], schemes=["gossip", "local"],
                    calibrate=False)
    results = pool.run_all(setup.plans, processes=1)
    cross = summarised(setup, results)
    document = json.loads(json.dumps(cross.to_dict(), allow_nan=False))
    figures = document["models"][0]["schemes"]
    for scheme, part in (("gossip", ("gossip", "ring")), ("local", ("local-only", ""))):
        assert (figures[scheme]["clips"], figures[scheme]["speakers"]) == (36, 4)
        assert -1 <= figures[scheme]["ccc"]["arousal"]["pooled"] <= 1
        assert figures[scheme]["ccc"]["valence"]["pooled"] is None
        assert ("uar" in figures[scheme]) == (task == "both")
        models = results["cnn2d"].ratings(*part)
        assert len(models) == (3 if scheme == "local" else 1)
        assert figures[scheme]["ccc"]["arousal"]["pooled"] == pytest.approx(
            np.mean([model.ccc()["arousal"] for model in models]))
    titles = [table.title for table in report.of_schemes(cross.models[0])]
    assert titles[-1] == "CCC of dimensions, cnn2d on logmel, normalisation speaker"
    assert (len(titles) > 1) == (task == "both")
    assert report.of_models(cross).rows[0][0] == "cnn2d"
    assert "4 of 4 folds" in report.legend(cross)
    assert bool(list(cross.prediction_rows())) == (task == "both")
    if task == "dimensions":
        with pytest.raises(ConfigError, match=r"compared by their UAR: take training\.task=both$"):
            prepare(topology_for(config, "ring"), config, models=["cnn2d"], tune="training.lr=0.1,0.2", inner=2)


def test_of_several_corpora_each_is_told_apart(spoken_tones: Callable[[int], Path]) -> None:
    paths = json.dumps([str(spoken_tones(3)), str(spoken_tones(3))])
    settings = [*PLAIN[:-1], "corpus.name=auto+auto", f"corpus.data={paths}"]
    setup = prepare(spec.load("ring", 2), Config().with_settings(settings), models=["cnn2d"],
                    schemes=["gossip", "pooled"], seeds=1, calibrate=False)
    cross = crossval(setup, jobs=1)
    (row,) = cross.models
    for scheme, figures in row.schemes.items():
        (model,), = cross.predictions["cnn2d"][scheme]
        assert list(figures["uar_by_corpus"]) == cross.corpus["name"].split("+")
        for name, uar in figures["uar_by_corpus"].items():
            own = [place for place, path in enumerate(model.paths) if path.startswith(f"{name}/")]
            assert len(own) == len(model.paths) / 2
            assert uar == pytest.approx(metrics.uar_pooled(model.take(np.array(own))))
    table = next(table for table in report.of_schemes(row) if table.title == "UAR (b) by corpus")
    assert [cells[0] for cells in table.rows] == ["gossip", "pooled"]
    assert len(table.head) == 3


def test_a_model_that_there_is_not_is_refused_before_anything_runs(config: Config) -> None:
    with pytest.raises(ModelError, match="no model family 'mpl'; did you mean 'mlp'"):
        prepare(spec.load("ring", 3), config, models=["mlp", "mpl"])


@pytest.mark.parametrize(("changes", "sentence"), [
    ({"schemes": ["gosip"]}, "did you mean 'gossip'"), ({"schemes": []}, "at least one"),
    ({"schemes": ["pooled", "pooled"]}, "each scheme once"), ({"models": ["mlp", "mlp"]}, "each model once"),
    ({"inner": 5}, "5 inner folds need as many training speakers, and there are 3"),
    ({"tune": "training.lr=0.1"}, "two values or more"), ({"seeds": 0}, "0 seeds"),
    ({"seeds": 20261130}, "from 1 to 1000; the first one is --seed"),
])
def test_wrong_calls_are_refused(config: Config, changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        prepare(spec.load("ring", 3), config, **{"models": ["mlp"], "inner": 2, **changes})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="holds nothing out"):
        topology_for(config.with_settings(["corpus.split=none"]), "ring")


def test_one_peer_that_trains_alone_is_told(config: Config) -> None:
    models = {"models": ["cnn2d"], "calibrate": False}
    assert prepare(spec.load("ring", 1), config, **models).notes == [ALONE]  # type: ignore[arg-type]
    assert prepare(spec.load("ring", 2), config, **models).notes == []  # type: ignore[arg-type]


def test_there_is_a_peer_for_each_training_speaker_and_one_more_for_a_hub(config: Config) -> None:
    assert topology_for(config, "ring").size == 3
    assert topology_for(config.with_settings(["corpus.split=group:2"]), "ring").size == 2
    assert topology_for(config, "server").size == 4
    assert topology_for(config, "ring", 7).size == 7


def test_the_command_tunes_stores_and_goes_on(manifest: Path, tmp_path: Path) -> None:
    settings = [part for setting in (*PLAIN, "training.rounds=1") for part in ("--set", setting)]
    arguments = ["--corpus", str(manifest), "--folds", "1", "--scheme", "pooled,gossip", "--seeds", "1", "--inner", "2",
                 "--model", "cnn2d,cnn2d:model.hidden=[4,4]", "--tune", "training.lr=0.01,0.1", "--workers", "1",
                 "--out", str(tmp_path), *settings]
    result = CliRunner().invoke(command, [*arguments, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert [row["model"] for row in document["models"]] == ["cnn2d", "cnn2d:model.hidden=[4,4]"]
    for row in document["models"]:
        assert list(row["schemes"]) == ["gossip", "pooled"]
        assert row["schemes"]["gossip"]["gain_over_local"] is None
        assert row["schemes"]["gossip"]["tuned"][0] in ("training.lr=0.01", "training.lr=0.1")
        assert "2 inner folds" in row["selection"]
        assert list(row["schemes"]["pooled"]["uar"]["by_fold"]) == ["1"]
    assert document["models"][0]["parameters"] < document["models"][1]["parameters"]
    names = {path.name for path in tmp_path.iterdir()}
    assert {"crossval.json", "predictions.csv", "confusion-cnn2d.png",
            "calibration-cnn2d_model.hidden=_4_4_.png"} <= names
    with (tmp_path / "predictions.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2 * 9
    assert {(row["fold"], row["speaker"]) for row in rows} == {("1", "speaker1")}
    stored = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/*/*.json")}
    assert len(stored) == 2 * (2 + 2 * 2 * 2)
    text = CliRunner().invoke(command, arguments, catch_exceptions=False).stdout
    assert "gossip to pooled" in text
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/*/*.json")} == stored
