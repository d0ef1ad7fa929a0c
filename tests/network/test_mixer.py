"""The network's Mixer: waiting for neighbours, going on without them, and settling what came late."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import networkx as nx
import pytest
import torch
from torch import Tensor, nn

from p2pser.base.errors import LocalProtocolError, P2PSERError, RefusedError
from p2pser.gossip.agreement.flood import flood_knowledge
from p2pser.gossip.mixer import Mixer, Outbox, Step
from p2pser.gossip.partial import Parts
from p2pser.graph.spec import Topology, parse
from p2pser.models.rows import Schema
from p2pser.network import events
from p2pser.network.exchange import DeliveryStatus
from p2pser.network.mixer import NetworkMixer
from p2pser.network.states import State
from p2pser.simulation.mixer import SimulatedMixer
from p2pser.wire.messages import Phase

if TYPE_CHECKING:
    from network.conftest import Network

SCHEMA = Schema.of(nn.Linear(3, 2))


def topology_of(graph: nx.Graph) -> Topology:
    return Topology("test", nx.convert_node_labels_to_integers(graph), {}, "metropolis", {})


class Peers:
    """Peers of a topology in this process, each with its IOThread and a thread of its own for its training."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.seen: dict[int, list[events.Event]] = {}
        self.pool = ThreadPoolExecutor(8)
        self.over = threading.Event()

    def make(self, topology: Topology, me: int, *, clips: int | None = None, round_timeout: float = 30.0,
             check: Callable[[], None] = lambda: None, slots: int = 1, rounds: int | None = None,
             **options: Any) -> NetworkMixer:
        hello = {"schema": SCHEMA.digest(), **options.pop("hello", {})}
        io = self.network.peer(me, topology.neighbours(me), hello=hello, **options)
        seen = self.seen.setdefault(me, [])

        def check_or_end() -> None:
            if self.over.is_set():
                raise TestIsOver
            check()

        return NetworkMixer(io, topology, me, SCHEMA, clips=clips, round_timeout=round_timeout,
                            observe=seen.append, check=check_or_end, slots=slots, rounds=rounds)

    def all(self, topology: Topology, **options: Any) -> list[NetworkMixer]:
        return [self.make(topology, i, **options) for i in range(topology.size)]

    def together(self, *work: Callable[[], Any]) -> list[Any]:
        """Do this in threads of their own, at the same time."""
        futures: list[Future[Any]] = [self.pool.submit(one) for one in work]
        return [future.result(timeout=90) for future in futures]

    def had(self, me: int, kind: type[events.Event]) -> list[Any]:
        return [event for event in self.seen[me] if isinstance(event, kind)]


class TestIsOver(Exception):
    """Ends threads that still wait when their test has failed: pytest could not end before them."""

    __test__ = False


@pytest.fixture
def peers(network: Network) -> Iterator[Peers]:
    peers = Peers(network)
    yield peers
    peers.over.set()
    for io in network.io:
        io.wake()
    peers.pool.shutdown(cancel_futures=True)


def connect(mixer: NetworkMixer, start_timeout: float | None = None, refused_wait: float = 0.0,
            said: list[str] | None = None) -> None:
    mixer.connect(start_timeout, refused_wait, (said if said is not None else []).append)


