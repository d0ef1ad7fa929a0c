"""Checkpoints of simulations: an interrupted simulation goes on from the last one, and ends with the same bits."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from p2pser.base.atomic import append_privately
from p2pser.base.errors import ConfigError
from p2pser.base.version import __version__
from p2pser.config import Config
from p2pser.features.federation import Federation
from p2pser.gossip.algorithm import Algorithm, State
from p2pser.graph.spec import Topology
from p2pser.run import checkpoint
from p2pser.simulation.mixer import SimulatedMixer
from p2pser.simulation.results import Round
from p2pser.simulation.scenario import Scenario

LOCK = "lock"
"""The file that a process locks."""
EVERY, SHARE = 2.0, 0.05
"""Seconds from one checkpoint to the next, at least, and the largest share of the time that they may take."""


def resumable(config: Config, algorithm: Algorithm, scenario: Scenario) -> bool:
    """Whether a run's memory between rounds is only its rows, its edges and its counters."""
    return not (algorithm.asynchronous or algorithm.sums or config.privacy.epsilon is not None
                or scenario.hostile or scenario.faults or scenario.clock or scenario.churn)


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Lock the folder of a simulation within the block: two processes would remove each other's files.

    Raises ConfigError where another process has locked it, or it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = append_privately(folder / LOCK)
    except OSError as error:
        raise ConfigError(f"cannot make the folder {folder}: {error.strerror}; choose another (--out)") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"another process simulates a run in {folder}: wait for it, or give this run another "
                              "name (--name)") from None
        yield


def fingerprint(config: Config, topology: Topology, federation: Federation, *others: object) -> str:
    """Return a digest of all inputs of a simulation; ``others`` by their repr."""
    digest = hashlib.blake2b(digest_size=16)
    settings = config.model_dump(mode="json")
    settings["peer"].pop("out", None)
    digest.update(json.dumps([__version__, settings, topology.digest(), federation.labels, federation.normalise],
                             sort_keys=True).encode())
    digest.update(repr(others).encode())
    for examples in (*(federation.train[i] for i in sorted(federation.train)), federation.test):
        for values in () if examples is None else (examples.features, examples.labels, examples.soft,
                                                   examples.dimensions, examples.copies):
            digest.update(b"-" if values is None else np.ascontiguousarray(values).data)
        digest.update(repr(None if examples is None else (examples.paths, examples.speakers)).encode())
    return digest.hexdigest()


def restored(mixer: SimulatedMixer, meta: Mapping[str, Any]) -> None:
    """Set a mixer's counters to those of a checkpoint."""
    mixer.bytes_sent[:], mixer.messages_sent[:] = meta["bytes"], meta["messages"]


@dataclass
class Keep:
    """The checkpoints of a simulation.

    folder : of the checkpoints. say : called with messages for the user. mark : the run's ``fingerprint``.
    """

    folder: Path
    say: Callable[[str], None] = lambda sentence: None
    mark: str = ""
    _last: float = field(default_factory=time.monotonic)
    _cost: float = 0.0

    def found(self, rounds: int) -> tuple[int, State, Mapping[str, Any]] | None:
        """Return the round, the state and the metadata of this run's newest checkpoint; None: there is none."""
        known = checkpoint.available(self.folder)
        if not known:
            return None
        kept = checkpoint.load(self.folder, known[-1])
        if kept.meta.get("mark") != self.mark:
            self.say(f"the interrupted run in {self.folder} had other settings, other data or another version of "
                     "p2pser: this one starts anew")
            self.done()
            return None
        self.say(f"an earlier start was interrupted: this one goes on after round {known[-1]} of {rounds}")
        return known[-1], State(kept.rows, kept.edges), kept.meta

    def due(self) -> bool:
        """Whether enough time has passed since the last checkpoint."""
        return time.monotonic() - self._last >= max(EVERY, self._cost / SHARE)

    def save(self, round: int, state: State, mixer: SimulatedMixer, course: list[Round], at_once: int | None) -> None:
        """Write the checkpoint of the start of a round.

        Parameters
        ----------
        round, state : the round that begins, and the state at its start.
        mixer : its counters are stored.
        course : the results of the earlier rounds.
        at_once : the number of peers that take their local steps at once; None: not chosen yet.
        """
        began = time.monotonic()
        checkpoint.save(self.folder, round, state.rows, state.edges, {
            "mark": self.mark, "at_once": at_once, "rounds": [each.to_dict() for each in course],
            "bytes": mixer.bytes_sent.tolist(), "messages": mixer.messages_sent.tolist()})
        checkpoint.prune(self.folder, 1)
        self._last = time.monotonic()
        self._cost = self._last - began

    def done(self) -> None:
        """Remove the checkpoints, after the run's results are written."""
        shutil.rmtree(self.folder, ignore_errors=True)
