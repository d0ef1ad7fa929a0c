"""``p2pser algorithms``: what there is, what each does, and its hyper-parameters."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from p2pser.base.errors import ConfigError
from p2pser.base.registries import ALGORITHMS
from p2pser.base.version import __version__
from p2pser.cli.algorithms import algorithms
from p2pser.gossip.algorithm import Algorithm


def test_all_are_listed_with_their_hyper_parameters() -> None:
    listed = json.loads(CliRunner().invoke(algorithms, ["--json"]).stdout)
    assert [one["name"] for one in listed] == list(ALGORITHMS)
    assert all(one["about"] and not one["about"].endswith(":") for one in listed)
    text = CliRunner().invoke(algorithms, []).stdout
    assert all(name in text for name in ALGORITHMS)


def test_one_is_explained_with_the_rule_and_the_meaning_of_each_hyper_parameter() -> None:
    shown = CliRunner().invoke(algorithms, ["quasi-global-momentum"]).stdout
    assert "x_i'    =  sum_j W_ij z_j" in shown
    assert "gossip.parameters.momentum (default 0.9): factor of the buffer that is added to each gradient" in shown
    assert "gossip.parameters.decay (default 0.5): factor of the buffer after a round" in shown


def test_an_algorithm_of_another_package_is_listed_with_its_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mine(Algorithm):
        """An algorithm of one's own."""

    monkeypatch.setitem(ALGORITHMS._registered, "mine", Mine)
    monkeypatch.setitem(ALGORITHMS._sources, "mine", "my_script")
    listed = {one["name"]: one for one in json.loads(CliRunner().invoke(algorithms, ["--json"]).stdout)}
    assert listed["mine"]["about"] == "An algorithm of one's own (from my_script)"
    assert listed["mine"]["origin"] == "my_script"
    assert listed["k-gt"]["origin"] == f"p2pser {__version__}"


def test_an_unknown_one_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'k-gt'"):
        CliRunner().invoke(algorithms, ["k-gtt"], catch_exceptions=False)
