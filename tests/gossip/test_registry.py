"""Algorithms by name, with their hyper-parameters from the settings."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from p2pser.base.errors import ConfigError
from p2pser.config import Config
from p2pser.gossip import registry as table
from p2pser.gossip.algorithm import Algorithm


@dataclass
class Tuned(Algorithm):
    beta: float = 0.9
    form: str = "plain"
    radius: float | None = None


@pytest.fixture(autouse=True)
def _tuned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(table.ALGORITHMS, "tuned", Tuned)


def test_parameters_come_from_the_settings_and_the_rest_by_default() -> None:
    settings = ["gossip.algorithm=tuned", "gossip.parameters.beta=1", "gossip.parameters.radius=2.5"]
    config = Config().with_settings(settings)
    assert table.algorithm(config.gossip.algorithm, config.gossip.parameters) == Tuned(1.0, "plain", 2.5)
    assert config.shared()["gossip.parameters"] == {"beta": 1, "radius": 2.5}


@pytest.mark.parametrize(("name", "parameters", "said"), [
    ("dfedavgg", {}, "did you mean 'dfedavg'"),
    ("tuned", {"bata": 1.0}, "did you mean 'beta'"),
    ("dfedavg", {"beta": 1.0}, "it has none"),
    ("tuned", {"beta": "much"}, "beta = 'much' must be float"),
    ("tuned", {"beta": True}, "must be float"),
    ("tuned", {"radius": "far"}, "must be float or none"),
])
def test_what_is_wrong_is_said(name: str, parameters: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        table.algorithm(name, parameters)


def test_a_setting_beside_the_parameters_is_still_refused() -> None:
    with pytest.raises(ConfigError, match=r"no setting 'gossip\.parameter\.beta'"):
        Config().with_settings(["gossip.parameter.beta=1"])


@pytest.mark.parametrize("name", sorted(table.ALGORITHMS))
def test_every_hyper_parameter_says_what_it_is(name: str) -> None:
    for one in table.hyper_parameters(table.ALGORITHMS[name]):
        assert one["about"], f"{name}: {one['name']} has no text below it"
