"""A peer's state for monitoring systems: metrics for Prometheus, and a health page.

The training thread writes the figures; the thread that serves the pages reads them without a lock, since each is
replaced as a whole.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from p2pser.base.errors import ConfigError
from p2pser.base.version import __version__
from p2pser.base.wording import extra
from p2pser.config import Config
from p2pser.network import events
from p2pser.network.io import SHOWN, IOThread
from p2pser.peer.endpoint import Endpoint, Page
from p2pser.peer.recorder import Checkpoints
from p2pser.peer.supervisor import ALIVE_EVERY, Supervisor

if TYPE_CHECKING:
    from prometheus_client.core import Metric

MEASURED = {"loss": ("p2pser_loss", "Training loss of the last round"),
            "uar": ("p2pser_uar", "UAR on the held-out speakers, when it was measured last"),
            "distance": ("p2pser_consensus_distance",
                         "Largest relative difference to a neighbour's parameters in the last exchange"),
            "seconds": ("p2pser_round_seconds", "Seconds that the last round took")}
"""Field of ``metrics.jsonl`` -> name of its metric, and help text."""


class Figures:
    """The figures of one peer.

    Parameters
    ----------
    config, me : the run's, and the peer's id.
    supervisor : knows whether the peer makes progress.
    clock : returns the time of day [s].
    """

    def __init__(self, config: Config, me: int, supervisor: Supervisor,
                 clock: Callable[[], float] = time.time) -> None:
        self._config, self._me, self._supervisor, self._clock = config, me, supervisor, clock
        self._line: Mapping[str, Any] = {}
        """The newest value of each field of the metrics."""
        self._rejected: Counter[int | None] = Counter()
        self._io: IOThread | None = None
        self._checkpoints: Checkpoints | None = None

    def follow(self, io: IOThread, checkpoints: Checkpoints) -> None:
        """Show the figures of these from now on."""
        self._io, self._checkpoints = io, checkpoints

    def take(self, record: Mapping[str, Any]) -> None:
        """Take a line of telemetry."""
        if "kind" not in record:
            self._line = {**self._line, **{name: value for name, value in record.items() if value is not None}}

    def observe(self, event: events.Event) -> None:
        """Take an event of the network."""
        if isinstance(event, (events.Struck, events.Trouble)):
            self._rejected[event.peer] += 1

    def serve(self) -> AbstractContextManager[Endpoint | None]:
        """Return a context that serves ``/metrics`` and ``/health`` if ``network.metrics_port`` is set.

        Raises ConfigError where that is not possible, or prometheus_client is not installed.
        """
        network = self._config.network
        if network.metrics_port == 0:
            return contextlib.nullcontext()
        try:
            from prometheus_client import CollectorRegistry, ProcessCollector
            from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
        except ImportError:
            raise ConfigError(f"network.metrics_port needs the extra metrics: {extra('metrics')}") from None
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        registry.register(self)
        return Endpoint(network.metrics_host, network.metrics_port, {
            "/metrics": lambda: Page(HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest(registry)),
            "/health": self.health})

    def health(self) -> Page:
        """Return the health page: 200, or 503 if the peer has made no progress for ``network.round_timeout``.

        Waiting for neighbours counts as progress. A peer that does not listen yet is healthy.
        """
        idle = self._supervisor.idle if self._supervisor.listens else 0.0
        healthy = idle <= max(self._config.network.round_timeout, 3 * ALIVE_EVERY)
        state = {"gets_on": healthy, "idle_s": round(idle, 1), "listens": self._supervisor.listens, "peer": self._me,
                 "run": self._config.name, "round": self._done(), "rounds": self._config.training.rounds}
        return Page(HTTPStatus.OK if healthy else HTTPStatus.SERVICE_UNAVAILABLE, "application/json",
                    json.dumps(state).encode() + b"\n")

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics; prometheus_client's registry calls it."""
        from prometheus_client.core import GaugeMetricFamily as Gauge
        from prometheus_client.core import InfoMetricFamily

        line = self._line
        yield InfoMetricFamily("p2pser_peer", "The peer", value={
            "run": self._config.name, "peer": str(self._me), "version": __version__})
        yield Gauge("p2pser_rounds", "Rounds of the run", value=self._config.training.rounds)
        yield Gauge("p2pser_rounds_done", "Rounds that are over", value=self._done())
        for name, (metric, help) in MEASURED.items():
            if name in line:
                yield Gauge(metric, help, value=line[name])
        yield Gauge("p2pser_idle_seconds", "Seconds since the peer was last known to make progress",
                    value=self._supervisor.idle)
        if self._checkpoints is not None and (saved := self._checkpoints.saved_at) is not None:
            yield Gauge("p2pser_checkpoint_age_seconds", "Seconds since the newest checkpoint was written",
                        value=max(0.0, self._clock() - saved))
        yield from self._of_neighbours()

    # Inside -------------------------------------------------------------------------------------------------

    def _done(self) -> int:
        return int(self._line.get("round", -1)) + 1

    def _of_neighbours(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily as Count
        from prometheus_client.core import GaugeMetricFamily as Gauge

        late = Count("p2pser_messages_late", "Messages that came too late for their round and were mixed in later")
        late.add_metric([], self._line.get("messages_late", 0))
        yield late
        rejected = Count("p2pser_messages_rejected", "Messages that were refused, by sender", labels=["neighbour"])
        for peer, times in dict(self._rejected).items():
            rejected.add_metric(["" if peer is None else str(peer)], times)
        yield rejected
        if self._io is None:
            return
        states = Counter(self._io.states().values())
        neighbours = Gauge("p2pser_neighbours", "Neighbours in each state", labels=["state"])
        for state in dict.fromkeys(SHOWN.values()):
            neighbours.add_metric([state], states[state])
        yield neighbours
        for name, help in (("bytes_sent", "Bytes sent, with headers"), ("payload_sent", "Bytes of payload sent"),
                           ("messages_sent", "Messages sent"), ("payload_received", "Bytes of payload received"),
                           ("rows_received", "Rows and other payloads received")):
            metric = Count(f"p2pser_{name}", f"{help}, by neighbour", labels=["neighbour"])
            for peer, traffic in self._io.traffic().items():
                metric.add_metric([str(peer)], getattr(traffic, name))
            yield metric
