"""Local work is a function of (seed, peer, round), whoever hosts it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from p2pser import models
from p2pser.base.errors import CorpusError, P2PSERError
from p2pser.config import ModelSettings, TrainingSettings
from p2pser.models.rows import Schema
from p2pser.training.hosted import LocalWork
from p2pser.training.learner import Learner, batches
from p2pser.training.losses import cross_entropy


def clips(n: int = 30, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Three classes, told apart by their means."""
    draws = np.random.default_rng(seed)
    labels = draws.integers(0, 3, n)
    features = draws.standard_normal((n, 10)) + 2.0 * np.eye(10)[labels]
    return torch.tensor(features, dtype=torch.float32), torch.tensor(labels)


def learner(peer: int = 0, seed: int = 0, n: int = 30, **training: object) -> Learner:
    module = models.build(ModelSettings(hidden=(8,)), (10,), 3, seed=0)
    return Learner(module, Schema.of(module), TrainingSettings.model_validate(training), *clips(n, peer),
                   seed=seed, peer=peer)


def start(of: Learner) -> torch.Tensor:
    return of.schema.flatten(models.build(ModelSettings(hidden=(8,)), (10,), 3, seed=0))


@given(st.integers(1, 60), st.integers(1, 20), st.integers(1, 9), st.integers(0, 30))
def test_batches_draw_every_clip_equally_often(n: int, size: int, steps: int, rounds: int) -> None:
    drawn = [batches(n, size, steps, seed=0, peer=1, round=r) for r in range(rounds)]
    assert all(part.shape == (steps, min(n, size)) for part in drawn)
    if drawn:
        counts = np.bincount(np.concatenate(drawn, axis=None), minlength=n)
        assert len(counts) == n
        assert counts.max() - counts.min() <= 1


def test_batches_are_keyed() -> None:
    def drawn(seed: int = 0, peer: int = 0, round: int = 0) -> list[int]:
        return batches(100, 16, 3, seed=seed, peer=peer, round=round).ravel().tolist()
    assert drawn() == drawn()
    assert len({tuple(d) for d in (drawn(), drawn(seed=1), drawn(peer=1), drawn(round=1))}) == 4
    assert not set(drawn()) & set(drawn(round=1))  # the same epoch: without replacement


def test_fewer_clips_than_a_batch_uses_all_of_them() -> None:
    for row in batches(5, 16, 4, seed=0, peer=0, round=3):
        assert sorted(row) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_deterministic_whatever_happened_before(optimizer: str) -> None:
    one, two = learner(optimizer=optimizer), learner(optimizer=optimizer)
    row1, row2, memory1, memory2 = start(one), start(two), one.memory(), two.memory()
    for r in range(3):
        torch.manual_seed(r)
        state = torch.random.get_rng_state()
        loss1 = one.train_(row1, memory1, r)
        assert torch.equal(torch.random.get_rng_state(), state)  # a caller's draws are not disturbed
        torch.manual_seed(1000 + r)
        torch.rand(17)
        assert two.train_(row2, memory2, r) == loss1
    assert torch.equal(row1, row2)
    assert not torch.equal(row1, start(one))


def test_resumed_rounds_are_bit_equal() -> None:
    straight, resumed = learner(), learner()
    row, memory = start(straight), straight.memory()
    for r in range(4):
        if r == 2:
            later, kept = row.clone(), {name: value.clone() for name, value in memory.items()}
        straight.train_(row, memory, r)
    for r in (2, 3):
        resumed.train_(later, kept, r)
    assert torch.equal(row, later)


def test_bits_do_not_depend_on_where_the_row_lies() -> None:
    """Matrix products round differently at another alignment; rows of the simulator's matrix have any."""
    results = []
    for shift in range(5):
        one = learner()
        row = torch.zeros(one.schema.size + shift)[shift:].copy_(start(one))
        assert row.data_ptr() % 64 == 4 * shift
        one.train_(row, one.memory(), 0)
        results.append(row)
    assert all(torch.equal(results[0], row) for row in results[1:])


def test_seed_peer_and_round_matter() -> None:
    rows = []
    for seed, peer, round in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)):
        one = learner(seed=seed, schedule="constant")
        one.peer = peer
        row = start(one)
        one.train_(row, one.memory(), round)
        rows.append(row)
    assert all(not torch.equal(a, b) for i, a in enumerate(rows) for b in rows[:i])


