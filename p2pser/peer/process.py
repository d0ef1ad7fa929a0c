"""A peer's process, from its recordings to the common model."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from p2pser.base.errors import P2PSERError
from p2pser.base.seeding import probe
from p2pser.config import Config
from p2pser.config.plugins import plugins
from p2pser.corpora.labels import agreed_by_peers
from p2pser.features.clip_features import made_by
from p2pser.features.federation import Federation, federate
from p2pser.features.public import recipe
from p2pser.gossip.algorithm import Algorithm
from p2pser.gossip.asynchronous import is_asynchronous
from p2pser.gossip.mode import by_mode, what_neighbours_learn
from p2pser.gossip.registry import create, validate
from p2pser.graph.spec import Topology
from p2pser.models import for_run
from p2pser.models.start import begun
from p2pser.network.asynchronous import AsynchronousDriver
from p2pser.network.awaited import LONGEST
from p2pser.network.descriptors import raise_limit
from p2pser.network.events import Event
from p2pser.network.io import IOThread
from p2pser.network.mixer import NetworkMixer
from p2pser.network.past import PastExchanges
from p2pser.peer.clips import known_now, notice, require_consent
from p2pser.peer.draws import key_of_draws, seed_of
from p2pser.peer.ending import Ending, LastPhase
from p2pser.peer.entrance import Entrance
from p2pser.peer.figures import Figures
from p2pser.peer.folder import PeerFolder
from p2pser.peer.growth import Anew, Growth, Retired
from p2pser.peer.handover import Handover, ModelTaken
from p2pser.peer.identity import Identity, address, identify
from p2pser.peer.join_state import Joining
from p2pser.peer.labelling import Labelling, require_own
from p2pser.peer.outcome import Outcome
from p2pser.peer.recorder import Checkpoints, Recorder, Sink
from p2pser.peer.recording import Recording
from p2pser.peer.reporter import Reporter
from p2pser.peer.scaling import ScalingChoice
from p2pser.peer.summing import PeerSecrets, public_keys
from p2pser.peer.supervisor import Supervisor
from p2pser.peer.telemetry import Telemetry, to_all
from p2pser.peer.waits import Waits
from p2pser.run.account import complete
from p2pser.run.participant import Cohort
from p2pser.run.session import Session
from p2pser.run.setup import weighs
from p2pser.wire.hello import START, Hello, normalised_settings

FIRST_MOMENT = 1767225600.0
"""The start of 2026 [s since the epoch]: an incarnation counts tenths of seconds from then, so that it fits 32 bits."""


class Interrupted(Exception):
    """This peer was asked to stop (Ctrl-C, SIGTERM)."""


class Peer:
    """The work of a peer's process: ``run`` does all of it, ``interrupt`` (from a signal handler) ends it early.

    Parameters
    ----------
    config, topology : the run's.
    me : the peer's id.
    fresh : remove the files of an earlier run in the same folder.
    sink : receives each record of telemetry, and sketches. hear : the same, without sketches.
    say : receives messages for the user.
    federation : the data; default: read here.
    supervisor : the service manager that started this process; default: none.
    """

    def __init__(self, config: Config, topology: Topology, me: int, *, fresh: bool = False, sink: Sink | None = None,
                 hear: Sink | None = None, say: Callable[[str], None] = lambda sentence: None,
                 federation: Federation | None = None, supervisor: Supervisor | None = None) -> None:
        config, self._not_private = by_mode(config, topology)
        self.config, self.topology, self.me = for_run(config, topology.size), topology, me
        self.folder = PeerFolder(config, topology, me)
        self._fresh, self.sink, self._hear, self.say, self._federation = fresh, sink, hear, say, federation
        self.supervisor = supervisor or Supervisor({})
        self.figures = Figures(self.config, me, self.supervisor)
        self._stop = False
        self._wake: Callable[[], None] = lambda: None
        self._renewed: Callable[[], Topology] | None = None

    def interrupt(self) -> None:
        """Let the peer leave with a checkpoint; safe in a signal handler."""
        self._stop = True
        self._wake()

    def read_again(self, read: Callable[[], Topology]) -> None:
        """Take addresses and keys from the topology that ``read`` returns; safe in a signal handler."""
        self._renewed = read
        self._wake()

    def run(self) -> Ending:
        """Train, gossip and write a model. Raises P2PSERError where that is not possible."""
        identity = identify(self.config, self.topology, self.me)
        if self._fresh or (summary := self.folder.finished()) is None:
            return self._attend(identity)
        self.say(f"peer {self.me} has finished this run: its model is at {self.folder.model}; "
                  "start over with --fresh, or give the next run another name (--name)")
        if not self.folder.outcome.exists():
            return Ending(True, summary)
        try:
            return self._attend(identity, summary)
        except P2PSERError as error:
            self.say(f"peer {self.me} cannot hand its model to neighbours: {error}")
            return Ending(True, summary)

    def _attend(self, identity: Identity, finished: dict[str, Any] | None = None) -> Ending:
        """Take part in the run. With ``finished``, the summary of a run that is over, only hand its model over."""
        with contextlib.ExitStack() as held:
            held.enter_context(self.figures.serve())
            self.folder.lock(self._fresh)
            held.enter_context(self.folder)
            torch.set_num_threads(self.config.training.threads)
            raise_limit()
            self._federation = self.read()  # before files of an earlier run are changed: it raises if the data is wrong
            require_consent(self.folder, clips := known_now(self._federation, self.me))
            incarnation = self.folder.begin(self._fresh, self.moment())
            telemetry = held.enter_context(Telemetry(
                self.folder.path, to_all(self.figures.take, self._hear, self.sink), self.config.peer.log_bytes))
            recording = held.enter_context(Recording(self.folder, incarnation, self.config.privacy.record, telemetry))
            draws = key_of_draws(self.config, self.topology, self.me, self.folder)
            cohort, algorithm = self.prepare(telemetry, draws)
            if finished is None:
                notice(self.folder, clips, self.me, telemetry, self.say)
            self.say(f"peer {self.me}, {what_neighbours_learn(algorithm, self.topology, self._not_private)}")
            expected: frozenset[int] | None = None
            past = PastExchanges()
            while True:
                hello = self.hello(cohort, incarnation)
                io = self.attach(hello, identity, max(1 << 20, 16 * cohort.largest + (1 << 16)))
                try:
                    return _Attendance(self, telemetry, cohort, algorithm, io, identity, draws, incarnation,
                                       expected, past, recording).run(finished)
                except Anew as change:
                    self.say(f"peer {self.me} {change.does}")
                    self.topology, expected, past = change.topology, change.expected or expected, change.past
                    incarnation = self.folder.renew(self.topology)
                    algorithm, identity = self.algorithm(), identify(self.config, self.topology, self.me)

    def moment(self) -> int:
        """Return the time in tenths of seconds, for the incarnation of a peer whose folder was lost."""
        return min(max(0, int((time.time() - FIRST_MOMENT) * 10)), 2**31)

    def attach(self, hello: Hello, identity: Identity, max_row_bytes: int) -> IOThread:
        """Return this peer's I/O thread, not started yet. The simulator of whole peers overrides this."""
        self.supervisor.watch()
        return IOThread(hello, identity.keys, identity.listen, identity.neighbours, self.config.network, max_row_bytes,
                        pulse=self.supervisor.pulse)

    # Before the network -------------------------------------------------------------------------------------

    def prepare(self, telemetry: Telemetry | None = None, draws: bytes | None = None) -> tuple[Cohort, Algorithm]:
        """Read the recordings, make the model and the algorithm, and validate them.

        telemetry : receives an event for each clip that is left out. draws : the key of the local work's random draws;
        None: the run's seed.
        """
        config, federation = self.config, self.read()
        if telemetry is not None:
            for path, why in federation.left_out:
                telemetry.event("clip_left_out", path=str(path), reason=why)
        for note in federation.notes:
            self.say(note)
        agree = agreed_by_peers(config)
        cohort = Cohort(config, federation, {self.me: federation.train[self.me]}, compact=True,
                        draws=seed_of(draws), agreed=not agree)
        if agree and (labels := self.folder.labels()) is not None:
            require_own(federation.labels, labels, self.me)
            cohort.learn(labels)
        return cohort, self.algorithm()

    def read(self) -> Federation:
        """Return this peer's data. Raises P2PSERError where the data or the algorithm does not fit the run."""
        config, topology = self.config, self.topology
        create(config.gossip.algorithm, config.gossip.parameters, config, topology)
        return self._federation or federate(begun(config), topology.size, only=self.me, hub=topology.hub,
                                            forgotten=self.folder.forgotten())

    def algorithm(self) -> Algorithm:
        """Return the algorithm for the present topology, validated."""
        algorithm = create(self.config.gossip.algorithm, self.config.gossip.parameters, self.config, self.topology)
        for warning in validate(algorithm, self.config, self.topology):
            self.say(warning)
        return algorithm

    def hello(self, cohort: Cohort, incarnation: int) -> Hello:
        """Return this peer's HELLO."""
        config, federation = self.config, cohort.federation
        settings = {**config.shared(), "features.normalise": cohort.declared,
                    "features.version": made_by(config.features), "draws": probe(), **plugins(config)}
        if agreed_by_peers(config):
            settings["corpus.labels"] = "agreed by the peers"
        if federation.normalise == "public":
            settings["features.statistics"] = recipe()
        if cohort.start is not None:
            settings[START] = cohort.start.digest
        schema, initial = cohort.marks
        clips = max(1, len(cohort.participants[0].examples)) if weighs(config.gossip, self.topology) else 0
        return Hello(
            run=config.name, peer=self.me, incarnation=incarnation, settings=normalised_settings(settings),
            topology=self.topology.digest(), epoch=self.topology.epoch, schema=schema, initial=initial,
            labels=federation.labels if cohort.agreed else (), clips=clips, width=cohort.widths[self.me],
            process=secrets.token_hex(8), weights=self._solved())

    def _solved(self) -> dict[str, float]:
        """Return the weights of this peer's edges by neighbour, if a solver has computed them; else {}."""
        if self.topology.weights != "fastest":
            return {}
        row = self.topology.matrix()[self.me]
        return {str(j): float(row[j]) for j in self.topology.neighbours(self.me)}

    def look_up(self) -> None:
        """Raise Interrupted if this peer was asked to stop."""
        self.supervisor.got_on()
        if self._stop:
            raise Interrupted

    def look_up_file(self, growth: Growth) -> None:
        """Read the topology file if this peer was asked to."""
        if self._renewed is not None:
            read, self._renewed = self._renewed, None
            try:
                self.say(growth.read(read()))
            except P2PSERError as error:
                self.say(f"peer {self.me} goes on with the topology that it has: {error}")

    def wake_by(self, io: IOThread) -> None:
        """Let ``interrupt`` and ``read_again`` wake the training thread, which may be waiting for a message."""
        self._wake = io.wake


