"""Figures from results made by hand: paired differences, the right folds, choices on inner folds alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pser.config import Config
from p2pser.evaluation.metrics import Predictions
from p2pser.experiments import execution, pool
from p2pser.experiments.differences import paired, pooled_uar_of, uar_of, worst_uar_of
from p2pser.experiments.jobs import Document, Job, Plan, file_name, of_run
from p2pser.experiments.results import Results
from p2pser.experiments.schemes import Scheme
from p2pser.graph import spec

# Two folds of two speakers each. By hand: UAR (a) of the better is (0.9 + 0.9) / 2, of the worse (0.7 + 19/30) / 2.
TARGETS = [0, 0, 1, 1, 0, 0, 0, 1, 1, 1, 0, 0, 0, 1, 1, 1]
SPEAKERS = [speaker for speaker in "abcd" for _ in range(4)]
FOLDS = [0] * 8 + [1] * 8
BETTER = Predictions.of(TARGETS, [0, 0, 1, 1, 0, 0, 1, 1, 1, 1, 0, 0, 0, 1, 1, 0], SPEAKERS, 2, FOLDS)
WORSE = Predictions.of(TARGETS, [0, 1, 1, 1, 0, 1, 1, 1, 1, 0, 0, 0, 1, 1, 1, 0], SPEAKERS, 2, FOLDS)


def test_a_paired_difference_has_the_sign_of_ours_and_an_interval_over_speakers() -> None:
    difference = paired([[BETTER]], [[WORSE]])
    assert difference.mean == pytest.approx(7 / 30)
    assert (difference.low, difference.high) == (pytest.approx(0.2), pytest.approx(0.375))
    reverse = paired([[WORSE]], [[BETTER]])
    assert (reverse.mean, reverse.low, reverse.high) == (
        pytest.approx(-7 / 30), pytest.approx(-0.375), pytest.approx(-0.2))


def test_models_are_paired_in_order_or_each_with_each() -> None:
    assert paired([[BETTER, WORSE]], [[WORSE, BETTER]]).mean == pytest.approx(0)
    assert paired([[BETTER]], [[WORSE, BETTER]]).mean == pytest.approx(7 / 60)
    assert paired([[BETTER], [WORSE]], [[WORSE], [WORSE]]).mean == pytest.approx(7 / 60)
    one_speaker = Predictions.of([0, 1], [0, 1], ["a", "a"], 2)
    assert (paired([[one_speaker]], [[one_speaker]]).low, paired([[one_speaker]], [[one_speaker]]).high) == (None, None)


def test_means_over_seeds_and_models() -> None:
    assert uar_of([[BETTER]]) == (pytest.approx(0.9), None)
    mean, sd = uar_of([[BETTER, WORSE], [WORSE, WORSE]])
    assert (mean, sd) == (pytest.approx(0.725), pytest.approx(7 / 60 / 2**0.5))
    assert worst_uar_of([[BETTER, WORSE], [BETTER, BETTER]]) == pytest.approx((2 / 3 + 0.9) / 2)
    # All folds together: 7 of 8 clips of the first class and 7 of 8 of the second; the worse, 4 of 8 and 6 of 8.
    assert pooled_uar_of([[BETTER], [WORSE]]) == pytest.approx((0.875 + 0.625) / 2)


def document(speaker: str, *predicted: list[int]) -> Document:
    """The result of a run whose models say these things of three clips of classes 0, 1 and 1."""
    return {"labels": ["anger", "joy"], "predicted": list(predicted),
            "test": {"targets": [0, 1, 1], "speakers": [speaker] * 3}}


def plan(points: tuple[str, ...] = (), **changes: Any) -> Plan:
    scheme = Scheme.of(Config(), points=points)
    given = {"seeds": (5, 6), "folds": (2, 0), "out": None, "inner": 2, "kinds": ("gossip", "pooled"), **changes}
    return Plan({"ring": spec.load("ring", 4)}, {"ring": scheme, "": scheme}, **given)


def test_predictions_are_of_their_scheme_seed_and_fold() -> None:
    outer = {Job(kind, scheme, seed, fold): document(f"{kind} {seed} {fold}", [seed % 2, fold // 2, 0])
             for kind, scheme in (("gossip", "ring"), ("pooled", "")) for seed in (5, 6) for fold in (2, 0)}
    results = Results(plan(), outer, {})
    (five,), (six,) = results.models("gossip", "ring")
    assert five.predicted.tolist() == [1, 1, 0, 1, 0, 0]
    assert six.predicted.tolist() == [0, 1, 0, 0, 0, 0]
    assert five.folds.tolist() == [0, 0, 0, 1, 1, 1]
    assert five.speakers == ("gossip 5 2",) * 3 + ("gossip 5 0",) * 3
    assert [found["test"]["speakers"][0] for found in results.of("pooled", "")] == [
        "pooled 5 2", "pooled 5 0", "pooled 6 2", "pooled 6 0"]


def test_settings_are_chosen_on_inner_folds_alone_for_each_fold(monkeypatch: pytest.MonkeyPatch) -> None:
    slow, fast = "training.lr=0.01", "training.lr=0.2"
    best = {("gossip", 2): slow, ("gossip", 0): fast, ("pooled", 2): fast, ("pooled", 0): slow}
    rates: dict[Job, float] = {}

    def execute(job: Job, config: Config, *_: object) -> Document:
        rates[job] = config.training.lr
        assert (config.seed, config.corpus.fold) == (job.seed, job.fold)
        # On the outer folds every value is as wrong as can be: it must play no part.
        good = job.inner is not None and job.value == best[job.kind, job.fold]
        return document(f"speaker {job.inner}", [0, 1, 1] if good else [1, 0, 0])

    monkeypatch.setattr(execution, "execute", execute)
    results = pool.run(plan((slow, fast)), processes=1)
    assert {(kind, fold): value for (kind, _, fold), value in results.plan.chosen.items()} == best
    assert all(rates[job] == float(best[job.kind, job.fold].partition("=")[2]) for job in results.outer)
    assert {job.seed for job in results.inner} == {5}
    assert results.chosen("gossip", "ring") == [slow, fast]
    inner = results.inner_models("gossip", "ring", 0)
    assert [model.predicted.tolist() for model in inner] == [[0, 1, 1]] * 2
    assert [set(model.speakers) for model in inner] == [{"speaker (0, 2)"}, {"speaker (1, 2)"}]


def test_a_result_counts_for_the_same_settings_graph_and_fold_only(tmp_path: Path) -> None:
    runs, job = plan(out=tmp_path), Job("gossip", "ring", 5, 0)
    digest = runs.fingerprint(job)
    assert digest == plan(out=None).fingerprint(job)
    others = [runs.fingerprint(Job("gossip", "ring", 6, 0)), runs.fingerprint(Job("gossip", "ring", 5, 2)),
              runs.fingerprint(Job("gossip", "ring", 5, 0, (0, 2))), runs.fingerprint(Job("pooled", "", 5, 0))]
    torus = Plan({"ring": spec.load("complete", 4)}, runs.schemes, runs.seeds, runs.folds, None)
    slower = Scheme.of(Config(), ("training.lr=0.01",))
    others += [torus.fingerprint(job),
               Plan(runs.topologies, {**runs.schemes, "ring": slower}, runs.seeds, runs.folds, None).fingerprint(job)]
    assert len({digest, *others}) == 1 + len(others)


def test_names_of_files() -> None:
    job = Job("gossip", "ring k-gt:eta=0.1/2", 3, 1, (0, 2), "training.lr=0.1")
    assert job.file == "gossip-ring_k-gt_eta=0.1_2-fold1-seed3-inner0of2-training.lr=0.1.json"
    assert Job("pooled", "", 0, 4).file == "pooled-fold4-seed0.json"
    assert file_name("svm:training.lr=[1, 2]") == "svm_training.lr=_1__2_"
    assert str(job) == "ring k-gt:eta=0.1/2, fold 1, seed 3, inner fold 0 training.lr=0.1"


def test_a_run_has_its_seed_and_fold_and_nothing_else_changed() -> None:
    config = Config().with_settings(["corpus.split=group:3", "training.lr=0.3"])
    assert of_run(config, 7, 2) == config.with_settings(["seed=7", "corpus.fold=2"])


@given(st.text(min_size=60, max_size=400), st.text(max_size=400))
def test_a_file_can_have_the_name_of_any_result(scheme: str, value: str) -> None:
    job = Job("gossip", scheme, 3, 1, (0, 2), value)
    assert len(job.file.encode(errors="surrogateescape")) <= 230
    assert "/" not in job.file
    assert job.file != Job("gossip", f"{scheme}x", 3, 1, (0, 2), value).file
