"""``p2pser plan``: what a run costs each site, before it starts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from p2pser.base.registries import FAMILIES
from p2pser.cli.main import cli
from p2pser.cli.plan import plan

SMALL = ("--peers", "5", "--rounds", "40", "--set", "model.hidden=[8]", "--set", "training.local_steps=100")


def planned(*arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(plan, [*SMALL, *arguments, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def test_each_site_is_told_bytes_hours_memory_and_what_a_curious_peer_can_solve_for() -> None:
    document = planned("--clips", "50,3:7", "--network", "dsl,0:lan")
    row = 4 * document["parameters"]
    assert [one["clips"] for one in document["each"]] == [50, 50, 50, 7, 50]
    assert document["simulated_rounds"] == 4
    for one in document["each"]:
        assert one["payload_sent"] > 40 * 2 * row
        assert one["bytes_sent"] > one["payload_sent"]
        assert one["hours"]["whole"] == pytest.approx(sum(one["hours"][name] for name in ("set_up", "rounds", "end")))
    total = document["total"]
    assert total["bytes_sent"] == sum(one["bytes_sent"] for one in document["each"])
    assert total["hours"]["rounds"] * 3600 > 40 * (100 * 0.05 + 0.015)
    assert (document["exposure"]["solves_for"], document["each"][2]["solves_for"]) == (4, 4)
    assert planned("--rounds", "80")["total"]["hours"]["rounds"] == pytest.approx(
        2 * planned()["total"]["hours"]["rounds"], rel=0.1)


@pytest.mark.parametrize("family", sorted({*FAMILIES} - {"adapter"}))
def test_every_family_is_planned(family: str) -> None:
    settings = ("--peers", "5", "--rounds", "2", "--set", "training.local_steps=1", "--set", f"model.name={family}")
    result = CliRunner().invoke(plan, [*settings, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["parameters"] > 0


def test_the_private_mode_shows_no_row_and_sends_sums() -> None:
    document = planned("--algorithm", "secure-average")
    assert document["exposure"]["solves_for"] == 0
    assert document["exposure"]["privacy"].startswith("private mode")


def test_a_person_reads_a_table_and_three_sentences() -> None:
    result = CliRunner().invoke(plan, [*SMALL, "--devices", "laptop,1:board"], catch_exceptions=False)
    assert result.exit_code == 0
    for text in ("5 peers, 40 rounds", "can solve for", "all peers send", "MB"):
        assert text in result.stdout


@pytest.mark.parametrize(("arguments", "sentence"), [
    (("--network", "dls"), "there is no simulated network 'dls'; did you mean 'dsl'?"),
    (("--network", "dsl,lan"), "write dsl, or dsl,0:lan,3-5:4g"),
    (("--devices", "0:toaster"), "there is no device 'toaster'"),
    (("--clips", "0"), "not a number of clips from 1 to 1000000"),
    (("--clips", "20,9:30"), "peer 9 does not exist: name peers from 0 to 4"),
])
def test_a_wrong_option_is_one_sentence(arguments: tuple[str, ...], sentence: str) -> None:
    result = CliRunner().invoke(cli, ["plan", *SMALL, *arguments])
    assert result.exit_code == 2
    assert sentence in result.output
    assert "Traceback" not in result.output
