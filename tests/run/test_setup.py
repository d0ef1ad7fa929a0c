"""What peers find out before they train: where all resume, and who weighs how much."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TypeVar

import msgpack
import networkx as nx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pser.config import GossipSettings
from p2pser.gossip.agreement.flood import most_slots
from p2pser.gossip.mixer import Edges, Inbox, Outbox, Step
from p2pser.gossip.reading import Read
from p2pser.graph.spec import Topology, load
from p2pser.graph.summary import diameter
from p2pser.run.setup import ROLL_CALL, Scales, counts_for, kept_checkpoints, lead, resume_round, roll_call
from p2pser.wire.codec import Received

T = TypeVar("T")
PAIR = load("chain", peers=2)


class Scripted:
    """A mixer whose only neighbour answers the flood with these values."""

    size = 2

    def __init__(self, value: bytes | None, again: bytes = b"") -> None:
        self.peers = (0,)
        self._value, self._again = value, again
        self.posted: list[bytes] = []

    def edges(self, at: Step) -> Edges:
        raise AssertionError("not needed")

    def post(self, at: Step, out: Outbox) -> None:
        self._at = at
        self.posted += [value for value in (out.edges or {}).values() if isinstance(value, bytes)]

    def mix(self, rows: torch.Tensor, at: Step, codec: object = None) -> torch.Tensor:
        raise AssertionError("not needed")

    def collect(self, at: Step) -> Inbox[torch.Tensor]:
        raise AssertionError("not needed")

    def collect_messages(self, at: Step, read: Read[T]) -> Inbox[T]:
        nobody = torch.zeros(0, dtype=torch.int64)
        if self._value is None:
            return Inbox(nobody, nobody, nobody.double(), [], ((0, 1),))
        second = at.slot >= most_slots(PAIR.graph)
        final = at.slot > second * most_slots(PAIR.graph)
        message = msgpack.packb([final, [[1, self._again if second else self._value]], []])
        return Inbox(torch.tensor([1]), torch.tensor([0]), torch.tensor([0.5]), [read((0, 1), Received(1, message))])


def answer(rounds: Sequence[int], **more: float) -> bytes:
    packed: bytes = msgpack.packb({"rounds": list(rounds), **more})
    return packed


@pytest.mark.parametrize(("ours", "theirs", "resume", "newcomers"), [
    ([], [0], 0, set()), ([5, 10], [0, 5, 10], 10, set()), ([5, 10], [0, 5], 5, set()), ([5, 10], [0], 10, {1}),
    ([], [0, 5], 5, {0}), ([10, 15], [0, 5], 15, {1}), ([5], [0, 10], 10, {0})])
def test_all_resume_at_the_newest_round_that_all_have(ours: list[int], theirs: list[int], resume: int,
                                                      newcomers: set[int]) -> None:
    call = roll_call(Scripted(answer(theirs, clips=7)), PAIR, 0, ours, 3, rounds=20)
    assert (call.resume, call.newcomers) == (resume, newcomers)
    assert (dict(call.clips), call.cut, dict(call.refused)) == ({0: 3, 1: 7}, frozenset(), {})


ROUNDS = st.sets(st.integers(1, 60), max_size=6)


@settings(max_examples=300, deadline=None)
@given(honest=st.integers(3, 9), kept=ROUNDS.filter(bool), lies=st.sets(st.integers(1, 10**6), max_size=40),
       empty=st.integers(0, 9))
def test_one_liar_and_the_empty_cost_the_others_no_more_than_the_reach(honest: int, kept: set[int], lies: set[int],
                                                                       empty: int) -> None:
    reach = 7
    held = [kept] * honest + [set[int]()] * empty
    assert resume_round(held, reach) == max(kept)
    resume = resume_round([*held, lies], reach)
    assert resume in kept
    assert max(kept) - reach <= resume
    assert resume_round([*held, lies]) in kept


@settings(max_examples=300, deadline=None)
@given(held=st.lists(ROUNDS, min_size=1, max_size=7), reach=st.none() | st.integers(0, 20))
def test_the_peers_resume_where_most_of_them_can(held: list[set[int]], reach: int | None) -> None:
    resume = resume_round(held, reach)
    having = [rounds for rounds in held if rounds]
    assert (resume == 0) == (not having)
    if not having:
        return
    assert any(resume in rounds for rounds in having)
    assert resume_round([*held, set()], reach) == resume  # an empty peer does not count
    common = set.intersection(*having)
    if common and reach is None:
        assert resume == max(common)
    several = [set(having[0])] * (len(having) + 1)
    assert resume_round([*held, *several], 0) == max(having[0])


def test_the_widths_of_all_become_known() -> None:
    theirs = answer([0], width=0.25)
    assert dict(roll_call(Scripted(theirs), PAIR, 0, [], None, 0.5, rounds=20).widths) == {0: 0.5, 1: 0.25}
    assert dict(roll_call(Scripted(answer([0])), PAIR, 0, [], None, rounds=20).widths) == {0: 1.0, 1: 1.0}
    assert dict(roll_call(Scripted(None), PAIR, 0, [], None, 0.5, rounds=20).widths) == {0: 0.5}


def test_clips_are_told_only_where_they_weigh() -> None:
    mixer = Scripted(answer([0, 5]))
    call = roll_call(mixer, PAIR, 0, [5], None, rounds=20)
    assert (call.resume, dict(call.clips), dict(call.refused)) == (5, {}, {})
    assert msgpack.unpackb(msgpack.unpackb(mixer.posted[0])[1][0][1]) == {"rounds": [0, 5]}
    counted = roll_call(Scripted(answer([0, 5], clips=7)), PAIR, 0, [5], None, rounds=20)
    assert list(counted.refused) == [1]
    assert list(roll_call(Scripted(answer([0, 5])), PAIR, 0, [5], 3, rounds=20).refused) == [1]


def test_one_that_never_came_does_not_count() -> None:
    call = roll_call(Scripted(None), PAIR, 0, [5, 10], 3, rounds=20)
    assert (call.resume, dict(call.clips), call.cut) == (10, {0: 3}, frozenset({(0, 1)}))


@pytest.mark.parametrize(("theirs", "how"), [
    ({"spread": 7}, "speaker"), ({"spread": 3}, "global"), ({"spread": -1}, "global"), ({}, "speaker"),
    ({"spread": 9}, "speaker"), ({"spread": 7.0}, "speaker"), ({"spread": -2}, "speaker"),
])
def test_the_peers_choose_how_features_are_scaled(theirs: dict[str, float], how: str) -> None:
    mixer = Scripted(answer([0], **theirs), {"speaker": b"s", "global": b"g"}[how])
    call = roll_call(mixer, PAIR, 0, [], None, rounds=20, scales=Scales(6, 5))
    assert call.normalise == how
    assert list(call.refused) == ([1] if theirs.get("spread", 0) not in (-1, 0, 3, 7) or "7.0" in str(theirs) else [])
    first, second = (msgpack.unpackb(posted)[1][0][1] for posted in (mixer.posted[0], mixer.posted[-1]))
    assert (msgpack.unpackb(first), second) == ({"rounds": [0], "spread": 6}, {"speaker": b"s", "global": b"g"}[how])


def test_what_most_peers_concluded_counts_and_global_where_as_many_say_otherwise() -> None:
    alone = roll_call(Scripted(None), PAIR, 0, [], None, rounds=20, scales=Scales(6, 5))
    split = roll_call(Scripted(answer([0], spread=7), b"g"), PAIR, 0, [], None, rounds=20, scales=Scales(6, 5))
    assert (alone.normalise, split.normalise) == ("speaker", "global")


def test_a_spread_is_refused_where_settings_say_how_features_are_scaled() -> None:
    call = roll_call(Scripted(answer([0], spread=7)), PAIR, 0, [], None, rounds=20)
    assert (list(call.refused), call.normalise) == ([1], "")


@pytest.mark.parametrize("value", [b"", b"\xc1", b"x", b"\xdd\xff\xff\xff\xff", *map(msgpack.packb, (
    *({"rounds": rounds, "clips": clips} for rounds, clips in [
        ([0], -1), ([5], 1), ([0, -1], 1), ([0, True], 1), ([0], "1"), ([0, 21], 1), ([0, 2**60], 1), ([0] * 22, 1),
        ([0], 2**60), ([0, [5]], 1), (0, 1), ([0], None)]),
    *({"rounds": [0], "clips": 1, "width": width} for width in (2, 1.5, 0.0, "1")),
    {"rounds": [0], "clips": 1, "labels": 0}, {"rounds": [0]}, {"clips": 1}, {"a": 1}, [[0], 1], 7))])
def test_an_answer_of_another_form_costs_its_sender_only(value: bytes) -> None:
    call = roll_call(Scripted(value), PAIR, 0, [5, 10], 3, rounds=20)
    assert list(call.refused) == [1]
    assert (call.resume, call.newcomers, dict(call.clips), dict(call.widths)) == (10, {1}, {0: 3, 1: 0}, {0: 1, 1: 1})
    assert ROLL_CALL < 0


def test_counts_are_needed_for_clip_weights_only() -> None:
    assert counts_for(GossipSettings(), PAIR, {0: 3, 1: 7}) is None
    assert counts_for(GossipSettings(weighting="clips"), PAIR, {0: 3, 1: 7}) == {0: 3, 1: 7}
    assert counts_for(GossipSettings(weighting="clips"), PAIR, {0: 3}) == {0: 3, 1: 1}


@settings(max_examples=60, deadline=None)
@given(peers=st.integers(2, 12), every=st.integers(1, 7), first=st.integers(0, 60), data=st.data())
def test_peers_killed_at_different_instants_have_a_checkpoint_in_common(peers: int, every: int, first: int,
                                                                        data: st.DataObject) -> None:
    """Neighbours are at most a round apart when they are killed; each kept its newest checkpoints."""
    topology: Topology = dataclasses.replace(load("ring", peers=max(peers, 3)))
    graph = topology.graph
    keep = kept_checkpoints(lead(topology), every)
    drawn = {i: first + data.draw(st.integers(0, 12)) for i in graph}
    distances = dict(nx.all_pairs_shortest_path_length(graph))
    rounds = {i: min(drawn[j] + distances[i][j] for j in graph) for i in graph}
    kept = {i: {0, *list(range(every, round + 1, every))[-keep:]} for i, round in rounds.items()}
    common = max(set.intersection(*kept.values()))
    assert common >= min(rounds.values()) // every * every


@pytest.mark.parametrize(("name", "peers", "most"), [
    ("ring", 9, 4), ("tree", 7, 4), ("directed-ring", 9, 4), ("one-peer-exponential", 8, 3), ("complete", 5, 1),
])
def test_the_lead_is_as_long_as_the_way_to_the_farthest(name: str, peers: int, most: int) -> None:
    topology = load(name, peers=peers)
    assert lead(topology) == most
    assert topology.schedule is not None or lead(topology) == diameter(topology.graph)
