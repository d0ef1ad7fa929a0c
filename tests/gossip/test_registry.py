"""Algorithms by name, whole when they are made, with their hyper-parameters from the settings."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import networkx as nx
import pytest
import torch
from lockstep import run

from p2pser.base.errors import ConfigError
from p2pser.base.registries import ALGORITHMS, COMPRESSORS
from p2pser.config import Config
from p2pser.gossip.algorithm import Algorithm, State
from p2pser.gossip.algorithms.choco import Choco
from p2pser.gossip.registry import create, hyper_parameters, validate
from p2pser.graph.spec import Topology, parse
from p2pser.simulation.mixer import SimulatedMixer
from p2pser.wire.codec import _DECODERS, DENSE, Form, codec, compressor

RING = parse({"graph": {"kind": "ring", "peers": 16}}, "ring")
SERVER = Topology("server", nx.star_graph(6), {}, "metropolis", {}, hub=0)


@dataclass(frozen=True, kw_only=True)
class Tuned(Algorithm):
    beta: float = 0.9
    form: str = "plain"
    radius: float | None = None


@pytest.fixture
def tuned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register ``Tuned`` as ``tuned`` for one test."""
    monkeypatch.setitem(ALGORITHMS._registered, "tuned", Tuned)


@dataclass(frozen=True)
class Fronts(Form):
    """The first numbers of a row, the others 0: a compressor of an installed package."""

    part: float = 0.5
    name = "fronts"

    def contraction(self, size: int) -> float:
        return self.part

    def encode(self, row: torch.Tensor) -> bytes:
        return bytes(DENSE.encode(row[: int(self.part * len(row))].contiguous()))

    def decode(self, buffer: bytes | bytearray | memoryview, size: int) -> torch.Tensor:
        numbers = DENSE.decode(buffer, len(buffer) // 8).to(torch.float64)
        return torch.cat([numbers, numbers.new_zeros(size - len(numbers))])


@pytest.fixture
def fronts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register ``Fronts`` as ``fronts`` for one test."""
    monkeypatch.setitem(COMPRESSORS._registered, "fronts", Fronts)
    monkeypatch.setattr("p2pser.wire.codec._DECODERS", dict(_DECODERS))


class Still:
    """Local work that does nothing."""

    clips: tuple[int, ...] = (1,) * 16
    shapes = ((4, 10),)

    def train(self, state: State, round: int, **how: Any) -> torch.Tensor:
        return state.rows["x"].clone()


def rows(size: int = 16) -> torch.Tensor:
    return torch.randn(size, 40, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def spread(x: torch.Tensor) -> float:
    """The distance of all rows to their mean."""
    return float((x - x.mean(0)).norm())


@pytest.mark.usefixtures("tuned")
def test_parameters_come_from_the_settings_and_the_rest_by_default() -> None:
    settings = ["gossip.algorithm=tuned", "gossip.parameters.beta=1", "gossip.parameters.radius=2.5"]
    config = Config().with_settings(settings)
    made = create(config.gossip.algorithm, config.gossip.parameters, config, RING)
    assert isinstance(made, Tuned)
    assert (made.beta, made.form, made.radius) == (1.0, "plain", 2.5)
    assert type(made.beta) is float
    assert made.name == "tuned"
    assert config.shared()["gossip.parameters"] == {"beta": 1, "radius": 2.5}


@pytest.mark.usefixtures("tuned")
@pytest.mark.parametrize(("name", "parameters", "message"), [
    ("dfedavgg", {}, "did you mean 'dfedavg'"),
    ("tuned", {"bata": 1.0}, "did you mean 'beta'"),
    ("dfedavg", {"beta": 1.0}, "it has none"),
    ("dfedavg", {"context": 1.0}, "it has none"),
    ("tuned", {"beta": "much"}, "beta = 'much' must be a number"),
    ("tuned", {"beta": True}, "must be a number"),
    ("tuned", {"radius": "far"}, "must be a number or none"),
])
def test_a_wrong_name_or_value_is_refused(name: str, parameters: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create(name, parameters, Config(), RING)


def test_a_setting_beside_the_parameters_is_still_refused() -> None:
    with pytest.raises(ConfigError, match=r"no setting 'gossip\.parameter\.beta'"):
        Config().with_settings(["gossip.parameter.beta=1"])


@pytest.mark.parametrize("name", ALGORITHMS.names())
def test_every_hyper_parameter_has_a_description(name: str) -> None:
    for parameter in hyper_parameters(ALGORITHMS[name]):
        assert parameter["about"], f"{name}: {parameter['name']} has no text below it"
        assert parameter["name"] != "context"


@pytest.mark.parametrize("name", ALGORITHMS.names())
def test_every_algorithm_is_frozen_and_says_which_driver_it_needs(name: str) -> None:
    made = create(name, {}, Config(), SERVER if ALGORITHMS[name].served else RING)
    assert type(made) is ALGORITHMS[name]
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.context = None  # type: ignore[misc, assignment]
    assert made.asynchronous == (name in {"ad-psgd", "stale-gossip"})
    assert made.overlaps == (name == "overlap")
    assert made.slots == (2 if name in {"fedavg", "fedopt", "hubs", "multi-step", "scaffold"} else
                          {"trees": 8, "secure-average": 32}.get(name, 1))


@pytest.mark.parametrize("validated", [False, True])
def test_multi_step_accelerates_whether_or_not_it_is_validated(validated: bool) -> None:
    config = Config().with_settings(["gossip.algorithm=multi-step"])
    made = create("multi-step", {"exchanges": 20, "chebyshev": True}, config, RING)
    if validated:
        assert validate(made, config, RING) == ()
    x = rows()
    end = run(made, State({"x": x}), Still(), SimulatedMixer(RING, slots=20), 1).rows["x"]
    plain = run(create("multi-step", {"exchanges": 20}, config, RING), State({"x": x}), Still(),
                SimulatedMixer(RING, slots=20), 1).rows["x"]
    # 1 / T_20(1 / 0.949) = 0.0032; without the acceleration 0.949^20 = 0.35 of the slowest mode is left.
    assert spread(end) <= 0.0033 * spread(x)
    assert spread(plain) >= 0.05 * spread(x)


@pytest.mark.parametrize("name", ["relay", "push-sum"])
@pytest.mark.parametrize(("weighting", "mean"), [("uniform", 6.0), ("clips", 8.0)])
def test_two_peers_have_the_mean_by_their_weighting_after_a_round_without_validation(
        name: str, weighting: str, mean: float) -> None:
    pair = parse({"graph": {"kind": "chain", "peers": 2}}, "pair")
    made = create(name, {}, Config().with_settings([f"gossip.weighting={weighting}"]), pair)
    work = Still()
    work.clips = (1, 3)
    end = run(made, State({"x": torch.tensor([[2.0], [10.0]])}), work, SimulatedMixer(pair), 1)
    assert end.rows["x"].tolist() == [[mean], [mean]]


def test_a_server_samples_by_the_runs_seed_without_validation() -> None:
    samples = [create("fedavg", {"sample": 0.5}, Config(seed=seed), SERVER).sampled(3) for seed in (0, 1, 0)]
    assert samples[0] == samples[2] != samples[1]
    assert all(len(sample) == 3 for sample in samples)


def test_compressed_differences_are_drawn_from_the_runs_seed_without_validation() -> None:
    def end(seed: int) -> torch.Tensor:
        made = create("choco", {"compressor": "random-k", "share": 0.2}, Config(seed=seed), RING)
        start = State({"x": rows(), "copy": torch.zeros(16, 40, dtype=torch.float64)})
        return run(made, start, Still(), SimulatedMixer(RING), 3).rows["x"]

    assert torch.equal(end(4), end(4))
    assert not torch.equal(end(4), end(5))


@pytest.mark.usefixtures("fronts")
def test_a_compressor_from_elsewhere_has_settings_of_its_own_and_is_decoded_by_its_name() -> None:
    made = create("choco", {"compressor": "fronts", "part": 1, "gamma": 0.5}, Config(), RING)
    assert isinstance(made, Choco)
    assert made.form == Fronts(part=1.0)
    assert made.gamma == 0.5
    x = rows()
    dense = create("choco", {"compressor": "dense", "gamma": 0.5}, Config(), RING)
    ends = [run(method, State({"x": x, "copy": torch.zeros_like(x)}), Still(), SimulatedMixer(RING), 3).rows["x"]
            for method in (made, dense)]
    assert torch.equal(*ends)
    sent = Fronts(part=0.25).encode(torch.arange(8.0, dtype=torch.float64))
    assert codec("fronts").decode(sent, 8).tolist() == [0, 1, 0, 0, 0, 0, 0, 0]


@pytest.mark.usefixtures("fronts")
def test_settings_of_another_compressor_are_refused() -> None:
    with pytest.raises(ConfigError, match="choco has no parameter 'part'"):
        create("choco", {"compressor": "top-k", "part": 0.5}, Config(), RING)
    with pytest.raises(ConfigError, match="part = 'half' must be a number"):
        create("choco", {"compressor": "fronts", "part": "half"}, Config(), RING)
    with pytest.raises(ConfigError, match="no compressor 'front'; did you mean 'fronts'"):
        create("choco", {"compressor": "front"}, Config(), RING)


def test_a_compressor_registered_under_another_name_than_its_own_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COMPRESSORS._registered, "backs", Fronts)
    monkeypatch.setitem(COMPRESSORS._sources, "backs", "a_plugin")
    with pytest.raises(ConfigError, match="'backs' of a_plugin must have the class attribute name = 'backs'"):
        compressor("backs")