def test_learns_and_reports() -> None:
    one = learner(rounds=20)
    row, memory, said = start(one), one.memory(), []
    first = one.train_(row, memory, 0, said.append)
    assert said == [1, 2, 3, 4, 5]
    losses = [one.train_(row, memory, r) for r in range(1, 20)]
    assert losses[-1] < 0.7 * first
    one.module.eval()
    assert (one.module(one.features).argmax(1) == one.targets.classes).float().mean() > 0.9


def test_clipping_keeps_wild_features_from_running_away() -> None:
    one = learner(rounds=20)
    one.features *= 1000.0
    row, memory = start(one), one.memory()
    for r in range(20):
        one.train_(row, memory, r)
    assert row.norm() < 20.0
    loose = learner(rounds=20, clip_norm=0)
    loose.features *= 1000.0
    row, memory = start(loose), loose.memory()
    def train() -> None:
        for r in range(20):
            loose.train_(row, memory, r)
    with pytest.raises(P2PSERError, match=r"lower training\.lr"):
        train()


def test_wild_learning_rate_is_a_sentence() -> None:
    one = learner(peer=4, lr=1000, weight_decay=1000, clip_norm=0)
    says = r"peer 4 is (nan|inf) in round 7 .*rate 926\.32; lower training.lr"
    with pytest.raises(P2PSERError, match=says):
        one.train_(start(one), one.memory(), 7)


def test_no_clips_is_a_sentence() -> None:
    with pytest.raises(CorpusError, match="peer 0 has 0 clips"):
        learner(n=0)


def test_local_work_is_each_learner_by_itself() -> None:
    """Hosting several rows, sharing one module, changes no bit, and leaves the input as it was."""
    module = models.build(ModelSettings(hidden=(8,)), (10,), 3, seed=0)
    schema = Schema.of(module)
    hosted = [Learner(module, schema, TrainingSettings(optimizer="adamw"), *clips(30, p), seed=0, peer=p)
              for p in (2, 5)]
    said: list[tuple[int, int]] = []
    work = LocalWork(hosted, lambda peer, k: said.append((peer, k)))
    x = torch.stack([schema.flatten(module)] * 2)
    state = SimpleNamespace(rows={"x": x})
    work.prepare(state)
    assert {name: tuple(rows.shape) for name, rows in state.rows.items() if name != "x"} == {
        "optimizer.mean": (2, schema.size), "optimizer.square": (2, schema.size), "optimizer.steps": (2, 1)}
    for r in range(2):
        before = state.rows["x"].clone()
        trained = work.train(state, r)
        assert torch.equal(state.rows["x"], before)
        state.rows["x"] = trained
    for b, peer in enumerate((2, 5)):
        alone = learner(peer=peer, optimizer="adamw")
        row, memory = start(alone), alone.memory()
        losses = [alone.train_(row, memory, r) for r in range(2)]
        assert torch.equal(row, state.rows["x"][b])
        assert torch.equal(memory["mean"], state.rows["optimizer.mean"][b])
        assert work.losses[b] == losses[-1]
    assert said[:6] == [(2, 1), (2, 2), (2, 3), (2, 4), (2, 5), (5, 1)]
    assert state.rows["optimizer.steps"].tolist() == [[10.0], [10.0]]


def test_cross_entropy_with_smoothing() -> None:
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
    labels = torch.tensor([0, 2])
    target = torch.full((2, 3), 0.1 / 3)
    target[0, 0] += 0.9
    target[1, 2] += 0.9
    expected = -(target * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(cross_entropy(logits, labels, 0.1), expected)
    torch.testing.assert_close(cross_entropy(logits, labels), -logits.log_softmax(1)[[0, 1], [0, 2]].mean())


def test_the_proximal_term_pulls_towards_the_start_of_the_round() -> None:
    """The first step is the same; the second differs by -lr mu (row after the first step - start)."""
    def after(steps: int, mu: float) -> torch.Tensor:
        work = learner(local_steps=steps, proximal=mu, momentum=0.0, lr=0.1, schedule="constant", batch_size=30)
        row = start(work)
        work.train_(row, work.memory(), 0)
        return row

    begin, first = start(learner()), after(1, 0.5)
    assert not torch.equal(first, begin)
    torch.testing.assert_close(first, after(1, 0.0))
    torch.testing.assert_close(after(2, 0.5) - after(2, 0.0), -0.1 * 0.5 * (first - begin), atol=1e-6, rtol=1e-3)
