"""The end of a peer's run: its model, its summary, and the checkpoint of one that leaves early."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from p2pser.config import Config
from p2pser.gossip.agreement.consensus import Consensus
from p2pser.gossip.algorithm import Algorithm
from p2pser.graph.spec import Topology
from p2pser.models.directory import save
from p2pser.network.asynchronous import AsynchronousDriver
from p2pser.network.mixer import NetworkMixer
from p2pser.peer.folder import PeerFolder
from p2pser.peer.recorder import Recorder
from p2pser.peer.reporter import Reporter
from p2pser.run.account import INCOMPLETE, account, complete, in_words
from p2pser.run.card import CONSENSUS, card
from p2pser.run.participant import Cohort
from p2pser.run.session import End
from p2pser.training.fine_tuning import fine_tuned


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
    """What a peer does once its session is over, or interrupted.

    Parameters
    ----------
    config, topology, me : the run's, and the peer's id.
    cohort, algorithm, mixer, driver : the session's.
    folder, recorder, reporter : where the peer writes.
    """

    def __init__(self, config: Config, topology: Topology, me: int, cohort: Cohort, algorithm: Algorithm,
                 mixer: NetworkMixer, *, driver: AsynchronousDriver | None, folder: PeerFolder, recorder: Recorder,
                 reporter: Reporter) -> None:
        self.config, self.topology, self.me = config, topology, me
        self.cohort, self.algorithm, self.mixer, self.driver = cohort, algorithm, mixer, driver
        self.folder, self.recorder, self.reporter = folder, recorder, reporter

    def save(self, final: Consensus) -> Tensor | None:
        """Write the common model and, where one is asked for, the peer's own; return the own one's row."""
        row, agreed = final.rows[0], account(self.topology.size, final)["agreed"]
        self._save_model(self.folder.model, row, CONSENSUS, agreed)
        steps = self.config.training.fine_tune
        if not steps:
            return None
        personal = fine_tuned(self.cohort.work.learners[0], row.to(torch.float32))
        self._save_model(self.folder.personal, personal,
                         f"the consensus after the last round, then {steps} steps on peer {self.me}'s own clips",
                         agreed)
        return personal

    def _save_model(self, folder: Path, row: Tensor, selection: str, agreed: int | None) -> None:
        save(folder, row, self.cohort.schema, card(
            self.config, self.topology, self.cohort.federation, self.cohort.statistics,
            agreed=agreed, width=self.cohort.widths[self.me], selection=selection))

    def finish(self, end: End, personal: Tensor | None, seconds: float) -> Ending:
        """Write ``finished.json`` once all connections are closed; ``seconds``: of the whole run."""
        mixer, final, folder = self.mixer, end.final, self.folder
        traffic = mixer.io.traffic().values()
        summary: dict[str, Any] = {
            "peer": self.me, "finished": True, "rounds": self.config.training.rounds,
            **self.recorder.scores(final.rows[0]), "model": str(folder.model), "consensus": final.converged,
            "consensus_distance": final.distance if math.isfinite(final.distance) else None,
            "consensus_exchanges": final.exchanges,
            "consensus_bytes": mixer.payload_posted - self.recorder.training_bytes,
            "bytes_sent": mixer.bytes_sent(), "payload_sent": sum(link.payload_sent for link in traffic),
            "messages_sent": sum(link.messages_sent for link in traffic),
            "messages_late": mixer.exchange.messages_late, "drift": mixer.exchange.drift,
            "left_out": [[list(step), peer, status.value] for step, peer, status in mixer.left_out],
            **account(self.topology.size, final), "wall_s": seconds, "out": str(folder.path),
        }
        if personal is not None:
            summary |= {"personal": str(folder.personal), "uar_personal": self.recorder.scores(personal)["uar"]}
        if self.driver is not None:
            summary["asynchronous"] = self.driver.report()
        self._tell(summary)
        folder.finish(summary)
        self.recorder.checkpoints.remove_set_aside()
        self.reporter.event("finished", **summary)
        return Ending(True, summary)

    def _tell(self, summary: Mapping[str, Any]) -> None:
        """Say with whom the run ended."""
        who = f"peer {self.me}: {in_words(summary)}"
        if complete(summary):
            self.reporter.say(who)
        elif missing := summary["peers_dead"]:
            peers = f"peer{'s' if len(missing) > 1 else ''} {', '.join(map(str, missing))}"
            self.reporter.tell("incomplete", f"{who.upper()}: the model lacks what {peers} learned after the loss; "
                               f"start {peers} again with the same command, to take this model", missing=missing)
        else:
            distance = summary["consensus_distance"]
            apart = "" if distance is None else f" at a difference of {distance:.1e}"
            self.reporter.tell("incomplete", f"{who.upper()}: the final consensus was given up after "
                               f"{summary['consensus_exchanges']} exchanges{apart}, so the peers' models differ; "
                               "raise gossip.max_consensus_exchanges", missing=[])

    def leave(self) -> Ending:
        """Write a checkpoint and end before the run does."""
        checkpoints = self.recorder.checkpoints
        round = checkpoints.round
        if round is not None:
            # One more than is kept: the checkpoints that the other peers have too must stay.
            self.recorder.save_checkpoint(prune=False)
        where = f"with a checkpoint of round {round}" if round is not None else "before the first round"
        self.reporter.say(f"peer {self.me} leaves {where}; the same command resumes")
        return Ending(False, {"peer": self.me, "finished": False, "round": round, "out": str(self.folder.path)})
