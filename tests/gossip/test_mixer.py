"""What all mixers share: edges, inboxes, flows, and the order of late rows."""

from __future__ import annotations

import math

import pytest
import torch

from p2pser.gossip.mixer import (
    BLOCK,
    Late,
    Step,
    add_flow_,
    add_flows,
    add_late,
    edges_into,
    in_order,
    inbox_of,
    mix_by_flows,
)
from p2pser.graph.spec import parse
from p2pser.simulation.mixer import SimulatedMixer

WEIGHTS = {(0, 1): 0.25, (0, 2): 0.5, (2, 0): 0.125}


def test_edges_are_those_of_the_weights():
    edges = edges_into(WEIGHTS)
    assert edges.dst.tolist() == [0, 0, 2]
    assert edges.src.tolist() == [1, 2, 0]
    assert edges.weight.tolist() == [0.25, 0.5, 0.125]
    assert edges.weight.dtype == torch.float64
    assert edges_into({}).src.dtype == torch.int64


def test_an_edge_without_a_value_is_missing_and_its_weight_stays_at_home():
    values = {(0, 1): torch.tensor([8.0]), (2, 0): torch.tensor([3.0])}
    inbox = inbox_of(edges_into(WEIGHTS), values)
    assert inbox.missing == ((0, 2),)
    assert list(zip(inbox.dst.tolist(), inbox.src.tolist(), inbox.weight.tolist())) == [(0, 1, 0.25), (2, 0, 0.125)]
    mixed = add_flows(torch.tensor([[4.0], [5.0], [7.0]]), inbox, (0, 1, 2))
    assert mixed.tolist() == [[4 + 0.25 * (8 - 4)], [5.0], [7 + 0.125 * (3 - 7)]]


def test_late_rows_are_settled_by_step_and_edge_whatever_the_order_of_their_arrival():
    def late(round: int, edge: tuple[int, int], value: float) -> Late:
        return Late(edge, Step(round, 0), 0.5, torch.tensor([1.0]), torch.tensor([value]))

    arrivals = [late(4, (0, 1), 1e8), late(2, (0, 3), 2.0), late(2, (0, 1), -1e8), late(3, (1, 0), 5.0)]
    flows = in_order(arrivals)
    assert [(flow.step.round, flow.edge) for flow in flows] == [(2, (0, 1)), (2, (0, 3)), (3, (1, 0)), (4, (0, 1))]
    assert in_order(reversed(arrivals)) == flows
    assert add_late(torch.tensor([[0.0], [10.0]], dtype=torch.float64), flows, (0, 1))[1].item() == 12.0


@pytest.mark.parametrize("body", [b"1234", torch.zeros(1), torch.zeros(3).double(), torch.tensor([1.0, 2.0, math.nan]),
                                  torch.tensor([1.0, 2.0, -math.inf]), torch.tensor([1.0, 1e9, 2.0])])
def test_what_is_no_plausible_row_is_a_strike_and_its_weight_stays_with_the_receiver(body, lying):
    ring = parse({"graph": {"kind": "ring", "peers": 4}}, "test")
    mixer, rows = lying(ring, 1, 0, body), torch.arange(12.0).view(4, 3)
    mixed = mix_by_flows(mixer, rows, Step(0, 0))
    assert [(edge, at) for edge, at, _ in mixer.strikes] == [((0, 1), (0, 0))]
    assert mixed[0].tolist() == pytest.approx([3.0, 4.0, 5.0])  # 2/3 of its own row, 1/3 of peer 3's
    assert torch.allclose(mixed[1:], mix_by_flows(SimulatedMixer(ring), rows, Step(0, 0))[1:])


@pytest.mark.parametrize("size", [BLOCK - 1, 2 * BLOCK + 5])
def test_a_flow_in_blocks_has_the_bits_of_one_sum(size: int) -> None:
    draw = torch.Generator().manual_seed(3)
    row, own, value = (torch.randn(size, generator=draw) for _ in range(3))
    expected = row + 0.3 * (value.double() - own.double())
    whole = row.clone().add_(value - own, alpha=0.3)
    add_flow_(row, own, value, 0.3)
    assert torch.equal(row, whole)
    torch.testing.assert_close(row.double(), expected, rtol=1e-5, atol=1e-6)
