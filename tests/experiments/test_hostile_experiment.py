"""Where hostile peers are put, and the table of what each rule leaves."""

from __future__ import annotations

import json

import hostile_peers as hostile
import networkx as nx
import pytest
from click.testing import CliRunner
from hostile_peers import Outcome, measure, place, table

from p2pser.base.errors import ConfigError, TopologyError
from p2pser.cli.simulate import simulate
from p2pser.config import Config
from p2pser.features.federation import federate
from p2pser.graph.spec import load, parse

PLAIN = ["training.rounds=3", "training.local_steps=2", "model.hidden=[8]", "features.kind=logmel",
         "features.n_mels=16", "features.seconds=0.4", "model.name=cnn2d", "corpus.split=group:2"]


@pytest.fixture(scope="module")
def tones(spoken_tones):
    """Three emotions of six speakers."""
    return spoken_tones(6)


@pytest.mark.parametrize("seed", range(6))
def test_a_placement_is_seeded_and_meets_what_was_asked(seed):
    graph = parse({"graph": {"kind": "random-regular", "peers": 16, "degree": 6, "seed": seed}}, "test").graph
    chosen = place(graph, 3, 2, seed)
    assert chosen == place(graph, 3, 2, seed)
    assert len(set(chosen)) == 3
    honest = set(graph) - set(chosen)
    assert max(len(set(graph[i]) & set(chosen)) for i in honest) == 2
    assert nx.is_connected(graph.subgraph(honest))
    assert len({place(graph, 3, 2, other) for other in range(10)}) > 1


def test_the_honest_stay_connected():
    assert set(place(nx.barbell_graph(5, 1), 1, 1)) & {4, 5, 6} == set()
    assert place(nx.complete_graph(4), 0, 2) == ()
    first, second = place(nx.cycle_graph(6), 2, 2)  # no honest peer may have both: it would be cut off
    assert (second - first) % 6 in (1, 5)


@pytest.mark.parametrize(("graph", "count", "most"), [
    (nx.complete_graph(6), 3, 2), (nx.star_graph(5), 6, 6), (nx.path_graph(3), 2, 0), (nx.path_graph(3), -1, 0)])
def test_what_cannot_be_placed_is_refused(graph, count, most):
    with pytest.raises(TopologyError, match="could be hostile"):
        place(graph, count, most)


def test_each_rule_meets_each_attack(tones):
    config = Config().with_settings([*PLAIN, "corpus.name=folder", f"corpus.data={json.dumps(str(tones))}"])
    topology, heard = load("complete", 5), []
    with pytest.raises(ConfigError, match="krum tolerates"):
        measure(config, load("ring", 5), federate(config, 5, workers=1), (2,), rules=("krum",))
    attacks = ("nobody", "silent", "sign-flip")
    outcomes = measure(config, topology, federate(config, 5, workers=1), (2,), attacks=attacks, observe=heard.append)
    assert heard == outcomes
    assert [(one.rule, one.attack) for one in outcomes] == [
        (rule, attack) for rule in hostile.RULES for attack in attacks]
    assert all(0 <= one.worst <= one.mean <= 1 for one in outcomes)


def test_rows_beyond_any_magnitude_are_refused(tones, monkeypatch):
    config = Config().with_settings([*PLAIN, "corpus.name=folder", f"corpus.data={json.dumps(str(tones))}"])
    send = hostile.ATTACKS["large-norm"][0]
    monkeypatch.setitem(hostile.ATTACKS, "large-norm", (send, 1e38))
    outcomes = measure(config, load("complete", 5), federate(config, 5, workers=1), (2,), ("dfedavg", "median"),
                       ("large-norm",))
    assert outcomes[0].mean is not None
    assert outcomes[1].mean is not None


def test_training_that_breaks_down_is_told_apart(tones, monkeypatch):
    """Each row is plausible beside the one before it, so the honest follow until their numbers are no longer finite."""
    config = Config().with_settings([*PLAIN, "corpus.name=folder", f"corpus.data={json.dumps(str(tones))}",
                                     "training.rounds=12"])
    send = hostile.ATTACKS["inner-product"][0]
    monkeypatch.setitem(hostile.ATTACKS, "inner-product", (send, 1e5))
    outcomes = measure(config, load("complete", 5), federate(config, 5, workers=1), (2,), ("dfedavg", "median"),
                       ("inner-product",))
    assert outcomes[0] == Outcome("dfedavg", "inner-product", None, None, None)
    assert outcomes[1].mean is not None


def test_the_table():
    outcomes = [Outcome("median", "nobody", 0.75, 0.5, 0.1), Outcome("median", "sign-flip", None, None, None)]
    assert table(outcomes) == "| rule | nobody | sign-flip |\n| --- | --- | --- |\n| median | 0.750 | - |\n"


def test_the_simulate_command_with_a_hostile_peer(tones, tmp_path):
    arguments = ["--topology", "complete", "--peers", "5", "--hostile", "1:sign-flip", "--out", str(tmp_path),
                 "--corpus", str(tones), "--set", "gossip.algorithm=median", "--no-baselines",
                 *(part for setting in PLAIN for part in ("--set", setting))]
    result = CliRunner().invoke(simulate, [*arguments, "--json"], catch_exceptions=False)
    document = json.loads(result.stdout, parse_constant=pytest.fail)
    assert document["peers_hostile"] == [1]
    assert document["peers_dead"] == []
    assert document["final"]["bound"] is None
    assert document["uar"]["consensus"] is None
    assert document["uar"]["mean_peer"] is not None
    text = CliRunner().invoke(simulate, arguments, catch_exceptions=False).stdout
    assert "no final consensus" in text
    assert "consensus model" not in text


@pytest.mark.parametrize("value", ["3", "x:sign-flip", "3@sign-flip"])
def test_hostile_wants_a_peer_and_an_attack(value):
    result = CliRunner().invoke(simulate, ["--hostile", value])
    assert result.exit_code == 2
    assert "3:sign-flip" in result.output
