"""Mistakes in a plug-in's code: one sentence that names the plug-in, before anything is trained or sent."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import networkx as nx
import numpy as np
import pytest
from torch import Tensor, nn

import p2pser
from p2pser.base.registries import ALGORITHMS, CORPORA, FAMILIES, GRAPHS, SCHEDULES
from p2pser.base.registry import Registry
from p2pser.corpora.loading import load, recognise
from p2pser.corpora.manifest import Clip
from p2pser.graph.mixing import by_hand
from p2pser.graph.schedule import Computed
from p2pser.graph.sparse import Sparse

INPUTS, CLASSES = 6, 3


@contextmanager
def registered(registry: Registry[Any], name: str) -> Iterator[None]:
    """Remove the thing of this name from a registry at the end."""
    try:
        yield
    finally:
        del registry._registered[name], registry._sources[name]


def data() -> p2pser.Federation:
    draw = np.random.default_rng(3)
    labels = np.tile(np.arange(CLASSES), 12)
    features = (draw.normal(size=(36, INPUTS)) + labels[:, None]).astype(np.float32)
    return p2pser.federate(peers=3, features=features, labels=["fear", "anger", "joy"] * 12,
                           speakers=[f"s{k % 4}" for k in range(36)])


class Answers(nn.Module):
    """A network that answers what a function makes of its scores."""

    def __init__(self, answer: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.layer, self.answer = nn.Linear(INPUTS, CLASSES), answer

    def forward(self, features: Tensor) -> object:
        return self.answer(self.layer(features))


def fail(*_: object) -> Any:
    raise KeyError("weights")


def frozen() -> nn.Module:
    return nn.Linear(INPUTS, CLASSES).requires_grad_(False)


@pytest.mark.parametrize(("build", "says"), [
    (lambda: None, "'wrong' builds no network for features of shape (6,) and 3 outputs (TypeError: its build returned "
                   "NoneType, not a torch module)"),
    (fail, "'wrong' builds no network for features of shape (6,) and 3 outputs (KeyError: 'weights')"),
    (lambda: nn.LazyLinear(CLASSES), "a lazy layer has no size yet: give its number of inputs"),
    (lambda: nn.Linear(INPUTS, CLASSES + 1), "returns torch.float32 (1, 4) for one clip, not float32 scores (1, 3)"),
    (lambda: nn.Linear(INPUTS + 1, CLASSES), "does not take features of shape (1, 6) (RuntimeError: "),
    (lambda: Answers(lambda scores: scores.argmax(1)), "returns torch.int64 (1,) for one clip"),
    (lambda: Answers(lambda scores: (scores, None)), "returns tuple for one clip"),
    (lambda: Answers(fail), "does not take features of shape (1, 6) (KeyError: 'weights')"),
    (frozen, "has no parameters to train"),
    (nn.Sequential, "has no parameters to train"),
])
def test_a_family(build: Callable[[], Any], says: str) -> None:
    with registered(FAMILIES, "wrong"):
        @p2pser.register_family("wrong")
        @dataclass(frozen=True, kw_only=True)
        class Wrong(p2pser.Family):
            """A family that builds no usable network."""

            takes = "vector"

            def build(self, model: object, shape: tuple[int, ...], outputs: int) -> Any:
                return build()

        with pytest.raises(p2pser.Error, match=re.escape(says)) as raised:
            p2pser.simulate("ring", data=data(), settings={"model.name": "wrong", "training.rounds": 1})
    assert "'wrong'" in str(raised.value)


@pytest.mark.parametrize(("change", "says"), [
    (lambda state: None,
     "the round of the algorithm Wrong returned NoneType, not the state: end it with 'return state'"),
    (lambda state: state.rows.update(x=state.rows["x"].double()) or state,
     "left torch.float64 (3, 1283) in rows['x'], not torch.float32 (3, 1283)"),
    (lambda state: state.rows.update(x=state.rows["x"].mean(0)) or state, "left torch.float32 (1283,) in rows['x']"),
    (lambda state: state.rows.pop("x") is None or state, "left NoneType in rows['x']"),
])
def test_an_algorithm(change: Callable[[Any], Any], says: str) -> None:
    with registered(ALGORITHMS, "wrong"):
        @p2pser.register_algorithm("wrong")
        @dataclass(frozen=True, kw_only=True)
        class Wrong(p2pser.Algorithm):
            """An algorithm that does not return the state."""

            def round(self, state: Any, local: Any, mixer: Any, round: int) -> Any:
                return change(state)

        with pytest.raises(p2pser.Error, match=re.escape(says)):
            p2pser.simulate("ring", data=data(), settings={"gossip.algorithm": "wrong", "training.rounds": 1})


@pytest.mark.parametrize(("make", "says"), [
    (fail, "graph kind 'wrong' makes no graph of 5 peers (KeyError: 'weights')"),
    (lambda peers: None, "graph kind 'wrong' returns a NoneType"),
    (lambda peers: nx.cycle_graph(peers + 1), "graph kind 'wrong' makes a graph of 6 peers, not 5"),
])
def test_a_graph(make: Callable[[int], Any], says: str, tmp_path: Path) -> None:
    with registered(GRAPHS, "wrong"):
        p2pser.register_graph("wrong")(make)
        (tmp_path / "wrong.yaml").write_text("graph: {kind: wrong, peers: 5}\n")
        with pytest.raises(p2pser.Error, match=re.escape(says)):
            p2pser.topology(tmp_path / "wrong.yaml")


@pytest.mark.parametrize("number", [float, np.int64])
def test_a_graph_whose_nodes_are_other_numbers(number: Callable[[int], Any], tmp_path: Path) -> None:
    with registered(GRAPHS, "other"):
        @p2pser.register_graph("other")
        def other(peers: int) -> nx.Graph:
            return nx.relabel_nodes(nx.path_graph(peers), number)

        (tmp_path / "other.yaml").write_text("graph: {kind: other, peers: 5}\n")
        graph = p2pser.topology(tmp_path / "other.yaml").graph
    assert {type(end) for edge in graph.edges for end in edge} == {int}
    assert sorted(graph.edges) == [(0, 1), (1, 2), (2, 3), (3, 4)]


def pair(t: int, there: float, back: float, size: int = 4) -> Sparse:
    """Return W of an exchange between peer 0 and one other in turn."""
    return by_hand(size, [(0, t + 1, there), (t + 1, 0, back)])


@pytest.mark.parametrize(("period", "matrix", "says"), [
    (0, lambda t: pair(t, 0.5, 0.5), "its period is 0, not a whole number from 1, or None"),
    (3, lambda t: pair(t, 0.5, 0.25), "doubly stochastic, and W of exchange 0 is row stochastic only"),
    (3, lambda t: pair(t, 0.5 if t < 2 else 0.7, 0.5), "and W of exchange 2 is row stochastic only"),
    (3, lambda t: pair(t, -0.5, -0.5), "W of exchange 0 must hold 4 by 4 weights, none below 0"),
    (3, lambda t: pair(t, 1.5, 1.5), "W of exchange 0 must hold 4 by 4 weights, none below 0"),
    (3, lambda t: pair(t, np.nan, np.nan), "W of exchange 0 must hold 4 by 4 weights, none below 0"),
    (3, lambda t: pair(t, 0.5, 0.5, size=5), "W of exchange 0 must hold 4 by 4 weights, none below 0"),
    (3, lambda t: by_hand(4, [(k, (k + 1) % 4, 0.5) for k in range(4)]), "it says that it is not directed"),
    (3, fail, "KeyError: 'weights'"),
])
def test_a_schedule(period: int, matrix: Callable[[int], Any], says: str, tmp_path: Path) -> None:
    with registered(SCHEDULES, "wrong"):
        @p2pser.register_schedule("wrong")
        @dataclass(frozen=True)
        class Wrong(Computed):
            """A schedule with a mistake."""

            @property
            def period(self) -> int:
                return period

            def compute(self, t: int) -> Any:
                return matrix(t)

        (tmp_path / "wrong.yaml").write_text("graph: {kind: wrong, peers: 4}\n")
        with pytest.raises(p2pser.Error, match=re.escape(says)) as raised:
            p2pser.topology(tmp_path / "wrong.yaml")
    assert "schedule 'wrong' cannot be used with 4 peers: " in str(raised.value)


class Named(p2pser.NamedClips):
    """A corpus whose clips a test gives."""

    about = p2pser.About("Wrong", ("eo",), "2", 4, 2, "anna_joy.wav", "free", "nowhere", "none")
    pattern = re.compile("(?P<speaker>[a-z]+)_(?P<emotion>joy|rage)")
    emotions: ClassVar = {"joy": "happiness", "rage": "anger"}
    fields = "anna_joy.wav: speaker, emotion"


@pytest.mark.parametrize(("clip", "says"), [
    (fail, "(KeyError: 'weights')"),
    (lambda path, parts: None, "(AttributeError: 'NoneType' object has no attribute"),
    (lambda path, parts: Clip(path, 7, "anger"), "(TypeError: "),
])
def test_a_corpus(clip: Callable[[Path, Any], Any], says: str, tmp_path: Path) -> None:
    for name in ("anna_joy", "anna_rage", "ben_joy", "ben_rage"):
        (tmp_path / f"{name}.wav").touch()
    with registered(CORPORA, "wrong"):
        @p2pser.register_corpus("wrong")
        class Wrong(Named):
            name = "wrong"

            def clip(self, path: Path, parts: Any) -> Any:
                return clip(path, parts)

        with pytest.raises(p2pser.Error, match=re.escape(says)) as raised:
            load("wrong", tmp_path)
        assert "the corpus wrong at" in str(raised.value)


def test_a_corpus_that_loads_none(tmp_path: Path) -> None:
    with registered(CORPORA, "wrong"):
        @p2pser.register_corpus("wrong")
        class Wrong(Named):
            name = "wrong"

            def load(self, data: Path, variant: str = "") -> Any:
                return None

            def clip(self, path: Path, parts: Any) -> Clip:
                return Clip(path, "anna", "joy")

        with pytest.raises(p2pser.Error, match="load returned NoneType, not a Corpus"):
            load("wrong", tmp_path)


def test_a_corpus_that_cannot_tell_its_recordings_is_left_out(tmp_path: Path) -> None:
    for emotion in ("anger", "fear"):
        (tmp_path / emotion).mkdir()
        (tmp_path / emotion / "1.wav").touch()
    with registered(CORPORA, "wrong"):
        @p2pser.register_corpus("wrong")
        class Wrong(Named):
            name = "wrong"

            def matches(self, path: Path) -> bool:
                return bool(fail())

            def clip(self, path: Path, parts: Any) -> Clip:
                return Clip(path, "anna", "joy")

        with pytest.warns(UserWarning, match=r"the corpus wrong cannot tell its recordings and is left out \(KeyError"):
            assert recognise(tmp_path) == "folder"


