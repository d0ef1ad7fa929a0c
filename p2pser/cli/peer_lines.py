"""What ``p2pser peer`` writes to standard error: sentences and the progress of rounds, as text or as JSON."""

from __future__ import annotations

import contextlib
import json
import statistics
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from p2pser.base.progress import Bar, progress
from p2pser.base.wording import counted, duration
from p2pser.cli.output import note
from p2pser.config import Config
from p2pser.peer.telemetry import now
from p2pser.peer.view import PROBLEMS, RECENT

EVERY = 60.0
"""Time between two lines about rounds without a terminal [s]; the first and the last round always have a line."""


class Lines(ABC):
    """Writes the sentences and the progress of one peer. A context manager.

    config : of the run. me : the peer's id. clock : returns the time [s].
    """

    def __init__(self, config: Config, me: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.config, self.me, self._clock = config, me, clock
        self._began: float | None = None
        """When the current round began."""
        self._next = 0.0
        self._seconds: deque[float] = deque(maxlen=RECENT)
        self._uar: float | None = None
        self._held = contextlib.ExitStack()

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._held.close()

    @abstractmethod
    def say(self, sentence: str) -> None:
        """Write a sentence."""

    @abstractmethod
    def failed(self, reason: str) -> None:
        """Write why the run failed."""

    def hear(self, record: Mapping[str, Any]) -> None:
        """Take a line of the peer's telemetry."""
        if "kind" in record:
            self.event(record)
            return
        at = self._clock()
        # Before the first round the peer waited for others.
        self._seconds.append(record["seconds"] if self._began is None else at - self._began)
        self._began = at
        rounds, done = self.config.training.rounds, record["round"] + 1
        self._uar = self._uar if record.get("uar") is None else record["uar"]
        links = record["links"].values()
        self.round({"round": record["round"], "rounds": rounds, "loss": record["loss"], "uar": self._uar,
                    "neighbours": len(links), "alive": sum(state == "alive" for state in links),
                    "seconds_left": statistics.median(self._seconds) * (rounds - done)})

    @abstractmethod
    def event(self, record: Mapping[str, Any]) -> None:
        """Take an event."""

    @abstractmethod
    def round(self, state: Mapping[str, Any]) -> None:
        """Take the state of the peer after a round."""

    def due(self, state: Mapping[str, Any]) -> bool:
        """Whether a line about this round is due."""
        if state["round"] + 1 < state["rounds"] and self._clock() < self._next:
            return False
        self._next = self._clock() + EVERY
        return True


class TextLines(Lines):
    """Sentences as they are; rounds as a bar, or as a line every ``EVERY`` seconds where there is no terminal."""

    _bar: Bar | None = None

    def say(self, sentence: str) -> None:
        note(sentence)

    def event(self, record: Mapping[str, Any]) -> None:
        """Write nothing: what an operator must know of an event comes as a sentence."""

    def failed(self, reason: str) -> None:
        note(f"p2pser: {reason}")

    def round(self, state: Mapping[str, Any]) -> None:
        if self._bar is None:
            self._bar = self._held.enter_context(progress("", state["rounds"]))
        done = state["round"] + 1
        measured = [f"{what} {state[name]:.3f}" for what, name in (("loss", "loss"), ("UAR", "uar"))
                    if state[name] is not None]  # a peer without clips has no loss
        figures = ", ".join([*measured, f"{state['alive']} of {counted(state['neighbours'], 'neighbour')} alive"])
        if self._bar.shows:
            self._bar(done, f"peer {self.me}: {figures}")
        elif self.due(state):
            left = f", about {duration(state['seconds_left'])} left" if done < state["rounds"] else ""
            note(f"peer {self.me}, round {done} of {state['rounds']}: {figures}{left}")


class JsonLines(Lines):
    """One object on each line: ``at``, ``level``, ``run``, ``reporter`` (this peer), ``kind``, and the kind's fields.

    Kinds: ``say`` (a sentence), ``round`` (the state after a round, as often as in text), ``failed`` (the reason), and
    those of the events in ``events.jsonl``.
    """

    def say(self, sentence: str) -> None:
        self._write("info", {"kind": "say", "sentence": sentence})

    def failed(self, reason: str) -> None:
        self._write("error", {"kind": "failed", "reason": reason})

    def event(self, record: Mapping[str, Any]) -> None:
        self._write("warning" if record["kind"] in PROBLEMS else "info", record)

    def round(self, state: Mapping[str, Any]) -> None:
        if self.due(state):
            self._write("info", {"kind": "round", **state})

    def _write(self, level: str, fields: Mapping[str, Any]) -> None:
        note(json.dumps({"at": now(), "level": level, "run": self.config.name, "reporter": self.me, **fields},
                        allow_nan=False))
