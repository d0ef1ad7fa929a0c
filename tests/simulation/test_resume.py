"""A simulation that is interrupted goes on from its checkpoint, and ends with the same bits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from p2pser.base.errors import ConfigError
from p2pser.simulation import resume
from p2pser.simulation.engine import simulate
from p2pser.simulation.resume import Keep, alone
from p2pser.simulation.scenario import Scenario


class Interrupted(BaseException):
    """As Ctrl-C: no P2PSERError."""


def interrupted_after(round: int):
    def observe(done) -> None:
        if done.round == round:
            raise Interrupted
    return observe


@pytest.fixture(autouse=True)
def every_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "EVERY", 0.0)
    monkeypatch.setattr(resume, "SHARE", 1e9)


@pytest.mark.parametrize(("algorithm", "scenario"), [
    ("dfedavg", Scenario()), ("choco", Scenario(dead={1: 2, 3: 5})), ("k-gt", Scenario(dead={2: 3}, back={2: 6})),
    ("overlap", Scenario())])
@pytest.mark.parametrize("exact", [False, True])
def test_the_same_bits(made_up, tmp_path: Path, algorithm: str, scenario: Scenario, exact: bool) -> None:
    momentum = {"training.momentum": 0} if algorithm == "k-gt" else {}
    config, topology, federation = made_up(**{"gossip.algorithm": algorithm, "training.rounds": 8,
                                              "training.at_once": 3, **momentum})
    straight = simulate(config, topology, federation, scenario, exact=exact)
    said: list[str] = []
    for stop in (4, 6):
        with pytest.raises(Interrupted):
            simulate(config, topology, federation, scenario, exact=exact, observe=interrupted_after(stop),
                     keep=Keep(tmp_path / "checkpoint", said.append))
    keep = Keep(tmp_path / "checkpoint", said.append)
    resumed = simulate(config, topology, federation, scenario, exact=exact, keep=keep)
    assert said == [f"an earlier start was interrupted: this one goes on after round {done} of 8" for done in (3, 5)]
    assert torch.equal(resumed.rows, straight.rows)
    assert torch.equal(resumed.row, straight.row)
    assert resumed.history == straight.history
    assert resumed.notes == straight.notes
    for name in ("bytes_training", "messages_training", "bytes_final"):
        assert np.array_equal(getattr(resumed, name), getattr(straight, name)), name
    keep.done()
    assert not list(tmp_path.iterdir())


def test_after_the_last_round(made_up, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, topology, federation = made_up(**{"training.rounds": 3})
    first = simulate(config, topology, federation, keep=Keep(tmp_path))
    seen: list[int] = []
    again = simulate(config, topology, federation, observe=lambda done: seen.append(done.round), keep=Keep(tmp_path))
    assert seen == []
    assert torch.equal(again.row, first.row)
    assert again.history == first.history


def test_other_settings_or_data_start_anew(made_up, tmp_path: Path) -> None:
    config, topology, federation = made_up(**{"training.rounds": 3})
    simulate(config, topology, federation, keep=Keep(tmp_path))
    said: list[str] = []
    simulate(config.with_settings(["training.lr=0.04"]), topology, federation, keep=Keep(tmp_path, said.append))
    train = {**federation.train, 0: replace(federation.train[0], features=federation.train[0].features + 1)}
    simulate(config.with_settings(["training.lr=0.04"]), topology, replace(federation, train=train),
             keep=Keep(tmp_path, said.append))
    assert [sentence.partition(": ")[2] for sentence in said] == ["this one starts anew"] * 2
    simulate(config.with_settings(["training.lr=0.04", 'peer.out="elsewhere"']), topology,
             replace(federation, train=train), keep=Keep(tmp_path, said.append))
    assert said[2].startswith("an earlier start was interrupted")


def test_what_cannot_be_kept_is_not(made_up, tmp_path: Path) -> None:
    config, topology, federation = made_up(**{"training.rounds": 2, "gossip.algorithm": "ad-psgd"})
    simulate(config, topology, federation, keep=Keep(tmp_path))
    assert not list(tmp_path.iterdir())


def test_a_folder_is_for_one_process_at_a_time(tmp_path: Path) -> None:
    with alone(tmp_path / "run" / "simulation"):
        with pytest.raises(ConfigError, match=r"another process simulates a run in .*simulation: wait for it"), \
                alone(tmp_path / "run" / "simulation"):
            raise AssertionError("both have the folder")
        with alone(tmp_path / "other" / "simulation"):
            pass
    with alone(tmp_path / "run" / "simulation"):
        pass
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot make the folder"), alone(tmp_path / "file" / "simulation"):
        raise AssertionError("there is no such folder")
