"""What a peer reports of the network: events in its file, sentences for the person who watches, losses."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pser.network import events
from p2pser.peer.reporter import Reporter
from p2pser.peer.telemetry import Telemetry, read


@pytest.mark.parametrize(("event", "kind", "sentence", "losses"), [
    (events.Left(4, "interrupted"), "bye", "peer 4 has left: interrupted", 1),
    (events.Left(4, "done"), "bye", "peer 4 has left: done", 0),
    (events.Died(2, 8.04), "dead", "peer 2 is DEAD after 8.0 s of silence; the others go on", 1),
    (events.Suspected(2, 2.0), "suspect", "peer 2 has been silent for 2.0 s", 0),
    (events.Refused(5, "run names differ", True), "refused", "peer 3 refused peer 5: run names differ", 0),
    (events.Refused(5, "run names differ", False), "refused", "peer 5 refused peer 3: run names differ", 0),
])
def test_events_are_written_said_and_counted_as_losses(tmp_path: Path, event: events.Event, kind: str, sentence: str,
                                                       losses: int) -> None:
    said: list[str] = []
    lost: list[bool] = []
    with Telemetry(tmp_path) as telemetry:
        Reporter(3, telemetry, said.append, lambda: lost.append(True)).observe(event)
    assert said == [sentence]
    assert len(lost) == losses
    assert [one["kind"] for one in read(tmp_path / "events.jsonl")] == [kind]


def test_what_a_neighbour_causes_again_and_again_is_bounded(tmp_path: Path) -> None:
    said: list[str] = []
    now = [0.0]
    with Telemetry(tmp_path) as telemetry:
        reporter = Reporter(3, telemetry, said.append, lambda: None, lambda: now[0])
        for number in range(5000):
            reporter.observe(events.Refused(4, f"settings differ: {number}", False))
            reporter.observe(events.Trouble(4, f"broken: {number}"))
        assert len(said) == 40
        reporter.observe(events.Refused(5, "run names differ", False))
        assert said[-1] == "peer 5 refused peer 3: run names differ"
        now[0] = 10.0
        reporter.observe(events.Trouble(4, "broken"))
    assert said[-1] == "broken (4980 more suppressed)"
    lines = read(tmp_path / "events.jsonl")
    assert len(lines) == 42
    assert lines[-1]["suppressed"] == 4980
