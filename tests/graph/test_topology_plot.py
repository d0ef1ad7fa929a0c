"""Drawings and numbers of topologies, and the commands that print them."""

from __future__ import annotations

import json
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from click.testing import CliRunner
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from p2pser.base.errors import TopologyError
from p2pser.base.registries import GRAPHS
from p2pser.cli.topology import topology as command
from p2pser.graph.drawing import draw, draw_on, positions, title
from p2pser.graph.spec import load, parse, shipped
from p2pser.graph.summary import diameter, summarise


def drawn(name: str, peers: int, dead: tuple[int, ...] = ()) -> Figure:
    figure = Figure()
    FigureCanvasAgg(figure)
    draw_on(figure.add_subplot(), load(name, peers), dead)
    return figure


# ---- drawings ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind", sorted(GRAPHS))
@pytest.mark.parametrize("peers", [8, 16, 64])
def test_no_two_peers_are_drawn_at_one_place(kind: str, peers: int) -> None:
    at = positions(load(kind, peers))
    points = np.array([at[i] for i in range(peers)])
    apart = np.linalg.norm(points[:, None] - points[None], axis=2) + np.eye(peers) * 1e9
    assert apart.min() > 0.004 * np.ptp(points, axis=0).max()
    again = positions(load(kind, peers))
    assert all(np.array_equal(at[i], again[i]) for i in range(peers))


def test_parents_are_drawn_above_the_middle_of_their_children() -> None:
    at = positions(load("tree", 7))
    for parent, children in ((0, (1, 2)), (1, (3, 4)), (2, (5, 6))):
        assert at[parent][0] == pytest.approx(np.mean([at[child][0] for child in children]))
        assert all(at[parent][1] > at[child][1] for child in children)


def test_the_dead_are_crossed_out_and_their_links_dashed() -> None:
    axes = drawn("ring", 8, dead=(3,)).axes[0]
    dashed = [patch for patch in axes.patches if patch.get_linestyle() not in ("solid", "-")]
    assert (len(axes.patches), len(dashed)) == (8, 2)
    assert len(axes.collections) == 8 + 1  # a circle each, one cross
    assert [text.get_text() for text in axes.texts] == [str(i) for i in range(8)]
    assert axes.get_title() == "ring · 8 peers · slem 0.805 · 1 dead"


def test_a_dead_peer_must_exist() -> None:
    with pytest.raises(TopologyError, match="no peer 8"):
        drawn("ring", 8, dead=(8,))


def test_titles() -> None:
    assert title(load("ring", 1)) == "ring · 1 peer · slem 0.000"


@pytest.mark.parametrize(("kind", "peers"), [
    ("torus", 16), ("chain", 8), ("ring", 1), ("random-regular", 80),
])
def test_png_files(tmp_path: Path, kind: str, peers: int) -> None:
    path = tmp_path / "net.png"
    draw(load(kind, peers), path, dead=(0,))
    assert path.read_bytes().startswith(b"\x89PNG")


def test_edge_lists_are_drawn_too(tmp_path: Path) -> None:
    draw(parse({"graph": {"edges": [[0, 1], [1, 2], [2, 3], [3, 4]]}}, "t"), tmp_path / "net.svg")
    assert "<svg" in (tmp_path / "net.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["net.unknown", "missing/net.png"])
def test_drawings_that_cannot_be_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(TopologyError, match="cannot write the drawing"):
        draw(load("ring"), tmp_path / name)


# ---- numbers -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind", sorted(GRAPHS))
def test_the_diameter_is_networkxs(kind: str) -> None:
    graph = load(kind, 16).graph
    assert diameter(graph) == nx.diameter(graph)


def test_summary_of_the_ring() -> None:
    assert summarise(load("ring")) == {
        "name": "ring", "peers": 8, "edges": 8, "directed": False, "connected": True,
        "degree": {"min": 2, "mean": 2.0, "max": 2}, "diameter": 4,
        "slem": pytest.approx((1 + 2**0.5) / 3), "spectral_gap": pytest.approx(1 - (1 + 2**0.5) / 3),
        "rounds_to_1e-6": 64, "weights": "metropolis", "exposure": {"peers": 7, "exchanges": 4},
    }


# ---- commands ----------------------------------------------------------------------------------------------

def run(*arguments: str) -> str:
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_show_json() -> None:
    document = json.loads(run("show", "ring", "--peers", "16", "--json"))
    assert list(document) == ["name", "peers", "edges", "directed", "connected", "degree", "diameter", "slem",
                              "spectral_gap", "rounds_to_1e-6", "weights", "exposure"]
    assert (document["peers"], document["edges"], document["rounds_to_1e-6"]) == (16, 16, 266)


def test_show_for_people(tmp_path: Path) -> None:
    text = run("show", "ring.yaml")
    assert "0.804738" in text
    assert "1, 7" in text
    nx.write_graphml(nx.Graph([("clinic", "lab")]), tmp_path / "sites.graphml")
    assert "clinic" in run("show", str(tmp_path / "sites.graphml"))


def test_show_one_peer() -> None:
    assert json.loads(run("show", "ring", "--peers", "1", "--json"))["diameter"] == 0


def test_list() -> None:
    rows = json.loads(run("list", "--json"))
    assert {row["name"] for row in rows} == set(shipped())
    assert all(row["about"] and Path(row["file"]).is_file() for row in rows)
    assert "watts-strogatz" in run("list")


def test_plot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("plot", "torus") == "torus.png\n"
    assert (tmp_path / "torus.png").is_file()
    assert json.loads(run("plot", "star", "--peers", "5", "--out", "s.svg", "--json")) == {
        "name": "star", "peers": 5, "out": "s.svg"}


@pytest.mark.parametrize("arguments", [
    ("show", "rng"), ("plot", "hypercube", "--peers", "6"), ("show", "torus", "--peers", "7"),
])
def test_what_is_wrong_is_a_topology_error(arguments: tuple[str, ...]) -> None:
    with pytest.raises(TopologyError):
        CliRunner().invoke(command, arguments, catch_exceptions=False)


@pytest.mark.parametrize("name", ["list", "show", "plot"])
def test_every_help_has_an_example(name: str) -> None:
    assert f"Example: p2pser topology {name}" in run(name, "--help")
