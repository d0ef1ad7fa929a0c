"""The work of a peer between the rounds of its session: checkpoints, metrics, and states for joining peers."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from p2pser.base.energy import Meter
from p2pser.base.errors import P2PSERError
from p2pser.base.wording import counted
from p2pser.config import Config
from p2pser.evaluation.outputs import Outputs
from p2pser.gossip.agreement.consensus import Consensus
from p2pser.gossip.algorithm import Algorithm, State
from p2pser.gossip.partial import Parts
from p2pser.graph.spec import Topology
from p2pser.network.asynchronous import AsynchronousDriver
from p2pser.network.mixer import NetworkMixer
from p2pser.peer.draws import KEY
from p2pser.peer.folder import PeerFolder
from p2pser.peer.growth import Growth, NextEpoch, Retired
from p2pser.peer.join_state import Joining
from p2pser.peer.needed import Needed
from p2pser.peer.outcome import SUMS
from p2pser.peer.recording import Recording
from p2pser.peer.reporter import Reporter
from p2pser.peer.sketch import Sketch
from p2pser.peer.telemetry import now
from p2pser.peer.waits import Waits
from p2pser.run import checkpoint
from p2pser.run.participant import Cohort
from p2pser.run.session import Hooks
from p2pser.run.setup import RollCall, kept_checkpoints, lead
from p2pser.wire.messages import Phase

Sink = Callable[[dict[str, Any]], None]


class Checkpoints:
    """The checkpoints of a peer: written at the start of a round, the newest few kept.

    Parameters
    ----------
    config, topology, me : the run's, and the peer's id.
    folder : where the peer writes.
    asynchronous : whether peers run without lock-step: then a peer can be any number of rounds ahead of another, and
        all checkpoints are kept.
    schema : the digest of the rows' layout.
    draws : the key of the peer's draws, kept in each checkpoint; None: it has none.
    """

    def __init__(self, config: Config, topology: Topology, me: int, folder: PeerFolder, schema: str, *,
                 asynchronous: bool, draws: bytes | None = None) -> None:
        self._draws = draws
        self._config, self._me, self.schema, self._topology = config, me, schema, topology
        self.folder = folder.checkpoints
        self.ended_after = folder.ended_after()
        """The number of rounds after which the continued run had ended; None: it had not."""
        every = config.peer.checkpoint_every
        self._keep = config.training.rounds // every + 1 if asynchronous else kept_checkpoints(lead(topology), every)
        self.reach = None if asynchronous else self._keep * every
        """By how many rounds the peers may go back for peers that were killed earlier (``run.setup.resume_round``)."""
        self._pinned: list[int] | None = None
        self.saved_at = checkpoint.written_at(self.folder)
        """When the newest checkpoint was written, in seconds since the epoch; None: there is none."""
        self.round: int | None = None
        """The round that began last; None before the first."""
        self._start: State | None = None
        """The state at its start, until it is on disk."""

    def available(self) -> list[int]:
        """Return the rounds of which there is a complete checkpoint."""
        return checkpoint.available(self.folder)

    def set_aside_after(self, round: int) -> list[int]:
        """Set the checkpoints of later rounds aside, which the run will not reach as it did before; return them."""
        later = [other for other in self.available() if other > round]
        checkpoint.set_aside(self.folder, later)
        return later

    def remove_set_aside(self) -> None:
        """Remove the checkpoints that were set aside, once the run has finished."""
        checkpoint.remove_set_aside(self.folder)

    def load(self, round: int) -> tuple[State, Tensor, bool]:
        """Return the state at a round's start, the statistics' sums (S,), and whether the topology is the same."""
        rows, edges, meta = checkpoint.load(self.folder, round)
        sums, digest = rows.pop(SUMS), self._topology.digest()
        return State(rows, edges), sums.reshape(-1), meta.get("topology", digest) == digest

    def round_begins(self, round: int, state: State) -> None:
        """Note the state of which ``save`` writes a checkpoint, as long as training has not changed it (``hold``)."""
        self.round, self._start = round, state

    def hold(self) -> None:
        """Copy the state unless it is on disk: training changes the optimiser's rows in place, and an interrupted peer
        writes those of the round's start.
        """
        if (state := self._start) is not None:
            self._start = State({name: rows.clone() for name, rows in state.rows.items()},
                                {edge: dict(kept) for edge, kept in state.edges.items()})

    def save(self, sums: Tensor, *, prune: bool = True) -> None:
        """Write the checkpoint of the round that began last. Raises CheckpointError where it cannot be written.

        sums : (S,) of the statistics. prune : remove the checkpoints that are no longer needed.
        """
        state, round = self._start, self.round
        if state is None or round is None:
            return
        meta = {"round": round, "run": self._config.name, "peer": self._me, "schema": self.schema,
                "epoch": self._topology.epoch, "topology": self._topology.digest(),
                **({} if self._draws is None else {KEY: self._draws.hex()})}
        checkpoint.save(self.folder, round, {**state.rows, SUMS: sums[None]}, state.edges, meta)
        self.saved_at = time.time()
        self._start = None
        if prune:
            checkpoint.prune(self.folder, self._keep, self._pinned or ())

    def due(self, round: int) -> bool:
        """Whether to write a checkpoint at the start of a round."""
        last = round == self._config.training.rounds
        return round > 0 and (round % self._config.peer.checkpoint_every == 0 or last)

    def pin(self) -> None:
        """Keep the checkpoints from before the first loss of a neighbour: at the next start all peers have these."""
        if self._pinned is None:
            self._pinned = self.available()


class Recorder(Hooks):
    """The hooks of a peer's session.

    Parameters
    ----------
    config, me, cohort, algorithm, mixer : the session's.
    checkpoints, reporter : write checkpoints and events.
    joining : sends the join states that neighbours have asked for.
    growth : decides after which round another topology takes effect. waits : reports rounds that last too long.
    driver : of asynchronous algorithms, whose reports are recorded; None in lock-step.
    sink : receives sketches of the rows, for a viewer on this machine; None: no sketches are made.
    look_up : called between exchanges; may raise an exception, which ends the run.
    status : called after each round with a sentence about the progress of the peer.
    recording : keeps this peer's rows for an audit, where one is asked for.
    """

    def __init__(self, config: Config, me: int, cohort: Cohort, algorithm: Algorithm, mixer: NetworkMixer, *,
                 checkpoints: Checkpoints, reporter: Reporter, joining: Joining, driver: AsynchronousDriver | None,
                 growth: Growth, waits: Waits, sink: Sink | None, look_up: Callable[[], None],
                 status: Callable[[str], None], recording: Recording) -> None:
        self.config, self.me, self.cohort, self.algorithm, self.mixer = config, me, cohort, algorithm, mixer
        self.checkpoints, self.reporter, self.driver, self.joining = checkpoints, reporter, driver, joining
        self.growth, self.waits = growth, waits
        self.needed = Needed(algorithm, mixer, reporter, config.network.hub_wait)
        self.call = RollCall(0, {}, frozenset())
        self.sums = torch.zeros(0, dtype=torch.float64)
        self.parts: Parts | None = None
        self.joined = False
        self.uar_before: float | None = None
        """The last measured UAR of this peer's own parameters, before the final consensus."""
        self.training_bytes = 0
        """Bytes sent until the end of the last round."""
        self._sink, self._look_up, self._status = sink, look_up, status
        self._recording = recording
        self._sketch: Sketch | None = None
        self._round_began = 0.0
        self.meter = Meter(config.peer.watts)

    def known(self, call: RollCall, sums: Tensor, parts: Parts | None, *, joined: bool) -> None:
        """Take the results of the set-up, which checkpoints and joining peers need.

        Parameters
        ----------
        call : the roll call.
        sums : (S,) of the statistics.
        parts : which entries of a row cross each edge; None: all of them.
        joined : whether this peer joined a running run.
        """
        self.call, self.sums, self.parts, self.joined = call, sums, parts, joined
        if self._recording.on:
            self._recording.sums(sums, len(call.widths))
        if self._sink is not None:
            shared = None if parts is None else parts.everywhere(self.me)
            self._sketch = Sketch(self.cohort.schema.size, self.config.seed, shared)

    def save_checkpoint(self, *, prune: bool = True) -> bool:
        """Write a checkpoint; return whether it is on disk.

        A full disk does not end the run, since the neighbours depend on it: the previous checkpoint stays.
        """
        try:
            self.checkpoints.save(self.sums, prune=prune)
            return True
        except P2PSERError as error:
            self.reporter.tell("checkpoint_failed", str(error), round=self.checkpoints.round, reason=str(error))
            return False

    # Hooks --------------------------------------------------------------------------------------------------

    def warn(self, sentence: str) -> None:
        self.reporter.say(sentence)

    def statistics(self, agreed: Consensus) -> None:
        self.reporter.event("statistics", exchanges=agreed.exchanges, distance=agreed.distance)

    def training(self, start: int) -> None:
        begins = "joins the run in" if self.joined else "resumes at" if start else "starts with"
        clips, size = sum(self.cohort.work.clips), self.cohort.schema.size
        near = len(self.mixer.neighbours)
        if self._recording.on:
            self.cohort.work.trained = self._recording.trained
        self.reporter.say(f"peer {self.me} {begins} round {start}: {counted(clips, 'clip')}, {size} "
                          f"parameters, {counted(near, 'neighbour')}")

    def before_round(self, round: int, state: State) -> int | None:
        self._look_up()
        self._round_began = time.monotonic()
        self.checkpoints.round_begins(round, state)
        if self._recording.on:
            self._recording.held(round, state.rows["x"])
        last = round == self.config.training.rounds
        if self.needed.missing(last):
            self.save_checkpoint(prune=False)
            self.needed.wait(last, lambda: self._answer(round, state))
            if (later := self.mixer.next_round(round - 1)) > round:
                return later
        if self.checkpoints.due(round):
            self.save_checkpoint()
        self.checkpoints.hold()
        if round < self.config.training.rounds:
            self.mixer.enter(Phase.TRAIN, round)
        self._answer(round, state)
        return None

    def after_round(self, round: int, state: State) -> None:
        row, seconds = self.algorithm.model(state)[0], time.monotonic() - self._round_began
        record: dict[str, Any] = {
            "at": now(), "peer": self.me, "round": round, "loss": self.cohort.work.take_losses()[0],
            "distance": self.mixer.exchange.spread, "seconds": seconds, "bytes_sent": self.mixer.bytes_sent(),
            "messages_late": self.mixer.exchange.messages_late, "links": self.mixer.io.states()}
        if (round + 1) % self.config.peer.evaluate_every == 0 or round + 1 == self.config.training.rounds:
            record |= scores(self.outputs(row))
            self.uar_before = record["uar"]
        if self.driver is not None:
            record |= {"distance": None, "asynchronous": self.driver.report()}
        self.reporter.telemetry.metrics(**record)
        self.meter.look()
        self.waits.round_over(round, seconds)
        self._status(f"round {round + 1} of {self.config.training.rounds} is over: loss {record['loss']:.3f}")
        self._show(row, round=round)
        try:
            self.growth.round_over(round + 1)
        except (NextEpoch, Retired):
            self.checkpoints.round_begins(round + 1, state)
            self.save_checkpoint(prune=False)
            raise

    def rounds_done(self, state: State) -> None:
        self.growth.rounds_over()
        self.training_bytes = self.mixer.bytes_sent()

    def consensus(self, exchange: int, rows: Tensor) -> None:
        self._look_up()
        self._show(rows[0], exchange=exchange)

    def outputs(self, row: Tensor) -> Outputs | None:
        """Return the outputs of a model (D,) for the held-out clips; None if no clips are held out."""
        return self.cohort.evaluate(row) if self.cohort.tests else None

    def _answer(self, round: int, state: State) -> None:
        """Send the state of the run to the neighbours that have asked for it."""
        self.joining.answer(round, self.call, self.sums, state.rows["x"][0], self.parts)

    def _show(self, row: Tensor, **where: int) -> None:
        if self._sink is not None and self._sketch is not None:
            self._sink({"kind": "sketch", "peer": self.me, **where, "sketch": self._sketch.of(row)})


def scores(outputs: Outputs | None) -> dict[str, Any]:
    """Return ``uar``, None without held-out clips, and ``ccc`` if dimensions are learned."""
    if outputs is None:
        return {"uar": None}
    return {"uar": outputs.uar} if outputs.ratings is None else {"uar": outputs.uar, "ccc": outputs.ccc}


