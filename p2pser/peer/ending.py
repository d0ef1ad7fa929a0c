"""The end of a peer's run: its model, its summary, and the checkpoint of a peer that leaves early."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from p2pser.base.errors import P2PSERError
from p2pser.base.frames import finite
from p2pser.base.wording import peer_list
from p2pser.config import Config
from p2pser.evaluation.outputs import Outputs
from p2pser.features.normalisation import from_sums, sums
from p2pser.gossip.algorithm import Algorithm
from p2pser.gossip.mixer import Step
from p2pser.gossip.partial import Parts
from p2pser.graph.spec import Topology
from p2pser.models import directory
from p2pser.models.calibrated import NOT_ASKED, Calibrated
from p2pser.models.directory import Card
from p2pser.network.asynchronous import AsynchronousDriver
from p2pser.network.exchange import NEVER
from p2pser.network.mixer import NetworkMixer
from p2pser.network.states import State
from p2pser.peer import outcome
from p2pser.peer.disk import Disk
from p2pser.peer.folder import REPLACED, PeerFolder
from p2pser.peer.handover import Handover
from p2pser.peer.names import FINISHED, in_folder
from p2pser.peer.outcome import Outcome
from p2pser.peer.recorder import Recorder, scores
from p2pser.peer.reporter import Reporter
from p2pser.run import budget, checkpoint
from p2pser.run.account import INCOMPLETE, account, complete, in_words
from p2pser.run.calibration import HANDED_OVER, STOPPED
from p2pser.run.card import CONSENSUS, card
from p2pser.run.participant import Cohort
from p2pser.run.session import Session, train_alone
from p2pser.run.setup import calibration_round
from p2pser.training.fine_tuning import fine_tuned
from p2pser.wire.messages import Phase

QUIET = 2.0
"""How long a peer waits for neighbours that are about to finish too, before it reports that it waits [s]."""


@dataclass(frozen=True)
class Ending:
    """How a peer's run ended. ``finished`` is False where it was interrupted; ``summary`` is plain data."""

    finished: bool
    summary: dict[str, Any]

    @property
    def exit_code(self) -> int:
        """0; ``INCOMPLETE`` where the run ended without a peer that the topology declares."""
        return INCOMPLETE if self.finished and not complete(self.summary) else 0


