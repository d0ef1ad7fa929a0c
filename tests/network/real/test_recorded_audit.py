"""The audit of a run that took place: what its attacks read is what the peers' processes received."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from click.testing import CliRunner
from real_peers import Real

from p2pser.base.errors import ConfigError
from p2pser.cli.main import cli
from p2pser.config import Config
from p2pser.features.federation import federate
from p2pser.gossip.reading import Edge
from p2pser.graph.spec import load
from p2pser.peer.recording import records
from p2pser.privacy.runs import recorded
from p2pser.simulation.engine import simulate

RECORDED = 3


@pytest.mark.parametrize("algorithm", ["dfedavg", "secure-average"])
def test_the_messages_are_those_of_a_simulation_of_the_same_run(real: Real, algorithm: str) -> None:
    config = real.config("recorded", f"gossip.algorithm={algorithm}", "features.normalise=global",
                         "training.rounds=5", f"privacy.record={RECORDED}", peers=4)
    topology = load("ring", 4)
    story = real.run(config, topology)
    assert set(story.exit_codes.values()) == {0}, str(story)
    whole = config.with_settings(["privacy.record=0"])
    run = recorded(whole, topology, federate(whole, 4), (1, 2, 3, 4), rejoins=False)
    assert run.rounds == (1, 2, 3)
    sizes = [(len(run.subjects.federation.train[i]), len(run.subjects.others[i])) for i in range(4)]
    assert sizes == [(8, 8)] * 4

    seen = replace(run.wire, rows={}, octets={}, sums={}, starts={}, ends={}, exchanges={})
    simulation = simulate(whole, topology, run.subjects.federation, each_peer=False, witness=seen)
    assert run.statistics is not None
    assert simulation.statistics is not None
    assert run.statistics.mean.tolist() == simulation.statistics.mean.tolist()
    for here, there in ((run.wire.starts, seen.starts), (run.wire.ends, seen.ends)):
        assert here.keys() <= there.keys()
        assert {*here} >= {0, 1, 2}
        assert all(torch.equal(here[round], there[round]) for round in here)
    assert (len(run.wire.rows), len(run.wire.octets)) == ((3, 0) if algorithm == "dfedavg" else (0, 3))
    for round in range(RECORDED):
        mine, theirs = run.wire.rows.get(round, {}), seen.rows.get(round, {})
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[edge], theirs[edge]) for edge in mine)
        # Nonces and masks are the processes' own: the sums are as long. A simulation does not deliver the last message
        # of a flood, since no peer needs it.
        assert _lengths(run.wire.octets.get(round, {})) == _lengths(seen.octets.get(round, {}))
    assert run.wire.sums.keys() == seen.sums.keys()
    assert run.wire.sums == seen.sums or algorithm == "secure-average"
    # A simulation does not deliver the last message of the final consensus, since no peer needs it.
    assert all(0 <= run.wire.exchanges[round] - exchanges <= 1 for round, exchanges in seen.exchanges.items())

    if algorithm == "dfedavg":
        _check_command(config, real.folder)


def _lengths(octets: dict[Edge, list[bytes]]) -> dict[Edge, list[int]]:
    """The lengths of the sums among the messages, by edge."""
    return {edge: [len(message) for message in messages if len(message) > 1000] for edge, messages in octets.items()}


def _check_command(config: Config, folder: Path) -> None:
    (folder / "run.yaml").write_text(yaml.safe_dump(json.loads(config.model_dump_json())))
    call = ["audit", "--topology", "ring", "--peers", "4", "--run", str(folder / "run.yaml"), "--json"]
    done = CliRunner().invoke(cli, [*call, "--after-rounds", "1,2,4"])
    assert done.exit_code == 1, done.output
    document = json.loads(done.stdout)
    solved = {each["seen"]: each["value"] for each in document["findings"] if each["measure"] == "other peers"}
    assert solved == {"statistics": 3, "round 1": 2, "round 2": 2, "final consensus": 3}
    assert {each["value"] for each in document["findings"] if each["about"] == "membership" and each["rounds"] == 1
            and each["attack"] == "row space"} == {1.0}
    several = CliRunner().invoke(cli, [*call, "--seeds", "2"])
    assert several.exit_code == 2
    assert "--seeds goes with --before" in several.stderr
    # A folder in which a kill has cut the last record: what is before it counts.
    received = config.peer.out / config.name / "peer-2" / "received"
    (path,) = received.iterdir()
    path.write_bytes(path.read_bytes()[:-3])
    assert len(list(records(received))) > 10
    path.write_bytes(b"\xc1" + path.read_bytes())
    with pytest.raises(ConfigError, match=r"cannot read the recorded messages .* record the run anew"):
        list(records(received))
