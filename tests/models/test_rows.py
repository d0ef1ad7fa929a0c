"""A model as a flat row: nothing copied, and a digest that peers can compare."""

from __future__ import annotations

import weakref

import pytest
import torch
from torch import nn

from p2pser import models
from p2pser.base.errors import ModelError
from p2pser.config import ModelSettings
from p2pser.models.rows import Schema, outline


def small(hidden: tuple[int, ...] = (4,), seed: int = 0) -> nn.Module:
    return models.build(ModelSettings(hidden=hidden), (6,), 3, seed=seed)


def test_flatten_is_the_parameters_in_order() -> None:
    module = small()
    schema = Schema.of(module)
    row = schema.flatten(module)
    assert row.dtype == torch.float32
    assert schema.size == row.numel() == 6 * 4 + 4 + 4 * 3 + 3
    assert torch.equal(row, torch.cat([p.detach().reshape(-1) for p in module.parameters()]))


def test_an_outline_knows_last_bits_from_another_draw() -> None:
    row, other = (Schema.of(module).flatten(module) for module in (small((40,), seed=1), small((40,), seed=2)))
    nudged = torch.nextafter(row, torch.tensor(torch.inf))
    own, near, far = map(outline, (row, nudged, other))
    assert not torch.equal(row, nudged)
    assert len(own) == 17
    assert own[0] == pytest.approx(float(row.norm()), rel=1e-6)
    assert max(abs(a - b) for a, b in zip(own, near)) < 1e-5
    assert sum(abs(a - b) > 1e-3 for a, b in zip(own, far)) > 10
    assert outline(torch.zeros(3)) == (0.0,) * 17


def test_bind_copies_nothing() -> None:
    module = small()
    schema = Schema.of(module)
    row = schema.flatten(small(seed=5))
    gradient = schema.bind(module, row)
    at = row.data_ptr()
    for parameter, (_, shape) in zip(module.parameters(), schema.entries):
        assert parameter.data_ptr() == at
        assert parameter.shape == shape
        at += 4 * parameter.numel()
    before = module(torch.ones(1, 6))
    row.mul_(2.0)
    assert not torch.equal(module(torch.ones(1, 6)), before)
    with torch.no_grad():
        next(module.parameters()).fill_(7.0)
    assert (row[:24] == 7.0).all()
    assert gradient.shape == row.shape


def test_gradients_are_those_of_autograd_in_one_flat_buffer() -> None:
    module, plain = small(), small()
    schema = Schema.of(module)
    inputs = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    module.eval()
    plain.eval()
    plain(inputs).square().sum().backward()
    expected = torch.cat([p.grad.reshape(-1) for p in plain.parameters() if p.grad is not None])
    gradient = schema.bind(module, schema.flatten(module))
    for _ in range(2):  # the second backward finds the same buffer, zeroed by its user
        gradient.zero_()
        module(inputs).square().sum().backward()
        assert torch.equal(gradient, expected)
        assert next(module.parameters()).grad.data_ptr() == gradient.data_ptr()  # type: ignore[union-attr]


def test_a_module_at_rest_holds_no_gradient_and_trains_again() -> None:
    module = small()
    schema = Schema.of(module)
    start = schema.flatten(module)
    before = weakref.ref(schema.bind(module, start.clone()))
    schema.rest(module, start)
    assert before() is None
    assert all(parameter.grad is None for parameter in module.parameters())
    gradient = schema.bind(module, start.clone())
    module(torch.ones(1, 6)).sum().backward()
    assert gradient.any()


def test_several_rows_take_turns_in_one_module() -> None:
    module = small()
    schema = Schema.of(module)
    rows = torch.stack([schema.flatten(small(seed=s)) for s in range(3)])
    inputs = torch.ones(1, 6)
    module.eval()
    buffers = []
    for b in range(3):
        buffers.append(schema.bind(module, rows[b]).data_ptr())
        torch.testing.assert_close(module(inputs), small(seed=b).eval()(inputs))
    assert len(set(buffers)) == 1


def test_digest_is_stable() -> None:
    assert Schema.of(models.build(ModelSettings(), (684,), 7, seed=0)).digest() == "34851094f74723e7"


def test_digest_sees_names_shapes_and_order() -> None:
    entries = (("a", (2, 3)), ("b", (3,)))
    digests = {Schema(e).digest() for e in (
        entries, entries[::-1], (("a", (3, 2)), ("b", (3,))), (("c", (2, 3)), ("b", (3,))), (("a", (2, 3)),))}
    assert len(digests) == 5
    assert Schema(entries).digest() == Schema(entries).digest()


def test_rows_that_do_not_fit_are_refused() -> None:
    module = small()
    schema = Schema.of(module)
    with pytest.raises(ModelError, match=r"has 43 parameters, not shape \(42,\)"):
        schema.bind(module, torch.zeros(42))
    with pytest.raises(ModelError, match="float64"):
        schema.bind(module, torch.zeros(43, dtype=torch.float64))
    with pytest.raises(ModelError, match="strides"):
        schema.bind(module, torch.zeros(86)[::2])
    with pytest.raises(ModelError, match="same settings"):
        schema.flatten(small(hidden=(5,)))


def test_state_outside_the_parameters_is_refused() -> None:
    with pytest.raises(ModelError, match="running"):
        Schema.of(nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)))
    with pytest.raises(ModelError, match="float64"):
        Schema.of(nn.Linear(2, 2, dtype=torch.float64))
