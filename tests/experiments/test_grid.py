"""Grids: the file, trials that survive any end of the process, and tables."""

from __future__ import annotations

import csv
import json
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from commands import Command

from p2pser.base.errors import ConfigError
from p2pser.cli.compare import compare
from p2pser.config import Config, configured
from p2pser.experiments import execution, pool
from p2pser.experiments.conditions import Conditions, FaultSettings
from p2pser.experiments.grid import cells, file
from p2pser.experiments.grid.estimate import Estimate
from p2pser.experiments.grid.summary import Summary
from p2pser.experiments.grid.tables import tables
from p2pser.experiments.jobs import Job
from p2pser.experiments.report import grid as report
from p2pser.experiments.report.figures import all as figures
from p2pser.experiments.report.page import Part, page
from p2pser.graph import spec

SETTINGS = {"training.rounds": 3, "training.local_steps": 2, "model.hidden": [8], "features.kind": "logmel",
            "features.n_mels": 16, "features.seconds": 0.4, "model.name": "cnn2d", "corpus.split": "group:2"}
TABLES = ("trials.csv", "rounds.csv", "peers.csv", "summary.csv", "differences.csv", "summary.tex",
          "differences.tex")


@pytest.fixture(scope="module")
def tones(spoken_tones: Callable[[int], Path]) -> Path:
    """Three emotions of four speakers."""
    return spoken_tones(4)


@pytest.fixture
def write(tones: Path, tmp_path: Path) -> Callable[..., Path]:
    """Write a small grid: two topologies, two seeds, with and without a death."""
    def make(**changes: Any) -> Path:
        tree = {"topologies": ["ring", "star"], "algorithms": ["dfedavg"], "peers": [3], "partitions": ["iid"],
                "corpora": {"folder": str(tones)}, "folds": [0], "seeds": 2,
                "faults": {"one dies": {"deaths": 1, "at": 1}}, "settings": SETTINGS, **changes}
        path = tmp_path / "grid.yaml"
        path.write_text(json.dumps({key: value for key, value in tree.items() if value is not None}))
        return path

    return make


