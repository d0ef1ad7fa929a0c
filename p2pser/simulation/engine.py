"""A whole run in one process: the same algorithms and local work as the network's, over the simulated mixer."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from p2pser.base.errors import ConfigError, P2PSERError
from p2pser.config import Config
from p2pser.features.federation import Federation
from p2pser.features.normalisation import Statistics, from_sums
from p2pser.gossip.agreement.consensus import Consensus, consensus, living_slem, no_consensus
from p2pser.gossip.agreement.flood import agree_on_cuts
from p2pser.gossip.agreement.statistics import statistics as gossip_statistics
from p2pser.gossip.algorithm import Algorithm, State
from p2pser.gossip.asynchronous import is_asynchronous
from p2pser.gossip.attacks import Attack, Hostile
from p2pser.gossip.mixer import Step
from p2pser.gossip.partial import parts_of
from p2pser.gossip.registry import create, validate
from p2pser.models.xgb import sized
from p2pser.run.rounds import run
from p2pser.simulation.bench import Bench
from p2pser.simulation.clock import Clock, synchronous
from p2pser.simulation.events import Events, total
from p2pser.simulation.mixer import Faults, SimulatedMixer
from p2pser.simulation.results import History, Round, Run, distance
from p2pser.topology.spec import Topology
from p2pser.training.fine_tuning import fine_tuned
from p2pser.training.learner import LocalWork
from p2pser.training.target_statistics import TargetStatistics, columns, read_training_sums, training_sums

SETUP = -1
"""The round of the statistics; the cut edges are flooded in round R, the final consensus is in round R + 1."""


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
    deaths = {peer: Step(round, 0) for peer, round in (dead or {}).items()}
    attacks = dict(hostile or {})
    living = _living(topology, federation, deaths, attacks)
    config = sized(config, peers)
    method = create(config.gossip.algorithm, config.gossip.parameters, config, topology)
    notes = validate(method, config, topology)
    if attacks:
        _check_hostile(config, method)
    clips = {i: len(federation.train[i]) for i in range(peers)}
    counts = clips if config.gossip.weighting == "clips" and topology.hub is None else None
    mixer = SimulatedMixer(topology, counts=counts, exact=exact, faults=faults, dead=deaths, slots=method.slots,
                           rounds=config.training.rounds, own_weights=method.own_weights)
    wanted = federation.normalise == "global" or (card and federation.normalise != "none")
    statistics, target_statistics = _statistics(config, topology, federation, wanted)
    bench = Bench(config, federation, federation.train, statistics, target_statistics=target_statistics)
    parts = parts_of([bench.widths[i] for i in range(peers)], {w: one.held for w, one in bench.networks.items()},
                     bench.schema, config.gossip.share, compact=False)
    mixer.parts = parts
    weights = torch.tensor([float(clips[i]) if counts else 1.0 for i in living], dtype=torch.float64)
    history = History(config, bench, method, living, share=(weights / weights.sum()).to(torch.float32),
                      mixed=None if parts is None else parts.mixed()[list(living)],
                      one_model=parts is None or parts.all_shared, each_peer=each_peer, observe=observe)
    state = State({"x": bench.starts()})
    before, messages_before = mixer.bytes_sent.copy(), mixer.messages_sent.copy()
    accounts: Mapping[str, Any] | None = None
    if is_asynchronous(method):
        works = [LocalWork([one]) for one in bench.local.learners]
        events = Events(method, state.rows["x"], works, topology, clock or Clock(), config.training.rounds,
                        seed=config.seed, faults=faults, dead=dead)
        _in_flow(events, works, history)
        mixer.bytes_sent, mixer.messages_sent = before + events.bytes_sent, messages_before + events.messages_sent
        state = State({"x": events.rows})
        accounts = total([events.nodes[i].report() for i in living])
    else:
        state = _in_lock_step(state, mixer, attacks, history, before)
        if clock is not None:
            sizes = [int(mixer.bytes_sent.sum() / max(1, mixer.messages_sent.sum()))] * method.slots
            ends = synchronous(clock, topology, config.training.rounds, config.training.local_steps, sizes,
                               overlap=method.overlaps).max(axis=1)
            history.rounds[:] = [replace(one, seconds=float(end)) for one, end in zip(history.rounds, ends)]
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
        final, seen = _finish(mixer, rows, history, exact, cut, slem)
    mixer.faults = faults
    peer_answers = tuple(bench.answers(rows[i], i) for i in living) if bench.tests else ()
    widest = max(living, key=lambda i: (bench.widths[i], -i))
    network = bench.networks[bench.widths[widest]]
    ended = final.rows[list(living)]
    answers = bench.answers(final.rows[widest], widest) if bench.tests and history.one_model else None
    personal = None
    if config.training.fine_tune:
        personal = torch.stack([fine_tuned(bench.local.learners[i], final.rows[i].to(torch.float32)) for i in living])
    return Run(
        config=config,
        topology=topology,
        federation=federation,
        schema=network.schema,
        history=tuple(history.rounds),
        rows=rows,
        row=network.own(final.rows[widest].to(torch.float32)),
        statistics=statistics,
        final=final,
        final_distance=seen,
        consensus_distance=distance(ended, history.mean(ended), history.mixed),
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


def _living(topology: Topology, federation: Federation, deaths: Collection[int],
            attacks: Collection[int]) -> tuple[int, ...]:
    """Who is honest and never falls silent; ConfigError where the topology does not fit the federation or those."""
    peers = topology.size
    if sorted(federation.train) != list(range(peers)):
        raise ConfigError(
            f"the topology {topology.name!r} has {peers} peers and the corpus was dealt over {len(federation.train)}"
        )
    if topology.hub is not None and len(federation.train[topology.hub]):
        raise ConfigError(f"peer {topology.hub} is a hub, which trains nothing, and was dealt clips: federate with hub")
    living = tuple(i for i in range(peers) if i not in deaths and i not in attacks)
    if not living or not all(0 <= i < peers for i in {*deaths, *attacks}):
        said = f", {sorted(attacks)} be hostile" if attacks else ""
        raise ConfigError(f"of the {peers} peers, {sorted(deaths)} cannot be silenced{said}: they must exist, and an "
                          "honest one must remain")
    return living


def _check_hostile(config: Config, method: Algorithm) -> None:
    """Raise ConfigError where there are no whole rows that hostile peers could replace."""
    if method.asynchronous or method.served or method.boosts:
        raise ConfigError(f"gossip.algorithm={config.gossip.algorithm} exchanges no rows that hostile peers could "
                          "replace: take one that mixes rows, such as dfedavg or median")
    if len(set(config.model.width)) > 1 or config.gossip.share != ("all",):
        raise ConfigError("hostile peers are simulated among peers that exchange whole rows: set model.width=1 and "
                          "gossip.share=all")


def _in_flow(events: Events, works: Sequence[LocalWork], history: History) -> None:
    """Train without lock-step, by the clock; a round is over when the peers have done so many on average."""
    def after_average_round(round: int) -> None:
        losses = [work.losses[0] if work.losses else float("nan") for work in works]
        history.after_round(round, State({"x": events.rows}), float(events.bytes_sent.mean()), losses, events.now)

    events.each_round(after_average_round)


def _in_lock_step(state: State, mixer: SimulatedMixer, attacks: Mapping[int, Attack], history: History,
                  before: np.ndarray) -> State:
    """Train round by round and return the state after the last. before: bytes that each peer had sent, (N,)."""
    config, method, local, topology = history.config, history.method, history.bench.local, mixer.topology

    def before_round(round: int, state: State) -> None:
        lost = mixer.dead_at(Step(round, 0))
        for i in history.living if lost else ():
            if (reason := method.ends(i, lost & set(topology.neighbours(i)))) is not None:
                raise P2PSERError(f"{reason}: training ends before round {round} of {config.training.rounds}")

    def after_round(round: int, state: State) -> None:
        history.after_round(round, state, float((mixer.bytes_sent - before).mean()), local.losses)

    return run(method, state, local, Hostile(mixer, attacks, config.seed) if attacks else mixer,
               config.training.rounds, before_round=before_round, after_round=after_round)


def _statistics(config: Config, topology: Topology, federation: Federation,
                wanted: bool) -> tuple[Statistics | None, TargetStatistics]:
    """The training statistics, where wanted, and the target statistics by gossip, as peer 0 finds them (all find the
    same to 1e-12).
    """
    training, classes, clips = config.training, len(federation.labels), sum(map(len, federation.train.values()))
    if not wanted and not any(columns(training, classes)):
        return None, TargetStatistics(clips=clips)
    rows = np.stack([training_sums(federation.train[i], training, classes) for i in range(topology.size)])
    mixer = SimulatedMixer(topology)
    found = gossip_statistics(mixer, torch.from_numpy(rows), SETUP, topology, slem=living_slem(topology, None, (), 0))
    plain, target_statistics = read_training_sums(found.rows[0].numpy() * topology.size, training, classes, clips)
    return from_sums(plain) if wanted else None, target_statistics


def _finish(mixer: SimulatedMixer, rows: Tensor, history: History, exact: bool, cut: frozenset[tuple[int, int]],
            slem: float) -> tuple[Consensus, tuple[float, ...]]:
    """The final consensus: (its end, the consensus distance before each exchange)."""
    topology, settings, living = mixer.topology, history.config.gossip, list(history.living)
    basis: Tensor | None = None
    start = rows
    overhead = mixer.bytes_sent.copy()
    parts = mixer.parts
    if not exact and parts is None:
        basis = torch.linalg.qr(rows.to(torch.float64).T)[0]
        start = rows.to(torch.float64) @ basis
    seen: list[float] = []

    def observe(_: int, y: Tensor) -> None:
        seen.append(distance(y[living], history.mean(y[living]), history.mixed))

    final = consensus(
        mixer,
        start,
        history.config.training.rounds + 1,
        topology,
        settings.consensus_tolerance,
        slem=slem,
        max_exchanges=settings.max_consensus_exchanges,
        cut=cut,
        observe=observe,
        parts=parts,
    )
    if basis is not None:
        # The messages carried coordinates: count the rows that the network would have sent instead.
        degree = np.array([len(topology.neighbours(i)) for i in range(mixer.size)])
        degree[[i for i in range(mixer.size) if i not in history.living]] = 0
        mixer.bytes_sent = overhead + degree * final.exchanges * 8 * rows.shape[1]
        final = Consensus(final.rows @ basis.T, final.distance, final.exchanges, final.dead, final.converged)
    return final, tuple(seen)
