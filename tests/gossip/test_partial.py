"""Partial exchange: the parameters of a setting, the entries that peers exchange, parts of wrong length."""

from __future__ import annotations

import networkx as nx
import pytest
import torch

from p2pser.base.errors import ConfigError, LocalProtocolError, RemoteProtocolError, TopologyError
from p2pser.base.registries import ALGORITHMS
from p2pser.config import Config
from p2pser.gossip.agreement.consensus import living_slem
from p2pser.gossip.partial import Parts, cut_off, parts_of, shared_entries, shared_names
from p2pser.gossip.registry import create
from p2pser.gossip.requirements import exchanging_parts
from p2pser.graph.mixing import metropolis
from p2pser.graph.spec import Topology, load, parse
from p2pser.graph.spectral import slem
from p2pser.models.rows import Schema

SCHEMA = Schema((("hidden.0.weight", (3, 2)), ("hidden.0.bias", (3,)), ("hidden.1.weight", (2, 3)),
                 ("head.weight", (2, 2)), ("head.bias", (2,))))
HELD = {0.5: torch.arange(SCHEMA.size) < 9, 1.0: torch.ones(SCHEMA.size, dtype=torch.bool)}


def algorithm(name, parameters=None, config=None, topology=None):
    return create(name, parameters or {}, config or Config(), topology or load("ring", 5))


@pytest.mark.parametrize(("share", "names"), [
    (("all",), ("hidden.0.weight", "hidden.0.bias", "hidden.1.weight", "head.weight", "head.bias")),
    (("body",), ("hidden.0.weight", "hidden.0.bias", "hidden.1.weight")),
    (("upper",), ("hidden.1.weight", "head.weight", "head.bias")),
    (("head.*", "hidden.0.bias"), ("hidden.0.bias", "head.weight", "head.bias")),
])
def test_a_setting_names_parameters(share, names):
    assert shared_names(SCHEMA, share) == names
    sizes = {name: value.numel() for name, value in SCHEMA.views(torch.zeros(SCHEMA.size))}
    assert int(shared_entries(SCHEMA, share).sum()) == sum(sizes[name] for name in names)


def test_without_a_layer_called_head_the_last_one_is_it():
    plain = Schema((("0.weight", (2, 2)), ("0.bias", (2,)), ("2.weight", (2, 2)), ("2.bias", (2,))))
    assert shared_names(plain, ("body",)) == ("0.weight", "0.bias")


@pytest.mark.parametrize(("share", "sentence"), [
    (("tail.*",), r"'tail\.\*' matches no parameter of this model; they are hidden\.0\.weight"),
    (("body", "upper"), "cannot be combined"),
])
def test_what_names_nothing_is_refused(share, sentence):
    with pytest.raises(ConfigError, match=sentence):
        shared_names(SCHEMA, share)


def test_where_all_is_everybodys_there_are_no_parts():
    assert parts_of([1.0] * 3, HELD, SCHEMA, ("all",), compact=False) is None
    assert parts_of([0.5] * 3, HELD, SCHEMA, ("all",), compact=True) is None
    # The simulator's rows are whole; of narrow peers' rows a part is sent.
    assert parts_of([0.5] * 3, HELD, SCHEMA, ("all",), compact=False) is not None
    assert parts_of([1.0] * 3, HELD, SCHEMA, ("body",), compact=True) is not None


def test_groups_are_the_holders_of_each_sort_of_entries():
    parts = Parts((1.0, 0.5, 1.0), HELD, HELD[1.0], compact=True)
    assert parts.groups() == (frozenset({0, 1, 2}), frozenset({0, 2}))
    assert parts.everywhere(0).tolist() == parts.everywhere(1).tolist() == list(range(9))


def test_a_part_of_another_length_is_the_other_peers_error_and_of_ours_our_own():
    parts = Parts((1.0, 0.5), HELD, HELD[1.0], compact=True)
    with pytest.raises(RemoteProtocolError, match="peer 1 sent 8 numbers where peer 0 shares 9 with it") as caught:
        parts.fit(0, 1, torch.zeros(SCHEMA.size), torch.zeros(8))
    assert caught.value.peer == 1
    with pytest.raises(LocalProtocolError, match="no multiple of 9"):
        parts.cut(1, 0, torch.zeros(10))


