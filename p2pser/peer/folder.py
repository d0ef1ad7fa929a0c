"""A peer's folder, ``OUT/NAME/peer-ID/``: its run, the number of starts, and whether the run is finished.

A run may be continued with another number of rounds that is at least the number done: checkpoints do not depend on it,
and the files of a run's end (``end/``, ``finished.json``) name the number of rounds.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from p2pser.base.atomic import PRIVATE, append_privately, put_json, read_json, write_json
from p2pser.base.errors import ConfigError, unwritable
from p2pser.config import Config
from p2pser.gossip.agreement.budget import Budget
from p2pser.graph.spec import Topology
from p2pser.models.start import Start
from p2pser.models.widths import widths
from p2pser.peer.names import FINISHED, LOCK, MODEL, PERSONAL, RUN, STARTS, in_folder
from p2pser.peer.telemetry import EVENTS, METRICS, OLDER
from p2pser.run import checkpoint
from p2pser.wire.hello import START

CHECKPOINTS = "checkpoint"
REPLACED = "model-replaced"
"""The former model of a peer that has taken a model on which more peers agreed."""
DRAWS = "draws.key"
"""The secret key of the peer's random draws (peer.draws)."""
FORGOTTEN, WITHDRAWN, RECEIPTS = "forgotten.json", "forgotten-clips.json", "receipts"
"""The forgotten speakers, the digests of their clips, and the receipts (privacy.forgetting)."""
LEARNED = "forgotten-later.json"
"""The forgotten speakers on whose clips the run in this folder had trained before."""
CLIPS = "clips.json"
"""The digests of the clips of the last start (peer.clips)."""
SUMS = "sums.jsonl"
"""This peer's inputs to secure sums, by round (peer.summing)."""
LABELS = "labels.json"
"""The emotions of the run, if its peers have agreed on them."""
SCALING = "scaling.json"
"""The scaling of features, if the run's peers have agreed on it."""
ROUNDS, EPSILON, NOISE = "training.rounds", "privacy.epsilon", "privacy.noise"
"""The shared settings that may change from one start to the next; the last two only with a budget."""
LOCK_WAIT = 0.2
"""Longest wait for the lock [s]. A running peer holds it permanently, a program that asks for its state (peer.view)
only for an instant."""
RECORDINGS = "received"
"""What an audit needs (peer.recording)."""
OUTCOME = "end"
"""How the run ended: written before anything else at the end."""
REMOVED_BY_FRESH = (FINISHED, CHECKPOINTS, DRAWS, SUMS, LABELS, CLIPS, SCALING, LEARNED, RECORDINGS, OUTCOME, MODEL,
                    REPLACED, PERSONAL, METRICS, EVENTS, *OLDER.values(), RUN)
"""All files of a peer except the forgotten speakers and the number of starts: neighbours refuse a peer whose
incarnation does not grow. The run is last: as long as it is there, no run with other settings takes the rest for its
own."""


