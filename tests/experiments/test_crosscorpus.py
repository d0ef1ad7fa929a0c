"""The cross-corpus matrix: what each run trains and is tested on, what counts, the command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from p2pser.base.errors import ConfigError
from p2pser.cli.crosscorpus import crosscorpus as command
from p2pser.config import Config
from p2pser.experiments import compare, crosscorpus
from p2pser.experiments.crosscorpus import ALL, OTHERS, POOLED

PLAIN = ["training.rounds=2", "training.local_steps=2", "model.hidden=[8]", "features.kind=logmel",
         "features.n_mels=16", "features.seconds=0.4", "model.name=cnn2d"]


@pytest.fixture(scope="module")
def three(spoken_tones: Callable[[int], Path]) -> list[Path]:
    """Corpora of four, three and two speakers, so of four, three and two folds."""
    return [spoken_tones(speakers) for speakers in (4, 3, 2)]


def config_of(corpora: list[Path], *more: str) -> Config:
    return Config().with_settings([
        *PLAIN, f"corpus.name={'+'.join(['folder'] * len(corpora))}",
        f"corpus.data={json.dumps([str(path) for path in corpora])}", *more])


def test_each_row_trains_on_its_corpora_and_all_are_tested_alike(three: list[Path], tmp_path: Path) -> None:
    matrix = crosscorpus.prepare(config_of(three), "ring", 1, 1, "all", tmp_path, others=True, pooled=True)
    a, b, c = matrix.corpora
    assert sorted(matrix.corpora.values()) == [2, 3, 4]
    assert list(matrix.rows) == [a, b, c, OTHERS, ALL, POOLED]
    assert matrix.jobs == 4 * (3 + 2 + 3)
    assert {name: one.peers for name, one in matrix.runs.items()} == {
        a: 1, b: 1, c: 1, "all": 3, f"all but {a}": 2, f"all but {b}": 2, f"all but {c}": 2}
    results = crosscorpus.run(matrix, workers=1)
    tested = {fold: {tuple(document["test"]["paths"]) for run in results.values() for job, document in run.items()
                     if job.fold == fold} for fold in range(4)}
    assert all(len(one) == 1 for one in tested.values())
    document = crosscorpus.tabulate(matrix, results)
    clips = {name: 9 * folds for name, folds in matrix.corpora.items()}
    assert {name: (one["clips"], one["tested_folds"]) for name, one in document["corpora"].items()} \
        == {name: (clips[name], folds) for name, folds in matrix.corpora.items()}
    assert document["peers_each"] == 1
    assert document["speaker_overlap"] == 0
    # By hand: the shortest corpus in the row of all, over its own folds.
    short = min(matrix.corpora, key=matrix.corpora.__getitem__)
    uars = []
    for fold in range(matrix.corpora[short]):
        one = results["all"][compare.Job("gossip", "ring", 0, fold)]
        ours = [i for i, path in enumerate(one["test"]["paths"]) if path.startswith(f"{short}/")]
        said, true = np.array(one["predicted"][0])[ours], np.array(one["test"]["targets"])[ours]
        uars.append(np.mean([(said[true == k] == k).mean() for k in np.unique(true)]))
    assert document["cells"][ALL][short]["uar"] == pytest.approx(np.mean(uars))
    own, together = (document["cells"][row][short]["uar"] for row in (short, ALL))
    assert document["gains"][short]["mean"] == pytest.approx(together - own)
    pooled = document["cells"][POOLED][short]["uar"]
    assert document["gaps_to_pooled"][short]["mean"] == pytest.approx(together - pooled)
    head, rows = crosscorpus.text_rows(document)
    assert [row[0] for row in rows] == [*document["rows"], "gossip on all, to its own", "gossip on all, to pooled"]
    assert all(len(row) == len(head) == 5 for row in rows)
    assert "folds" in crosscorpus.legend(document)


def test_what_is_finished_is_not_computed_again(three: list[Path], tmp_path: Path) -> None:
    seen: list[tuple[str, bool]] = []

    def done(name: str, job: Any, found: bool) -> None:
        seen.append((name, found))

    settings = config_of(three[:2])
    first = crosscorpus.prepare(settings, "ring", 1, 1, "0", tmp_path)
    crosscorpus.run(first, workers=1, done=done)
    assert [found for _, found in seen] == [False] * 3
    seen.clear()
    again = crosscorpus.prepare(settings, "ring", 1, 1, "0", tmp_path, others=True)
    crosscorpus.run(again, workers=1, done=done)
    assert seen == [(name, True) for name in [*again.corpora, "all"]]
    assert OTHERS in again.rows  # of two corpora the other one's row, turned round
    seen.clear()
    crosscorpus.run(crosscorpus.prepare(settings.with_settings(["training.lr=0.01"]), "ring", 1, 1, "0", tmp_path),
                    workers=1, done=done)
    assert [found for _, found in seen] == [False] * 3


def test_each_run_is_tuned_on_the_speakers_that_it_trains_on(three: list[Path], tmp_path: Path) -> None:
    grid = "training.lr=0.0001,0.05"
    matrix = crosscorpus.prepare(config_of(three[:2]), "ring", 1, 1, "0", tmp_path, tune=grid, inner=2)
    assert matrix.jobs == 3 * (1 + 2 * 2)
    results = crosscorpus.run(matrix, workers=1)
    document = crosscorpus.tabulate(matrix, results)
    assert set(document["chosen"]) == {*matrix.corpora, "all"}
    assert all(value in ("training.lr=0.0001", "training.lr=0.05") for run in document["chosen"].values()
               for value in run.values())
    assert "inner folds of training speakers" in document["selection"]
    for name in matrix.corpora:
        inner = [json.loads(path.read_text()) for path in (matrix.runs[name].out / "inner").iterdir()]
        assert {path.split("/")[0] for one in inner for path in one["test"]["paths"]} == {name}


@pytest.mark.parametrize(("corpora", "settings", "sentence"), [
    (1, [], "needs several corpora"), (2, ["corpus.split=loso"], r"leave corpus\.split"),
    (2, ["corpus.train=[x]"], r"leave corpus\.split"),
])
def test_what_makes_no_matrix(three: list[Path], tmp_path: Path, corpora: int, settings: list[str],
                              sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        crosscorpus.prepare(config_of(three[:corpora], *settings), "ring", 1, 1, "all", tmp_path)


def test_the_command(three: list[Path], tmp_path: Path) -> None:
    arguments = ["--corpus", ",".join(map(str, three[1:])), "--peers", "2", "--seeds", "1", "--folds", "0", "--workers",
                 "1", "--out", str(tmp_path), *(part for setting in PLAIN for part in ("--set", setting))]
    result = CliRunner().invoke(command, [*arguments, "--json"], catch_exceptions=False)
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert document == json.loads((tmp_path / "matrix.json").read_text())
    assert len(document["cells"][ALL]) == 2
    assert (tmp_path / "matrix.png").stat().st_size > 5000
    text = CliRunner().invoke(command, arguments, catch_exceptions=False).stdout
    assert "gossip on all, to its own" in text
    assert "to pooled" not in text
    assert "2 peers for each corpus on exponential" in text