def test_differences_are_relative_to_each_sort_of_entries():
    parts = Parts((1.0, 0.5), HELD, HELD[1.0], compact=True)
    own = torch.ones(SCHEMA.size, dtype=torch.float64)
    own[9:] = 1e-3
    other = own.clone()
    other[9:] *= 2
    assert parts.measure(0)(own, other) == pytest.approx(1.0)
    assert parts.measure(0)(own, own) == 0.0
    assert parts.measure(1)(own[:9], other[:9]) == 0.0


def test_a_peer_whose_equals_are_cut_off_is_told_so():
    ring = nx.cycle_graph(5)
    groups = (frozenset(range(5)), frozenset({0, 1, 2}))
    assert cut_off(groups, ring, 0) == []
    ring.remove_edge(0, 1)
    assert cut_off(groups, ring, 4) == []
    (warning,) = cut_off(groups, ring, 0)
    assert "peer 0 reaches peers 1, 2 only through narrower peers" in warning


def test_the_slem_is_that_of_the_slowest_group():
    graph = nx.complete_graph(6)
    graph.remove_edges_from([(0, 2), (1, 3), (0, 3)])  # of the wide peers 0 to 3 a chain is left
    where = Topology("test", graph, {}, "metropolis", {})
    W = metropolis(graph)
    wide = W[:4, :4].copy()
    wide[range(4), range(4)] += 1 - wide.sum(1)
    assert slem(wide) > slem(W) + 0.1
    assert living_slem(where, None, (), 0, [frozenset(range(4))]) == pytest.approx(slem(wide))
    assert living_slem(where, None, (), 0, [frozenset(range(6))]) == pytest.approx(slem(W))


def test_algorithms_that_do_more_than_mix_are_refused():
    only = {name for name, kind in ALGORITHMS.items() if kind.parts}
    assert only == {"dfedavg", "d-psgd", "quasi-global-momentum", "d2", "gradient-tracking", "k-gt", "overlap",
                    "multi-step", "noloco", "gasloc"}
    ring = load("ring", 4)
    for name in ALGORITHMS:
        for widths, share in (((1.0, 1.0, 0.5, 0.5), ("all",)), ((1.0,) * 4, ("body",))):
            if name in only:
                exchanging_parts(algorithm(name), ring, widths, share)
            else:
                with pytest.raises(ConfigError, match=f"gossip.algorithm={name} .*dfedavg"):
                    exchanging_parts(algorithm(name), ring, widths, share)
        exchanging_parts(algorithm(name), ring, (0.5,) * 4, ("all",))


def test_holders_must_be_connected_and_what_is_not_known_is_not_held_against_anybody():
    ring, method = load("ring", 5), algorithm("dfedavg")
    with pytest.raises(TopologyError, match=r"peer 3 of the topology 'ring' can reach the others of model.width 1 or"):
        exchanging_parts(method, ring, (1.0, 1.0, 0.5, 1.0, 0.5), ("all",))
    exchanging_parts(method, ring, (1.0, 1.0, 1.0, 1.0, 0.5), ("all",), missing=[2])
    exchanging_parts(method, ring, (1.0, 1.0, 0.5, 1.0, 1.0), ("all",))


def test_schedules_may_change_as_long_as_they_are_symmetric():
    method, widths = algorithm("dfedavg"), (1.0, 1.0, 0.5, 0.5)
    matching = parse({"graph": {"kind": "random-matching", "peers": 4, "seed": 1}}, "t")
    exchanging_parts(method, matching, widths, ("all",))
    for kind in ("directed-ring", "one-peer-exponential"):
        with pytest.raises(ConfigError, match="symmetric"):
            exchanging_parts(method, parse({"graph": {"kind": kind, "peers": 4}}, "t"), widths, ("all",))