def row(seed: int, size: int = SCHEMA.size, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(1, size, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("clips", [None, (3, 50, 7, 7)])
def test_mixing_equals_the_simulators_bit_for_bit(peers: Peers, dtype: torch.dtype,
                                                  clips: tuple[int, ...] | None) -> None:
    topology = topology_of(nx.Graph([(0, 1), (1, 2), (2, 0), (2, 3)]))
    mixers = [peers.make(topology, i, clips=clips and clips[i], hello={"clips": clips[i] if clips else 1})
              for i in range(4)]
    peers.together(*(lambda m=m: connect(m) for m in mixers))

    def rounds(mixer: NetworkMixer) -> Tensor:
        x = row(mixer.me, dtype=dtype)
        for k in range(5):
            x = mixer.mix(x, Step(k, 0))
        return x

    mixed = peers.together(*(lambda m=m: rounds(m) for m in mixers))
    simulated = SimulatedMixer(topology, exact=True, counts=dict(enumerate(clips)) if clips else None)
    xs = torch.cat([row(i, dtype=dtype) for i in range(4)])
    for k in range(5):
        xs = simulated.mix(xs, Step(k, 0))
    assert torch.equal(torch.cat(mixed), xs)
    for mixer in mixers:
        edges, expected = mixer.edges(Step(0, 0)), simulated.edges(Step(0, 0))
        mine = expected.dst == mixer.me
        assert torch.equal(edges.weight, expected.weight[mine])
        assert torch.equal(edges.src, expected.src[mine])
        assert mixer.left_out == []
        assert mixer.payload_posted == 5 * len(mixer.neighbours) * SCHEMA.size * mixed[0].element_size()


@pytest.mark.parametrize("graph", [
    {"kind": "one-peer-exponential", "peers": 4}, {"kind": "directed-ring", "peers": 4},
    {"kind": "random-matching", "peers": 4}, {"kind": "epidemic", "peers": 4, "form": "local", "s": 1},
])
def test_on_a_schedule_each_exchange_mixes_with_its_own_matrix(peers: Peers, graph: dict[str, Any]) -> None:
    topology = parse({"graph": graph}, "test")
    mixers = peers.all(topology, slots=2, rounds=3)
    peers.together(*(lambda m=m: connect(m) for m in mixers))
    training(*mixers)
    simulated = SimulatedMixer(topology, exact=True, slots=2, rounds=3)

    def rounds(mixer: NetworkMixer) -> Tensor:
        x = row(mixer.me)
        for k in range(4):  # the last one is no training any more: the undirected graph, both ways
            for slot in range(2):
                x = mixer.mix(x, Step(k, slot))
        return x

    mixed = peers.together(*(lambda m=m: rounds(m) for m in mixers))
    xs = torch.cat([row(i) for i in range(4)])
    for k in range(4):
        for slot in range(2):
            xs = simulated.mix(xs, Step(k, slot))
            expected = simulated.edges(Step(k, slot))
            for mixer in mixers:
                mine, edges = expected.dst == mixer.me, mixer.edges(Step(k, slot))
                assert torch.equal(edges.src, expected.src[mine])
                assert torch.equal(edges.weight, expected.weight[mine])
                assert mixer.receivers(mixer.me, Step(k, slot)) == simulated.receivers(mixer.me, Step(k, slot))
    assert torch.equal(torch.cat(mixed), xs)
    assert [mixer.payload_posted for mixer in mixers] == simulated.bytes_sent.tolist()
    assert [mixer.left_out for mixer in mixers] == [[]] * 4


def test_nobody_runs_ahead_of_one_that_only_listens(
        peers: Peers, eventually: Callable[[Callable[[], bool], str], None]) -> None:
    """In a directed ring peer 4 sends to peer 5, which hangs, and hears from it through all the others only."""
    topology = parse({"graph": {"kind": "directed-ring", "peers": 6}}, "test")
    mixers = peers.all(topology)
    peers.together(*(lambda m=m: connect(m) for m in mixers))
    training(*mixers)
    done: dict[int, int] = dict.fromkeys(range(6), 0)
    furthest = {5: 2, 0: 2, 1: 3, 2: 4, 3: 4, 4: 3}  # without the window peers 3 and 4 get to 5 and 6
    pause, seen = threading.Event(), []

    def rounds(mixer: NetworkMixer) -> None:
        for k in range(8):
            if mixer.me == 5 and k == 2:
                eventually(lambda: done == furthest, f"the others do not get as far as they may: {done}")
                pause.wait(0.5)
                seen.append(dict(done))
            mixer.mix(row(mixer.me), Step(k, 0))
            done[mixer.me] = k + 1

    peers.together(*(lambda m=m: rounds(m) for m in mixers))
    assert seen == [furthest]
    assert set(done.values()) == {8}
    assert [mixer.left_out for mixer in mixers] == [[]] * 6


@pytest.mark.parametrize(("ahead", "after"), [(2, 1), (3, 2)])
def test_on_a_schedule_nobody_jumps_for_a_neighbour_that_may_be_ahead(
        peers: Peers, eventually: Callable[[Callable[[], bool], str], None], ahead: int, after: int) -> None:
    topology = parse({"graph": {"kind": "directed-ring", "peers": 2}}, "test")
    mixers = peers.all(topology, round_timeout=0.5)
    peers.together(*(lambda m=m: connect(m) for m in mixers))
    training(*mixers)
    for k in range(ahead):
        mixers[0].mix(row(0), Step(k, 0))
    eventually(lambda: mixers[1].io._neighbours[0].stream.delivered == ahead, "its rows do not come")
    mixers[1].mix(row(1), Step(0, 0))
    assert mixers[1].next_round(0) == after


def test_column_stochastic_exchanges_do_not_mix_rows(peers: Peers) -> None:
    topology = parse({"graph": {"kind": "random-digraph", "peers": 4, "seed": 1}}, "test")
    assert topology.stochastic == "column"
    mixer = peers.make(topology, 0)
    with pytest.raises(LocalProtocolError, match="do not sum to 1"):
        mixer.mix(row(0), Step(0, 0))


def test_messages_of_bytes_reach_who_they_are_for(peers: Peers) -> None:
    topology = topology_of(nx.path_graph(3))
    mixers = peers.all(topology)
    peers.together(*(lambda m=m: connect(m) for m in mixers))

    def send(mixer: NetworkMixer) -> list[Any]:
        mixer.post(Step(-3, 0), Outbox(edges={(mixer.me, j): b"%d to %d" % (mixer.me, j) for j in mixer.neighbours}))
        return list(mixer.collect_messages(Step(-3, 0), lambda edge, message: bytes(message.octets(6))).values)

    got = peers.together(*(lambda m=m: send(m) for m in mixers))
    assert got == [[b"1 to 0"], [b"0 to 1", b"2 to 1"], [b"1 to 2"]]


def test_a_flood_reaches_everybody(peers: Peers) -> None:
    topology = topology_of(nx.path_graph(4))
    mixers = peers.all(topology)
    peers.together(*(lambda m=m: connect(m) for m in mixers))

    def tell(mixer: Mixer) -> Any:
        me = mixer.peers[0]
        return flood_knowledge(mixer, -3, {me: b"%d" % me}, topology.graph)[me].reachable_values()

    got = peers.together(*(lambda m=m: tell(m) for m in mixers))
    assert got == [{i: b"%d" % i for i in range(4)}] * 4


def test_a_row_may_be_changed_as_soon_as_it_is_posted(peers: Peers) -> None:
    topology = topology_of(nx.path_graph(2))
    a, b = peers.all(topology)
    peers.together(lambda: connect(a), lambda: connect(b))
    mine = row(1)
    kept = mine.clone()
    a.post(Step(0, 0), Outbox(rows=mine))
    mine.zero_()
    b.post(Step(0, 0), Outbox(rows=row(2)))
    assert torch.equal(torch.as_tensor(b.collect(Step(0, 0)).values[0]), kept[0])
    assert torch.equal(torch.as_tensor(a.collect(Step(0, 0)).values[0]), row(2)[0])


# At the start -----------------------------------------------------------------------------------------------


def test_connect_says_for_whom_it_waits(peers: Peers) -> None:
    topology = topology_of(nx.star_graph(2))
    hub = peers.make(topology, 0)
    said: list[str] = []
    waiting = peers.pool.submit(connect, hub, None, 0.0, said)
    first = peers.make(topology, 1)
    connect(first)
    peers.network.find(peers.make(topology, 2).io, events.Up)
    waiting.result(timeout=90)
    assert said[0].startswith("waiting for peer")
    assert sorted(hub.hellos) == [1, 2]


def test_start_timeout_goes_on_with_those_who_came(peers: Peers) -> None:
    topology = topology_of(nx.star_graph(2))
    hub, leaf = peers.make(topology, 0), peers.make(topology, 1)
    connect(leaf)
    connect(hub, start_timeout=1.0)
    assert hub.lost == {2: "peer 2 did not come in time"}
    assert hub.unreachable() == {2}
    x, y = peers.together(lambda: hub.mix(row(0), Step(0, 0)), lambda: leaf.mix(row(1), Step(0, 0)))
    torch.testing.assert_close(x, row(0) + (row(1) - row(0)) / 3)
    torch.testing.assert_close(y, row(1) + (row(0) - row(1)) / 3)
    assert hub.left_out == [(Step(0, 0), 2, DeliveryStatus.LOST)]


def test_nobody_came_is_an_error_that_names_them(peers: Peers) -> None:
    hub = peers.make(topology_of(nx.star_graph(2)), 0)
    with pytest.raises(P2PSERError, match="start peers 1, 2"):
        connect(hub, start_timeout=0.2)


def test_whom_nobody_admits_is_refused(peers: Peers) -> None:
    topology = topology_of(nx.path_graph(2))
    a, b = peers.make(topology, 0), peers.make(topology, 1, hello={"labels": ("x", "y")})
    for mixer in (a, b):
        with pytest.raises(RefusedError, match="label lists differ"):
            connect(mixer, refused_wait=30.0)


def test_one_that_was_refused_may_come_back_corrected(peers: Peers) -> None:
    topology = topology_of(nx.star_graph(2))
    hub, good = peers.make(topology, 0), peers.make(topology, 1)
    said: list[str] = []
    waiting = peers.pool.submit(connect, hub, None, 30.0, said)
    connect(good)
    bad = peers.make(topology, 2, hello={"settings": {"training.lr": 7.0}})
    with pytest.raises(RefusedError, match=r"training\.lr differ"):
        connect(bad)
    bad.io.close("failed", flush=0.0)
    connect(peers.make(topology, 2, hello={"incarnation": 1}))
    waiting.result(timeout=90)
    assert hub.lost == {}
    assert hub.hellos[2].incarnation == 1
    assert [event.by_us for event in peers.had(0, events.Refused)].count(True) >= 1


def test_without_one_that_stays_wrong_the_others_go_on(peers: Peers) -> None:
    topology = topology_of(nx.star_graph(2))
    hub, good = peers.make(topology, 0), peers.make(topology, 1)
    peers.make(topology, 2, hello={"labels": ("x", "y")})
    peers.together(lambda: connect(hub, refused_wait=0.5), lambda: connect(good))
    assert "label lists differ" in hub.lost[2]


# During the run ---------------------------------------------------------------------------------------------


def training(*mixers: NetworkMixer) -> None:
    for mixer in mixers:
        mixer.enter(Phase.TRAIN, 0)


def test_one_that_leaves_is_left_out_from_then_on(peers: Peers) -> None:
    topology = topology_of(nx.path_graph(3))
    mixers = peers.all(topology)
    peers.together(*(lambda m=m: connect(m) for m in mixers))
    training(*mixers)
    peers.together(*(lambda m=m: m.mix(row(m.me), Step(0, 0)) for m in mixers))
    peers.pool.submit(mixers[2].io.close, "interrupted", 0.0)
    peers.together(*(lambda m=m: m.mix(row(m.me), Step(1, 0)) for m in mixers[:2]))
    assert mixers[1].lost == {2: "interrupted"}
    assert mixers[0].lost == {}
    assert mixers[1].left_out == [(Step(1, 0), 2, DeliveryStatus.LOST)]


def test_a_dead_one_holds_the_others_up_for_its_time_only(peers: Peers) -> None:
    topology = topology_of(nx.path_graph(3))
    mixers = peers.all(topology, dead_after=3.0, suspect_after=1.0)
    peers.together(*(lambda m=m: connect(m) for m in mixers))
    training(*mixers)
    for edge in ((1, 2), (2, 1)):
        peers.network.proxies[edge].stalled = True
    peers.together(*(lambda m=m: m.mix(row(m.me), Step(0, 0)) for m in mixers))
    for me, other in ((1, 2), (2, 1)):
        assert [one.peer for one in peers.had(me, events.Changed) if one.after is State.LOST] == [other]
    assert mixers[0].left_out == []  # nobody far away is concerned
    assert mixers[1].left_out == [(Step(0, 0), 2, DeliveryStatus.LOST)]


def test_one_that_gets_nowhere_is_given_up_and_settled_when_it_comes(
        peers: Peers, eventually: Callable[[Callable[[], bool], str], None]) -> None:
    """Peer 1's training thread hangs; its I/O thread answers all the time, so it is not dead."""
    topology = topology_of(nx.path_graph(2))
    a, b = peers.all(topology, round_timeout=2.5)
    peers.together(lambda: connect(a), lambda: connect(b))
    training(a, b)
    zero = row(0, dtype=torch.float64)
    one = row(1, dtype=torch.float64)
    left = a.mix(zero, Step(0, 0))
    assert torch.equal(left, zero)
    assert a.left_out == [(Step(0, 0), 1, DeliveryStatus.GIVEN_UP)]
    right = b.mix(one, Step(0, 0))
    assert not torch.equal(right, one)
    eventually(lambda: a.io._neighbours[1].stream.delivered == 1, "the late row does not come")
    left, right = peers.together(lambda: a.mix(left, Step(1, 0)), lambda: b.mix(right, Step(1, 0)))
    torch.testing.assert_close(left + right, zero + one, rtol=1e-14, atol=1e-14)
    assert a.exchange.messages_late == 1
    assert a.exchange.drift == b.exchange.drift == 0.0


WIDTHS = (0.5, 1.0, 1.0, 0.5)
HELD = {0.5: torch.arange(SCHEMA.size) % 2 == 0, 1.0: torch.ones(SCHEMA.size, dtype=torch.bool)}
SHARED = torch.arange(SCHEMA.size) != 0


def parts_of(compact: bool) -> Parts:
    return Parts(WIDTHS, HELD, SHARED, compact=compact)


def own_row(i: int, times: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.cat([row(10 * i + k, dtype=dtype)[:, HELD[WIDTHS[i]]] for k in range(times)], 1)


def test_peers_of_different_width_mix_as_in_the_simulator_and_send_only_what_both_have(peers: Peers) -> None:
    topology = topology_of(nx.Graph([(0, 1), (1, 2), (2, 0), (2, 3)]))
    mixers = peers.all(topology)
    peers.together(*(lambda m=m: connect(m) for m in mixers))
    simulated = SimulatedMixer(topology, exact=True, parts=parts_of(False))
    for times in (1, 2):  # two rows side by side, as gradient tracking sends them
        def rounds(mixer: NetworkMixer, times: int = times) -> Tensor:
            mixer.share(parts_of(True))
            x = own_row(mixer.me, times)
            for k in range(4):
                x = mixer.mix(x, Step(10 * times + k, 0))
            return x

        mixed = peers.together(*(lambda m=m: rounds(m) for m in mixers))
        held = [HELD[width].repeat(times) for width in WIDTHS]
        xs = torch.zeros(4, times * SCHEMA.size)
        for i in range(4):
            xs[i, held[i]] = own_row(i, times)[0]
        for k in range(4):
            xs = simulated.mix(xs, Step(10 * times + k, 0))
        assert all(torch.equal(mixed[i][0], xs[i, held[i]]) for i in range(4))
    assert [mixer.payload_posted for mixer in mixers] == simulated.bytes_sent.tolist()


def test_a_part_that_comes_late_is_settled(
        peers: Peers, eventually: Callable[[Callable[[], bool], str], None]) -> None:
    topology = topology_of(nx.path_graph(2))
    a, b = peers.all(topology, round_timeout=2.5)
    peers.together(lambda: connect(a), lambda: connect(b))
    training(a, b)
    for mixer in (a, b):
        mixer.share(parts_of(True))
    zero, one = own_row(0, dtype=torch.float64), own_row(1, dtype=torch.float64)
    left = a.mix(zero, Step(0, 0))
    assert a.left_out == [(Step(0, 0), 1, DeliveryStatus.GIVEN_UP)]
    right = b.mix(one, Step(0, 0))
    eventually(lambda: a.io._neighbours[1].stream.delivered == 1, "the late row does not come")
    left, right = peers.together(lambda: a.mix(left, Step(1, 0)), lambda: b.mix(right, Step(1, 0)))
    common = HELD[0.5]
    torch.testing.assert_close(left + right[:, common], zero + one[:, common], rtol=1e-14, atol=1e-14)
    assert torch.equal(right[:, ~common], one[:, ~common])
    assert not torch.equal(left, zero)
    assert torch.equal(left[:, 0], zero[:, 0])  # the first entry is not shared
    assert a.exchange.messages_late == 1
    assert a.exchange.drift == b.exchange.drift == 0.0


def test_who_waits_for_a_slow_one_is_not_given_up_itself(peers: Peers) -> None:
    """Peer 2 trains for long and says so; peer 1 waits for it, and peer 0 for peer 1."""
    topology = topology_of(nx.path_graph(3))
    mixers = peers.all(topology, round_timeout=3.0)
    peers.together(*(lambda m=m: connect(m) for m in mixers))
    training(*mixers)
    pause = threading.Event()

    def slowly() -> Tensor:
        for k in range(20):  # 4 s: far more than anybody's patience with one who gets nowhere
            pause.wait(0.2)
            mixers[2].local_step(2, k)
        return mixers[2].mix(row(2), Step(0, 0))

    peers.together(slowly, *(lambda m=m: m.mix(row(m.me), Step(0, 0)) for m in mixers[:2]))
    assert [mixer.left_out for mixer in mixers] == [[], [], []]


def test_who_was_left_behind_jumps_to_the_others_round(
        peers: Peers, eventually: Callable[[Callable[[], bool], str], None]) -> None:
    topology = topology_of(nx.complete_graph(3))
    mixers = peers.all(topology, round_timeout=2.0)
    peers.together(*(lambda m=m: connect(m) for m in mixers))
    training(*mixers)

    def ahead(mixer: NetworkMixer) -> Tensor:
        x = row(mixer.me)
        for k in range(6):
            x = mixer.mix(x, Step(k, 0))
        return x

    peers.together(*(lambda m=m: ahead(m) for m in mixers[:2]))
    slow = mixers[2]
    eventually(lambda: all(slow.io._neighbours[j].stream.delivered == 6 for j in (0, 1)), "their rows do not come")
    slow.mix(row(2), Step(0, 0))  # their rows of this step are there
    assert slow.next_round(0) == 5
    assert [status for _, _, status in slow.left_out] == []
    for mixer in mixers[:2]:
        assert {(peer, status) for _, peer, status in mixer.left_out} == {(2, DeliveryStatus.GIVEN_UP)}


def test_check_ends_the_waiting(peers: Peers) -> None:
    class Stopped(Exception):
        pass

    stop = threading.Event()

    def look() -> None:
        if stop.is_set():
            raise Stopped

    topology = topology_of(nx.path_graph(2))
    mixer = peers.make(topology, 0, check=look)
    waiting = peers.pool.submit(connect, mixer)
    stop.set()
    mixer.io.wake()
    with pytest.raises(Stopped):
        waiting.result(timeout=90)


GOOD = bytes(row(0).numpy().tobytes())


@pytest.mark.parametrize("wrong", [
    [(GOOD, "no-such", row(0).numel()), (GOOD[:-1], "f4", row(0).numel()), (bytes(4), "f4", 1)],
    [(bytes(17), "random-k", 2**32 - 1), (b"hello", "", 0), (b"\xff" * len(GOOD), "f4", row(0).numel())],
])
def test_a_row_that_is_not_what_is_due_is_struck_and_missing(peers: Peers, wrong: list[tuple[bytes, str, int]]) -> None:
    topology = topology_of(nx.path_graph(2))
    a, b = peers.all(topology)
    peers.together(lambda: connect(a), lambda: connect(b))
    training(a, b)
    a.io.send([1], (0, 0), bytes(4), codec="f4", size=1, schema=b"another!")
    for k, (payload, form, numbers) in enumerate(wrong, 1):
        a.io.send([1], (k, 0), payload, codec=form, size=numbers)
        b.post(Step(k, 0), Outbox(rows=row(1)))
        inbox = b.collect(Step(k, 0))
        assert (list(inbox.values), inbox.missing, inbox.refused) == ([], ((1, 0),), ((1, 0),))
    a.post(Step(9, 0), Outbox(rows=row(0)))
    b.post(Step(9, 0), Outbox(rows=row(1)))
    assert len(b.collect(Step(9, 0)).values) == 1
    while len(strikes := peers.had(1, events.Struck)) < 4:
        b.listen(None)
    assert [event.strikes for event in strikes] == [1, 2, 3, 4]
    assert [status for _, _, status in b.left_out] == [DeliveryStatus.REFUSED] * 3


def test_a_bug_in_the_io_thread_ends_the_waiting(peers: Peers) -> None:
    topology = topology_of(nx.path_graph(2))
    mixer = peers.make(topology, 0)

    def broken() -> None:
        raise ZeroDivisionError("a bug")

    mixer.io._command(broken)
    with pytest.raises(LocalProtocolError, match="ZeroDivisionError: a bug"):
        connect(mixer)