class LastPhase:
    """The work of a peer after its session is over, or interrupted.

    Parameters
    ----------
    config, topology, me : the run's, and the peer's id.
    cohort, algorithm, mixer, driver : the session's.
    folder, recorder, reporter : where the peer writes.
    handover : hands the model to neighbours. parts : returns which entries of a row cross each edge.
    """

    def __init__(self, config: Config, topology: Topology, me: int, cohort: Cohort, algorithm: Algorithm,
                 mixer: NetworkMixer, *, driver: AsynchronousDriver | None, folder: PeerFolder, recorder: Recorder,
                 reporter: Reporter, handover: Handover, parts: Callable[[], Parts | None]) -> None:
        self.config, self.topology, self.me = config, topology, me
        self.cohort, self.algorithm, self.mixer, self.driver = cohort, algorithm, mixer, driver
        self.folder, self.recorder, self.reporter = folder, recorder, reporter
        self.handover, self.parts = handover, parts
        self._ends = config.training.rounds + 2
        """The round that a peer with a model reports; a calibration adds its three rounds."""
        self._disk = Disk(me, reporter, self._pause, mixer.io.clock)
        self._common: Card | None = None
        """The card of the common model, once this process has written it."""

    def kept(self) -> tuple[Outcome, dict[str, Any]] | None:
        """Return the outcome on disk of a run that has ended, and its summary so far; None if there is none."""
        end = outcome.kept(self.folder.outcome, self.config.training.rounds, self.topology)
        return end if end is None else (end[0], in_folder(end[1], self.folder.path))

    def conclude(self, end: Outcome, seconds: float) -> dict[str, Any]:
        """Write all results of a run, and return its summary. Raises P2PSERError where the disk does not take them.

        seconds : duration of the whole run.
        """
        summary = {"peer": self.me, "finished": True, "rounds": self.config.training.rounds,
                   **self._account(end), **self._traffic(), **self._budget(), "wall_s": seconds,
                   "uar_before": self.recorder.uar_before, "energy": self.recorder.meter.read().to_dict(),
                   "out": str(self.folder.path)}
        if self.driver is not None:
            summary["asynchronous"] = self.driver.report()
        self._disk.write("how the run ended", self.folder.outcome, 8 * end.row.numel(),
                         lambda: outcome.keep(self.folder.outcome, self.config.training.rounds, end, summary))
        return self.complete(end, summary)

    def complete(self, end: Outcome, summary: Mapping[str, Any]) -> dict[str, Any]:
        """Write the files that follow from an outcome on disk, in place of an earlier process's; return the summary."""
        row, folder, steps = end.row.to(torch.float32), self.folder, self.config.training.fine_tune
        if end.givers or not self.cohort.prepared:
            self.cohort.prepare(end.sums, len(end.call.widths))
        calibrated = Calibrated(HANDED_OVER if end.givers else STOPPED) if self.config.training.held_out else NOT_ASKED
        outputs = self.recorder.outputs(row)
        whole = {**summary, "model": str(folder.model), **scores(outputs), **calibrated.to_dict()}
        self._common = self._card(outputs, CONSENSUS, summary, calibrated)
        self.cohort.rest()
        self._write_model(folder.model, row, self._common)
        if steps:
            personal = fine_tuned(self.cohort.work.learners[0], row)
            outputs = self.recorder.outputs(personal)
            how = f"the consensus after the last round, then {steps} steps on peer {self.me}'s own clips"
            self._write_model(folder.personal, personal, self._card(outputs, how, {**summary, "privacy": None}))
            whole |= {"personal": str(folder.personal), "uar_personal": scores(outputs)["uar"]}
        self._disk.write("its summary", folder.path / FINISHED, len(json.dumps(whole)), lambda: folder.finish(whole))
        self._tell(whole)
        self.recorder.checkpoints.remove_set_aside()
        checkpoint.prune(self.folder.outcome, 1)  # the end of fewer rounds
        return whole

    @property
    def next_step(self) -> Step:
        """The first exchange after the final consensus."""
        config = self.config.training
        return Step(calibration_round(config.rounds), 0) if config.held_out else NEVER

    def calibrate(self, end: Outcome, summary: dict[str, Any], session: Session) -> dict[str, Any]:
        """Calibrate the model, which is on disk and is handed to neighbours that lack it meanwhile; return the summary.

        If that fails, the model stays as it is, and its card says why.

        session : calibrates together with the other peers. Without an end in this process, nothing is calibrated.
        """
        common = self._common
        if not self.config.training.held_out or session.ended is None or end.givers or common is None:
            return summary
        self.handover.offer(end, self.parts())
        self.mixer.enter(Phase.END, self._ends)
        self.mixer.io.announce_progress(self.mixer.neighbours)
        try:
            calibrated = session.calibrate()
        except P2PSERError as error:
            calibrated = Calibrated(f"none: {error}")
        self.mixer.exchange.begin(NEVER, ())
        self._ends += 3
        self.cohort.rest()
        whole = {**summary, **calibrated.to_dict()}
        its_card = replace(common, training={**common.training, "calibration": calibrated.how},
                           temperature=calibrated.temperature, heard=calibrated.heard, sets=calibrated.sets)
        try:
            self._disk.write("the card of its model", self.folder.model, 0,
                             lambda: directory.replace_card(self.folder.model, self.cohort.schema, its_card))
            self._disk.write("its summary", self.folder.path / FINISHED, 0, lambda: self.folder.finish(whole))
        except P2PSERError as error:
            self.reporter.say(f"{error}; the model there stays as it is, without the calibration")
            return summary
        self.reporter.tell("calibrated", f"peer {self.me}: {next(calibrated.lines())}", how=calibrated.how,
                           temperature=calibrated.temperature)
        return whole

    def alone(self, summary: dict[str, Any]) -> dict[str, Any]:
        """Train a second model without neighbours if ``peer.alone`` is set; return the summary with its UAR.

        Requests of neighbours are answered between its rounds.
        """
        cohort, rounds = self.cohort, self.config.training.rounds
        if not self.config.peer.alone or not cohort.tests or "uar_alone" in summary:
            return summary
        self.reporter.say(f"peer {self.me} trains a second model on its own clips alone, to measure what the network "
                          "has gained (peer.alone); Ctrl-C leaves that out")
        held = cohort.participants[0].examples.features
        try:
            own = from_sums(sums(held)) if cohort.federation.normalise == "global" and len(held) else None
            cohort.prepare_alone(own, report=self.mixer.local_step)
            (row,) = train_alone(cohort, rounds, lambda done: self.mixer.listen())
            whole = {**summary, "uar_alone": scores(self.recorder.outputs(row))["uar"]}
            self.folder.finish(whole)
        except (P2PSERError, OSError) as error:
            self.reporter.say(f"peer {self.me} cannot measure what it would have learned alone: {error}")
            return summary
        return whole

    def replace(self, end: Outcome, seconds: float) -> dict[str, Any]:
        """Set this peer's model aside for that of another outcome, and return its summary.

        seconds : as for ``conclude``.
        """
        aside = self.folder.model.with_name(REPLACED)

        def set_aside() -> None:
            (self.folder.path / FINISHED).unlink(missing_ok=True)  # a peer that is killed now ends its run once more
            if self.folder.model.exists():  # else a process that was killed has set it aside
                shutil.rmtree(aside, ignore_errors=True)
                self.folder.model.rename(aside)

        self._disk.write("its former model", aside, 0, set_aside)
        self.reporter.tell("replaced", f"peer {self.me} sets its former model aside in {aside}", path=str(aside))
        return self.conclude(end, seconds)

    def _card(self, outputs: Outputs | None, selection: str, summary: Mapping[str, Any],
              calibrated: Calibrated = NOT_ASKED) -> Card:
        cohort = self.cohort
        return card(self.config, self.topology, cohort.federation, cohort.statistics, agreed=summary["agreed"],
                    statistics_of=cohort.statistics_of, width=cohort.widths[self.me], selection=selection,
                    calibrated=calibrated, budget=summary.get("privacy"), start=cohort.start,
                    predictions=None if outputs is None else outputs.predictions, energy=summary.get("energy"))

    def _write_model(self, path: Path, row: Tensor, its_card: Card) -> None:
        def write() -> None:
            self.folder.make_way(path)
            directory.write(path, row, self.cohort.schema, its_card, private=True)

        self._disk.write("a model", path, 4 * row.numel(), write)

    def _budget(self) -> dict[str, Any]:
        report = self.algorithm.budget_report(self.mixer)
        return {} if report is None else {"privacy": dict(report)}

    def _account(self, end: Outcome) -> dict[str, Any]:
        final, roster = end.final, self.mixer.roster
        living = [j for j in self.mixer.neighbours if j in roster.here() or roster.state(j) is State.DONE]
        return {"consensus": final.converged,
                "consensus_distance": finite(final.distance),
                "consensus_exchanges": final.exchanges,
                **account(self.topology.size, final, [self.me], living, self.topology.retired),
                "handed_over_by": list(end.givers)}

    def _traffic(self) -> dict[str, Any]:
        mixer = self.mixer
        traffic = mixer.io.traffic().values()
        sent = mixer.bytes_sent()
        return {"consensus_bytes": sent - self.recorder.training_bytes, "bytes_sent": sent,
                "payload_sent": sum(link.payload_sent for link in traffic),
                "messages_sent": sum(link.messages_sent for link in traffic),
                "messages_late": mixer.exchange.messages_late, "drift": mixer.exchange.drift,
                "left_out": [[list(step), peer, status.value] for step, peer, status in mixer.left_out]}

    def hand_over(self, end: Outcome, *, ask: bool) -> None:
        """Answer the neighbours that ask for the model, until all have one or none asks for ``network.serve_after``.

        ask : ask the neighbours too, for a model on which more peers agreed; it is raised as ModelTaken.
        """
        clock, patience = self.mixer.io.clock, self.config.network.serve_after
        self.handover.offer(end, self.parts(), ask=ask)
        self.mixer.enter(Phase.END, self._ends)
        self.mixer.io.announce_progress(self.mixer.neighbours)
        began = clock()
        until, answered, reported, quiet = began + patience, 0, False, began
        while ((lacking := self.handover.lacking()) or clock() < quiet) and clock() < until:
            if ask and (lacking or self.handover.unanswered()):
                quiet = clock() + QUIET  # the neighbours may ask too
            self.mixer.listen(min(until - clock(), QUIET))
            if self.handover.answered > answered:
                answered, until = self.handover.answered, clock() + patience
            if not reported and lacking and clock() - began >= QUIET:
                reported = True
                self.reporter.say(f"peer {self.me} has its model ({self.folder.model}) and stays up to {patience:g} s "
                                  f"to hand it to {peer_list(lacking)}; Ctrl-C ends it")

    def _pause(self, seconds: float) -> None:
        until = self.mixer.io.clock() + seconds
        while (left := until - self.mixer.io.clock()) > 0:
            self.mixer.listen(left)

    def _tell(self, summary: Mapping[str, Any]) -> None:
        """Report which peers have agreed on the model."""
        who = f"peer {self.me}: {in_words(summary)}"
        if "privacy" in summary:
            self.reporter.say(f"peer {self.me}: {budget.in_words(summary['privacy'])}")
        if complete(summary):
            self.reporter.say(who)
        elif missing := sorted([*summary["peers_dead"], *summary["peers_apart"]]):
            peers = peer_list(missing)
            self.reporter.tell("incomplete", f"{who.upper()}: the model lacks what {peers} learned after the loss; "
                               f"start {peers} again with the same command, to take this model", missing=missing)
        elif self.mixer.secrets is not None:
            self.reporter.tell("incomplete", f"{who.upper()}: no total of a secure sum has reached them all (the lines "
                               "of the rounds say why), so the peers' models differ", missing=[])
        else:
            distance = summary["consensus_distance"]
            apart = "" if distance is None else f" at a difference of {distance:.1e}"
            self.reporter.tell("incomplete", f"{who.upper()}: the final consensus was stopped after "
                               f"{summary['consensus_exchanges']} exchanges{apart}, so the peers' models differ; "
                               "raise gossip.max_consensus_exchanges", missing=[])

    def leave(self) -> Ending:
        """Write a checkpoint and leave before the end of the run.

        Raises P2PSERError where the peer has a model and could not write it.
        """
        checkpoints = self.recorder.checkpoints
        round, where = checkpoints.round, "before the first round"
        if self.kept() is not None:
            where = "with its model kept"
        elif round is not None:
            # Without pruning: the checkpoints that the other peers have too must stay.
            written = self.recorder.save_checkpoint(prune=False)
            newest = round if written else max(checkpoints.available(), default=None)
            where = f"with a checkpoint of round {newest}" if newest is not None else "without a checkpoint"
        if self._disk.waits:
            raise P2PSERError(f"peer {self.me} leaves {where}, and without a model, since the disk does not take it: "
                              f"make room in {self.folder.path}, and the same command ends the run")
        self.reporter.say(f"peer {self.me} leaves {where}; the same command resumes")
        return Ending(False, {"peer": self.me, "finished": False, "round": round, "out": str(self.folder.path)})
