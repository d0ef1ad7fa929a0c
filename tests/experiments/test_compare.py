"""Comparisons: jobs kept on disk, tables paired over folds and seeds, the command."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from p2pser.base.errors import ConfigError, TopologyError
from p2pser.base.frames import to_csv
from p2pser.cli.compare import compare as command
from p2pser.cli.simulate import simulate
from p2pser.config import Config
from p2pser.experiments import pool
from p2pser.experiments.compare import compare, rounds_to, summarised
from p2pser.experiments.jobs import Job, Plan
from p2pser.experiments.planning import plan
from p2pser.experiments.report import comparison as report
from p2pser.graph import spec
from p2pser.models.directory import read_card

PLAIN = ["training.rounds=3", "training.local_steps=2", "model.hidden=[8]", "features.kind=logmel",
         "features.n_mels=16", "features.seconds=0.4", "model.name=cnn2d", "corpus.split=group:2"]


@pytest.fixture(scope="module")
def tones(spoken_tones: Callable[[int], Path]) -> Path:
    """Three emotions of four speakers."""
    return spoken_tones(4)


@pytest.fixture
def config(tones: Path) -> Config:
    return Config().with_settings([*PLAIN, "corpus.name=folder", f"corpus.data={json.dumps(str(tones))}"])


def planned(config: Config, out: Path | None, **changes: Any) -> Plan:
    arguments: dict[str, Any] = {"topologies": ["ring", "star"], "peers": 3, "seeds": 2, **changes}
    names, peers = arguments.pop("topologies"), arguments.pop("peers")
    return plan(config, [spec.load(name, peers) for name in names], out=out, **arguments)


def test_a_comparison_is_computed_once_and_only_what_is_missing_again(config, tmp_path):
    runs = planned(config, tmp_path)
    seen: list[tuple[Job, bool]] = []
    first = pool.run(runs, processes=1, done=lambda job, stored: seen.append((job, stored))).outer
    assert len(first) == 2 * 2 * (2 + 4)
    assert not any(stored for _, stored in seen)
    lost = pool.path(runs, Job("gossip", "star", 1, 0))
    assert lost is not None
    lost.write_text(lost.read_text()[:50])
    seen.clear()
    again = pool.run(runs, processes=1, done=lambda job, stored: seen.append((job, stored))).outer
    assert [job.scheme for job, stored in seen if not stored] == ["star"]
    for job, document in again.items():
        assert {**document, "wall_s": 0} == {**json.loads(json.dumps(first[job])), "wall_s": 0}


def test_other_settings_are_computed_again(config, tmp_path):
    runs = planned(config, tmp_path, topologies=["ring"], seeds=1, folds=(0,))
    job = runs.jobs()[0]
    pool.run(runs, processes=1)
    assert pool.stored(runs, job) is not None
    other = planned(config.with_settings(["training.lr=0.01"]), tmp_path, topologies=["ring"], seeds=1, folds=(0,))
    assert pool.stored(other, job) is None
    more = planned(config, tmp_path, topologies=["ring"], seeds=1, folds=(0,), peers=4)
    assert pool.stored(more, job) is None


def test_a_scheme_parses_its_settings_once(config, tmp_path, monkeypatch):
    parsed: list[object] = []
    for name in ("__init__", "model_validate", "model_validate_json"):
        monkeypatch.setattr(Config, name, counted(getattr(Config, name), parsed))
    rings = [spec.load("ring", 3)]
    compare(plan(config, rings, algorithms=["dfedavg:training.momentum=0"], seeds=2, out=tmp_path), jobs=1)
    assert len(parsed) == 1
    parsed.clear()
    compare(plan(config, rings, folds=(0,), out=tmp_path), jobs=1)
    assert len(parsed) == 0


def counted(method: Callable[..., Any], calls: list[object]) -> Callable[..., Any]:
    def call(*arguments: Any, **named: Any) -> Any:
        calls.append(arguments)
        return method(*arguments, **named)

    return call


def test_the_table_pairs_and_averages(config, tmp_path):
    results = pool.run(planned(config, tmp_path), processes=1)
    comparison = summarised(results)
    ring = comparison.schemes[0]
    uars = []
    for seed in (0, 1):
        by_fold = []
        for fold in (0, 1):
            document = results.outer[Job("gossip", "ring", seed, fold)]
            predicted, true = np.array(document["predicted"][0]), np.array(document["test"]["targets"])
            by_fold.append(np.mean([(predicted[true == k] == k).mean() for k in np.unique(true)]))
        uars.append(np.mean(by_fold))
    assert ring.uar == pytest.approx(np.mean(uars))
    assert ring.uar_sd == pytest.approx(np.std(uars, ddof=1))
    pooled, steps, alone, server = comparison.baselines
    assert ring.gap_to_pooled.mean == pytest.approx(ring.uar - pooled.uar)
    assert ring.gap_to_pooled_steps.mean == pytest.approx(ring.uar - steps.uar)
    assert pooled.gap_to_pooled_steps.mean == pytest.approx(pooled.uar - steps.uar)
    assert steps.gap_to_pooled_steps is None
    assert ring.gain_over_local.mean == pytest.approx(ring.uar - alone.uar)
    assert alone.gap_to_pooled.mean == pytest.approx(alone.uar - pooled.uar)
    assert alone.gap_to_pooled.low <= alone.gap_to_pooled.mean <= alone.gap_to_pooled.high
    assert server.bytes_per_peer == 3 * 4 * results.outer[Job("server", "", 0, 0)]["parameters"]
    assert ring.bytes_per_peer == 2 * server.bytes_per_peer
    assert comparison.speaker_overlap == 0
    rows = list(csv.DictReader(io.StringIO(to_csv(comparison.rows()))))
    assert [row["name"] for row in rows] == ["ring", "star", "pooled", "pooled-steps", "local-only",
                                                           "server"]
    assert float(rows[0]["uar"]) == ring.uar
    assert float(rows[0]["gap_to_pooled_low"]) == ring.gap_to_pooled.low
    assert all(len(row) == len(report.HEAD) for row in report.text_rows(comparison))
    frame = pytest.importorskip("pandas") and comparison.to_frame()
    assert frame["name"].tolist() == [row["name"] for row in rows]
    assert frame["uar"].tolist() == [row.uar for row in (*comparison.schemes, *comparison.baselines)]


def test_rounds_to_a_level():
    assert rounds_to([[0.1, 0.5, 0.9], [0.3, 0.5, 0.9]], 0.5) == 2
    assert rounds_to([[0.1, None, 0.9]], 0.5) == 3
    assert rounds_to([[0.1, 0.2]], 0.5) is None


@pytest.mark.parametrize(("changes", "error"), [
    ({"topologies": ["ring", "ring"]}, ConfigError), ({"topologies": []}, ConfigError),
    ({"topologies": ["rnig"]}, TopologyError), ({"folds": (0, 0)}, ConfigError), ({"folds": ()}, ConfigError),
    ({"topologies": ["ring", "torus"], "peers": None}, TopologyError),
])
def test_wrong_calls_are_refused(config, tmp_path, changes, error):
    with pytest.raises(error):
        planned(config, tmp_path, **changes)


def test_the_compare_command_in_two_processes(tones, tmp_path):
    arguments = ["--topology", "ring,star", "--peers", "3", "--seeds", "1", "--workers", "2", "--out", str(tmp_path),
                 "--corpus", str(tones), *(part for setting in PLAIN for part in ("--set", setting))]
    result = CliRunner().invoke(command, [*arguments, "--json"], catch_exceptions=False)
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert [row["topology"] for row in document["schemes"]] == ["ring", "star"]
    assert (tmp_path / "comparison.png").stat().st_size > 10_000
    assert (tmp_path / "table.csv").read_text().startswith("kind,name")
    table = CliRunner().invoke(command, arguments, catch_exceptions=False).stdout
    assert "local-only" in table
    assert "chance 0.333" in table


def test_the_simulate_command(tones, tmp_path):
    arguments = ["--peers", "4", "--kill", "1@2", "--out", str(tmp_path), "--corpus", str(tones),
                 *(part for setting in PLAIN for part in ("--set", setting))]
    result = CliRunner().invoke(simulate, [*arguments, "--json"], catch_exceptions=False)
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert document["peers_dead"] == [1]
    assert document["consensus_distance"] <= 1e-6
    assert set(document["uar"]) == {"consensus", "mean_peer", "worst_peer", "local_only", "pooled"}
    folder = Path(document["out"])
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 3
    assert (folder / "run.png").is_file()
    assert (folder / "model" / "card.json").is_file()
    text = CliRunner().invoke(simulate, [*arguments, "--no-baselines"], catch_exceptions=False).stdout
    assert "consensus model" in text
    assert "pooled" not in text


def test_a_simulated_model_is_calibrated_on_inner_folds(tones, tmp_path):
    arguments = ["--peers", "2", "--calibrate", "2", "--no-baselines", "--out", str(tmp_path), "--corpus", str(tones),
                 *(part for setting in PLAIN for part in ("--set", setting))]
    result = CliRunner().invoke(simulate, [*arguments, "--json"], catch_exceptions=False)
    document = json.loads(result.stdout)
    card = read_card(Path(document["out"]) / "model")[0]
    assert document["temperature"] == card.temperature
    assert 0.05 <= document["temperature"] <= 20


def test_kill_wants_a_peer_and_a_round():
    result = CliRunner().invoke(simulate, ["--kill", "3"])
    assert result.exit_code == 2
    assert "3@10" in result.output


def test_a_comparison_of_servers_partitions_over_their_clients(config, tmp_path):
    runs = planned(config.with_settings(["gossip.algorithm=fedavg"]), tmp_path, topologies=["server"], peers=4)
    results = pool.run(runs, processes=1)
    served, baseline = results.of("gossip", "server"), results.of("server", "")
    assert [document["predicted"] for document in served] == [document["predicted"] for document in baseline]
    assert len(results.outer[Job("local-only", "", 0, 0)]["predicted"]) == 3
    with pytest.raises(TopologyError, match=r"different hubs \(ring none, server 0\)"):
        planned(config, tmp_path, topologies=["ring", "server"], peers=4)


def test_without_a_consensus_every_peer_s_own_model_is_a_result(config):
    runs = planned(config, None, topologies=["complete"], seeds=1, algorithms=["dfedavg", "median"])
    results = pool.run(runs, processes=1)
    own, agreed = (results.outer[Job("gossip", name, 0, 0)] for name in ("median", "dfedavg"))
    assert own["predicted"] == own["predicted_peers"]
    assert len(agreed["predicted"]) == 1
    comparison = summarised(results)
    row = next(row for row in comparison.schemes if row.scheme == "median")
    assert row.uar == pytest.approx(row.uar_mean_peer)
    assert row.gap_to_pooled.mean is not None
    for name, which in (("median", "mean"), ("dfedavg", "consensus")):
        histories = [document["history"] for document in results.of("gossip", name)]
        curves = comparison.curves[name].uar
        assert curves == [[entry["uar"][which] for entry in history] for history in histories]
        assert None not in curves[0]


def test_peers_of_different_width_have_a_curve_of_their_mean(config):
    runs = planned(config.with_settings(["model.width=0.5,1"]), None, topologies=["complete"], seeds=1, peers=2)
    results = pool.run(runs, processes=1)
    assert len(results.outer[Job("gossip", "complete", 0, 0)]["predicted"]) == 2
    assert None not in summarised(results).curves["complete"].uar[0]


def test_results_of_other_clips_are_computed_again(tones: Path, tmp_path: Path) -> None:
    """The folder is the same, and in it a label, a recording or a day has changed."""
    shutil.copytree(tones, tmp_path / "tones")
    rows = [[str(path.relative_to(tmp_path)), path.parts[-2], path.parts[-3], "2999-12-31"]
            for path in sorted((tmp_path / "tones").rglob("*.wav"))]

    def counts() -> tuple[int, list[str]]:
        """Return how many runs are computed, and the emotions on which the first of them tested."""
        table = tmp_path / "clips.csv"
        table.write_text("\n".join(map(",".join, [["path", "speaker", "emotion", "consent_until"], *rows])) + "\n")
        config = Config().with_settings([*PLAIN, "corpus.name=manifest", f"corpus.data={table}"])
        stored: list[bool] = []
        runs = planned(config, tmp_path / "out", topologies=["ring"], seeds=1, folds=(0,),
                       kinds=("pooled", "local-only"))
        found = pool.run(runs, processes=1, done=lambda job, known: stored.append(known)).outer
        first = next(iter(found.values()))
        return stored.count(False), [first["labels"][target] for target in first["test"]["targets"]]

    number, before = counts()
    assert (number, counts()) == (2, (0, before))
    for row in rows:
        row[2] = row[2].replace("anger", "boredom")
    assert counts() == (2, [emotion.replace("anger", "boredom") for emotion in before])
    assert counts()[0] == 0
    shutil.copyfile(tmp_path / rows[-1][0], tmp_path / rows[-2][0])
    os.utime(tmp_path / rows[-2][0], (1e9, 1e9))
    assert counts()[0] == 2
    rows[0][3] = "2001-01-01"
    assert counts()[0] == 2
    assert counts()[0] == 0
