"""A whole run in one process: the same algorithms and local work as the network's, over the simulated mixer.

"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from p2pser.config import Config
from p2pser.errors import ConfigError, P2PSERError
from p2pser.gossip.algorithm import State
from p2pser.gossip.asynchronous import Asynchronous
from p2pser.gossip.attacks import Attack, Hostile
from p2pser.gossip.consensus import Consensus, consensus, living_slem, no_consensus
from p2pser.gossip.flood import agree_on_cuts
from p2pser.gossip.mixer import Step
from p2pser.gossip.overlap import Overlap
from p2pser.gossip.run import run
from p2pser.gossip.sharing import parts_of
from p2pser.gossip.statistics import statistics as gossip_statistics
from p2pser.gossip.table import algorithm, check
from p2pser.learning.answers import Answers, Ccc, ccc_of_several
from p2pser.learning.census import Census, census_sums, columns, read_census
from p2pser.learning.learner import LocalWork
from p2pser.learning.metrics import Predictions
from p2pser.learning.personal import fine_tuned
from p2pser.models.nested import Nested
from p2pser.models.rows import Schema
from p2pser.models.xgb import sized
from p2pser.simulation.bench import Bench
from p2pser.simulation.clock import Clock, synchronous
from p2pser.simulation.events import Events, total
from p2pser.simulation.mixer import Faults, SimulatedMixer
from p2pser.speech.federation import Federation
from p2pser.speech.normalise import Statistics, from_sums
from p2pser.topology.spec import Topology

SETUP = -1
"""The round of the statistics; the cut edges are flooded in round R, the final consensus is in round R + 1.

"""


@dataclass(frozen=True)
class Round:
    """What was measured after a communication round (the first is 1).

    loss: mean over the living peers that trained. uar: of the held-out clips: "mean" and "worst" over the living peers,
    "consensus" of the model that the consensus would be now; None where not evaluated. distance: the
    consensus distance. bytes: payload bytes sent so far, mean over peers. seconds: simulated seconds from the start
    to when all peers had done the round; None without a clock. An asynchronous algorithm's round r is over when the
    peers have done r rounds each on average.
    """

    round: int
    loss: float
    uar: Mapping[str, float | None]
    distance: float
    bytes: float
    seconds: float | None = None
    ccc: Mapping[str, Ccc | None] | None = None
    """Of each dimension, for the same models as ``uar``; None where none is learned or nothing was evaluated."""

    def to_dict(self) -> dict[str, Any]:
        """Return the round as plain data."""
        return {**self.__dict__, "uar": dict(self.uar), "ccc": None if self.ccc is None else dict(self.ccc)}


@dataclass(frozen=True)
class Run:
    """A finished run. rows: (N, D) float32 after the last round; row: (d,) float32, the consensus model.

    Without a final consensus (robust algorithms, hostile peers) ``row`` is the first living peer's own. Where peers
    have models of different width, ``rows`` are the whole network's, 0 where a peer has nothing, and ``row`` (of
    ``schema``) is the widest's. Where they keep parameters to themselves (``gossip.share``) there is no model of all:
    ``row`` is the first peer's, ``predictions`` and ``answers`` are None.
    """

    config: Config
    topology: Topology
    federation: Federation
    schema: Schema
    history: tuple[Round, ...]
    rows: Tensor
    row: Tensor
    statistics: Statistics | None
    final: Consensus
    final_distance: tuple[float, ...]
    """Consensus distance before each exchange of the final consensus."""
    consensus_distance: float
    """Of the rows that the peers adopted."""
    predictions: Predictions | None
    """The consensus model's, on the held-out clips."""
    peer_predictions: tuple[Predictions, ...]
    """Each living peer's after the last round, before the final consensus."""
    answers: Answers | None
    """The consensus model's, of emotions and dimensions; None where nothing is held out."""
    peer_answers: tuple[Answers, ...]
    living: tuple[int, ...]
    """Who was left at the end, hostile peers not counted: what is measured is measured over them."""
    slem: float
    bytes_training: np.ndarray
    """Payload bytes that each peer sent in the rounds, (N,)."""
    messages_training: np.ndarray
    """Messages that each peer sent in the rounds, (N,)."""
    bytes_final: np.ndarray
    messages_late: int
    wall_s: float
    notes: tuple[str, ...] = ()
    """What the algorithm warns of."""
    asynchronous: Mapping[str, Any] | None = None
    """Staleness, refusals and drift of an algorithm without lock-step (simulation.events.total)."""
    hostile: tuple[int, ...] = ()
    widths: tuple[float, ...] = ()
    """Each peer's (``model.width``)."""
    networks: Mapping[float, Nested] = field(default_factory=dict)
    """By width, the whole one among them."""
    final_answers: tuple[Answers, ...] = ()
    """Each living peer's after the final consensus, where not all end with the same model."""
    personal: Tensor | None = None
    """Each living peer's own model (``training.fine_tune``), like ``rows``; None without."""
    personal_answers: tuple[Answers, ...] = ()


