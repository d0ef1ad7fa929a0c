"""Topology files in which some peers have left for good."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from p2pser.base.errors import TopologyError
from p2pser.graph.spec import parse
from p2pser.graph.summary import summarise


def made(**document: Any) -> Any:
    return parse(document, "a file")


def test_the_others_form_the_graph_and_keep_their_ids() -> None:
    one = made(graph={"kind": "ring", "peers": 5}, retired=[2], peers={4: {"address": "tcp://192.0.2.4:5700"}})
    assert sorted(one.graph.edges) == [(0, 1), (0, 4), (1, 3), (3, 4)]
    assert (one.size, one.members, one.retired) == (5, (0, 1, 3, 4), (2,))
    assert one.neighbours(2) == ()
    assert one.peers[4].address == "tcp://192.0.2.4:5700"
    W = np.full((5, 5), 0.0)
    for i, j in one.graph.edges:
        W[i, j] = W[j, i] = 1 / 3
    np.testing.assert_allclose(one.matrix(), W + np.diag([1 / 3, 1 / 3, 1, 1 / 3, 1 / 3]))


def test_facts_are_those_of_the_members() -> None:
    facts = summarise(made(graph={"kind": "ring", "peers": 5}, retired=[2]))
    plain = summarise(made(graph={"kind": "ring", "peers": 4}))
    assert facts == plain


def test_edges_and_weights_keep_their_ids() -> None:
    one = made(graph={"edges": [[0, 3], [3, 1]]}, retired=[2], weights={"edges": [[0, 3, 0.25], [3, 1, 0.5]]})
    assert one.matrix().tolist() == [
        [0.75, 0, 0, 0.25], [0, 0.5, 0, 0.5], [0, 0, 1, 0], [0.25, 0.5, 0, 0.25]]


def test_a_retired_peer_is_part_of_the_digest() -> None:
    digests = {made(graph={"kind": "ring", "peers": 5}, retired=retired).digest() for retired in ([], [2], [3], [2, 3])}
    assert len(digests) == 4


@pytest.mark.parametrize(("document", "sentence"), [
    ({"graph": {"kind": "ring", "peers": 4}, "retired": [4]}, "retired names peer 4, but ids go from 0 to 3"),
    ({"graph": {"kind": "ring", "peers": 4}, "retired": [1, -1]}, "retired names peer -1, but ids go from 0 to 3"),
    ({"graph": {"edges": [[0, 1]]}, "retired": [2_000_000]}, "retired names peer 2000000, but ids go from 0 to 199999"),
    ({"graph": {"kind": "ring", "peers": 4}, "retired": [1], "peers": {7: {}}}, "peers names peer 7"),
    ({"graph": {"kind": "ring", "peers": 2}, "retired": [0, 1]}, "all peers are retired"),
    ({"graph": {"edges": [[0, 1], [1, 2]]}, "retired": [1]}, "peer 1 is retired, so no link or hub may name it"),
    ({"graph": {"kind": "star", "peers": 4}, "hub": 0, "retired": [0]}, "peer 0 is retired, so no link or hub"),
    ({"graph": {"kind": "directed-ring", "peers": 4}, "retired": [1]}, "static undirected graphs"),
    ({"graph": {"kind": "ring", "peers": 4}, "retired": 1}, "retired = 1 must be a list of ids"),
])
def test_what_cannot_be_retired(document: dict[str, Any], sentence: str) -> None:
    with pytest.raises(TopologyError, match=sentence):
        made(**document)
