"""A run that goes on with more rounds, after its end or after a stop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from crew import PATIENCE, ROUNDS, Crew, stop_after

from p2pser.base.errors import ConfigError, P2PSERError
from p2pser.models import directory
from p2pser.models.directory import load as load_model
from p2pser.models.rows import Schema
from p2pser.peer.folder import PeerFolder
from p2pser.peer.process import Peer
from p2pser.peer.telemetry import read
from p2pser.peer.view import look
from p2pser.run import checkpoint

MORE = ROUNDS + 3
TREES = ("model.name=xgb", "gossip.algorithm=trees")


def settings(name: str, rounds: int, *more: str) -> tuple[str, ...]:
    return name, f"training.rounds={rounds}", "training.schedule=constant", *more


@pytest.mark.parametrize("more", [("gossip.algorithm=dfedavg",), ("gossip.algorithm=choco",),
                                  ("gossip.algorithm=overlap",), ("gossip.algorithm=secure-average",), TREES],
                         ids=lambda more: more[-1].partition("=")[2])
def test_more_rounds_end_with_the_bits_of_a_run_that_had_them_from_the_start(crew: Crew, more: tuple[str, ...]) -> None:
    crew.run(crew.configured(*settings("whole", MORE, *more)))
    for rounds in (ROUNDS, MORE):
        endings = crew.run(crew.configured(*settings("run", rounds, *more)))
        assert [(one.finished, one.summary["rounds"], one.summary["peers_dead"]) for one in endings] == \
            [(True, rounds, [])] * 3
    for i in range(3):
        assert torch.equal(crew.row(crew.config, i), crew.row(crew.configured("whole"), i))
        assert crew.rounds(crew.config, i) == list(range(MORE))
        resumed = [one["round"] for one in read(crew.path(crew.config, i) / "events.jsonl") if one["kind"] == "resumed"]
        assert resumed == [ROUNDS]


def test_a_run_without_lock_step_goes_on(crew: Crew) -> None:
    for rounds in (ROUNDS, MORE):
        endings = crew.run(crew.configured(*settings("run", rounds, "gossip.algorithm=ad-psgd")))
        assert all(one.finished and one.summary["consensus"] for one in endings)
    assert crew.rounds(crew.config, 1) == list(range(MORE))


def rounds_of(model: Path) -> int:
    _, card = load_model(model)
    return int(card.training["rounds"])


class Killed(BaseException):
    """In place of SIGKILL: no code of the peer handles it."""


def test_the_model_of_fewer_rounds_is_kept_until_there_is_a_new_one_and_then_beside_it(
        crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of the longer run is cut at each of its writes, and does not need the neighbours again."""
    crew.run(crew.config)
    longer = crew.configured("run", f"training.rounds={MORE}")
    folder, finish = crew.path(longer, 1), PeerFolder.finish
    before = crew.row(longer, 1)

    def stopped(peer: Peer, record: dict[str, Any]) -> None:
        stop_after(ROUNDS + 1)(peer, record)
        if peer.me == 1 and "round" in record:
            assert (rounds_of(folder / "model"), look(folder).peers[0].state) == (ROUNDS, "running")

    assert not any(one.finished for one in crew.run(longer, stopped))
    assert look(folder).peers[0].state == "interrupted"
    assert rounds_of(folder / "model") == ROUNDS

    def kill(*_: object, **__: object) -> None:
        raise Killed

    monkeypatch.setattr(directory, "write", kill)  # the old model is moved, the new one is not written
    ends = [crew.pool.submit(crew.peer(longer, i).run) for i in range(3)]
    assert [type(end.exception(timeout=PATIENCE)) for end in ends] == [Killed] * 3
    assert not (folder / "model").exists()
    assert rounds_of(folder / f"model-{ROUNDS}") == ROUNDS
    monkeypatch.undo()
    monkeypatch.setattr(PeerFolder, "finish", kill)
    with pytest.raises(Killed):
        crew.peer(longer, 1).run()
    assert rounds_of(folder / "model") == MORE
    monkeypatch.setattr(PeerFolder, "finish", finish)
    for i in range(3):
        assert crew.peer(longer, i).run().summary["rounds"] == MORE
    assert (rounds_of(folder / "model"), rounds_of(folder / f"model-{ROUNDS}")) == (MORE, ROUNDS)
    module, _ = load_model(folder / f"model-{ROUNDS}")
    assert torch.equal(Schema.of(module).flatten(module), before)
    crew.run(longer, fresh=True)
    assert not (folder / f"model-{ROUNDS}").exists()


