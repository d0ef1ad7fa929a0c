"""The agreement on the round at which a new topology file takes effect, on a simulated clock of rounds."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import replace

import msgpack
import networkx as nx
import pytest

from p2pser.base.errors import RemoteProtocolError
from p2pser.network.epochs import Epochs

OLD, NEW, OTHER = (bytes([n]) * 16 for n in range(3))
ROUNDS = 200


class Crowd:
    """Peers in lock-step on a graph: a peer sends its row after what it has to say, and neighbours read in order."""

    def __init__(self, graph: nx.Graph, seed: int = 0) -> None:
        self.graph, self.draw = graph, random.Random(seed)
        self.nodes = {i: Epochs(i, 5, graph, ROUNDS, 1) for i in graph}
        self.links: dict[tuple[int, int], deque[bytes | int]] = {
            way: deque() for i, j in graph.edges for way in ((i, j), (j, i))}
        self.round = dict.fromkeys(graph, 0)
        self.rows: dict[int, set[tuple[int, int]]] = {i: set() for i in graph}
        self.changed: dict[int, int] = {}
        self.dead: set[int] = set()
        for i in graph:
            self._row(i)

    def read(self, *peers: int, epoch: int = 1, digest: bytes = NEW, leaving: tuple[int, ...] = ()) -> None:
        for i in peers:
            self.nodes[i].read(epoch, digest, leaving, self.round[i])
            self._tell(i)

    def kill(self, peer: int) -> None:
        self.dead.add(peer)
        for j in self.graph[peer]:
            self.nodes[j].lose([peer])
            self._tell(j)

    def run(self, steps: int) -> None:
        """Let one peer at a time get on, at random."""
        for _ in range(steps):
            i = self.draw.choice([i for i in self.graph if i not in self.dead])
            if i not in self.changed:
                self._turn(i)

    def _turn(self, i: int) -> None:
        for j in self.graph[i]:
            queue = self.links[j, i]
            for _ in range(self.draw.randint(0, len(queue))):
                item = queue.popleft()
                if isinstance(item, int):
                    self.rows[i].add((j, item))
                elif self.nodes[i].receive(j, memoryview(item), self.dead):
                    self.nodes[i].settle()
                    self._tell(i)
        if all((j, self.round[i]) in self.rows[i] or j in self.dead for j in self.graph[i]):
            self.round[i] += 1
            if self.nodes[i].settle():
                self._tell(i)
            if self.nodes[i].due(self.round[i]):
                self.changed[i] = self.round[i]
            else:
                self._row(i)

    def _row(self, i: int) -> None:
        for j in self.graph[i]:
            self.links[i, j].append(self.round[i])

    def _tell(self, i: int) -> None:
        for j in self.graph[i]:
            self.links[i, j].append(self.nodes[i].encode())


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("graph", [nx.path_graph(7), nx.cycle_graph(6), nx.star_graph(4)],
                         ids=["chain", "ring", "star"])
def test_all_peers_change_at_the_start_of_the_same_round(graph: nx.Graph, seed: int) -> None:
    crowd = Crowd(graph, seed)
    order = list(graph)
    random.Random(seed).shuffle(order)
    for i in order:
        crowd.run(30)
        crowd.read(i)
    crowd.run(3000)
    assert crowd.changed.keys() == set(graph)
    assert len(set(crowd.changed.values())) == 1, crowd.changed


def test_nobody_changes_while_a_living_peer_lacks_the_file_and_it_is_named() -> None:
    crowd = Crowd(nx.cycle_graph(5), 3)
    crowd.read(0, 1, 3, 4)
    crowd.run(1000)
    assert crowd.changed == {}
    assert [crowd.nodes[i].lacking() for i in range(5)] == [(2,), (2,), (), (2,), (2,)]
    assert min(crowd.round.values()) > 10
    crowd.read(2)
    crowd.run(2000)
    assert len(set(crowd.changed.values())) == 1
    assert len(crowd.changed) == 5


def test_a_dead_peer_is_not_waited_for() -> None:
    crowd = Crowd(nx.cycle_graph(5), 4)
    crowd.read(0, 1, 3, 4)
    crowd.kill(2)
    crowd.run(2000)
    assert crowd.changed.keys() == {0, 1, 3, 4}
    assert len(set(crowd.changed.values())) == 1


def test_a_peer_that_the_file_retires_need_not_read_it_and_learns_that_it_leaves() -> None:
    crowd = Crowd(nx.cycle_graph(5), 5)
    crowd.read(0, 1, 3, 4, leaving=(2,))
    crowd.run(2000)
    assert crowd.changed.keys() == {0, 1, 3, 4}
    notice = crowd.nodes[2].retired((1, 3))
    assert notice is not None
    assert notice.change == crowd.changed[0]
    assert crowd.nodes[1].retired((0, 2)) is None


def test_a_peer_leaves_only_where_all_living_neighbours_say_so() -> None:
    crowd = Crowd(nx.cycle_graph(5), 6)
    liar = Epochs(1, 5, crowd.graph, ROUNDS, 1)
    liar.read(1, NEW, (2,), 0)
    crowd.nodes[2].receive(1, memoryview(liar.encode()))
    assert crowd.nodes[2].retired((1, 3)) is None
    assert crowd.nodes[2].retired((1,)) is None, "the round of the change is not known"
    liar.notices[1] = replace(liar.notices[1], order=(5, 9), change=3)
    crowd.nodes[2].receive(1, memoryview(liar.encode()))
    assert crowd.nodes[2].retired((1, 3)) is None
    assert crowd.nodes[2].retired((1,)) is not None


def test_a_living_neighbour_speaks_for_itself_so_that_no_liar_retires_a_peer_alone() -> None:
    victim, liar = Epochs(2, 5, nx.cycle_graph(5), ROUNDS, 1), Epochs(1, 5, nx.cycle_graph(5), ROUNDS, 1)
    liar.read(1, NEW, (2,), 0)
    forged = replace(liar.notices[1], order=(2**40, 0), change=3)
    liar.notices.update({1: forged, 3: forged})
    message = memoryview(liar.encode())
    assert victim.receive(1, message)
    assert victim.retired((1, 3)) is None
    assert 3 not in victim.notices
    assert victim.receive(1, message, gone=(3,)), "of a lost neighbour others tell"
    assert victim.notices[3] == forged
    assert victim.retired((1, 3)) is None, "it is back"
    honest = Epochs(3, 5, nx.cycle_graph(5), ROUNDS, 1)
    honest.read(1, NEW, (), 4)
    assert victim.receive(3, memoryview(honest.encode()))
    assert victim.notices[3] == honest.own


def test_two_files_of_one_epoch_do_not_take_effect_and_both_are_known() -> None:
    crowd = Crowd(nx.cycle_graph(4), 7)
    crowd.read(0, 1, 2)
    crowd.read(3, digest=OTHER)
    crowd.run(1000)
    assert crowd.changed == {}
    assert crowd.nodes[0].differing() == {3: OTHER}
    assert crowd.nodes[3].differing() == {0: NEW, 1: NEW, 2: NEW}
    crowd.read(0, 1, 2, 3, epoch=2)
    crowd.run(2000)
    assert len(set(crowd.changed.values())) == 1
    assert len(crowd.changed) == 4


def test_a_word_about_oneself_from_another_peer_changes_nothing() -> None:
    graph = nx.path_graph(3)
    one, other = Epochs(0, 5, graph, ROUNDS, 1), Epochs(0, 9, graph, ROUNDS, 1)
    other.read(1, NEW, (), 4)
    assert not one.receive(1, memoryview(other.encode()))
    assert one.own is None


@pytest.mark.parametrize("change", [
    {0: 7}, {0: True}, {1: -1}, {3: "1"}, {4: b"short"}, {5: ROUNDS + 1}, {5: -1}, {6: -2}, {6: 10**9}, {7: [1]},
    {7: ["a"]}, {8: [9]}, {7: None}])
def test_a_word_of_another_form_is_refused(change: dict[int, object]) -> None:
    node = Epochs(0, 5, nx.path_graph(3), ROUNDS, 1)
    fields: list[object] = [1, 0, 1, 1, NEW, 3, -1, [], []]
    node.receive(1, memoryview(msgpack.packb([fields])))
    assert node.notices[1].read == 3
    for place, value in change.items():
        fields[place] = value
    with pytest.raises(RemoteProtocolError):
        node.receive(1, memoryview(msgpack.packb([fields])))


@pytest.mark.parametrize("payload", [b"\xc1", b"", msgpack.packb(5), msgpack.packb([[1]]), msgpack.packb([[]] * 4),
                                     bytes(5000)])
def test_a_message_of_another_form_is_refused(payload: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        Epochs(0, 5, nx.path_graph(3), ROUNDS, 1).receive(1, memoryview(payload))
