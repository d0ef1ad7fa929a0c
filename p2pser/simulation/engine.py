"""A whole run in one process: the session of all peers, over the simulated mixer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import networkx as nx
import numpy as np
import torch
from torch import Tensor

from p2pser.base import seeding
from p2pser.base.errors import P2PSERError
from p2pser.base.memory import keep_freed
from p2pser.base.threads import torch_threads
from p2pser.config import Config
from p2pser.evaluation.held_out import Whole
from p2pser.evaluation.outputs import Outputs
from p2pser.features.federation import Federation
from p2pser.gossip.agreement.consensus import MOST_EXCHANGES, Consensus, consensus, no_consensus
from p2pser.gossip.agreement.flood import agree_on_cuts
from p2pser.gossip.agreement.foreseen import Foresight, largest_of_sums
from p2pser.gossip.agreement.statistics import TOLERANCE, statistics
from p2pser.gossip.agreement.whole_sums import gossiped
from p2pser.gossip.algorithm import Algorithm, State
from p2pser.gossip.asynchronous import is_asynchronous
from p2pser.gossip.attacks import Hostile
from p2pser.gossip.mixer import Mixer, Step
from p2pser.gossip.registry import create, validate
from p2pser.graph.mixing import metropolis_entries
from p2pser.graph.spec import Topology
from p2pser.models import for_run
from p2pser.models.calibrated import Calibrated
from p2pser.run.participant import Cohort
from p2pser.run.rounds import LockStep
from p2pser.run.session import Agreements, Driver, End, Hooks, Session
from p2pser.run.setup import RollCall, counts_for, weighs
from p2pser.simulation.churn import leave_and_return
from p2pser.simulation.events import DEAD_AFTER, EventDriver
from p2pser.simulation.meeting import meet
from p2pser.simulation.memory import require
from p2pser.simulation.mixer import SimulatedMixer
from p2pser.simulation.results import Course, Round, Simulation
from p2pser.simulation.resume import Keep, fingerprint, restored, resumable
from p2pser.simulation.scenario import Scenario
from p2pser.simulation.secrets import SeedSecrets
from p2pser.simulation.timeline import Mark, Timeline, Traffic
from p2pser.simulation.witness import Witness
from p2pser.training.at_once import Choice, require_device
from p2pser.training.fine_tuning import fine_tuned


def simulate(config: Config, topology: Topology, federation: Federation, scenario: Scenario | None = None, *,
             exact: bool = False, each_peer: bool = True, sample: int | None = None,
             observe: Callable[[Round], None] | None = None, witness: Witness | None = None,
             keep: Keep | None = None) -> Simulation:
    """Run all peers of ``topology`` on ``federation`` and return the results.

    Parameters
    ----------
    config, topology, federation : the run's; the federation has the clips of all peers.
    scenario : failures, hostile peers, and the time of steps and messages; default: none of them.
    exact : mix and agree bit for bit as the network does. Without it, mixing is a matrix product and the final
        consensus works on coordinates in the rows' own span (an isometry: the same norms, up to rounding).
    each_peer : evaluate every peer's model every ``peer.evaluate_every`` rounds, not only the consensus model.
    sample : number of peers, drawn by the seed, whose own models are evaluated; None: all.
    observe : called after each round.
    witness : observes every message that reaches its receiver. Then the run is ``exact``.
    keep : writes checkpoints, from which an interrupted run goes on, where it is ``resumable``.

    Raises
    ------
    ConfigError : where the topology and the federation differ in size, no honest peer would be left, the algorithm
        sends no rows that hostile peers could replace, or too little memory is free.
    P2PSERError : where the living peers cannot go on without the dead ones (clients without their hub).
    """
    config = for_run(config, topology.size)
    require_device(config.training.device)
    with keep_freed(), torch_threads(config.training.threads):
        simulator = _Simulator(config, topology, federation, scenario or Scenario(), exact, each_peer, sample, observe,
                               witness)
        if keep is not None and witness is None and resumable(config, simulator.algorithm, simulator.scenario):
            keep.mark = fingerprint(config, topology, federation, scenario, exact, each_peer, sample)
            simulator.keep = keep
        return simulator.run()


class _Simulator(Hooks):
    """A simulated run: the session, and its measurements."""

    def __init__(self, config: Config, topology: Topology, federation: Federation, scenario: Scenario, exact: bool,
                 each_peer: bool, sample: int | None, observe: Callable[[Round], None] | None,
                 witness: Witness | None) -> None:
        self.config, self.topology, self.federation, self.scenario = config, topology, federation, scenario
        self.witness = witness
        self.keep: Keep | None = None
        self.resumed: Mapping[str, Any] | None = None
        """The metadata of the checkpoint, until the round begins from which this run goes on."""
        self.began = time.monotonic()
        self.living = scenario.living(topology)
        gossip = config.gossip
        self.algorithm: Algorithm = create(gossip.algorithm, gossip.parameters, config, topology)
        warnings = validate(self.algorithm, config, topology)
        scenario.validate(config, topology, federation, self.algorithm)
        self.cohort = Cohort(config, federation, federation.train)
        require(config, topology, self.cohort.schema.size)
        counted = weighs(gossip, topology)
        clips = {i: len(examples) for i, examples in federation.train.items()} if counted else {}
        self.call = RollCall(0, clips, frozenset(), self.cohort.widths)
        counts = counts_for(gossip, topology, clips)
        self.mixer = SimulatedMixer(
            topology, counts=counts, exact=exact,
            faults=scenario.faults, dead={peer: Step(round, 0) for peer, round in scenario.dead.items()},
            back=scenario.back, slots=self.algorithm.slots, rounds=config.training.rounds,
            own_weights=self.algorithm.own_weights,
            tap=None if witness is None else witness.received, secrets=SeedSecrets(config.seed, self._warned))
        self.events = EventDriver(self.algorithm, topology, scenario, config, self.cohort) \
            if is_asynchronous(self.algorithm) else None
        self.timeline = None if scenario.clock is None or self.events else Timeline(scenario.clock, topology.size)
        self.mixer.timeline = self.timeline
        self.marks: list[Mark] = []
        self.session = Session(config, topology, self.cohort, self.algorithm, self.mixer, driver=self._driver(),
                               hooks=self, living=self.living,
                               agreements=Agreements(
                                   self._cuts, self._statistics, self._consensus,
                                   _added(self.living) if scenario.dead or self._foreseeable else gossiped))
        self.session.share(self.call)
        self.course = Course(config, self.cohort, self.algorithm, self.living, self.session.parts, counts,
                             each_peer=each_peer, evaluated=self._drawn(sample), observe=observe)
        self.notes = list(warnings)
        if self.course.evaluated != self.living:
            self.notes.append(f"the figures of the peers' own models are of {len(self.course.evaluated)} peers, drawn "
                              "by the seed")
        self.distances: list[float] = []
        """The consensus distance before each exchange of the final consensus."""
        self.bytes_training, self.messages_training = self._counted()

    def run(self) -> Simulation:
        """Run the session and return the results."""
        # A mixer of its own: the messages of the set-up are not counted, and have no faults.
        mixer = SimulatedMixer(
            self.topology, tap=None if self.witness is None else self.witness.received, secrets=self.mixer.secrets)
        mixer.timeline = self.timeline
        meet(mixer, self.config, self.topology)
        sums = self.session.statistics(mixer=mixer)
        self._mark()
        start, state = self._resumed()
        end = self.session.run(self.call, sums, state=state, start=start,
                               report=self.timeline.stepped if self.timeline else None)
        calibrated = self.session.calibrate()
        self._mark()
        return self._result(end, calibrated)

    def _resumed(self) -> tuple[int, State | None]:
        """Return the round from which an interrupted run goes on, and the state at its start."""
        stored = None if self.keep is None else self.keep.found(self.config.training.rounds)
        if stored is None:
            return 0, None
        start, state, self.resumed = stored
        self.course.rounds[:] = [Round(**each) for each in self.resumed["rounds"]]
        self.mixer.breaks(start)  # deaths before the checkpoint: its state has them already
        return start, state

    def _mark(self) -> None:
        """Note each peer's time and traffic so far."""
        if self.timeline is not None:
            self.timeline.work()
            self.marks.append(Mark.of(self.timeline.now, self.timeline.traffic))
        elif self.events is not None:
            now = np.full(self.topology.size, self.events.now)
            self.marks.append(Mark.of(now, self.events.traffic))

    def _drawn(self, sample: int | None) -> tuple[int, ...]:
        """The peers whose own models are evaluated."""
        if sample is None or sample >= len(self.living):
            return self.living
        chosen = seeding.generator(self.config.seed, "evaluated").permutation(len(self.living))[:sample]
        return tuple(self.living[k] for k in sorted(chosen.tolist()))

    def _driver(self) -> Driver:
        if self.events is not None:
            return self.events
        if self.scenario.hostile:
            return LockStep(self.algorithm, Hostile(self.mixer, self.scenario.hostile, self.config.seed),
                            self.config.training.rounds)
        breaks = self.mixer.breaks if self.scenario.dead or self.scenario.churn else None
        return LockStep(self.algorithm, self.mixer, self.config.training.rounds, breaks=breaks)

    def _warned(self, peer: int, round: int, warning: str) -> None:
        """Note a warning of a secure sum once: all peers may give it in all rounds."""
        if not any(note.endswith(warning) for note in self.notes):
            self.warn(f"peer {peer}, round {round}: {warning}")

    # Hooks of the session -----------------------------------------------------------------------------------

    def warn(self, sentence: str) -> None:
        self.notes.append(sentence)

    def training(self, start: int) -> None:
        if not self.mixer.exact and self.events is None:
            self.cohort.work.choice = Choice(self.config.training.at_once, self.config.training.rounds,
                                             None if self.resumed is None else self.resumed["at_once"],
                                             self.config.training.device)
        if self.witness is not None:
            self.cohort.work.trained = self.witness.trained

    def before_round(self, round: int, state: State) -> None:
        """Raise P2PSERError where a living peer cannot go on without the dead ones."""
        if self.witness is not None:
            self.witness.held(round, state.rows["x"])
        if self.resumed is not None:  # the algorithm's begin was counted again
            restored(self.mixer, self.resumed)
            self.resumed = None
        elif self.keep is not None and self.keep.due():
            choice = self.cohort.work.choice
            self.keep.save(round, state, self.mixer, self.course.rounds,
                           None if choice is None else choice.number)
        if self.scenario.churn is not None and self.timeline is not None:
            leave_and_return(self.scenario.churn, self.mixer, self.timeline, round, began=self.marks[0].now,
                             over=round == self.config.training.rounds, dead=self.scenario.dead)
        lost = self.mixer.dead_at(Step(round, 0))
        if self.timeline is not None and round < self.config.training.rounds:
            self.timeline.begin(round)
            new = lost - self.mixer.dead_at(Step(round - 1, 0)) if round else lost
            self.timeline.wait({j for i in new for j in self.topology.neighbours(i)} - lost, DEAD_AFTER)
        for i in self.living if lost and round < self.config.training.rounds else ():
            reason = self.algorithm.ends(i, lost & set(self.topology.neighbours(i)))
            if reason is not None:
                raise P2PSERError(f"{reason}: training ends before round {round} of {self.config.training.rounds}")

    def after_round(self, round: int, state: State) -> None:
        self._mark()
        if self.events is not None:
            self.course.after_round(round, state, float(self.events.traffic.payload_sent.mean()), self.events.losses,
                                    self.events.now)
        else:
            living = list(self.living)
            seconds = self.marks[-1].now[living].max() - self.marks[0].now[living].max() if self.marks else None
            losses = self.cohort.work.take_losses()
            self.course.after_round(round, state, float(self.mixer.bytes_sent.mean()), losses, seconds)

    def rounds_done(self, state: State) -> None:
        """Count the bytes of the rounds. From now on only deaths lose messages, as over TCP."""
        self.bytes_training, self.messages_training = self._counted()
        self.mixer.faults = None

    def consensus(self, exchange: int, rows: Tensor) -> None:
        living = rows[list(self.living)]
        self.distances.append(self.course.distance(living, self.course.mean(living)))

    def _counted(self) -> tuple[np.ndarray, np.ndarray]:
        """Bytes and messages that each peer has sent, (N,)."""
        traffic = Traffic(self.topology.size) if self.events is None else self.events.traffic
        return self.mixer.bytes_sent + traffic.payload_sent, self.mixer.messages_sent + traffic.messages_sent

    # Agreements of the peers --------------------------------------------------------------------------------

    @property
    def _foreseeable(self) -> bool:
        """Whether the outcome of agreements is computed from the rows alone, in place of many messages."""
        scenario, mixer = self.scenario, self.mixer
        usual = not (mixer.exact or scenario.dead or scenario.faults or scenario.churn or scenario.hostile)
        return usual and mixer.parts is None and nx.is_connected(self.topology.graph)

    @cached_property
    def _foresight(self) -> Foresight:
        return Foresight(self.mixer.weights)

    def _cuts(self, mixer: Mixer, round: int, graph: nx.Graph, *how: Any
              ) -> Mapping[int, frozenset[tuple[int, int]]]:
        """The flood of the cut edges; where no peer dies, there are none."""
        if not self._foreseeable:
            return agree_on_cuts(mixer, round, graph, *how)
        sent, messages = self._foresight.flood()
        self.mixer.bytes_sent += sent
        self.mixer.messages_sent += messages
        self._play(round, max(messages // np.maximum(1, self.mixer.degrees)), int(sent.sum() / max(1, messages.sum())))
        return dict.fromkeys(mixer.peers, frozenset())

    def _statistics(self, mixer: Mixer, sums: Tensor, round: int, topology: Topology, *, slem: float, **how: Any
                    ) -> Consensus:
        """The statistics of features and targets, whose messages are not counted."""
        if self._foreseeable:
            uniform = self._foresight if not self.mixer.counts else Foresight(metropolis_entries(topology.graph))
            agreed = uniform.consensus(sums, TOLERANCE, slem=slem, max_exchanges=MOST_EXCHANGES,
                                       worst=largest_of_sums).final
            self._play(round, agreed.exchanges, 8 * sums.shape[1])
        else:
            agreed = statistics(mixer, sums, round, topology, slem=slem, **how)
        if not agreed.converged:
            self.warn(f"the peers did not agree on the statistics of features and targets in {agreed.exchanges} "
                      f"exchanges (they differ by up to {agreed.distance:.1g}): {topology.name} of {topology.size} "
                      "peers mixes too slowly")
        return agreed

    def _consensus(self, mixer: Mixer, rows: Tensor, round: int, topology: Topology, tolerance: float, *,
                   slem: float, max_exchanges: int, **how: Any) -> Consensus:
        """The final consensus; without ``exact``, on coordinates in the span of the rows."""
        how |= {"slem": slem, "max_exchanges": max_exchanges}
        if self.scenario.hostile:
            return no_consensus(rows)
        if self.mixer.exact or self.mixer.parts is not None:
            return consensus(mixer, rows, round, topology, tolerance, **how)
        before, degree = self.mixer.bytes_sent.copy(), self.mixer.degrees
        self.mixer.timeline = None
        if self._foreseeable:
            foreseen = self._foresight.consensus(rows, tolerance, slem=slem, max_exchanges=max_exchanges,
                                                 share=self.course.share)
            final, self.distances = foreseen.final, list(foreseen.distances)
            self.mixer.messages_sent += degree * foreseen.posts
        else:
            basis = torch.linalg.qr(rows.to(torch.float64).T)[0]
            final = consensus(mixer, rows.to(torch.float64) @ basis, round, topology, tolerance, **how)
            final = replace(final, rows=final.rows @ basis.T)
        # The messages carried coordinates: count the rows that the network would have sent instead.
        degree[[i for i in range(topology.size) if i not in self.living]] = 0
        self.mixer.bytes_sent = before + degree * final.exchanges * 8 * rows.shape[1]
        self._play(round, final.exchanges, 8 * rows.shape[1])
        return final

    def _play(self, round: int, exchanges: int, payload: int) -> None:
        """Advance the simulated time by exchanges of messages of so many bytes among the living peers."""
        if self.timeline is not None:
            W = self.mixer.weights.isolated([i for i in range(self.topology.size) if i not in self.living])
            self.timeline.play(round, exchanges, W.to, W.source, payload)

    # At the end ---------------------------------------------------------------------------------------------

    def _result(self, end: End, calibrated: Calibrated) -> Simulation:
        cohort, course, living, final = self.cohort, self.course, self.living, end.final
        rows, scored = end.rows, cohort.tests
        widths = cohort.widths
        widest = max(living, key=lambda i: (widths[i], -i))
        network = cohort.networks[widths[widest]]
        peers = tuple(cohort.evaluate(rows[i], i) for i in course.evaluated) if scored else ()
        personal, ended = self._personal(final.rows), final.rows[list(living)]
        bytes_sent, _ = self._counted()
        return Simulation(
            config=self.config,
            topology=self.topology,
            federation=self.federation,
            schema=network.schema,
            history=tuple(course.rounds),
            rows=rows,
            row=network.own(final.rows[widest].to(torch.float32)),
            statistics=cohort.statistics,
            final=final,
            final_distance=tuple(self.distances),
            consensus_distance=course.distance(ended, course.mean(ended)),
            outputs=cohort.evaluate(final.rows[widest], widest) if scored and course.one_model else None,
            peer_outputs=peers,
            living=living,
            slem=end.slem,
            bytes_training=self.bytes_training,
            messages_training=self.messages_training,
            bytes_final=bytes_sent - self.bytes_training,
            messages_late=self.mixer.late,
            wall_s=time.monotonic() - self.began,
            notes=tuple(self.notes),
            asynchronous=None if self.events is None else self.events.report(self.living),
            hostile=tuple(sorted(self.scenario.hostile)),
            widths=tuple(widths[i] for i in range(self.topology.size)),
            networks=cohort.networks,
            final_outputs=tuple(cohort.evaluate(final.rows[i], i) for i in living)
            if scored and self.session.parts is not None else (),
            personal=personal,
            personal_outputs=self._personal_outputs(personal),
            budget=self._budget(),
            marks=tuple(self.marks),
            calibrated=calibrated,
        )

    def _budget(self) -> dict[str, Any] | None:
        report = self.algorithm.budget_report(self.mixer)
        return None if report is None else {**report, "simulated": True}

    def _personal(self, rows: Tensor) -> Tensor | None:
        """Each living peer's own model, trained on from its row of ``rows``; None where none is asked for."""
        if not self.config.training.fine_tune:
            return None
        learners = self.cohort.work.learners
        return torch.stack([fine_tuned(learners[i], rows[i].to(torch.float32)) for i in self.living])

    def _personal_outputs(self, personal: Tensor | None) -> tuple[Outputs, ...]:
        if personal is None or not self.cohort.tests:
            return ()
        return tuple(self.cohort.evaluate(row, i) for i, row in zip(self.living, personal))


def _added(living: Iterable[int]) -> Callable[..., Mapping[int, Whole | None]]:
    """Return an agreement that adds up the living peers' sums over held-out clips without messages.

    It is exact, as the messages' result is. It is used where peers have died, or nothing goes wrong.
    """
    return lambda mixer, rows, *at, **how: dict.fromkeys(rows, np.sum([rows[i] for i in living], axis=0))
