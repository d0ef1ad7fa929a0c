"""The public API: runs from Python, with data and algorithms of the caller's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from calls import furnish

import p2pser

SETTINGS = {"training.rounds": 3, "training.local_steps": 2, "model.hidden": [6], "training.batch_size": 4}
ROOT = Path(__file__).parents[1]

SCRIPT = '''
import json, sys
from dataclasses import dataclass
import numpy as np
import p2pser
from p2pser.gossip.mixer import Step

@p2pser.register_algorithm("half-way")
@dataclass(frozen=True, kw_only=True)
class HalfWay(p2pser.Algorithm):
    """Mix half of the way."""

    def round(self, state, local, mixer, round):
        rows = local.train(state, round)
        state.rows["x"] = (rows + mixer.mix(rows, Step(round, 0))) / 2
        return state

def main():
    draw = np.random.default_rng(0)
    labels = [("joy", "anger")[k % 2] for k in range(24)]
    features = draw.normal(size=(24, 5)) + np.array([[k % 2] for k in range(24)])
    data = p2pser.federate(peers=3, features=features, labels=labels, speakers=[f"s{k // 6}" for k in range(24)],
                           test=np.arange(24) >= 18)
    settings = {"gossip.algorithm": "half-way", "training.rounds": 2, "model.hidden": [4], "peer.out": sys.argv[1]}
    simulated = p2pser.simulate("ring", peers=3, data=data, settings=settings, exact=True)
    launched = p2pser.launch("ring", peers=3, data=data, settings=settings)
    print(json.dumps([simulated.outputs.uar, [one["uar"] for one in launched.summaries],
                      [one["consensus"] for one in launched.summaries]]))

GUARD
    main()
'''


def arrays() -> dict[str, object]:
    draw = np.random.default_rng(3)
    classes = np.arange(40) % 2
    return {"features": draw.normal(size=(40, 5)) + 2 * classes[:, None], "labels": np.array(["joy", "anger"])[classes],
            "speakers": [f"s{k // 8}" for k in range(40)], "test": np.arange(40) >= 32}


def run_script(folder: Path, guard: str) -> subprocess.CompletedProcess[str]:
    script = folder / "own_algorithm.py"
    script.write_text(SCRIPT.replace("GUARD", guard), encoding="utf-8")
    return subprocess.run([sys.executable, str(script), str(folder / "runs")], capture_output=True, text=True,
                          cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)})


def test_a_simulation_of_own_arrays_has_a_frame_of_its_rounds() -> None:
    rounds: list[int] = []
    data = p2pser.federate(peers=4, **arrays())
    run = p2pser.simulate("ring", data=data, settings=SETTINGS, observe=lambda one: rounds.append(one.round))
    assert rounds == [1, 2, 3]
    assert run.outputs is not None
    assert run.outputs.uar is not None
    assert run.outputs.uar > 0.8
    frame = run.to_frame()
    assert frame["round"].tolist() == [1, 2, 3]
    assert frame["uar.consensus"].tolist() == [one.uar["consensus"] for one in run.history]


def test_own_owners_decide_who_holds_what() -> None:
    owners = np.arange(40) % 3
    data = p2pser.federate(peers=3, owners=owners, **arrays())
    assert [len(data.train[i]) for i in range(3)] == [11, 11, 10]


def test_an_unknown_setting_is_named_with_the_nearest() -> None:
    with pytest.raises(p2pser.Error, match=r"there is no setting 'training\.round'; did you mean 'training\.rounds'"):
        p2pser.simulate(settings={"training.round": 3})
    with pytest.raises(p2pser.Error, match="give labels"):
        p2pser.federate(peers=2, features=np.zeros((4, 2)))


def test_an_algorithm_of_the_callers_script_runs_simulated_and_between_processes(tmp_path: Path) -> None:
    done = run_script(tmp_path, 'if __name__ == "__main__":')
    assert done.returncode == 0, done.stderr
    simulated, launched, agreed = json.loads(done.stdout)
    assert launched == [simulated] * 3
    assert agreed == [True] * 3


def test_a_script_without_the_guard_ends_with_a_sentence(tmp_path: Path) -> None:
    done = run_script(tmp_path, "if True:")
    assert done.returncode != 0
    assert 'put the call that starts them under `if __name__ == "__main__":`' in done.stderr


def test_compare_and_crossval_return_frames_of_their_schemes() -> None:
    settings = {**SETTINGS, "corpus.name": "synthetic", "training.rounds": 1}
    comparison = p2pser.compare(["ring", "star"], peers=3, settings=settings)
    assert comparison.to_frame()["name"].tolist()[:2] == ["ring dfedavg", "star dfedavg"]
    cross = p2pser.crossval(peers=3, settings=settings, folds=[0])
    assert cross.to_frame()["scheme"].tolist()[0] == "gossip"
def test_the_settings_decide_what_is_compared_where_the_call_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pser.experiments.compare.compare", lambda plan, jobs: plan)
    monkeypatch.setattr("p2pser.experiments.crossval.crossval", lambda setup, jobs: setup)
    settings = {**SETTINGS, "gossip.algorithm": "choco", "corpus.fold": 2}
    plan: Any = p2pser.compare(["ring", "star"], peers=3, settings=settings)
    assert list(plan.topologies) == ["ring choco", "star choco"]
    assert {plan.schemes[label].config.gossip.algorithm for label in plan.topologies} == {"choco"}
    assert plan.folds == (2,)
    setup: Any = p2pser.crossval(peers=2, settings={"model.name": "svm"}, folds=np.array([3]))
    assert list(setup.plans) == ["svm"]
    assert setup.plans["svm"].folds == (3,)


@pytest.mark.parametrize("folds", [[-1], [0, 4], [], [1, 1]])
def test_folds_that_do_not_exist_are_refused_before_anything_runs(folds: list[int], tmp_path: Path) -> None:
    sentence = "there is no fold (-1|4)|name each fold once, and at least one"
    for out, call in (("a", lambda out: p2pser.compare(["ring"], peers=3, settings=SETTINGS, folds=folds, out=out)),
                      ("b", lambda out: p2pser.crossval(peers=3, settings=SETTINGS, folds=folds, out=out))):
        with pytest.raises(p2pser.Error, match=sentence):
            call(tmp_path / out)
        assert not (tmp_path / out).exists()


def test_a_topology_of_another_size_than_asked_for_is_refused() -> None:
    ring = p2pser.topology("ring", peers=5)
    for call in (lambda: p2pser.simulate(ring, peers=4), lambda: p2pser.compare([ring], peers=4),
                 lambda: p2pser.crossval(topology=ring, peers=4), lambda: p2pser.topology(ring, peers=4)):
        with pytest.raises(p2pser.Error, match="the topology 'ring' has 5 peers, not 4: leave peers out"):
            call()
    assert p2pser.topology(ring, peers=5) is ring


def test_topologies_by_name() -> None:
    assert p2pser.topology("ring", peers=5).neighbours(2) == (1, 3)


FEATURES = np.random.default_rng(0).normal(size=(8, 3))
LABELS = ["joy", "anger"] * 4


@pytest.mark.parametrize("call", [
    lambda: p2pser.federate(peers=2.5), lambda: p2pser.federate(peers="3", features=FEATURES, labels=LABELS),
    lambda: p2pser.federate(peers=2, features=FEATURES, labels=LABELS, hub="0"),
    lambda: p2pser.federate(peers=2, labels=LABELS), lambda: p2pser.simulate(data="folder"),
    lambda: p2pser.simulate(data=FEATURES), lambda: p2pser.simulate(None), lambda: p2pser.simulate(b"ring"),
    lambda: p2pser.simulate(settings="a=1"), lambda: p2pser.simulate(settings=["x"]),
    lambda: p2pser.simulate(settings=[]), lambda: p2pser.simulate(settings={3: 1}),
    lambda: p2pser.simulate(exact="no"), lambda: p2pser.simulate(observe=5), lambda: p2pser.topology("ring", "3"),
    lambda: p2pser.topology("ring", True), lambda: p2pser.topology(None), lambda: p2pser.topology("ring").matrix("0"),
    lambda: p2pser.topology("ring").entries(0.5), lambda: p2pser.topology("ring").matrix(0, {0: "x"}),
    lambda: p2pser.crossval(folds="0"), lambda: p2pser.crossval(folds=0.5), lambda: p2pser.crossval(models=5),
    lambda: p2pser.crossval(seeds="2"), lambda: p2pser.crossval(topology=5), lambda: p2pser.crossval(out="a\0b"),
    lambda: p2pser.crossval(jobs=0), lambda: p2pser.compare(None), lambda: p2pser.compare([None]),
    lambda: p2pser.compare(["ring"], algorithms=[3]), lambda: p2pser.compare("ring", jobs="x"),
    lambda: p2pser.compare_grid(5, out="o"), lambda: p2pser.compare_grid({}, out=None),
    lambda: p2pser.launch("ring", peers="3"), lambda: p2pser.launch(None), lambda: p2pser.launch("ring", data="x"),
    lambda: p2pser.load(None), lambda: p2pser.load("m", coverage="0.9"), lambda: p2pser.load("m", encoder=5),
    lambda: p2pser.load("m" * 5000), lambda: p2pser.pipeline(5), lambda: p2pser.timeline("m", "clip.wav"),
    lambda: p2pser.stream(None, 16000), lambda: p2pser.register_algorithm(5), lambda: p2pser.register_corpus(""),
    lambda: p2pser.register_graph(5), lambda: p2pser.register_schedule("x", fits=5),
    lambda: p2pser.register_family(lambda: None)])
def test_arguments_of_another_type_are_refused_in_a_sentence(call: Any) -> None:
    with pytest.raises(p2pser.Error, match=r"\w.{10,}: \w"):
        call()


@pytest.mark.parametrize("peers", [2, 4])
def test_data_of_another_number_of_peers_are_refused(peers: int) -> None:
    data = p2pser.federate(peers=3, features=FEATURES, labels=LABELS)
    for call in (p2pser.simulate, p2pser.launch):
        for ring in ({"topology": "ring", "peers": peers}, {"topology": p2pser.topology("ring", peers)}):
            with pytest.raises(p2pser.Error, match=rf"'ring' has {peers} peers, and data is that of 3: give"):
                call(**ring, data=data)  # type: ignore[operator]


def test_one_of_several_may_be_given_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pser.experiments.compare.compare", lambda plan, jobs: plan)
    monkeypatch.setattr("p2pser.experiments.crossval.crossval", lambda setup, jobs: setup)
    plan: Any = p2pser.compare("ring", algorithms="choco", peers=3, settings=SETTINGS, folds=2)
    assert (list(plan.topologies), plan.folds) == (["choco"], (2,))
    plan = p2pser.compare(p2pser.topology("ring", 3), settings=SETTINGS)
    assert list(plan.topologies) == ["dfedavg"]
    setup: Any = p2pser.crossval(models="svm", peers=2, folds=3)
    assert (list(setup.plans), setup.plans["svm"].folds) == (["svm"], (3,))


def test_labels_and_speakers_of_arrays_are_read_as_those_of_manifests() -> None:
    speakers = ["s5", "s5 ", "s6", " s6", "S5", "s7", "s7", "s7"]
    data = p2pser.federate(peers=2, features=FEATURES, labels=["ANGER", "anger", "joy", "Happy "] * 2,
                           speakers=speakers, settings={"corpus.labels": ["joy", "angry"]})
    assert data.labels == ("happiness", "anger")
    assert set(data.corpus.speakers) == {"s5", "s6", "S5", "s7"}
    assert any("'S5', 's5' count as 2; if they are one person, give one name" in note for note in data.notes)


def test_data_that_leave_the_scaling_open_are_scaled_as_the_model_to_start_from(tmp_path: Path) -> None:
    start = {"peer.start": str(furnish(tmp_path) / "model")}
    assert p2pser.federate(peers=2, **arrays()).normalise == "speaker"
    assert p2pser.federate(peers=2, settings=start, **arrays()).normalise == "global"