def distance(rows: Tensor, mean: Tensor, mixed: Tensor | None = None) -> float:
    """Return the consensus distance sqrt(mean_i ||x_i - m||^2) / ||m|| of rows (B, D) to their mean m (D,).

    mixed: (B, D) which entries count (``Parts.mixed``); default: all.
    """
    apart = rows - mean if mixed is None else (rows - mean) * mixed
    away = torch.linalg.vector_norm(apart, dim=1).to(torch.float64)
    return float(away.square().mean().sqrt() / torch.linalg.vector_norm(mean, dtype=torch.float64))


def mean_of(rows: Tensor, share: Tensor, mixed: Tensor) -> Tensor:
    """Return the mean (D,) of each entry of rows (B, D) over those whose it is, as ``mixed`` (B, D) says, weighted by
    ``share`` (B,) which sums to 1; 0 where it is nobody's.
    """
    whose = mixed.to(rows.dtype)
    return (share @ (rows * whose)) / (share @ whose).clamp_min(torch.finfo(rows.dtype).tiny)


def simulate(
    config: Config,
    topology: Topology,
    federation: Federation,
    *,
    exact: bool = False,
    each_peer: bool = True,
    card: bool = False,
    dead: Mapping[int, int] | None = None,
    faults: Faults | None = None,
    clock: Clock | None = None,
    hostile: Mapping[int, Attack] | None = None,
    observe: Callable[[Round], None] | None = None,
) -> Run:
    """Run all peers of ``topology`` on ``federation`` and return what was measured.

    exact: mix and agree bit for bit as the network does; without it, mixing is one product and the final
    consensus works on coordinates in the rows' own span (an isometry: the same norms, to rounding).
    each_peer: evaluate every peer's model every ``peer.evaluate_every`` rounds, not only the consensus model.
    dead: {peer: round} in which a peer falls silent. clock: what steps and messages cost in simulated seconds; then
    each round has its ``seconds`` (deaths aside), and asynchronous algorithms run by it (default: a LAN, all peers
    alike). hostile: {peer: what it sends}; in the rounds only: it takes an honest part in the set-up, and there is no
    final consensus, which one hostile peer could move anywhere. observe: called after each round; of synchronous
    algorithms it sees no seconds.

    Raises ConfigError where the topology and the federation are of different sizes, nobody honest would be left, or
    the algorithm sends no rows that hostile peers could replace; P2PSERError where the living cannot go on without
    the dead (clients without their hub).
    """
    began = time.monotonic()
    peers = topology.size
    if sorted(federation.train) != list(range(peers)):
        raise ConfigError(
            f"the topology {topology.name!r} has {peers} peers and the corpus was dealt over {len(federation.train)}"
        )
    if topology.hub is not None and len(federation.train[topology.hub]):
        raise ConfigError(f"peer {topology.hub} is a hub, which trains nothing, and was dealt clips: federate with hub")
    deaths = {peer: Step(round, 0) for peer, round in (dead or {}).items()}
    attacks = dict(hostile or {})
    living = tuple(i for i in range(peers) if i not in deaths and i not in attacks)
    if not living or not all(0 <= i < peers for i in deaths.keys() | attacks.keys()):
        said = f", {sorted(attacks)} be hostile" if attacks else ""
        raise ConfigError(f"of the {peers} peers, {sorted(deaths)} cannot be silenced{said}: they must exist, and an "
                          "honest one must remain")
    clips = {i: len(federation.train[i]) for i in range(peers)}
    counts = clips if config.gossip.weighting == "clips" and topology.hub is None else None
    config = sized(config, peers)
    method = algorithm(config.gossip.algorithm, config.gossip.parameters)
    notes = tuple(check(method, config, topology))
    if attacks and (isinstance(method, Asynchronous) or method.served or method.boosts):
        raise ConfigError(f"gossip.algorithm={config.gossip.algorithm} exchanges no rows that hostile peers could "
                          "replace: take one that mixes rows, such as dfedavg or median")
    if attacks and (len(set(config.model.width)) > 1 or config.gossip.share != ("all",)):
        raise ConfigError("hostile peers are simulated among peers that exchange whole rows: set model.width=1 and "
                          "gossip.share=all")
    mixer = SimulatedMixer(topology, counts=counts, exact=exact, faults=faults, dead=deaths, slots=method.slots,
                           rounds=config.training.rounds, own_weights=method.own_weights)
    wanted = federation.normalise == "global" or (card and federation.normalise != "none")
    statistics, census = _statistics(config, topology, federation, wanted)
    bench = Bench(config, federation, federation.train, statistics, census=census)
    share = torch.tensor([float(clips[i]) if counts else 1.0 for i in living], dtype=torch.float64)
    share = (share / share.sum()).to(torch.float32)
    parts = parts_of([bench.widths[i] for i in range(peers)], {w: one.held for w, one in bench.networks.items()},
                     bench.schema, config.gossip.share, compact=False)
    mixer.parts = parts
    mixed = None if parts is None else parts.mixed()[list(living)]
    one_model = parts is None or parts.all_shared
    state = State({"x": bench.starts()})
    history: list[Round] = []
    before, messages_before = mixer.bytes_sent.copy(), mixer.messages_sent.copy()

    def before_round(round: int, state: State) -> None:
        lost = mixer.dead_at(Step(round, 0))
        for i in living if lost else ():
            if (reason := method.ends(i, lost & set(topology.neighbours(i)))) is not None:
                raise P2PSERError(f"{reason}: training ends before round {round} of {config.training.rounds}")

    def after_round(round: int, state: State, seconds: float | None = None) -> None:
        rows = method.model(state)[list(living)]
        mean = method.mean(rows, share) if mixed is None else mean_of(rows, share, mixed)
        last = round == config.training.rounds - 1
        due = bench.tests and ((round + 1) % config.peer.evaluate_every == 0 or last)
        answers = [bench.answers(row, i) for i, row in zip(living, rows)] if due and (each_peer or last) else []
        uars = [one.uar for one in answers if one.uar is not None]
        agreed = bench.answers(mean) if due and one_model else None
        ccc = None if agreed is None or agreed.ccc is None else {
            **dict(zip(("mean", "worst"), ccc_of_several([one.ccc for one in answers]))), "consensus": agreed.ccc}
        history.append(
            Round(
                round=round + 1,
                loss=_mean_known([bench.local.losses[i] for i in living]),
                uar={
                    "mean": float(np.mean(uars)) if uars else None,
                    "worst": min(uars) if uars else None,
                    "consensus": None if agreed is None else agreed.uar,
                },
                distance=distance(rows, mean, mixed),
                bytes=float((mixer.bytes_sent - before).mean()),
                seconds=seconds,
                ccc=ccc,
            )
        )
        if observe is not None:
            observe(history[-1])

    accounts: Mapping[str, Any] | None = None
    if isinstance(method, Asynchronous):
        works = [LocalWork([learner]) for learner in bench.local.learners]
        events = Events(method, state.rows["x"], works, topology, clock or Clock(), config.training.rounds,
                        seed=config.seed, faults=faults, dead=dead)

        def after_average_round(round: int) -> None:
            bench.local.losses = [work.losses[0] if work.losses else float("nan") for work in works]
            mixer.bytes_sent = before + events.bytes_sent
            after_round(round, State({"x": events.rows}), events.now)

        events.each_round(after_average_round)
        mixer.bytes_sent = before + events.bytes_sent
        mixer.messages_sent = messages_before + events.messages_sent
        state = State({"x": events.rows})
        accounts = total([events.nodes[i].report() for i in living])
    else:
        state = run(method, state, bench.local, Hostile(mixer, attacks, config.seed) if attacks else mixer,
                    config.training.rounds, before_round=before_round,
                    after_round=after_round)
        if clock is not None:
            sizes = [int(mixer.bytes_sent.sum() / max(1, mixer.messages_sent.sum()))] * method.slots
            ends = synchronous(clock, topology, config.training.rounds, config.training.local_steps, sizes,
                               overlap=isinstance(method, Overlap)).max(axis=1)
            history[:] = [replace(one, seconds=float(end)) for one, end in zip(history, ends)]
    trained, messages = mixer.bytes_sent.copy(), mixer.messages_sent - messages_before
    # Misses are the training's: over TCP the end loses nothing but the dead.
    faults, mixer.faults = mixer.faults, None
    cut = agree_on_cuts(mixer, config.training.rounds, topology.graph,
                        late=lambda flows: method.settle(state, flows, mixer.peers))[living[0]]
    mixer.close()
    rows = method.model(state)
    slem = living_slem(topology, counts, cut, living[0], () if parts is None else parts.groups())
    seen: tuple[float, ...] = ()
    if attacks:
        final = no_consensus(rows)
    elif not method.consensus:
        final = method.finish(state, mixer, config.training.rounds + 1, topology.graph, tuple(sorted(deaths)))
    else:
        final, seen = _finish(config, mixer, rows, share, living, exact, cut, slem)
    mixer.faults = faults
    peer_answers = tuple(bench.answers(rows[i], i) for i in living) if bench.tests else ()
    widest = max(living, key=lambda i: (bench.widths[i], -i))
    network = bench.networks[bench.widths[widest]]
    row, ended = network.own(final.rows[widest].to(torch.float32)), final.rows[list(living)]
    mean = method.mean if mixed is None else partial(mean_of, mixed=mixed)
    answers = bench.answers(final.rows[widest], widest) if bench.tests and one_model else None
    personal = None
    if config.training.fine_tune:
        personal = torch.stack([fine_tuned(bench.local.learners[i], final.rows[i].to(torch.float32)) for i in living])
    return Run(
        config=config,
        topology=topology,
        federation=federation,
        schema=network.schema,
        history=tuple(history),
        rows=rows,
        row=row,
        statistics=statistics,
        final=final,
        final_distance=seen,
        consensus_distance=distance(ended, mean(ended, share.to(ended.dtype)), mixed),
        predictions=answers.predictions if answers else None,
        peer_predictions=tuple(one.predictions for one in peer_answers if one.predictions is not None),
        answers=answers,
        peer_answers=peer_answers,
        living=living,
        slem=slem,
        bytes_training=trained - before,
        messages_training=messages,
        bytes_final=mixer.bytes_sent - trained,
        messages_late=mixer.late,
        wall_s=time.monotonic() - began,
        notes=notes,
        asynchronous=accounts,
        hostile=tuple(sorted(attacks)),
        widths=tuple(bench.widths[i] for i in range(peers)),
        networks=bench.networks,
        final_answers=tuple(bench.answers(final.rows[i], i) for i in living) if bench.tests and parts else (),
        personal=personal,
        personal_answers=() if personal is None or not bench.tests
        else tuple(bench.answers(own, i) for i, own in zip(living, personal)),
    )