class PeerFolder:
    """The folder of one peer in one run."""

    def __init__(self, config: Config, topology: Topology, me: int) -> None:
        self.path: Path = config.peer.out / config.name / f"peer-{me}"
        self.checkpoints = self.path / CHECKPOINTS
        self.model = self.path / MODEL
        self.personal = self.path / PERSONAL
        self.outcome = self.path / OUTCOME
        self.forgotten_file = self.path / FORGOTTEN
        self.learned_file = self.path / LEARNED
        self.withdrawn_clips = self.path / WITHDRAWN
        self.clips = self.path / CLIPS
        self.receipts = self.path / RECEIPTS
        self.sums = self.path / SUMS
        self.recordings = self.path / RECORDINGS
        self._lock: IO[bytes] | None = None
        settings = config.shared()
        self._rounds = config.training.rounds
        self._config, self._size = config, topology.size
        if (width := widths(config.model, topology.size)[me]) != 1:  # that of the rows in checkpoints
            settings["model.width"] = width
        if (start := Start.of(config)) is not None:
            settings[START] = start.digest
        self._identity: dict[str, Any] = {"settings": settings, "topology": topology.digest(), "peer": me,
                                          "epoch": topology.epoch}

    def finished(self) -> dict[str, Any] | None:
        """Return the summary of the run if it is finished, else None.

        Raises ConfigError where the folder holds a run with other settings, or with more rounds done than these name.
        A start that did no round, as its neighbours refused it or it was stopped before, leaves no run.
        """
        if (run := read_json(self.path / RUN, dict)) is not None and self._holds_work():
            self._compare(run)
        summary = read_json(self.path / FINISHED, dict) if self.ended_after() is None else None
        return None if summary is None else in_folder(summary, self.path)

    def ended_after(self) -> int | None:
        """Return the number of rounds after which the run ended that this one continues; None if it continues none."""
        ended = self._ended(self._rounds)
        return ended if ended < self._rounds else None

    def _ended(self, default: int) -> int:
        """Return the number of rounds after which a run has ended here; ``default`` if none has."""
        rounds = (read_json(self.path / FINISHED, dict) or {}).get("rounds")
        return rounds if isinstance(rounds, int) else default

    def forgotten(self) -> tuple[str, ...]:
        """Return the speakers whose clips are excluded."""
        return tuple(read_json(self.forgotten_file, list) or ())

    def keep_labels(self, labels: Sequence[str]) -> None:
        """Write the emotions of the run."""
        write_json(self.path / LABELS, list(labels), mode=PRIVATE)

    def labels(self) -> tuple[str, ...] | None:
        """Return the emotions of the run; None if it has not begun, or settings fix them."""
        return tuple(read_json(self.path / LABELS, list) or ()) or None if self._begun() else None

    def keep_scaling(self, how: str) -> None:
        """Write the scaling of features."""
        write_json(self.path / SCALING, how, mode=PRIVATE)

    def scaling(self) -> str | None:
        """Return the scaling of features in the run; None if it has not begun, or settings fix it."""
        return read_json(self.path / SCALING, str) if self._begun() else None

    def _begun(self) -> bool:
        return self.outcome.exists() or bool(checkpoint.available(self.checkpoints))

    def _holds_work(self) -> bool:
        """Whether a start has done a round, or written a model."""
        metrics = self.path / METRICS
        return any((self.path / name).exists() for name in (OUTCOME, FINISHED, MODEL)) \
            or any(self.checkpoints.glob("*")) or (metrics.exists() and metrics.stat().st_size > 0)

    def claim(self, fresh: bool, least: int = 0) -> int:
        """``lock`` and ``begin``."""
        self.lock(fresh)
        try:
            return self.begin(fresh, least)
        except BaseException:
            self.release()
            raise

    def lock(self, fresh: bool) -> None:
        """Lock the folder for this process until ``release``; the files of an earlier run stay as they are.

        fresh: whether these will be removed later. Raises ConfigError where the folder holds a run with other settings,
        or another process has locked it.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = self._lock = append_privately(self.path / LOCK)
            locked = _locked(lock)
        except OSError as error:  # some network file systems have no locks
            self.release()
            raise unwritable(ConfigError, f"cannot make or lock the folder {self.path}: {error.strerror}; choose "
                             "another (--out)", error) from None
        try:
            if not locked:
                raise ConfigError(f"another process runs this peer in {self.path}: stop it first, or give this run "
                                  "another name (--name)")
            if not fresh:
                self.finished()
        except BaseException:
            self.release()
            raise

    def begin(self, fresh: bool, least: int = 0) -> int:
        """Begin or continue a run; return the incarnation of this start, larger than that of every start before.

        fresh: remove the files of an earlier run; those of a start with other settings that did no round are always
        removed. least: the smallest incarnation, larger than that of any start whose folder was lost.
        """
        same = read_json(self.path / RUN, dict) == self._identity
        if fresh or not (same or self._holds_work()):
            self._clear()
        if fresh or not same:
            write_json(self.path / RUN, self._identity, mode=PRIVATE)
        return self._start(least)

    def renew(self, topology: Topology) -> int:
        """Continue with a topology file, a later one perhaps; return the incarnation, as at a new start."""
        self._identity |= {"topology": topology.digest(), "epoch": topology.epoch}
        write_json(self.path / RUN, self._identity, mode=PRIVATE)
        return self._start(0)

    def _start(self, least: int) -> int:
        """Count a start, and return its incarnation."""
        starts = (read_json(self.path / STARTS, dict) or {}).get("starts")
        incarnation = max(starts if isinstance(starts, int) else 0, least)
        write_json(self.path / STARTS, {"starts": incarnation + 1}, mode=PRIVATE)
        return incarnation

    def release(self) -> None:
        """Unlock the folder."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> PeerFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def finish(self, summary: dict[str, Any]) -> None:
        """Mark the run as finished, with its summary. Raises OSError."""
        put_json(self.path / FINISHED, summary, mode=PRIVATE)

    def make_way(self, model: Path) -> None:
        """Remove a model that is about to be written anew. The model of the run's earlier end after R rounds is kept as
        ``MODEL-R``. Raises OSError.
        """
        ended = self.ended_after()
        kept = model.with_name(f"{model.name}-{ended}")
        if ended is not None and model.exists() and not kept.exists():  # if it exists, a killed process has moved it
            os.rename(model, kept)
        elif model.exists():
            shutil.rmtree(model)

    def _clear(self) -> None:
        kept = [path for model in (MODEL, PERSONAL) for path in self.path.glob(f"{model}-*")]
        for path in (*kept, *(self.path / name for name in REMOVED_BY_FRESH)):
            try:
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
            except OSError as error:
                raise ConfigError(f"cannot remove {path}: {error.strerror}; choose another folder (--out)") from None

    def _compare(self, run: dict[str, Any]) -> None:
        epoch, now = run.get("epoch", 0), self._identity["epoch"]
        if epoch > now:
            raise ConfigError(f"{self.path} has run with epoch {epoch} of the topology file, and this file has epoch "
                              f"{now}: give the newer one (--topology)")
        before, settings = run.get("settings", {}), self._identity["settings"]
        budgets = before.get(EPSILON) is not None and settings[EPSILON] is not None
        plan = {field: settings[field] for field in (ROUNDS, *((EPSILON, NOISE) if budgets else ()))}
        if {**run, "topology": "", "epoch": 0, "settings": {**before, **plan}} == \
                {**self._identity, "topology": "", "epoch": 0}:
            if any(before.get(field) != value for field, value in plan.items()):
                self._compare_plan(before)
            if epoch < now or run.get("topology") == self._identity["topology"]:
                return
            raise ConfigError(f"{self.path} holds a run with another graph of the same epoch {now} of its topology "
                              f"file ({run.get('topology', '')[:12]} then, {self._identity['topology'][:12]} now): "
                              f"write 'epoch: {now + 1}' into the new file to go on with it, give this run another "
                              "name (--name), or start over with --fresh")
        what = "the peer"
        for field in sorted({*before, *settings} - plan.keys(), key=lambda name: (name != START, name)):
            if before.get(field) != settings.get(field):
                what = f"{field} ({before.get(field)!r} then, {settings.get(field)!r} now)"
                break
        raise ConfigError(f"{self.path} holds a run with another value of {what}; "
                          "give this run another name (--name), or start over with --fresh")

    def _compare_plan(self, before: Mapping[str, Any]) -> None:
        """Raise ConfigError where the run cannot be continued with this number of rounds, or this noise."""
        if (done := max([self._ended(0), *checkpoint.available(self.checkpoints)])) > self._rounds:
            raise ConfigError(f"{self.path} has done {done} rounds, and this call names {self._rounds}: name at least "
                              f"{done} (--rounds), give this run another name (--name), or start over with --fresh")
        config = self._config
        if done and config.privacy.epsilon is not None:
            # The budget counts all rounds with the present noise, so the rounds done must have had the same.
            first = config.with_settings(f"{field}={json.dumps(before[field])}" for field in (ROUNDS, EPSILON, NOISE))
            then, now = (budget.noise for settings in (first, config)
                         if (budget := Budget.of(settings, self._size)) is not None)
            if then != now:
                raise ConfigError(f"the {done} rounds that {self.path} has done had the noise {then:.4g}, and with "
                                  f"these settings it would be {now:.4g}: set privacy.noise={then!r} at all peers "
                                  "to go on (training ends where privacy.epsilon is spent, which may be raised)")


def _locked(lock: IO[bytes]) -> bool:
    """Lock a file for this process only; return whether that was possible within LOCK_WAIT."""
    end = time.monotonic() + LOCK_WAIT
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                return False
            time.sleep(LOCK_WAIT / 10)
        else:
            return True
