"""The measurements of a run for other programs: what is new since the last time, and once more after a step back."""

from __future__ import annotations

import csv
import json
import sys
from collections import defaultdict
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from p2pser.base.errors import ConfigError
from p2pser.cli.main import cli
from p2pser.experiments import trackers
from p2pser.experiments.exporting import export

START = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)


def line(peer: int, round: int, again: int = 0, **more: Any) -> dict[str, Any]:
    return {"at": (START + timedelta(seconds=10 * round + 1000 * again)).isoformat(), "peer": peer, "round": round,
            "loss": 1.5 - round / 4 + again / 8, "uar": 0.25 * peer if round % 2 else None,
            "ccc": {"valence": 0.5}, "links": {"1": "alive", "2": "dead"}, "asynchronous": {"merged": True}, **more}


class Run:
    """A run of the peers 1 and 3, whose files the test writes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "pilot"

    def peer(self, peer: int, *lines: dict[str, Any]) -> None:
        """Replace a peer's metrics."""
        folder = self.folder / f"peer-{peer}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "run.json").write_text(json.dumps({"settings": {"training.rounds": 4, "training.lr": 0.5}}))
        (folder / "events.jsonl").write_text("")
        (folder / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))

    def finish(self, peer: int) -> None:
        summary = {"agreed": 2, "took_part": 2, "peers": 2}
        (self.folder / f"peer-{peer}" / "finished.json").write_text(json.dumps(summary))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    one = Run(tmp_path)
    one.peer(1, line(1, 0), line(1, 1))
    one.peer(3, line(3, 0))
    return one


def test_csv_is_one_table(run: Run, tmp_path: Path) -> None:
    with (run.folder / "peer-3" / "metrics.jsonl").open("a") as file:
        file.write('{"at": "2026-03-01T12:00:09+00:00", "loss": 1.0}\nno line\n{"round": 7}\n')
    out = tmp_path / "tables"
    done = CliRunner().invoke(cli, ["runs", "export", str(run.folder), "--to", "csv", "--out", str(out)])
    assert (done.exit_code, done.stdout) == (0, f"{out / 'metrics.csv'}\n")
    with (out / "metrics.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert table == [
        {"peer": "1", "round": "0", "at": "2026-03-01T12:00:00+00:00", "loss": "1.5", "ccc/valence": "0.5",
         "neighbours_alive": "1.0", "uar": ""},
        {"peer": "1", "round": "1", "at": "2026-03-01T12:00:10+00:00", "loss": "1.25", "ccc/valence": "0.5",
         "neighbours_alive": "1.0", "uar": "0.25"},
        {"peer": "3", "round": "0", "at": "2026-03-01T12:00:00+00:00", "loss": "1.5", "ccc/valence": "0.5",
         "neighbours_alive": "1.0", "uar": ""}]


def read_back(folder: Path) -> dict[str, list[tuple[int, float, float]]]:
    """The scalars of TensorBoard's event files: (step, value, time) by name; a purge removes all steps from one on."""
    from tensorboardX.proto.event_pb2 import Event

    found: dict[str, list[tuple[int, float, float]]] = defaultdict(list)
    for path in sorted(folder.glob("events.out.tfevents.*"), key=lambda path: (path.stat().st_mtime_ns, path.name)):
        data = path.read_bytes()
        while data:
            size = int.from_bytes(data[:8], "little")
            event = Event.FromString(data[12 : 12 + size])
            data = data[16 + size :]
            if event.HasField("session_log") and event.session_log.status == 1:  # START
                for name in found:
                    found[name] = [one for one in found[name] if one[0] < event.step]
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    found[value.tag].append((event.step, value.simple_value, event.wall_time))
    return dict(found)


def test_tensorboard_gets_what_is_new_and_all_after_a_step_back(run: Run) -> None:
    pytest.importorskip("tensorboardX", reason="needs the extra tensorboard")
    place, written = export(run.folder, "tensorboard")
    assert (place, written) == (run.folder / "exports" / "tensorboard", {1: 2, 3: 1})
    start = START.timestamp()
    assert read_back(place / "peer-1") == {
        "loss": [(0, 1.5, start), (1, 1.25, start + 10)], "uar": [(1, 0.25, start + 10)],
        "ccc/valence": [(0, 0.5, start), (1, 0.5, start + 10)],
        "neighbours_alive": [(0, 1.0, start), (1, 1.0, start + 10)]}
    run.peer(1, line(1, 0), line(1, 1), line(1, 2))
    assert export(run.folder, "tensorboard")[1] == {1: 1, 3: 0}
    assert read_back(place / "peer-1")["loss"] == [(0, 1.5, start), (1, 1.25, start + 10), (2, 1.0, start + 20)]
    run.peer(1, line(1, 0), line(1, 1, again=1))  # killed, and resumed at round 1
    assert export(run.folder, "tensorboard")[1] == {1: 2, 3: 0}
    assert read_back(place / "peer-1")["loss"] == [(0, 1.5, start), (1, 1.375, start + 1010)]
    assert export(run.folder, "tensorboard")[1] == {1: 0, 3: 0}


