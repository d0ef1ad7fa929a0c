"""The simulated mixer: the verbs, its faults, and what it counts."""

from __future__ import annotations

import networkx as nx
import pytest
import torch

from p2pser.base.errors import LocalProtocolError
from p2pser.gossip.mixer import Outbox, Step, mix_by_flows
from p2pser.graph.spec import Topology
from p2pser.simulation.mixer import Faults, SimulatedMixer


def topology(graph: nx.Graph) -> Topology:
    return Topology("test", graph, {}, "metropolis", {})


def rows(size: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(size, 30, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)


def test_messages_come_ascending_by_dst_and_src_with_their_weights():
    mixer = SimulatedMixer(topology(nx.cycle_graph(4)))
    mixer.post(Step(0, 0), Outbox(rows=rows(4)))
    inbox = mixer.collect(Step(0, 0))
    assert list(zip(inbox.dst.tolist(), inbox.src.tolist())) == sorted(
        (i, j) for i in range(4) for j in ((i - 1) % 4, (i + 1) % 4)
    )
    assert torch.allclose(inbox.weight, torch.full((8,), 1 / 3, dtype=torch.float64))
    assert all(torch.equal(value, rows(4)[j]) for j, value in zip(inbox.src.tolist(), inbox.values))


@pytest.mark.parametrize("size", [12, 80])
@pytest.mark.parametrize("dead", [{}, {4: Step(0, 0), 5: Step(0, 0)}])
def test_the_fast_form_equals_the_flows(size, dead):
    top = topology(nx.random_regular_graph(4, size, seed=1))
    fast = SimulatedMixer(top, dead=dead).mix(rows(size), Step(0, 0))
    exact = SimulatedMixer(top, dead=dead, exact=True).mix(rows(size), Step(0, 0))
    assert torch.allclose(fast, exact, rtol=1e-12, atol=1e-13)
    for peer in dead:
        assert torch.equal(exact[peer], rows(size)[peer])


def test_bytes_and_messages_are_payload_times_degree():
    top = topology(nx.star_graph(3))
    for exact in (False, True):
        mixer = SimulatedMixer(top, exact=exact)
        mixer.mix(rows(4, torch.float32), Step(0, 0))
        assert mixer.bytes_sent.tolist() == [360, 120, 120, 120]
        assert mixer.messages_sent.tolist() == [3, 1, 1, 1]


def test_what_is_posted_does_not_change_with_the_senders_row():
    mixer, x = SimulatedMixer(topology(nx.path_graph(2))), rows(2)
    mixer.post(Step(0, 0), Outbox(rows=x))
    x.zero_()
    assert mixer.collect(Step(0, 0)).values[0].abs().sum() > 0


def test_who_posts_nothing_is_missing():
    mixer = SimulatedMixer(topology(nx.path_graph(3)), dead={2: Step(5, 0)})
    mixer.post(Step(0, 0), Outbox(edges={(0, 1): b"a", (1, 0): b"b", (1, 2): b"c"}))
    inbox = mixer.collect_messages(Step(0, 0), lambda edge, message: message.octets(1))
    assert (inbox.missing, inbox.values) == (((1, 2),), [b"b", b"a", b"c"])
    mixer.post(Step(5, 0), Outbox(rows=rows(3)))
    assert mixer.collect(Step(5, 0)).missing == ((1, 2), (2, 1))


@pytest.mark.parametrize("out", [Outbox(), Outbox(rows=torch.zeros(2, 1), edges={(0, 1): b""})])
def test_wrong_use_is_refused(out):
    mixer = SimulatedMixer(topology(nx.path_graph(2)))
    with pytest.raises(LocalProtocolError):
        mixer.post(Step(0, 0), out)
    with pytest.raises(LocalProtocolError):
        mixer.collect(Step(0, 1))


def test_faults_are_a_function_of_seed_and_step():
    top = topology(nx.cycle_graph(10))

    def after(seed: int) -> tuple[torch.Tensor, int]:
        mixer, x = (
            SimulatedMixer(top, faults=Faults(loss=0.1, delay=0.1, duplication=0.1, seed=seed)),
            rows(10),
        )
        for round in range(10):
            x = mixer.mix(x, Step(round, 0))
        return x, int(mixer.messages_sent.sum())

    assert torch.equal(after(0)[0], after(0)[0])
    assert not torch.equal(after(0)[0], after(1)[0])
    assert after(0)[1] > 200  # copies are sent, and dropped by who has the message


def test_a_late_row_is_settled_with_the_rows_of_its_exchange():
    top = topology(nx.path_graph(2))
    mixer = SimulatedMixer(top, faults=Faults(delay=1.0, longest=1, until=1))
    x = rows(2)
    assert torch.equal(mix_by_flows(mixer, x, Step(0, 0)), x)
    zeros = torch.zeros_like(x)
    settled = mix_by_flows(mixer, zeros, Step(1, 0))
    assert torch.allclose(settled, torch.stack([0.5 * (x[1] - x[0]), 0.5 * (x[0] - x[1])]))
    assert mixer.late == 2
