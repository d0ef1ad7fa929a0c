"""CHOCO: one process a peer against one for all, resumed runs, detection and repair of gaps, refusals."""

from __future__ import annotations

import pytest
import torch
from lockstep import run

from p2pser.base.errors import ConfigError, RemoteProtocolError
from p2pser.config import Config
from p2pser.gossip.algorithm import State
from p2pser.gossip.both_ends import LOST, START, Head, Marks, decode
from p2pser.gossip.mixer import Outbox, Step
from p2pser.gossip.registry import create, validate
from p2pser.graph.spec import parse
from p2pser.run import checkpoint
from p2pser.simulation.mixer import Faults, SimulatedMixer
from p2pser.wire.codec import Received

RING = parse({"graph": {"kind": "ring", "peers": 5}}, "test")
SHAPES = ((6, 7), (6,), (4, 6))
WIDTH = 6 * 7 + 6 + 4 * 6
FORMS = [{"share": 0.1}, {"share": 0.1, "bits": 32}, {"compressor": "random-k", "share": 0.1}, {"compressor": "sign"},
         {"compressor": "qsgd"}, {"compressor": "8-bit"}, {"compressor": "low-rank"}, {"compressor": "dense"}]
each_form = pytest.mark.parametrize("parameters", FORMS, ids=lambda p: p.get("compressor", f"top-k {len(p)}"))


class Watched(SimulatedMixer):
    """A mixer that stores the messages of each exchange."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.sent = {}

    def post(self, at: Step, out: Outbox) -> None:
        self.sent[at.round] = dict(out.edges)
        super().post(at, out)


def algorithm(name, parameters=None, config=None, topology=RING):
    return create(name, parameters or {}, config or Config(), topology)


def start(size=5):
    return torch.randn(1, WIDTH, generator=torch.Generator().manual_seed(0)).repeat(size, 1)


def in_step(state):
    """Whether each stored copy of a neighbour is that neighbour's copy, bit for bit."""
    return all(torch.equal(kept["copy"], state.rows["copy"][j]) for (_, j), kept in state.edges.items())


@each_form
def test_each_alone_equals_the_exact_simulation_bit_for_bit(parameters, each_alone, waves):
    mixer = SimulatedMixer(RING, exact=True)
    together = run(algorithm("choco", parameters), State({"x": start()}), waves(mixer.peers, SHAPES), mixer, 6)

    def one(solo):
        state = State({"x": start(1)})
        return run(algorithm("choco", parameters), state, waves(solo.peers, SHAPES), solo, 6)

    alone = each_alone(RING, one)
    for key, rows in together.rows.items():
        assert all(torch.equal(alone[i].rows[key][0], rows[i]) for i in range(5)), key
    for (i, j), kept in together.edges.items():
        assert all(torch.equal(alone[i].edges[i, j][name], value) for name, value in kept.items())
    assert in_step(together)


@each_form
@pytest.mark.parametrize("faults", [None, Faults(loss=0.2, seed=2)], ids=["whole", "lossy"])
def test_resumed_from_a_checkpoint_equals_uninterrupted(parameters, faults, tmp_path, waves):
    work = waves(range(5), SHAPES)
    made = []
    before = []

    def keep(round, state):
        if round == 4:
            checkpoint.save(tmp_path, 4, state.rows, state.edges, {})
            before.append(State(dict(state.rows), {edge: dict(kept) for edge, kept in state.edges.items()}))

    mixer = SimulatedMixer(RING, faults=faults)
    whole = run(algorithm("choco", parameters), State({"x": start()}), work, mixer, 9, before_round=keep,
                after_round=lambda round, state: made.append(state.rows["x"].clone()))
    found = checkpoint.load(tmp_path, 4)
    # The checkpoint's tensors must not change while a background thread writes them.
    assert all(torch.equal(before[0].rows[key], rows) for key, rows in found.rows.items())
    assert all(torch.equal(before[0].edges[e][k], v) for e, kept in found.edges.items() for k, v in kept.items())
    mixer = SimulatedMixer(RING, faults=faults)
    mixer._exchange = 4
    resumed = run(algorithm("choco", parameters), State(found.rows, found.edges), work, mixer, 9, 4)
    assert all(torch.equal(resumed.rows[key], rows) for key, rows in whole.rows.items())
    assert resumed.edges.keys() == whole.edges.keys()