@pytest.fixture(autouse=True)
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw no figures: they take longer than all trials."""
    monkeypatch.setattr(report, "pictures", lambda *_: iter(()))


def call(path: Path, out: Path, *more: str, code: int = 0) -> Result:
    result = CliRunner().invoke(compare, [str(path), "--out", str(out), "--workers", "1", *more],
                                catch_exceptions=code != 0)
    assert result.exit_code == code, (result.output, result.exception)
    return result


def contents(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in TABLES}


def read(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


# ---- the file ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("changes", "sentence"), [
    ({"topologeis": ["ring"]}, "there is no setting 'topologeis'; did you mean 'topologies'?"),
    ({"faults": {"f": {"losss": 0.1}}}, "in 'f': there is no setting 'losss'; did you mean 'loss'?"),
    ({"faults": {"f": {"loss": 2}}}, "in 'f': loss = 2: must be a number of 0 or more and below 1"),
    ({"faults": {"f": {}}}, "in 'f' nothing goes wrong"),
    ({"faults": {"none": {"loss": 0.1}}}, "choose another"),
    ({"faults": {"f": {"hostile": 1, "attack": "sign-flop"}}}, "did you mean 'sign-flip'?"),
    ({"topologies": None}, "names no topologies"),
    ({"topologies": None, "topology": ["ring"]}, "there is no setting 'topology'; did you mean 'topologies'?"),
    ({"topologies": None, "zzz": 1}, "there is no setting 'zzz'; known: algorithms, "),
    ({"topologies": []}, "topologies"),
    ({"topologies": ["ring", "ring"]}, "'ring' is given twice"),
    ({"name": "../elsewhere"}, "write it without slashes"), ({"name": "/tmp"}, "write it without slashes"),
    ({"name": ".."}, "write it without slashes"),
    ({"network": "wam"}, "did you mean 'wan'?"),
    ({"seeds": 0}, "seeds = 0"),
    ({"target": 0}, "target = 0"),
])
def test_what_is_wrong_in_a_grid_is_told_in_one_sentence(write, changes, sentence):
    with pytest.raises(ConfigError, match=r"grid\.yaml: |grid\.yaml names") as caught:
        file.load(write(**changes))
    assert sentence in str(caught.value)


@pytest.mark.parametrize(("changes", "sentence"), [
    ({"settings": {"training.ronds": 3}}, "did you mean 'training.rounds'?"),
    ({"settings": {"corpus.partition": "iid"}}, "is an axis of the grid: give it under partitions"),
    ({"settings": {"gossip.algorithm": "choco"}}, "is an axis of the grid: give it under algorithms"),
    ({"settings": {"corpus.fold": 1}}, "is an axis of the grid: give it under folds"),
    ({"faults": {"f": {"deaths": 3}}}, "at least one must remain"),
    ({"faults": {"f": {"deaths": 1, "at": 4}}}, "at = 4: the peers would die after the last round"),
    ({"faults": {"f": {"absences": 1}}}, "must be less than training.rounds = 3"),
    ({"folds": [0, 7]}, "there is no fold 7"),
    ({"folds": [-1]}, "there is no fold -1"),
    ({"algorithms": ["dfedavgg"]}, "did you mean 'dfedavg'?"),
])
def test_what_does_not_fit_is_refused_before_anything_runs(write, tmp_path, changes, sentence):
    result = CliRunner().invoke(compare, [str(write(**changes)), "--out", str(tmp_path / "out")])
    assert sentence in str(result.exception)
    assert not (tmp_path / "out" / cells.TRIALS).exists()


def test_a_grid_has_its_options_in_its_file(write, tmp_path):
    result = CliRunner().invoke(compare, [str(write()), "--seeds", "2"])
    assert result.exit_code == 2
    assert "--seeds and a grid exclude each other" in result.output
    assert "--check checks a grid: name its file" in CliRunner().invoke(compare, ["--check"]).output


def test_lists_may_be_written_as_words(write):
    grid = file.load(write(topologies="ring, star", corpora="synthetic", folds="all", peers=4))
    assert grid.topologies == ("ring", "star")
    assert grid.corpora == {"synthetic": None}
    assert grid.folds is None
    assert grid.peers == (4,)
    assert grid.name == "grid"
    assert file.load(write(tune={"training.lr": [0.1, 0.2]})).tuning == "training.lr=0.1,0.2"


# ---- running -----------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def whole(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """The tables of an undisturbed comparison, and its folder."""
    folder = tmp_path_factory.mktemp("whole")
    path = folder / "grid.yaml"
    path.write_text(json.dumps({
        "topologies": ["ring", "star"], "algorithms": ["dfedavg"], "peers": [3], "partitions": ["iid"],
        "corpora": {"folder": str(tones)}, "folds": [0], "seeds": 2, "faults": {"one dies": {"deaths": 1, "at": 1}},
        "settings": SETTINGS}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "pictures", lambda *_: iter(()))
        call(path, folder / "out")
    return folder, contents(folder / "out")


def test_every_trial_is_in_the_tables(whole):
    out = whole[0] / "out"
    rows = read(out / "trials.csv")
    # 2 topologies x 2 seeds x 2 conditions, and 4 baselines x 2 seeds without faults
    assert len(rows) == 8 + 8
    assert {(row["scheme"], row["fault"]) for row in rows if row["kind"] == "gossip"} == {
        (f"{topology} dfedavg", fault) for topology in ("ring", "star") for fault in ("none", "one dies")}
    assert [row["peers_left"] for row in rows if row["fault"] == "one dies"] == ["2"] * 4
    rounds = read(out / "rounds.csv")
    assert len([row for row in rounds if row["phase"] == "training" and row["kind"] == "gossip"]) == 8 * 3
    assert all(float(row["seconds"]) > 0 for row in rounds if row["phase"] == "training" and row["kind"] == "gossip")
    peers = read(out / "peers.csv")
    assert len(peers) == 4 * 3 + 4 * 2
    assert {row["degree"] for row in peers if row["topology"] == "star"} == {"1.0", "2.0"}
    assert (out / "summary.tex").read_text().startswith("\\begin{tabular}{lrrrrrrrrr}\n\\toprule\n")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(out / "trials.parquet").to_pylist()
    assert [row["uar"] for row in table] == [float(row["uar"]) for row in rows]


def test_finished_trials_are_never_run_again(whole, monkeypatch):
    folder, before = whole
    monkeypatch.setattr(execution, "execute", None)
    result = call(folder / "grid.yaml", folder / "out", "--json")
    document = json.loads(result.stdout)
    assert document["missing"] == 0
    assert len(document["summary"]) == 2 * 2 + 4
    assert contents(folder / "out") == before
    assert "16 trials, 16 of them finished" in call(folder / "grid.yaml", folder / "out", "--check").stdout


def stop_at(trial: int, number: int, when: str) -> None:
    """Send this process a signal in the middle of a trial, of writing its file, or after it."""
    done = 0
    compute, keep = execution.execute, pool.write_json

    def execute(*arguments: Any) -> Any:
        nonlocal done
        done += 1
        if done == trial and when == "computing":
            os.kill(os.getpid(), number)
        return compute(*arguments)

    def write_json(path: Path, document: Any) -> None:
        if done == trial and when == "writing":
            document = {"half": Killer(number)}
        keep(path, document)
        if done == trial and when == "written":
            os.kill(os.getpid(), number)

    execution.execute, pool.write_json = execute, write_json


class Killer(dict[str, Any]):
    """A document in whose writing the process is killed."""

    def __init__(self, number: int) -> None:
        super().__init__(half=1)
        self.number = number

    def items(self) -> Any:
        os.kill(os.getpid(), self.number)
        return super().items()


def test_killed_three_times_a_comparison_ends_with_the_same_tables(whole, tmp_path):
    out = tmp_path / "out"
    arguments = ("compare", str(whole[0] / "grid.yaml"), "--out", str(out), "--workers", "1")
    finished = []
    for trial, when in ((3, "computing"), (4, "writing"), (2, "written")):
        with Command(*arguments, change=partial(stop_at, trial, signal.SIGKILL, when)) as process:
            process.communicate()
            assert process.returncode == -signal.SIGKILL
        finished.append(len([path for path in out.rglob("*.json") if not path.name.startswith(".partial")]))
        assert not (out / "trials.csv").exists()
    assert finished == [2, 5, 7]
    call(whole[0] / "grid.yaml", out)
    assert contents(out) == whole[1]


def test_a_trial_with_other_faults_is_another(whole):
    grid = file.load(whole[0] / "grid.yaml")
    harder = grid.model_copy(update={"faults": {"one dies": FaultSettings(deaths=1, at=2)}})
    open_trials = cells.missing(cells.cells(harder, whole[0] / "out"))
    assert {place.fault: number for place, number in open_trials.items()} == {"none": 0, "one dies": 4}


def test_ctrl_c_ends_with_a_report_of_what_is_finished(whole, tmp_path, monkeypatch):
    compute, done = execution.execute, []

    def execute(*arguments: Any) -> Any:
        done.append(arguments[0])
        if len(done) == 6:
            raise KeyboardInterrupt
        return compute(*arguments)

    monkeypatch.setattr(execution, "execute", execute)
    result = call(whole[0] / "grid.yaml", tmp_path, code=130)
    assert "11 trials are missing" in result.stderr
    assert len((tmp_path / "trials.csv").read_text().splitlines()) == 1 + 5
    monkeypatch.setattr(execution, "execute", compute)
    call(whole[0] / "grid.yaml", tmp_path)
    assert contents(tmp_path) == whole[1]


def test_interrupted_before_the_first_trial_there_is_nothing_to_report(whole, tmp_path, monkeypatch):
    def execute(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(execution, "execute", execute)
    result = CliRunner().invoke(compare, [str(whole[0] / "grid.yaml"), "--out", str(tmp_path), "--workers", "1"])
    assert result.exit_code == 1  # click's Abort, which the command line ends with 130
    assert not (tmp_path / "trials.csv").exists()


def test_the_same_peers_are_struck_on_every_topology():
    fault = FaultSettings(deaths=2, at=4, absences=1, absence_rounds=3, hostile=1, loss=0.1)
    ring, star = (Conditions(fault).scenario(Config(seed=5), spec.load(name, 8)) for name in ("ring", "star"))
    assert ring == star
    assert len({*ring.dead, *ring.hostile}) == 4
    assert sorted(ring.dead.values()).count(4) >= 2
    (peer, returns), = ring.back.items()
    assert returns == ring.dead[peer] + 3
    assert ring.faults is not None
    assert ring.faults.loss == 0.1
    assert ring.living(spec.load("ring", 8)) == tuple(i for i in range(8) if i == peer or i not in {
        *ring.dead, *ring.hostile})
    assert Conditions(fault).scenario(Config(seed=6), spec.load("ring", 8)) != ring


def test_a_run_with_a_hostile_peer_ends_with_the_models_of_all_honest_peers(tones):
    config = configured({**SETTINGS, "corpus.name": "folder", "corpus.data": str(tones), "corpus.partition": "iid"})
    conditions = Conditions(FaultSettings(hostile=1))
    document = execution.execute(Job("gossip", "complete dfedavg", 0, 0), config, spec.load("complete", 4), 4,
                                 conditions=conditions)
    assert len(document["living"]) == len(document["predicted"]) == 3
    assert document["predicted"] == document["predicted_peers"]
    assert all(round["uar"]["mean"] is not None for round in document["history"])


def test_too_much_memory_is_refused():
    Estimate(10, 5, 2, 60.0, 100, 200).require_memory()
    Estimate(10, 0, 2, 0.0, 100, 50).require_memory()
    with pytest.raises(ConfigError, match="take --workers 2"):
        Estimate(10, 5, 4, 60.0, 100, 250).require_memory()


# ---- the report --------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def summary(whole: tuple[Path, dict[str, bytes]]) -> Summary:
    grid = file.load(whole[0] / "grid.yaml")
    return Summary(grid, tables(cells.known(cells.cells(grid, whole[0] / "out"))))


def test_what_a_grid_shows_is_drawn(summary, tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "_rendered", lambda figure, ending: ending.encode())  # that takes the most time
    calm, deadly = summary.places
    assert (calm.fault, deadly.fault) == ("none", "one dies")
    drawn = {picture.name.removesuffix("-folder-iid-3-none"): picture for picture in figures.pictures(
        summary, calm, tmp_path)}
    # A ring of 3 is complete: its W has no eigenvalue but 0 beside the first, so there is no line through two graphs.
    assert list(drawn) == ["uar-rounds", "uar-bytes", "uar-seconds", "differences", "pareto", "distance", "target",
                           "gap-degree", "models", "peers-degree", "exposure"]
    assert all((tmp_path / f"{picture.name}.svg").read_bytes() == picture.svg for picture in drawn.values())
    assert [picture.name for picture in figures.pictures(summary, None, tmp_path)] == ["deaths"]
    assert [picture.name for picture in figures.pictures(summary, deadly, tmp_path)] == [
        "uar-rounds-folder-iid-3-one_dies", "models-folder-iid-3-one_dies"]


def test_each_figure_has_three_formats_and_the_same_bytes_each_time(summary, tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "EACH", figures.EACH[-1:])
    name = next(figures.pictures(summary, summary.places[0], tmp_path)).name
    begin = {"svg": b"<?xml", "pdf": b"%PDF", "png": b"\x89PNG"}
    first = {ending: (tmp_path / f"{name}.{ending}").read_bytes() for ending in begin}
    assert all(content.startswith(begin[ending]) for ending, content in first.items())
    next(figures.pictures(summary, summary.places[0], tmp_path))
    assert {ending: (tmp_path / f"{name}.{ending}").read_bytes() for ending in begin} == first


def test_the_page_asks_no_other_place_for_anything(whole):
    text = (whole[0] / "out" / "report.html").read_text(encoding="utf-8")
    assert "<h2 id=\"part-0\">folder, iid, 3 peers</h2>" in text
    assert "//" not in text
    picture = figures.Picture("f", "t", "c", b"<svg/>")
    shown = page("<T>", ["a & b"], "", [Part("P", pictures=[picture])], ["x.csv"], "g")
    assert "<h1>&lt;T&gt;</h1>" in shown
    assert 'src="data:image/svg+xml;base64,PHN2Zy8+"' in shown


def test_figures_of_schemes_are_means_over_their_trials(summary):
    calm, deadly = summary.places
    rows = summary.trials[calm]["ring dfedavg"]
    each = next(each for each in summary.at(calm) if each.scheme == "ring dfedavg")
    assert each.uar == pytest.approx((rows[0]["uar"] + rows[1]["uar"]) / 2)
    assert each.trials == 2
    pooled = [row["uar"] for row in summary.trials[calm]["pooled"]]
    assert each.gap_to_pooled.mean == pytest.approx(each.uar - sum(pooled) / 2)
    steps = [row["uar"] for row in summary.trials[calm]["pooled-steps"]]
    assert each.gap_to_pooled_steps.mean == pytest.approx(each.uar - sum(steps) / 2)
    disturbed = next(each for each in summary.at(deadly) if each.scheme == "ring dfedavg")
    assert disturbed.gap_to_pooled.mean == pytest.approx(disturbed.uar - sum(pooled) / 2)
    assert disturbed.rounds_lost_per_death == disturbed.rounds_lost
    assert each.rounds_lost is None
    # A ring of 3 is complete: all three know each other's row after one exchange.
    assert (each.facts["exposed_peers"], each.facts["exposed_after"], each.facts["degree_mean"]) == (2, 1, 2)


def test_a_second_topology_leaves_finished_trials_finished(write, tmp_path):
    call(write(topologies=["ring"], faults=None, seeds=1), tmp_path / "out")
    result = call(write(faults=None, seeds=1), tmp_path / "out", "--check")
    assert "6 trials, 5 of them finished" in result.stdout