def test_fewer_rounds_than_were_done_are_refused_and_fewer_than_were_planned_are_not(crew: Crew) -> None:
    planned = crew.configured("run", f"training.rounds={MORE}", "training.schedule=constant")
    assert not any(one.finished for one in crew.run(planned, stop_after(4)))
    done = max(checkpoint.available(crew.path(planned, 1) / "checkpoint"))
    fewer = crew.configured("run", f"training.rounds={done - 1}", "training.schedule=constant")
    with pytest.raises(ConfigError, match=f"has done {done} rounds, and this call names {done - 1}") as caught:
        crew.peer(fewer, 1).run()
    assert caught.value.exit_code == 2
    assert all(one.finished for one in crew.run(crew.configured("run", "training.schedule=constant")))
    with pytest.raises(ConfigError, match=f"has done {ROUNDS} rounds"):
        crew.peer(fewer, 1).run()


def test_one_that_names_another_number_of_rounds_is_refused_by_name(crew: Crew) -> None:
    crew.run(crew.config)
    longer = crew.configured("run", f"training.rounds={MORE}")
    stayed = crew.peer(crew.configured("run", "network.serve_after=50"), 0)
    reasons: list[str] = []

    def refused(peer: Peer, record: dict[str, Any]) -> None:
        if record.get("kind") == "refused":
            reasons.append(record["reason"])
            peer.interrupt()
            stayed.interrupt()

    serving = crew.pool.submit(stayed.run)
    assert not crew.peer(longer, 1, refused).run().finished
    assert serving.result(timeout=PATIENCE).finished
    values = (f"{MORE} at peer 1", f"{ROUNDS} at peer 0")
    said = [f"settings training.rounds differ: {one}, {other}; give all peers" for one, other in (values, values[::-1])]
    assert any(reasons[0].startswith(one) for one in said)


def test_a_neighbour_that_has_ended_and_is_not_there_is_waited_for(crew: Crew) -> None:
    crew.run(crew.config)
    longer = crew.configured("run", f"training.rounds={MORE}", "network.start_timeout=0.3")
    with pytest.raises(P2PSERError, match="start peers 0, 2"):
        crew.peer(longer, 1).run()
    waits = [one["sentence"] for one in read(crew.path(longer, 1) / "events.jsonl") if one["kind"] == "waiting"]
    assert waits[-1].startswith("waiting for peers 0, 2 (")
    assert waits[-1].endswith(f"; the run had ended after {ROUNDS} rounds: start them with --rounds {MORE} too")


def test_a_budget_counts_what_was_spent_before_by_the_noise_of_then(crew: Crew) -> None:
    crew.normalise = "none"
    private = ("gossip.algorithm=secure-average", "privacy.unit=site", "features.normalise=none")
    config = crew.configured(*settings("run", 3, *private, "privacy.epsilon=4"))
    first = [one.summary["privacy"] for one in crew.run(config)]
    assert [report["rounds"] for report in first] == [3] * 3
    noise = f"privacy.noise={first[0]['noise']!r}"
    with pytest.raises(ConfigError, match=f"had the noise .* set {noise} at all") as caught:
        crew.peer(crew.configured(*settings("run", 5, *private, "privacy.epsilon=4")), 1).run()
    assert caught.value.exit_code == 2
    for rounds, epsilon in ((5, 4), (8, 8)):
        endings = crew.run(crew.configured(*settings("run", rounds, *private, noise, f"privacy.epsilon={epsilon}")))
        reports = [one.summary["privacy"] for one in endings]
        assert all(report["epsilon_neighbour"] <= epsilon for report in reports)
        assert [report["rounds"] > 3 for report in reports] == [epsilon == 8] * 3
