"""The checkpoints of a peer in its run."""

from __future__ import annotations

import weakref
from pathlib import Path
from types import SimpleNamespace

import torch

from p2pser.config import Config
from p2pser.gossip.algorithm import State
from p2pser.graph.spec import load
from p2pser.peer.recorder import Checkpoints


def made(folder: Path) -> Checkpoints:
    there = SimpleNamespace(checkpoints=folder, ended_after=lambda: None)
    return Checkpoints(Config(), load("ring", peers=4), 0, there, "schema", asynchronous=False)  # type: ignore[arg-type]


def test_what_is_saved_in_the_middle_of_a_round_is_the_state_at_its_start(tmp_path: Path) -> None:
    one = made(tmp_path)
    x, momentum = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]])
    state = State({"x": x, "momentum": momentum}, {(0, 1): {"sent": torch.tensor([5.0])}})
    one.round_begins(7, state)
    one.hold()
    momentum.add_(1.0)
    state.rows["x"] = x + 1.0
    state.edges[0, 1]["sent"] = torch.tensor([6.0])
    one.save(torch.tensor([8.0], dtype=torch.float64))
    saved, sums, same = one.load(7)
    assert {name: rows.tolist() for name, rows in saved.rows.items()} == {"x": [[1.0, 2.0]], "momentum": [[3.0, 4.0]]}
    assert saved.edges[0, 1]["sent"].tolist() == [5.0]
    assert (sums.tolist(), same) == ([8.0], True)


def test_a_state_that_is_on_disk_is_held_no_longer(tmp_path: Path) -> None:
    one = made(tmp_path)
    state = State({"x": torch.tensor([[1.0, 2.0]])})
    held = weakref.ref(state)
    one.round_begins(3, state)
    one.save(torch.tensor([8.0], dtype=torch.float64))
    del state
    assert held() is None
    assert (one.round, one.available()) == (3, [3])
