"""The course of a run over any mixer: statistics, rounds, cut edges, final consensus."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import networkx as nx
import numpy as np
from torch import Tensor

from p2pser.base.errors import RemoteProtocolError
from p2pser.config import Config
from p2pser.evaluation.held_out import Whole
from p2pser.gossip.agreement.consensus import Consensus, consensus, living_slem
from p2pser.gossip.agreement.flood import agree_on_cuts, without
from p2pser.gossip.agreement.statistics import secure_statistics, statistics
from p2pser.gossip.agreement.whole_sums import gossiped, secured
from p2pser.gossip.algorithm import Algorithm, Local, State
from p2pser.gossip.mixer import Breaks, Late, Mixer
from p2pser.gossip.partial import Parts, cut_off, parts_of
from p2pser.gossip.requirements import exchanging_parts
from p2pser.graph.mixing import metropolis_entries, slow_weights
from p2pser.graph.spec import Topology
from p2pser.models.calibrated import NOT_ASKED, Calibrated
from p2pser.run.calibration import SUMS, calibrate
from p2pser.run.participant import Cohort
from p2pser.run.rounds import Before, Hook, LockStep
from p2pser.run.setup import STATISTICS, RollCall, calibration_round, counts_for
from p2pser.wire.messages import Phase


class SessionMixer(Mixer, Protocol):
    """A mixer with the methods that a session needs in addition."""

    def enter(self, phase: Phase, round: int) -> None:
        """Note that the hosted peers enter a phase of the run, at the start of ``round``."""

    def share(self, parts: Parts) -> None:
        """Exchange these parts of rows from now on."""

    def unreachable(self) -> set[int]:
        """Return the peers that are known to be lost."""

    def next_round(self, round: int) -> int:
        """Return the round after ``round``: a later one if the neighbours have continued without this peer."""

    def breaks(self, round: int) -> Breaks:
        """Return what has happened to edges since the last call, until the start of ``round``."""

    def close(self) -> tuple[Late, ...]:
        """End the training: return the late rows that are still to be settled; no others are."""


class Driver(Protocol):
    """Runs the rounds of an algorithm."""

    def run(self, state: State, local: Local, start: int, *, before_round: Before, after_round: Hook) -> State:
        """Run rounds ``start`` .. R-1 and return the state after the last."""

    def close(self) -> None:
        """End the exchanges: all reachable peers have ended their rounds."""


class Hooks:
    """Callbacks of a session. Each does nothing; subclasses override those that they need."""

    def warn(self, sentence: str) -> None:
        """Take a warning for the user."""

    def statistics(self, agreed: Consensus) -> None:
        """Take the statistics of features and targets, which are known now."""

    def training(self, start: int) -> None:
        """Called when the local work is prepared, before round ``start``."""

    def before_round(self, round: int, state: State) -> int | None:
        """Called before a round, and once after the last round, with R; may return another round to continue with."""
        return None

    def after_round(self, round: int, state: State) -> None:
        """Called after a round."""

    def rounds_done(self, state: State) -> None:
        """Called after all rounds, before the peers agree on the cut edges."""

    def consensus(self, exchange: int, rows: Tensor) -> None:
        """Called before an exchange of the final consensus with these rows (B, D) float64."""


@dataclass(frozen=True)
class End:
    """How a session ended.

    rows : (B, D), the peers' models after the last round. final : the final consensus, or each peer's own model if the
    algorithm has none. cut : the edges over which the first living hosted peer could not exchange. slem : that of W
    among the peers that it could reach.
    """

    rows: Tensor
    final: Consensus
    cut: frozenset[tuple[int, int]]
    slem: float


@dataclass(frozen=True)
class Agreements:
    """The functions by which peers agree: by messages, unless the caller can compute the result."""

    cuts: Callable[..., Mapping[int, frozenset[tuple[int, int]]]] = agree_on_cuts
    statistics: Callable[..., Consensus] = statistics
    consensus: Callable[..., Consensus] = consensus
    whole_sums: Callable[..., Mapping[int, Whole | None]] = gossiped


class Session:
    """A run of the hosted peers.

    Parameters
    ----------
    config, topology : the run's.
    cohort : the hosted peers.
    algorithm : made for this run (``gossip.registry.create``).
    mixer : carries rows along the topology.
    driver : runs the rounds; None: in lock-step.
    hooks : called at the steps of the run.
    living : the hosted peers that take part until the end; default: all.
    agreements : the functions by which the peers agree; default: by messages.
    """

    def __init__(self, config: Config, topology: Topology, cohort: Cohort, algorithm: Algorithm, mixer: SessionMixer,
                 *, driver: Driver | None, hooks: Hooks, living: tuple[int, ...] | None = None,
                 agreements: Agreements | None = None) -> None:
        self.config, self.topology, self.cohort = config, topology, cohort
        self.algorithm, self.mixer = algorithm, mixer
        self.driver: Driver = driver or LockStep(algorithm, mixer, config.training.rounds, mixer.next_round,
                                                   mixer.breaks)
        self.hooks = hooks
        self.living = living or mixer.peers
        self.parts: Parts | None = None
        """Which entries of a row cross each edge; None: all of them."""
        self.ended: End | None = None
        """How the run ended; None before."""
        self._agree = agreements or Agreements()

    # Before the rounds --------------------------------------------------------------------------------------

    def share(self, call: RollCall) -> None:
        """Determine which entries of their rows the peers exchange, once all widths are known.

        Raises ConfigError or TopologyError where the algorithm or the topology cannot exchange parts of rows.
        """
        gossip, everyone = self.config.gossip, range(self.topology.size)
        widths = [call.widths.get(i, 1.0) for i in everyone]
        exchanging_parts(self.algorithm, self.topology, widths, gossip.share,
                    [i for i in everyone if i not in call.widths])
        networks = self.cohort.networks
        if not set(widths) <= networks.keys():
            networks = self.cohort.networks_of(widths)
        held = {width: network.held for width, network in networks.items()}
        self.parts = parts_of(widths, held, self.cohort.whole.schema, gossip.share, compact=self.cohort.compact)
        if self.parts is not None:
            self.mixer.share(self.parts)

    def fitted(self, sender: int, row: Tensor) -> Tensor:
        """Return a row (D,) of the first hosted peer from the entries that another peer shares with it.

        The other entries are the initial ones. Raises RemoteProtocolError where the length does not fit.
        """
        own = self.cohort.initial()[0]
        if self.parts is not None:
            return self.parts.fit(self.mixer.peers[0], sender, own, row)
        if row.shape != own.shape:
            raise RemoteProtocolError(f"peer {sender} sent {row.numel()} parameters of {own.numel()}", sender)
        return row

    def statistics(self, cut: frozenset[tuple[int, int]] = frozenset(), mixer: Mixer | None = None) -> Tensor:
        """Return the mean over all reachable peers of ``Cohort.sums``, (S,) float64, by gossip or a secure sum.

        If the local work needs nothing of other peers (S = 0), nothing is sent.

        mixer : used in place of the session's (which may simulate faults).
        """
        if not self.cohort.asked:
            return self.cohort.sums()[0]
        if self.algorithm.sums:
            agreed = secure_statistics(mixer or self.mixer, self.cohort.sums(), STATISTICS, self.topology.graph,
                                       least=self.config.privacy.least, flaw=self.cohort.asked.flaw)
        else:
            slem = living_slem(self.topology, None, cut, self.living[0])
            agreed = self._agree.statistics(mixer or self.mixer, self.cohort.sums(), STATISTICS, self.topology, cut=cut,
                                            slem=slem, flaw=self.cohort.asked.flaw, warn=self.hooks.warn)
        self.hooks.statistics(agreed)
        return agreed.rows[0]

    # The run ------------------------------------------------------------------------------------------------

    def run(self, call: RollCall, sums: Tensor, *, state: State | None = None, start: int = 0,
            joined: bool = False, report: Callable[[int, int], None] | None = None) -> End:
        """Train from round ``start`` on, agree, and return the end. Call ``share`` before.

        Parameters
        ----------
        call : the roll call.
        sums : from ``statistics``.
        state : the state at the start; default: the initial parameters.
        start : the first round.
        joined : whether ``state`` holds only the parameters of another peer.
        report : called with (peer, k) after local step k.
        """
        rounds, hooks = self.config.training.rounds, self.hooks
        counts = counts_for(self.config.gossip, self.topology, call.clips)
        graph = self.topology.graph
        if counts and (warning := slow_weights(metropolis_entries(graph), metropolis_entries(graph, counts),
                                               pi=np.array([float(counts[i]) for i in range(len(counts))]))):
            hooks.warn(warning)
        for warning in self.cohort.warnings:
            hooks.warn(warning)
        local = self.cohort.prepare(sums, len(call.widths), report)
        state = state or State({"x": self.cohort.initial()})
        if joined:
            self.algorithm.on_join(state, self.mixer)
        self.mixer.enter(Phase.TRAIN, start)
        hooks.training(start)
        state = self.driver.run(state, local, start, before_round=hooks.before_round, after_round=hooks.after_round)
        hooks.before_round(rounds, state)
        self.mixer.enter(Phase.CONSENSUS, rounds)
        hooks.rounds_done(state)
        self.ended = self._finish(state, counts)
        return self.ended

    def _finish(self, state: State, counts: dict[int, int] | None) -> End:
        """Agree on the cut edges, then on one model."""
        mixer, algorithm, topology, rounds = self.mixer, self.algorithm, self.topology, self.config.training.rounds
        first = self.living[0]
        cut = self._agree.cuts(mixer, rounds, topology.graph, mixer.unreachable(),
                               lambda late: algorithm.settle(state, late, mixer.peers))[first]
        algorithm.settle(state, mixer.close(), mixer.peers)
        self.driver.close()
        groups = () if self.parts is None else self.parts.groups()
        slem = living_slem(topology, counts, cut, first, groups)
        self.cohort.rest()
        rows = algorithm.model(state)
        mixer.enter(Phase.CONSENSUS, rounds + 1)
        if algorithm.consensus:
            for warning in cut_off(groups, without(topology.graph, cut), first):
                self.hooks.warn(warning)
            if not algorithm.asynchronous:  # messages of an asynchronous algorithm may still come
                state.rows, state.edges = {"x": rows}, {}
            final = self._agree.consensus(
                mixer, rows, rounds + 1, topology, self.config.gossip.consensus_tolerance, cut=cut,
                slem=slem, observe=self.hooks.consensus, parts=self.parts,
                max_exchanges=self.config.gossip.max_consensus_exchanges)
        else:
            # A neighbour that has left because it finished first is not dead.
            living = without(topology.graph, cut)
            reached: set[int] = set().union(*(nx.node_connected_component(living, peer) for peer in self.living))
            final = algorithm.finish(state, mixer, rounds + 1, topology.graph, tuple(sorted(set(living) - reached)))
        mixer.enter(Phase.END, rounds + 1)
        return End(rows, final, cut, slem)

    # After the model ----------------------------------------------------------------------------------------

    def calibrate(self) -> Calibrated:
        """Return the calibration of a finished run's common model by the speakers that the peers held out of training.

        Its temperature, figures and sets of emotions are the same at all peers that take part in the sums.
        """
        end = self.ended
        if end is None or not self.config.training.held_out:
            return NOT_ASKED
        if not end.final.converged:
            return Calibrated("none: the peers have not agreed on one model")
        first, private = calibration_round(self.config.training.rounds), self.algorithm.sums

        def add(what: str, rows: Mapping[int, Whole]) -> Whole | None:
            round, peer = first + SUMS.index(what), self.living[0]
            totals = secured(self.mixer, rows, round, self.topology.graph, least=self.config.privacy.least) \
                if private else self._agree.whole_sums(self.mixer, rows, round, self.topology, cut=end.cut, peer=peer)
            return totals[peer]

        return calibrate(self.cohort, end.final.rows, add, self.config.privacy.least if private else 1)


def train_alone(cohort: Cohort, rounds: int, after_round: Callable[[int], None] = lambda done: None) -> Tensor:
    """Return the rows (B, D) of a prepared cohort after ``rounds`` rounds of local work without exchanges.

    after_round : called with the number of rounds done.
    """
    state = State({"x": cohort.initial()})
    for round in range(rounds):
        state.rows["x"] = cohort.work.train(state, round)
        after_round(round + 1)
    return state.rows["x"]
