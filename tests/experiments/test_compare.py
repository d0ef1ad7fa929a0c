"""Comparisons: jobs kept on disk, tables paired over folds and seeds, the command."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from p2pser.base.errors import ConfigError, TopologyError
from p2pser.cli.compare import compare as command
from p2pser.cli.simulate import simulate
from p2pser.config import Config
from p2pser.experiments import compare
from p2pser.experiments.report import comparison as tables
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


def prepared(config: Config, out: Path, **changes: object) -> compare.Comparison:
    arguments = {"topologies": ["ring", "star"], "peers": 3, "seeds": 2, "folds": "all", **changes}
    return compare.prepare(config, out=out, **arguments)


def test_a_comparison_is_computed_once_and_only_what_is_missing_again(config, tmp_path):
    chosen = prepared(config, tmp_path)
    seen: list[tuple[compare.Job, bool]] = []
    first = compare.run(chosen, workers=1, done=lambda job, found: seen.append((job, found)))
    assert len(first) == 2 * 2 * (2 + 3)
    assert not any(found for _, found in seen)
    lost = chosen.path(compare.Job("gossip", "star", 1, 0))
    lost.write_text(lost.read_text()[:50])
    seen.clear()
    again = compare.run(chosen, workers=1, done=lambda job, found: seen.append((job, found)))
    assert [job.scheme for job, found in seen if not found] == ["star"]
    for job, document in again.items():
        assert {**document, "wall_s": 0} == {**json.loads(json.dumps(first[job])), "wall_s": 0}


def test_other_settings_are_computed_again(config, tmp_path):
    chosen = prepared(config, tmp_path, topologies=["ring"], seeds=1, folds="0")
    job = chosen.jobs()[0]
    compare.run(chosen, workers=1)
    assert chosen.stored(job) is not None
    other = prepared(config.with_settings(["training.lr=0.01"]), tmp_path, topologies=["ring"], seeds=1, folds="0")
    assert other.stored(job) is None
    more = prepared(config, tmp_path, topologies=["ring"], seeds=1, folds="0", peers=4)
    assert more.stored(job) is None


def test_the_table_pairs_and_averages(config, tmp_path):
    chosen = prepared(config, tmp_path)
    results = compare.run(chosen, workers=1)
    document = tables.tabulate(chosen, results)
    ring = document["schemes"][0]
    uars = []
    for seed in (0, 1):
        by_fold = []
        for fold in (0, 1):
            one = results[compare.Job("gossip", "ring", seed, fold)]
            said, true = np.array(one["predicted"][0]), np.array(one["test"]["targets"])
            by_fold.append(np.mean([(said[true == k] == k).mean() for k in np.unique(true)]))
        uars.append(np.mean(by_fold))
    assert ring["uar"] == pytest.approx(np.mean(uars))
    assert ring["uar_sd"] == pytest.approx(np.std(uars, ddof=1))
    pooled, alone, server = document["baselines"]
    assert ring["gap_to_pooled"]["mean"] == pytest.approx(ring["uar"] - pooled["uar"])
    assert ring["gain_over_local"]["mean"] == pytest.approx(ring["uar"] - alone["uar"])
    assert alone["gap_to_pooled"]["mean"] == pytest.approx(alone["uar"] - pooled["uar"])
    assert alone["gap_to_pooled"]["low"] <= alone["gap_to_pooled"]["mean"] <= alone["gap_to_pooled"]["high"]
    assert server["bytes_per_peer"] == 3 * 4 * results[compare.Job("server", "", 0, 0)]["parameters"]
    assert ring["bytes_per_peer"] == 2 * server["bytes_per_peer"]
    assert document["speaker_overlap"] == 0
    rows = list(csv.DictReader(io.StringIO(tables.to_csv(document))))
    assert [row["name"] for row in rows] == ["ring", "star", "pooled", "local-only", "server"]
    assert float(rows[0]["uar"]) == ring["uar"]
    assert all(len(row) == len(tables.HEAD) for row in tables.text_rows(document))


def test_rounds_to_a_level():
    assert tables.rounds_to([[0.1, 0.5, 0.9], [0.3, 0.5, 0.9]], 0.5) == 2
    assert tables.rounds_to([[0.1, None, 0.9]], 0.5) == 3
    assert tables.rounds_to([[0.1, 0.2]], 0.5) is None


@pytest.mark.parametrize(("changes", "error"), [
    ({"topologies": ["ring", "ring"]}, ConfigError), ({"topologies": []}, ConfigError),
    ({"topologies": ["rnig"]}, TopologyError), ({"folds": "0,0"}, ConfigError), ({"folds": "x"}, ConfigError),
    ({"topologies": ["ring", "torus"], "peers": None}, TopologyError),
])
def test_wrong_calls_are_refused(config, tmp_path, changes, error):
    with pytest.raises(error):
        prepared(config, tmp_path, **changes)


@pytest.mark.timeout(180)  # on a busy machine: both children import torch
def test_the_compare_command_in_two_processes(tones, tmp_path):
    arguments = ["--topologies", "ring,star", "--peers", "3", "--seeds", "1", "--workers", "2", "--out", str(tmp_path),
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


def test_a_comparison_of_servers_deals_over_their_clients(config, tmp_path):
    chosen = prepared(config.with_settings(["gossip.algorithm=fedavg"]), tmp_path, topologies=["server"], peers=4)
    results = compare.run(chosen, workers=1)
    served = [results[compare.Job("gossip", "server", 0, fold)] for fold in chosen.folds]
    baseline = [results[compare.Job("server", "", 0, fold)] for fold in chosen.folds]
    assert [one["predicted"] for one in served] == [one["predicted"] for one in baseline]
    assert len(results[compare.Job("local-only", "", 0, 0)]["predicted"]) == 3
    with pytest.raises(TopologyError, match=r"different hubs \(ring none, server 0\)"):
        prepared(config, tmp_path, topologies=["ring", "server"], peers=4)


def test_without_a_consensus_every_peer_s_own_model_is_a_result(config, tmp_path):
    chosen = prepared(config, tmp_path, topologies=["complete"], seeds=1, algorithms=["dfedavg", "median"])
    results = compare.run(chosen, workers=1)
    own, one = (results[compare.Job("gossip", name, 0, 0)] for name in ("median", "dfedavg"))
    assert own["predicted"] == own["predicted_peers"]
    assert len(one["predicted"]) == 1
    row = next(row for row in tables.tabulate(chosen, results)["schemes"] if row["scheme"] == "median")
    assert row["uar"] == pytest.approx(row["uar_mean_peer"])
    assert row["gap_to_pooled"]["mean"] is not None
    for name, which in (("median", "mean"), ("dfedavg", "consensus")):
        histories = [results[compare.Job("gossip", name, 0, fold)]["history"] for fold in chosen.folds]
        drawn = tables.curves(chosen, results)[name]["uar"]
        assert drawn == [[entry["uar"][which] for entry in history] for history in histories]
        assert None not in drawn[0]


def test_peers_of_different_width_have_a_curve_of_their_mean(config, tmp_path):
    chosen = prepared(config.with_settings(["model.width=0.5,1"]), tmp_path, topologies=["complete"], seeds=1, peers=2)
    results = compare.run(chosen, workers=1)
    assert len(results[compare.Job("gossip", "complete", 0, 0)]["predicted"]) == 2
    assert None not in tables.curves(chosen, results)["complete"]["uar"][0]