def test_the_draws_are_the_seeds_and_the_rounds(waves):
    def end(seed):
        config = Config().with_settings(["gossip.algorithm=choco", f"seed={seed}"])
        method = algorithm("choco", {"compressor": "random-k", "share": 0.1}, config)
        return run(method, State({"x": start()}), waves(range(5), SHAPES), SimulatedMixer(RING), 3).rows["x"]

    assert torch.equal(end(1), end(1))
    assert not torch.equal(end(1), end(2))


@pytest.mark.parametrize("compressor", ["random-k", "qsgd", "low-rank"])
def test_peers_with_equal_rows_draw_apart_from_each_other(compressor, waves):
    """Equal noise at all peers would not average out."""
    x = start(1).expand(5, WIDTH).clone()
    state, mixer = State({"x": x, "copy": torch.zeros_like(x)}), Watched(RING)
    run(algorithm("choco", {"compressor": compressor, "share": 0.1}), state, waves([0] * 5, SHAPES), mixer, 2)
    for round in range(2):
        by_sender = {src: message for (src, _), message in mixer.sent[round].items()}
        assert len(set(by_sender.values())) == 5


def test_a_lost_exchange_costs_one_whole_copy_and_then_the_edge_counts_again(waves):
    mixer = Watched(RING, faults=Faults(loss=1.0, until=1))
    state = run(algorithm("choco", {"share": 0.1}), State({"x": start()}), waves(range(5), SHAPES), mixer, 8)
    sizes = {round: {len(message) for message in sent.values()} for round, sent in mixer.sent.items()}
    small = sizes[0].pop()
    # First no peer knows of the loss, then all do: they send whole copies, and return to a head of one byte.
    assert sizes[1] == {small + 16}
    assert sizes[2] == {17 + 4 * WIDTH}
    assert sizes[3] == {small + 16}
    assert sizes[4] == sizes[7] == {small}
    assert in_step(state)


def test_one_message_lost_leaves_the_mean_and_repairs_one_edge(waves):
    class LosesOne(Watched):
        def _verdicts(self, at, web):
            verdict = torch.zeros(len(web.pairs), dtype=torch.int64).numpy()
            if at.round == 2:
                verdict[web.pairs.index((1, 0))] = -1
            return verdict

    x = torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    mixer = LosesOne(RING)
    means = []
    still = waves(range(5), SHAPES, amplitude=0.0)
    run(algorithm("choco", {"share": 0.2}), State({"x": x, "copy": torch.zeros_like(x)}), still, mixer, 9,
        after_round=lambda round, state: means.append(float((state.rows["x"].mean(0) - x.mean(0)).norm())))
    assert max(means[:2]) < 1e-14
    assert means[2] > 1e-6  # peer 0 applied a flow that peer 1 did not
    assert max(means[3:]) < 1e-14
    whole = [(round, edge) for round, sent in mixer.sent.items() for edge, m in sent.items() if len(m) > 8 * WIDTH]
    assert whole == [(4, (0, 1))]


def test_a_dead_neighbour_is_left_out_and_the_others_go_on(waves):
    mixer = Watched(RING, dead={2: Step(3, 0)})
    state = run(algorithm("choco", {"share": 0.1}), State({"x": start()}), waves(range(5), SHAPES), mixer, 8)
    assert all(2 not in edge for edge in mixer.sent[6])
    living = {edge: kept for edge, kept in state.edges.items() if 2 not in edge}
    assert all(torch.equal(kept["copy"], state.rows["copy"][j]) for (_, j), kept in living.items())


