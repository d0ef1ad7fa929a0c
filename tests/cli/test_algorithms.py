"""``p2pser algorithms``: what there is, what each does, and its hyper-parameters."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from p2pser.base.errors import ConfigError
from p2pser.base.registries import ALGORITHMS
from p2pser.cli.algorithms import algorithms


def test_all_are_listed_with_their_hyper_parameters() -> None:
    listed = json.loads(CliRunner().invoke(algorithms, ["--json"]).stdout)
    assert [one["name"] for one in listed] == list(ALGORITHMS)
    assert all(one["about"] and not one["about"].endswith(":") for one in listed)
    text = CliRunner().invoke(algorithms, []).stdout
    assert all(name in text for name in ALGORITHMS)


def test_one_is_explained_with_the_rule_and_the_meaning_of_each_hyper_parameter() -> None:
    shown = CliRunner().invoke(algorithms, ["quasi-global-momentum"]).stdout
    assert "x_i'    =  sum_j W_ij z_j" in shown
    assert "gossip.parameters.momentum (default 0.9): How much of the buffer is added" in shown
    assert "gossip.parameters.decay (default 0.5): How much of the buffer outlives a round" in shown


def test_an_unknown_one_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'k-gt'"):
        CliRunner().invoke(algorithms, ["k-gtt"], catch_exceptions=False)
