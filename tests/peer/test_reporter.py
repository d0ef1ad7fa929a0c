"""What a peer reports of the network: events in its file, sentences for the person who watches, losses."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pser.network import events
from p2pser.network.states import Cause, State
from p2pser.peer.reporter import Reporter
from p2pser.peer.telemetry import Telemetry, read


@pytest.mark.parametrize(("event", "kind", "sentence", "losses"), [
    (events.Changed(4, State.PRESENT, State.LOST, Cause.LEFT, "interrupted"), "bye",
     "peer 4 has left: interrupted", 1),
    (events.Changed(4, State.PRESENT, State.DONE, Cause.DONE, "done"), "bye", "peer 4 has left: done", 0),
    (events.Changed(2, State.SUSPECT, State.LOST, Cause.DEATH, "silent for 8.0 s", 8.04), "dead",
     "peer 2 is DEAD after 8.0 s of silence; the others go on", 1),
    (events.Changed(2, State.PRESENT, State.SUSPECT, Cause.SILENCE, "silent for 2.0 s", 2.0), "suspect",
     "peer 2 has been silent for 2.0 s", 0),
    (events.Changed(2, State.SUSPECT, State.PRESENT, Cause.TRAFFIC), "alive", "peer 2 is back", 0),
    (events.Changed(2, State.RETURNING, State.PRESENT, Cause.ROW), "alive", "peer 2 takes part again", 0),
    (events.Changed(2, State.LOST, State.RETURNING, Cause.TRAFFIC), "rejoined",
     "peer 2 has come back and takes part from now on", 0),
    (events.Changed(2, State.PRESENT, State.RETURNING, Cause.APART, "peer 2 goes on without peer 3"), "apart",
     "peer 2 goes on without peer 3; it is not waited for until its rows come again", 0),
    (events.Struck(6, "it has 3 numbers", 2), "struck",
     "a message of peer 6 does not fit and is left out: it has 3 numbers", 0),
    (events.Changed(6, State.PRESENT, State.BANNED, Cause.STRUCK_OUT, "5 messages of peer 6 did not fit: the last"),
     "banned", "5 messages of peer 6 did not fit: the last; nothing is exchanged with peer 6 any more", 0),
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
