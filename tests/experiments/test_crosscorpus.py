"""The cross-corpus matrix: what each run trains and is tested on, what counts, the command."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from p2pser.base.errors import ConfigError
from p2pser.cli.crosscorpus import crosscorpus as command
from p2pser.config import Config
from p2pser.experiments import pool
from p2pser.experiments.crosscorpus import ALL, OTHERS, POOLED, POOLED_STEPS, Setup, prepare, summarised
from p2pser.experiments.jobs import Job
from p2pser.experiments.report.matrix import legend, text_rows

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
    setup = prepare(config_of(three), "ring", peers=1, out=tmp_path, others=True, pooled=True)
    a, b, c = setup.corpora
    assert sorted(setup.corpora.values()) == [2, 3, 4]
    assert list(setup.rows) == [a, b, c, OTHERS, ALL, POOLED, POOLED_STEPS]
    assert sum(len(runs.jobs()) for runs in setup.plans.values()) == 4 * (3 + 3 + 3)
    assert {name: runs.peers for name, runs in setup.plans.items()} == {
        a: 1, b: 1, c: 1, "all": 3, f"all but {a}": 2, f"all but {b}": 2, f"all but {c}": 2}
    results = pool.run_all(setup.plans, processes=1)
    tested = {fold: {tuple(document["test"]["paths"]) for run in results.values()
                     for job, document in run.outer.items() if job.fold == fold} for fold in range(4)}
    assert all(len(paths) == 1 for paths in tested.values())
    matrix = summarised(setup, results)
    clips = {name: 9 * folds for name, folds in setup.corpora.items()}
    assert {name: (found.clips, found.tested_folds) for name, found in matrix.corpora.items()} \
        == {name: (clips[name], folds) for name, folds in setup.corpora.items()}
    assert matrix.peers_each == 1
    assert matrix.speaker_overlap == 0
    # By hand: the shortest corpus in the row of all, over its own folds.
    short = min(setup.corpora, key=setup.corpora.__getitem__)
    uars = []
    for fold in range(setup.corpora[short]):
        document = results["all"].outer[Job("gossip", "ring", 0, fold)]
        ours = [i for i, path in enumerate(document["test"]["paths"]) if path.startswith(f"{short}/")]
        predicted, true = np.array(document["predicted"][0])[ours], np.array(document["test"]["targets"])[ours]
        uars.append(np.mean([(predicted[true == k] == k).mean() for k in np.unique(true)]))
    assert matrix.cells[ALL][short].uar == pytest.approx(np.mean(uars))
    own, together = (matrix.cells[row][short].uar for row in (short, ALL))
    assert matrix.gains[short].mean == pytest.approx(together - own)
    pooled = matrix.cells[POOLED][short].uar
    assert matrix.gaps_to_pooled[short].mean == pytest.approx(together - pooled)
    assert matrix.gaps_to_pooled_steps[short].mean == pytest.approx(together - matrix.cells[POOLED_STEPS][short].uar)
    head, rows = text_rows(matrix)
    assert [row[0] for row in rows] == [*matrix.rows, "gossip on all, to its own", "gossip on all, to pooled",
                                        "gossip on all, to pooled-steps"]
    assert all(len(row) == len(head) == 5 for row in rows)
    assert "folds" in legend(matrix)
    frame = pytest.importorskip("pandas") and matrix.to_frame()
    assert frame.query("trained_on == @ALL and tested_on == @short")["uar"].item() == matrix.cells[ALL][short].uar
    assert len(frame) == 7 * 3


def test_what_is_finished_is_not_computed_again(three: list[Path], tmp_path: Path) -> None:
    settings = config_of(three[:2])

    def stored(config: Config, others: bool = False) -> tuple[Setup, dict[str, list[bool]]]:
        setup, seen = prepare(config, "ring", peers=1, folds=(0,), out=tmp_path, others=others), {}
        for name, runs in setup.plans.items():
            pool.run(runs, processes=1, done=lambda job, found, name=name: seen.setdefault(name, []).append(found))
        return setup, seen

    first, seen = stored(settings)
    assert seen == {name: [False] for name in [*first.corpora, "all"]}
    again, seen = stored(settings, others=True)
    assert seen == {name: [True] for name in [*again.corpora, "all"]}
    names = list(again.corpora)
    # Of two corpora, the model of all others is the other one's.
    assert again.rows[OTHERS] == {names[0]: (names[1], "gossip"), names[1]: (names[0], "gossip")}
    assert set(chain(*stored(settings.with_settings(["training.lr=0.01"]))[1].values())) == {False}


def test_each_run_is_tuned_on_the_speakers_that_it_trains_on(three: list[Path], tmp_path: Path) -> None:
    grid = "training.lr=0.0001,0.05"
    setup = prepare(config_of(three[:2]), "ring", peers=1, folds=(0,), out=tmp_path, tune=grid, inner=2)
    assert sum(len(runs.jobs()) + len(runs.tuning_jobs()) for runs in setup.plans.values()) == 3 * (1 + 2 * 2)
    matrix = summarised(setup, pool.run_all(setup.plans, processes=1))
    assert set(matrix.chosen) == {*matrix.corpora, "all"}
    assert all(value in ("training.lr=0.0001", "training.lr=0.05") for run in matrix.chosen.values()
               for value in run.values())
    assert "inner folds of training speakers" in matrix.selection
    for name in matrix.corpora:
        folder = setup.plans[name].out
        assert folder is not None
        inner = [json.loads(path.read_text()) for path in (folder / "inner").iterdir()]
        assert {path.split("/")[0] for document in inner for path in document["test"]["paths"]} == {name}


@pytest.mark.parametrize(("corpora", "settings", "sentence"), [
    (1, [], "needs several corpora"), (2, ["corpus.split=loso"], r"leave corpus\.split"),
    (2, ["corpus.train=[x]"], r"leave corpus\.split"),
])
def test_what_makes_no_matrix(three: list[Path], tmp_path: Path, corpora: int, settings: list[str],
                              sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        prepare(config_of(three[:corpora], *settings), "ring", peers=1, out=tmp_path)


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