@pytest.mark.parametrize("spoil", [
    lambda m: b"", lambda m: b"\x04" + m[1:], lambda m: b"\x02\x00", lambda m: m[:-1], lambda m: b"\x01" + m[1:],
])
def test_a_message_of_another_form_is_a_strike_and_missing(spoil, waves, lying):
    mixer = lying(RING, 3, 2, spoil)
    state = run(algorithm("choco", {"share": 0.1}), State({"x": start()}), waves(range(5), SHAPES), mixer, 2)
    assert [edge for edge, _, _ in mixer.strikes] == [(2, 3)] * 2
    assert all("peer 3 sent" in reason for _, _, reason in mixer.strikes)
    assert torch.isfinite(state.rows["x"]).all()


def test_marks_settle_what_one_end_alone_applied():
    mine = Marks(have=4, pending=4, confirmed=3)
    assert not mine.settle(Marks(4, 4, 3))
    assert mine == Marks(4, 4, 4)
    mine.pending = 5
    assert not mine.settle(Marks(5, 6, 5))  # the other end has applied the flow meanwhile
    mine.pending = 7
    assert mine.settle(Marks(5, 6, 5))
    assert mine == Marks(4, 5, 5)
    assert not mine.settle(Marks(LOST, 0, 0))  # nothing is pending


def test_heads_take_a_byte_where_all_went_well():
    usual = Head(Marks(6, 6, 5), 6)
    assert usual.encode(7) == b"\0"
    assert decode(Received(1, b"\0rest"), 7, 9) == (usual, b"rest")
    assert Head(Marks(), START).encode(0) == b"\0"
    odd = Head(Marks(LOST, 3, 2), 6, whole=True)
    assert len(odd.encode(7)) == 17
    assert decode(Received(1, odd.encode(7) + b"x"), 7, 9) == (odd, b"x")


@pytest.mark.parametrize("marks", [Marks(7, 3, 2), Marks(3, 8, 2), Marks(LOST - 1, 3, 2)])
def test_marks_of_exchanges_that_have_not_been_are_refused(marks):
    with pytest.raises(RemoteProtocolError, match="peer 1 sent marks"):
        decode(Received(1, Head(marks, 6).encode(7)), 7, 9)
    with pytest.raises(RemoteProtocolError, match="27 bytes"):
        decode(Received(1, Head(Marks(LOST, 3, 2), 6).encode(7) + bytes(10)), 7, 9)


def config(**settings):
    chosen = {"gossip.algorithm": "choco", **settings}
    return Config().with_settings(f"{key}={value}" for key, value in chosen.items())


def test_what_has_no_meaning_is_refused():
    for parameters in ({"gamma": -0.1}, {"gamma": 1.5}, {"share": 0.0}, {"compressor": "zip"}, {"bits": 4},
                       {"rank": 0, "compressor": "low-rank"}, {"compressor": "qsgd", "levels": 200}):
        with pytest.raises(ConfigError):
            algorithm("choco", parameters)
    schedule = parse({"graph": {"kind": "one-peer-exponential", "peers": 8}}, "test")
    with pytest.raises(ConfigError, match="symmetric"):
        validate(algorithm("choco"), config(), schedule)
    with pytest.raises(ConfigError, match="uniform"):
        validate(algorithm("choco"), config(**{"gossip.weighting": "clips"}), RING)


def test_a_step_beyond_the_theorem_is_told_with_the_bound():
    (warning,) = validate(algorithm("choco", {"share": 0.1}), config(), RING)
    assert "gamma = 0.25 is beyond 0.00" in warning
    assert not list(validate(algorithm("choco", {"share": 0.1, "gamma": 1e-4}), config(), RING))
    assert not list(validate(algorithm("choco", {"compressor": "dense"}), config(), RING))
