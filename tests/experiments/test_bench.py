"""Benchmarks: what a scheme may change, which copies of a corpus are taken, what a result holds, who is first."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from p2pser.base.errors import ConfigError, CorpusError
from p2pser.cli.bench import bench as command
from p2pser.experiments import execution
from p2pser.experiments.bench import clips, definition, outcome, ranking
from p2pser.experiments.bench.definition import Bench
from p2pser.experiments.bench.outcome import Outcome, Trial

SMALL: dict[str, Any] = {
    "name": "tones", "version": 2, "about": "whether it runs", "source": "the tones of the tests", "corpus": "folder",
    "partition": "dirichlet:1:2", "peers": 3, "folds": [0, 1], "seeds": 2, "megabytes": 0.05,
    "tune": {"training.lr": [0.05, 0.1]}, "inner": 2,
    "free": ["training.lr", "training.momentum", "gossip.weighting"], "at_most": {"training.local_steps": 2},
    "settings": {"training.rounds": 2, "training.local_steps": 2, "model.hidden": [4], "features.kind": "logmel",
                 "features.n_mels": 16, "features.seconds": 0.4, "model.name": "cnn2d", "training.optimizer": "sgd",
                 "corpus.split": "group:2",
                 "features.normalise": "global", "peer.evaluate_every": 2}}


@pytest.fixture(scope="module")
def tones(spoken_tones: Callable[[int], Path]) -> Path:
    """Three emotions of six speakers."""
    return spoken_tones(6)


@pytest.fixture(scope="module")
def small(tones: Path) -> Bench:
    """A benchmark on them."""
    draft = Bench(**SMALL, data={"clips": {}, "folds": {}})
    config = draft.grid(["ring"], ["dfedavg"], tones).config("folder", draft.partition)
    return draft.model_copy(update={"data": clips.fingerprints(draft, config)})


@pytest.fixture
def known(small: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """The same, where p2pser has it, beside an older version."""
    folder = tmp_path / "definitions"
    folder.mkdir()
    for version in (1, 2):
        tree = {**small.model_dump(mode="json"), "version": version}
        (folder / f"tones-{version}.yaml").write_text(yaml.safe_dump(tree))
    monkeypatch.setattr(definition, "packaged", lambda _: folder)
    return small


def call(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(command, list(map(str, arguments)), catch_exceptions=code != 0)
    assert result.exit_code == code or result.exception, result.output
    return result


# ---- what may vary -----------------------------------------------------------------------------------------

@pytest.mark.parametrize(("algorithm", "sentence"), [
    ("dfedavg:training.rounds=9", "training.rounds=9 changes the benchmark tones-2: training.rounds is frozen at 2"),
    ("dfedavg:training.local_steps=3", "training.local_steps may be lowered from 2"),
    ("dfedavg:model.hidden=[9]", "model.hidden is frozen at [4]"),
    ("dfedavg:features.n_mels=20", "features.n_mels is frozen at 16"),
    ("dfedavg:corpus.split=loso", "corpus.split is frozen at group:2"),
    ("dfedavg:peer.evaluate_every=1", "peer.evaluate_every is frozen at 2"),
    ("dfedavg:gossip.consensus_tolerance=0.5", "gossip.consensus_tolerance is frozen"),
    ("dfedavg:training.rounds=2|9", "training.rounds=9 changes the benchmark"),
    ("dfedavg:training.lr=0.3", "fixes training.lr, which tones-2 chooses on inner folds"),
    ("dfedavg:training.lr=0.1|0.2|0.3", "chooses from 3 values, and tones-2 allows 2"),
    ("dfedavgg", "did you mean 'dfedavg'?"),
])
def test_a_scheme_that_changes_what_is_frozen_is_refused(small, algorithm, sentence):
    with pytest.raises(ConfigError) as caught:
        small.require_frozen(small.grid(["ring"], [algorithm], Path()))
    assert sentence in str(caught.value)


@pytest.mark.parametrize(("setting", "sentence"), [
    ("corpus.split=group:3", "--set: corpus.split=group:3 changes the benchmark tones-2: corpus.split is frozen at"),
    ("seed=5", "seed is frozen at 0"),
    ("corpus.partition=iid", "corpus.partition"),
    ("training.lr=0.3", "fixes training.lr, which tones-2 chooses on inner folds"),
    ("training.local_steps=1", ""),
    ("training.local_steps", "write it as section.field=value"),
])
def test_a_setting_of_all_schemes_is_refused_where_it_is_frozen(small, setting, sentence):
    if not sentence:
        small.require_frozen(small.grid(["ring"], ["dfedavg"], Path(), [setting]))
        return
    with pytest.raises(ConfigError) as caught:
        small.require_frozen(small.grid(["ring"], ["dfedavg"], Path(), [setting]))
    assert sentence in str(caught.value)


@pytest.mark.parametrize("algorithm", [
    "dfedavg:training.lr=0.3|0.4", "quasi-global-momentum:training.momentum=0:decay=0.5",
    "dfedavg:gossip.weighting=clips",
    "d-psgd:training.momentum=0:training.local_steps=1", "choco:gamma=0.1|0.2:training.lr=0.3"])
def test_a_scheme_has_its_own_hyper_parameters_and_grid(small, algorithm):
    small.require_frozen(small.grid(["ring", "complete"], [algorithm], Path()))


def test_the_newest_version_is_taken_unless_one_is_named(known):
    assert str(definition.load("tones")) == "tones-2"
    older = definition.load("tones-1")
    assert older.version == 1
    assert older.digest != known.digest
    with pytest.raises(ConfigError, match="no benchmark 'tone-2'; did you mean 'tones-2'"):
        definition.load("tone-2")
    with pytest.raises(ConfigError) as caught:
        definition.load("no")
    assert str(caught.value).count("tones-2") == 1  # "known: …; there are …"


# ---- copies of the corpus ----------------------------------------------------------------------------------

@pytest.mark.parametrize(("change", "sentence"), [
    (lambda copy: (copy / "anger/speaker0/0.wav").unlink(), "53 clips of 6 speakers, and the benchmark tones-2 54 of"),
    (lambda copy: (copy / "anger/speaker4/0.wav").rename(copy / "sadness/speaker4/9.wav"),
     "the clips of speaker speaker4 have other names or emotions"),
    (lambda copy: (copy / "anger").rename(copy / "tired") and (copy / "tired").rename(copy / "anger"), "")])
def test_another_copy_of_the_corpus_is_refused(small, tones, tmp_path, change, sentence):
    copy = tmp_path / "copy"
    shutil.copytree(tones, copy)
    change(copy)
    config = small.grid(["ring"], ["dfedavg"], copy).config("folder", small.partition)
    if not sentence:
        clips.require_same(small, config)
        return
    with pytest.raises(CorpusError, match="take the tones of the tests") as caught:
        clips.require_same(small, config)
    assert sentence in str(caught.value)


def test_clips_that_are_dealt_out_otherwise_are_refused(small, tones):
    config = small.grid(["ring"], ["dfedavg"], tones).config("folder", "iid")
    with pytest.raises(CorpusError, match="has the clips of the benchmark tones-2, and in fold 0 they are dealt out"):
        clips.require_same(small, config)


@pytest.mark.parametrize("name", ["emodb", "ravdess"])
def test_the_shipped_benchmarks_are_those_of_the_corpora(shared_data, name):
    shipped = definition.load(name)
    config = shipped.grid(["ring"], ["dfedavg"], shared_data / name).config(shipped.corpus, shipped.partition)
    clips.require_same(shipped, config)


def test_the_synthetic_benchmark_is_that_of_the_synthetic_corpus():
    pytest.importorskip("espeakng_loader")
    shipped = definition.load("synthetic")
    clips.require_same(shipped, shipped.grid(["ring"], ["dfedavg"], None).config("synthetic", shipped.partition))


# ---- running -----------------------------------------------------------------------------------------------

def test_a_run_writes_a_result_a_scheme_that_can_be_ranked_and_goes_on_where_it_was_interrupted(
        known, tones, tmp_path, monkeypatch):
    out = tmp_path / "out"
    arguments = ["run", "tones", "--data", tones, "--topology", "ring,complete", "--out", out, "--workers", "1"]
    computed, compute = 0, execution.execute

    def execute(*given: Any) -> Any:
        nonlocal computed
        computed += 1
        if computed == 60:
            raise KeyboardInterrupt
        return compute(*given)

    monkeypatch.setattr(execution, "execute", execute)
    result = CliRunner().invoke(command, list(map(str, arguments)))
    assert result.exit_code == 130, result.output
    assert not list((out / "tones-2").glob("*.json"))
    result = call(*arguments)
    # Two schemes and four baselines, each on 2 folds x 2 inner folds x 2 values, and 2 folds x 2 seeds; one again.
    assert computed == 6 * (8 + 4) + 1
    assert {path.name for path in (out / "tones-2").glob("*.json")} == {
        "ring_dfedavg.json", "complete_dfedavg.json", "pooled.json", "pooled-steps.json", "local-only.json",
        "server.json"}
    found = outcome.read(out / "tones-2" / "ring_dfedavg.json")
    assert (found.bench, found.digest) == ("tones-2", known.digest)
    assert set(found.scores) == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert found.settings["training.rounds"] == 2
    assert {trial.tuned for trial in found.trials} <= {"training.lr=0.05", "training.lr=0.1"}
    pooled = outcome.read(out / "tones-2" / "pooled.json")
    assert found.to_pooled["mean"] == pytest.approx(
        sum(found.scores[key] - pooled.scores[key] for key in found.scores) / 4)
    assert found.machine["torch"]
    monkeypatch.setattr(execution, "execute", None)
    assert call(*arguments).stdout == result.stdout
    document = json.loads(call("rank", out, "--json").stdout)
    (ranked,) = document["rankings"]
    assert ranked["places"][0]["rank"] == 1
    assert len(ranked["places"]) == 6


def test_what_is_wrong_ends_a_run_before_it_computes(known, tones, tmp_path):
    result = call("run", "tones", "--data", tones, "--out", tmp_path / "out", "--set", "training.rounds=5", code=1)
    assert "training.rounds is frozen at 2" in str(result.exception)
    assert not (tmp_path / "out" / "tones-2" / "trials").exists()


# ---- ranking -----------------------------------------------------------------------------------------------

def made(bench: Bench, scheme: str, uar: dict[tuple[int, int], float], **changes: Any) -> Outcome:
    """A result whose trials have these UAR."""
    trials = tuple(Trial(fold=fold, seed=seed, uar=value, pooled=0.9, uar_worst_peer=None, rounds=2,
                         bytes_per_peer=changes.get("sent", 1000.0), bytes_final_per_peer=0.0, seconds=None,
                         consensus_distance=None, converged=True, speaker_overlap=0, tuned="")
                   for (fold, seed), value in uar.items())
    return Outcome(bench=str(bench), digest=bench.digest, p2pser="0.1.0", kind=changes.get("kind", "gossip"),
                   scheme=scheme, origin="p2pser 0.1.0", topology={}, settings={}, machine={}, to_pooled={},
                   trials=trials)


@pytest.fixture
def long(known: Bench, tmp_path: Path) -> Bench:
    """A benchmark with ten seeds."""
    bench = known.model_copy(update={"name": "long", "seeds": 10})
    (tmp_path / "definitions" / "long-2.yaml").write_text(yaml.safe_dump(bench.model_dump(mode="json")))
    return bench


def scores(bench: Bench, level: float, every: float = 0.0) -> dict[tuple[int, int], float]:
    """UAR around a level; every second one is higher by ``every``."""
    return {key: level + 0.001 * number + every * (number % 2) for number, key in enumerate(sorted(bench.trials))}


def test_schemes_that_are_alike_share_a_rank(long):
    results = {name: made(long, name, scores(long, level, every)) for name, level, every in (
        ("best", 0.7, 0.0), ("as good", 0.65, 0.098), ("worse", 0.6, 0.0), ("worst", 0.5, 0.0))}
    results["pooled"] = made(long, "pooled", scores(long, 0.95), kind="pooled")
    results["dear"] = made(long, "dear", scores(long, 0.8), sent=50_001.0)
    found = ranking.rank(results)
    assert [(place.name, place.rank) for place in found.places] == [
        ("best", 1), ("as good", 1), ("worse", 3), ("worst", 4), ("pooled", None), ("dear", None)]
    assert found.places[2].behind.mean == pytest.approx(-0.1)
    assert any("above the budget of 0.05 MB a peer, and not ranked: dear" in note for note in found.notes)


@pytest.mark.parametrize(("change", "sentence"), [
    ({"digest": "0" * 32}, "does not count: it is of another definition of long-2"),
    ({"bench": "short-1"}, "has no benchmark short-1"),
    ({"trials": []}, "trials"),
    ({"p2pser": 3}, "p2pser"),
    ({"extra": 3}, "extra"),
    ({"form": 2}, "form"),
])
def test_a_result_that_does_not_fit_is_told_in_one_sentence(long, tmp_path, change, sentence):
    tree = {**made(long, "it", scores(long, 0.5)).model_dump(mode="json"), **change}
    file = tmp_path / "it.json"
    file.write_text(json.dumps(tree))
    with pytest.raises(ConfigError, match=r"it\.json") as caught:
        ranking.read([file])
    assert sentence in str(caught.value)


def test_results_of_others_stand_beside_ones_own(long, tmp_path):
    few = dict(list(scores(long, 0.5).items())[:3])
    for name, own in {"ours": made(long, "ring dfedavg", scores(long, 0.5)), "few": made(long, "few", few),
                      "theirs/it": made(long, "ring dfedavg", scores(long, 0.6))}.items():
        path = tmp_path / "results" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(own.model_dump_json())
    for name, text in {"notes": '{"a": 1}', "theirs/cut": "{", "theirs/list": "[]"}.items():
        (tmp_path / "results" / f"{name}.json").write_text(text)
    result = call("rank", tmp_path / "results")
    assert [name for name in ("notes", "cut", "list") if f"{name}.json" not in result.output] == []
    assert "few.json does not count: it has 3 trials, and the benchmark 20" in result.output
    assert f"ring dfedavg ({tmp_path / 'results' / 'theirs' / 'it.json'})" in result.output
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "there is no result there" in str(call("rank", empty, code=1).exception)