def _mean_known(values: list[float]) -> float:
    """The mean of those that are not NaN; NaN where all are."""
    known = [value for value in values if value == value]
    return float(np.mean(known)) if known else float("nan")


def _statistics(config: Config, topology: Topology, federation: Federation,
                wanted: bool) -> tuple[Statistics | None, Census]:
    """The training statistics, where wanted, and the census by gossip, as peer 0 finds them (all find the same to
    1e-12).
    """
    training, classes, clips = config.training, len(federation.labels), sum(map(len, federation.train.values()))
    if not wanted and not any(columns(training, classes)):
        return None, Census(clips=clips)
    rows = np.stack([census_sums(federation.train[i], training, classes) for i in range(topology.size)])
    mixer = SimulatedMixer(topology)
    found = gossip_statistics(mixer, torch.from_numpy(rows), SETUP, topology, slem=living_slem(topology, None, (), 0))
    plain, census = read_census(found.rows[0].numpy() * topology.size, training, classes, clips)
    return from_sums(plain) if wanted else None, census


def _finish(
    config: Config,
    mixer: SimulatedMixer,
    rows: Tensor,
    share: Tensor,
    living: tuple[int, ...],
    exact: bool,
    cut: frozenset[tuple[int, int]],
    slem: float,
) -> tuple[Consensus, tuple[float, ...]]:
    """The final consensus: (its end, the consensus distance before each exchange)."""
    topology, rounds = mixer.topology, config.training.rounds
    basis: Tensor | None = None
    start = rows
    weights = share.to(torch.float64)
    overhead = mixer.bytes_sent.copy()
    parts = mixer.parts
    mixed = None if parts is None else parts.mixed()[list(living)]
    if not exact and parts is None:
        basis = torch.linalg.qr(rows.to(torch.float64).T)[0]
        start = rows.to(torch.float64) @ basis
    seen: list[float] = []

    def observe(_: int, y: Tensor) -> None:
        chosen = y[list(living)]
        mean = weights @ chosen if mixed is None else mean_of(chosen, weights, mixed)
        seen.append(distance(chosen, mean, mixed))

    final = consensus(
        mixer,
        start,
        rounds + 1,
        topology,
        config.gossip.consensus_tolerance,
        slem=slem,
        max_exchanges=config.gossip.max_consensus_exchanges,
        cut=cut,
        observe=observe,
        parts=parts,
    )
    if basis is not None:
        # The messages carried coordinates: count the rows that the network would have sent instead.
        degree = np.array([len(topology.neighbours(i)) for i in range(mixer.size)])
        degree[[i for i in range(mixer.size) if i not in living]] = 0
        mixer.bytes_sent = overhead + degree * final.exchanges * 8 * rows.shape[1]
        final = Consensus(final.rows @ basis.T, final.distance, final.exchanges, final.dead, final.converged)
    return final, tuple(seen)