class _Attendance:
    """A peer's participation in the run, from its first message to its model."""

    def __init__(self, peer: Peer, telemetry: Telemetry, cohort: Cohort, algorithm: Algorithm, io: IOThread,
                 identity: Identity, draws: bytes | None, incarnation: int, expected: frozenset[int] | None,
                 past: PastExchanges, recording: Recording) -> None:
        config, topology, me = peer.config, peer.topology, peer.me
        network, rounds = config.network, config.training.rounds
        self.peer, self.config, self.topology, self.me = peer, config, topology, me
        self.telemetry, self.cohort, self.algorithm, self.io = telemetry, cohort, algorithm, io
        self.incarnation, self.expected = incarnation, expected
        self.checkpoints = Checkpoints(config, topology, me, peer.folder, cohort.schema.digest(),
                                       asynchronous=algorithm.asynchronous, draws=draws)
        self.reporter = Reporter(me, telemetry, peer.say, self.checkpoints.pin, io.clock)
        sums = PeerSecrets(identity.keys, public_keys(config, topology), config.name, peer.folder, draws,
                           self.reporter.of_sum) if algorithm.sums else None
        self.mixer = NetworkMixer(
            io, topology, me, cohort.schema if cohort.agreed else None, slots=algorithm.slots, rounds=rounds,
            clips=max(1, len(cohort.participants[0].examples)) if weighs(config.gossip, topology) else None,
            round_timeout=network.round_timeout, apart=network.dead_after, secrets=sums, observe=self._observe,
            tap=recording.tap, check=self._look_up, clock=io.clock)
        self.mixer.exchange.go_on_from(past)
        self.scaling = ScalingChoice(me, cohort, peer.folder, self.reporter, self._learned)
        # Made before the set-up, since neighbours may train already.
        self.joining = Joining(self.mixer, topology, rounds, sums=cohort.lengths, like=cohort.initial()[0],
                               patience=network.round_timeout, grace=network.dead_after,
                               ready=lambda: self.labelling.known(), clock=io.clock)
        self.handover = Handover(self.mixer, topology, rounds, size=cohort.schema.size, sums=cohort.lengths,
                                 tolerance=config.gossip.consensus_tolerance, say=self.reporter.say,
                                 ready=lambda: self.labelling.known())
        self.labelling = Labelling(cohort, self.mixer, peer.folder, self.reporter, self._learned)
        self.growth = Growth(config, topology, me, incarnation, self.mixer, self.reporter)
        self.waits = Waits(config, topology, me, self.mixer, self.reporter, io.clock)
        self.driver = AsynchronousDriver(self.mixer, algorithm, seed=config.seed, rounds=rounds, clock=io.clock) \
            if is_asynchronous(algorithm) else None
        self.recorder = Recorder(config, me, cohort, algorithm, self.mixer, checkpoints=self.checkpoints,
                                 reporter=self.reporter, joining=self.joining, growth=self.growth, waits=self.waits,
                                 driver=self.driver, sink=peer.sink, look_up=peer.look_up,
                                 status=peer.supervisor.status, recording=recording)
        self.session = Session(config, topology, cohort, algorithm, self.mixer, driver=self.driver, hooks=self.recorder)
        self.last_phase = LastPhase(config, topology, me, cohort, algorithm, self.mixer, driver=self.driver,
                                    folder=peer.folder, recorder=self.recorder, reporter=self.reporter,
                                    handover=self.handover, parts=lambda: self.session.parts)
        peer.figures.follow(io, self.checkpoints)
        peer.wake_by(io)

    def run(self, finished: dict[str, Any] | None) -> Ending:
        """Meet the neighbours, run the session, write the model, hand it to neighbours that lack one.

        finished : the summary of a finished run, of which only the handover is left to do.
        """
        problem: dict[str, str] = {}
        reason, began = "failed", self.io.clock()
        try:
            end, summary = self._model(finished)
            reason = "done"
            while True:
                try:
                    with contextlib.suppress(Interrupted):
                        summary = self.last_phase.calibrate(end, summary, self.session)
                        self.last_phase.hand_over(end, ask=finished is not None and not complete(summary))
                        summary = self.last_phase.alone(summary)
                    break
                except ModelTaken as taken:
                    end = taken.outcome
                    summary = self.last_phase.replace(end, self.io.clock() - began)
        except Interrupted:
            reason = "interrupted"
            return self.last_phase.leave()
        except Anew as change:
            reason = str(change)
            raise
        except Retired as retired:
            reason = str(retired)
            self.reporter.say(f"peer {self.me} leaves the run for good: epoch {retired.epoch} of the topology file "
                              "retires it; its last state stays in its folder")
            return Ending(False, {"peer": self.me, "finished": False, "round": self.checkpoints.round,
                                  "out": str(self.peer.folder.path)})
        except P2PSERError as error:
            problem = {"problem": str(error)}
            raise
        finally:
            self.io.close(reason, flush=1.0 if reason in ("failed", "interrupted") else self.config.network.dead_after)
            self.telemetry.event("left", reason=reason, **problem)
        if finished is None:
            self.telemetry.event("finished", **summary)
        return Ending(True, summary)

    def _model(self, finished: dict[str, Any] | None) -> tuple[Outcome, dict[str, Any]]:
        """Return the outcome of the run and its summary, both on disk. Afterwards this peer listens."""
        started, kept = self.io.clock(), self.last_phase.kept()
        if kept is not None:
            end, so_far = kept
            self.session.share(end.call)
            summary = (self.peer.folder.model.exists() and finished) or self.last_phase.complete(end, so_far)
        self.io.start()
        self.telemetry.event(
            "listening", endpoint=self.io.endpoint, incarnation=self.incarnation,
            dead_after=self.config.network.dead_after,
            neighbours={j: address(self.config, self.topology, j) for j in self.topology.neighbours(self.me)})
        self.peer.supervisor.ready()
        if kept is None:
            end = self._session()
            summary = self.last_phase.conclude(end, self.io.clock() - started)
        return end, summary

    def _look_up(self) -> None:
        self.peer.look_up()
        self.peer.look_up_file(self.growth)
        self.waits.look_up()
        self.handover.look_up(self._fitted)

    def _fitted(self, end: Outcome, sender: int) -> Tensor:
        """Return this peer's row of a model that neighbour ``sender`` has handed over."""
        self.session.share(end.call)
        row = self.session.fitted(sender, end.row)
        self.scaling.heard(end.call, end.sums)
        return row

    def _learned(self) -> None:
        """Update what depends on the emotions and the scaling of features, of which one has just been agreed on."""
        cohort = self.cohort
        self.checkpoints.schema = cohort.schema.digest()
        for parcels in (self.joining, self.handover):
            parcels.expect(cohort.lengths, cohort.schema.size)

    def _observe(self, event: Event) -> None:
        self.joining.observe(event)
        self.growth.observe(event)
        self.handover.observe(event)
        self.reporter.observe(event)
        self.peer.figures.observe(event)

    def _session(self) -> Outcome:
        """Enter the run and run the session to its end. Neighbours that are at the end already, or have agreed without
        this peer, hand their model over instead."""
        try:
            end = self._trained()
            self.handover.left_out(end, LONGEST * self.config.network.round_timeout)
            return end
        except ModelTaken as taken:
            self.mixer.close()  # the session has not ended: open exchanges count as drift
            return taken.outcome

    def _trained(self) -> Outcome:
        entry = Entrance(self.session, self.mixer, self.joining, self.checkpoints, self.reporter, self.waits,
                         self.scaling, self.expected,
                         self.labelling if agreed_by_peers(self.config) else None).enter()
        self.recorder.known(entry.call, entry.sums, self.session.parts, joined=entry.joined)
        report = self.mixer.local_step if self.driver is None else self.driver.local_step
        end = self.session.run(entry.call, entry.sums, state=entry.state, start=entry.start, joined=entry.joined,
                               report=report)
        self.mixer.exchange.begin(self.last_phase.next_step, ())
        return Outcome(end.final, entry.call, entry.sums)