class Mlflow:
    """MLflow's client, as far as it is used."""

    def __init__(self) -> None:
        self.uri, self.made = "", 0
        self.runs, self.experiments = dict[str, dict[str, Any]](), dict[str, str]()

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        package, entities = ModuleType("mlflow"), ModuleType("mlflow.entities")
        vars(package)["MlflowClient"] = self._client
        vars(entities).update(Metric=lambda *fields: fields, Param=lambda *fields: fields)
        monkeypatch.setitem(sys.modules, "mlflow", package)
        monkeypatch.setitem(sys.modules, "mlflow.entities", entities)

    def _client(self, tracking_uri: str) -> Any:
        self.uri = tracking_uri
        return self

    def get_experiment_by_name(self, name: str) -> Any:
        return SimpleNamespace(experiment_id=self.experiments[name]) if name in self.experiments else None

    def create_experiment(self, name: str) -> str:
        return self.experiments.setdefault(name, f"e{len(self.experiments)}")

    def create_run(self, where: str, start_time: int, run_name: str) -> Any:
        one = f"{run_name} of {where}, {self.made}"
        self.made += 1
        self.runs[one] = {"start": start_time, "metrics": [], "params": {}, "end": None}
        return SimpleNamespace(info=SimpleNamespace(run_id=one))

    def delete_run(self, one: str) -> None:
        del self.runs[one]

    def log_batch(self, one: str, metrics: Any = (), params: Any = ()) -> None:
        assert len(metrics) <= 1000
        assert len(params) <= 100
        self.runs[one]["metrics"] += metrics
        self.runs[one]["params"] |= dict(params)

    def set_terminated(self, one: str) -> None:
        self.runs[one]["end"] = True


def test_mlflow_has_a_run_for_each_peer(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against MLflow's client as its documentation describes it: the package itself is not installed here."""
    mlflow = Mlflow()
    mlflow.install(monkeypatch)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(trackers, "BATCH", 3)
    at = int(START.timestamp() * 1000)
    export(run.folder, "mlflow")
    assert mlflow.uri == f"sqlite:///{run.folder.resolve() / 'exports' / 'mlflow'}/mlflow.db"
    assert mlflow.runs["peer-3 of e0, 1"] == {
        "start": at, "params": {"training.rounds": "4", "training.lr": "0.5"}, "end": None,
        "metrics": [("loss", 1.5, at, 0), ("ccc/valence", 0.5, at, 0), ("neighbours_alive", 1.0, at, 0)]}
    run.peer(3, line(3, 0), line(3, 1))
    run.finish(3)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://192.0.2.1:5000")
    assert export(run.folder, "mlflow")[1] == {1: 0, 3: 1}
    assert mlflow.uri == "http://192.0.2.1:5000"
    assert mlflow.runs["peer-3 of e0, 1"]["metrics"][3:] == [
        ("loss", 1.25, at + 10000, 1), ("uar", 0.75, at + 10000, 1), ("ccc/valence", 0.5, at + 10000, 1),
        ("neighbours_alive", 1.0, at + 10000, 1)]
    assert [one["end"] for one in mlflow.runs.values()] == [None, True]
    run.finish(1)  # after its last round was written
    assert export(run.folder, "mlflow")[1] == {1: 0, 3: 0}
    assert [one["end"] for one in mlflow.runs.values()] == [True, True]
    run.peer(3, line(3, 0, again=1))
    export(run.folder, "mlflow")
    assert sorted(mlflow.runs) == ["peer-1 of e0, 0", "peer-3 of e0, 2"]


def test_trackio_has_a_run_for_each_peer(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against Trackio's functions as its documentation describes them: the package itself is not installed here."""
    done: list[Any] = []
    package = ModuleType("trackio")
    vars(package).update(init=lambda **fields: done.append(fields), finish=lambda: done.append("finish"),
                         log=lambda values, step: done.append((step, values)))
    monkeypatch.setitem(sys.modules, "trackio", package)
    monkeypatch.setenv("TRACKIO_DIR", "elsewhere")
    export(run.folder, "trackio")
    assert done[:4] == [
        {"project": "pilot", "name": "peer-1", "config": {"training.rounds": 4, "training.lr": 0.5}, "resume": "allow"},
        (0, {"loss": 1.5, "ccc/valence": 0.5, "neighbours_alive": 1.0}),
        (1, {"loss": 1.25, "uar": 0.25, "ccc/valence": 0.5, "neighbours_alive": 1.0}), "finish"]
    for again in (1, 2):
        run.peer(3, line(3, 0, again=again))
        export(run.folder, "trackio")
    assert [one["name"] for one in done if isinstance(one, dict)] == ["peer-1", "peer-3", "peer-3.2", "peer-3.3"]


def test_what_cannot_be_written_is_named(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for target, package in (("tensorboard", "tensorboardX"), ("mlflow", "mlflow"), ("trackio", "trackio")):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(ConfigError, match=f"--to {target} needs the package {package}: pip install"):
            export(run.folder, target, tmp_path / "out" / target)
    other = tmp_path / "other"
    run.folder.rename(other)
    (tmp_path / "out" / "mlflow" / "exported.json").write_text('{"run": "pilot", "peers": {}}')
    with pytest.raises(ConfigError, match="holds the export of another run"):
        export(other, "mlflow", tmp_path / "out" / "mlflow")
    assert CliRunner().invoke(cli, ["runs", "export", str(tmp_path / "nothing"), "--to", "csv"]).exit_code == 2
    assert CliRunner().invoke(cli, ["runs", "export", str(other), "--to", "excel"]).exit_code == 2


def test_runs_are_listed(run: Run, tmp_path: Path) -> None:
    run.finish(1)
    shown = CliRunner().invoke(cli, ["runs", "list", str(tmp_path), "--json"])
    assert json.loads(shown.stdout) == [{
        "run": "pilot", "folder": str(run.folder), "peers": 2, "states": {"finished": 1, "killed": 1}, "round": 1,
        "rounds": 4, "uar": 0.25}]
    assert "1 finished, 1 killed" in CliRunner().invoke(cli, ["runs", "list", str(tmp_path)]).stdout
