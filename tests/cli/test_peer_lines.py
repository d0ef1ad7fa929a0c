"""What ``p2pser peer`` writes while it runs: sentences and how far it is, as text or as JSON."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from click.testing import CliRunner

from p2pser.cli.main import cli
from p2pser.cli.peer_lines import JsonLines, Lines, TextLines
from p2pser.config import Config

CONFIG = Config().with_settings(["training.rounds=40", "name=pilot"])


def record(round: int, **more: Any) -> dict[str, Any]:
    links = {"1": "alive", "4": "dead", "5": "alive"}
    return {"round": round, "loss": 1.5 - round / 100, "seconds": 3.0, "links": links, **more}


def tell(lines: Lines, clock: list[float]) -> None:
    """Forty rounds of 4 s each, UAR measured in every tenth, and what else a peer tells."""
    with lines:
        lines.say("peer 3 is waiting for peer 4")
        clock[0] += 3600.0
        for k in range(40):
            clock[0] += 4.0
            lines.hear(record(k, uar=0.25 + k / 100 if k % 10 == 0 else None))
        lines.hear({"at": "2026-01-01T00:00:00.000+00:00", "kind": "dead", "peer": 4, "silence": 8.0})
        lines.failed("the hub is lost")


def test_without_a_terminal_rounds_are_a_line_a_minute(capsys: pytest.CaptureFixture[str],
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    clock = [0.0]
    tell(TextLines(CONFIG, 3, lambda: clock[0]), clock)
    assert capsys.readouterr().err.splitlines() == [
        "peer 3 is waiting for peer 4",
        "peer 3, round 1 of 40: loss 1.500, UAR 0.250, 2 of 3 neighbours alive, about 1 min 57 s left",
        "peer 3, round 16 of 40: loss 1.350, UAR 0.350, 2 of 3 neighbours alive, about 1 min 36 s left",
        "peer 3, round 31 of 40: loss 1.200, UAR 0.550, 2 of 3 neighbours alive, about 36 s left",
        "peer 3, round 40 of 40: loss 1.110, UAR 0.550, 2 of 3 neighbours alive",
        "p2pser: the hub is lost"]


def test_on_a_terminal_they_are_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    clock = [0.0]
    tell(TextLines(CONFIG, 3, lambda: clock[0]), clock)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err)
    assert "peer 3, round" not in shown
    bar = [line for line in shown.splitlines() if "40/40" in line][-1]
    assert "peer 3: loss 1.110, UAR 0.550, 2 of 3 neighbours alive" in bar


def test_as_json_each_line_is_an_object(capsys: pytest.CaptureFixture[str]) -> None:
    clock = [0.0]
    tell(JsonLines(CONFIG, 3, lambda: clock[0]), clock)
    said = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert {(one["run"], one["reporter"]) for one in said} == {("pilot", 3)}
    assert [(one["kind"], one["level"]) for one in said] == [
        ("say", "info"), *[("round", "info")] * 4, ("dead", "warning"), ("failed", "error")]
    assert {key: said[2][key] for key in ("round", "rounds", "loss", "uar", "neighbours", "alive", "seconds_left")} == {
        "round": 15, "rounds": 40, "loss": 1.35, "uar": 0.35, "neighbours": 3, "alive": 2, "seconds_left": 96.0}
    assert (said[5]["at"], said[5]["peer"]) == ("2026-01-01T00:00:00.000+00:00", 4)


def test_a_peer_without_clips_has_no_loss(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    for lines in (TextLines(CONFIG, 3), JsonLines(CONFIG, 3)):
        with lines:
            lines.hear({**record(39), "loss": None, "links": {"1": "alive"}})
    text, structured = capsys.readouterr().err.splitlines()
    assert text == "peer 3, round 40 of 40: 1 of 1 neighbour alive"
    assert json.loads(structured)["loss"] is None


@pytest.mark.parametrize(("given", "words"), [
    ("many", "'many' is not of the form [HOST:]PORT"), ("127.0.0.1:", "not of the form [HOST:]PORT"),
    ("70000", "metrics_port"), ("a b:9100", "metrics_host")])
def test_an_endpoint_that_is_none_is_refused(given: str, words: str) -> None:
    from p2pser.base.errors import ConfigError

    result = CliRunner().invoke(cli, ["peer", "--id", "0", "--metrics", given])
    told = str(result.exception) if isinstance(result.exception, ConfigError) else result.output
    assert words in told
