"""``p2pser topology show`` of schedules, and ``compare``: a table, one JSON document, one picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from matplotlib.figure import Figure

from p2pser.base.errors import TopologyError
from p2pser.cli.topology import topology as command
from p2pser.graph.drawing import draw, draw_on, draw_side_by_side, panels, title
from p2pser.graph.spec import load, shipped


def run(*arguments: str) -> str:
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def shown(*arguments: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(run("show", *arguments, "--json"))
    return document


# ---- show --------------------------------------------------------------------------------------------------

STATIC = ["name", "peers", "edges", "directed", "connected", "degree", "diameter", "slem", "spectral_gap",
          "rounds_to_1e-6", "weights", "exposure"]
FURTHER = ["stochastic", "period", "contraction", "contraction_is", "finite_time_rounds", "messages_per_exchange",
           "bytes_per_exchange"]


def test_show_a_schedule() -> None:
    document = shown("base-2", "--peers", "6")
    assert list(document) == STATIC + FURTHER
    assert {key: document[key] for key in FURTHER} == {
        "stochastic": "doubly", "period": 4, "contraction": 0.0, "contraction_is": "exact", "finite_time_rounds": 4,
        "messages_per_exchange": 4.5, "bytes_per_exchange": 4.5 * 4e5,
    }
    assert (document["rounds_to_1e-6"], document["slem"], document["directed"]) == (4, 0.0, False)
    assert document["degree"] == {"min": 0, "mean": 0.75, "max": 1}  # where three average, one rests


def test_bytes_are_those_of_the_model_that_is_asked_for() -> None:
    assert shown("one-peer-exponential", "--parameters", "1000")["bytes_per_exchange"] == 8 * 4000


def test_show_what_never_repeats_and_what_is_for_push_sum() -> None:
    document = shown("epidemic-local", "--peers", "16")
    assert (document["period"], document["finite_time_rounds"]) == (None, None)
    assert (document["contraction_is"], document["stochastic"]) == ("estimated", "row")
    assert document["messages_per_exchange"] == 16 * 4
    document = shown("random-digraph")
    assert (document["stochastic"], document["contraction_is"], document["directed"]) == ("column", "asymptotic", True)
    assert document["weights"] == "out-degree"


@pytest.mark.parametrize(("name", "words"), [
    ("one-peer-exponential", ["after 3 exchanges", "3,200,000 (float32, 100,000", "0 over one period", "doubly"]),
    ("epidemic", ["never repeats", "estimated over seeded draws"]),
    ("epidemic-local", ["rows only"]),
    ("random-digraph", ["columns only: for push-sum", "in the end"]),
])
def test_show_for_people(name: str, words: list[str]) -> None:
    text = " ".join(run("show", name).split())
    for word in words:
        assert word in text


def test_show_weights_by_rule(tmp_path: Path) -> None:
    path = tmp_path / "net.yaml"
    path.write_text("graph: {kind: ring, peers: 8}\nweights: lazy\n", encoding="utf-8")
    document = shown(str(path))
    assert list(document) == STATIC
    assert document["weights"] == "lazy"
    assert document["slem"] == pytest.approx((1 + shown("ring")["slem"]) / 2)


# ---- compare -----------------------------------------------------------------------------------------------

def test_compare_json() -> None:
    document = json.loads(run("compare", "ring", "base-2", "epidemic", "random-digraph", "--peers", "8", "--json"))
    rows = {row["name"]: row for row in document["topologies"]}
    assert list(rows) == ["ring", "base-2", "epidemic", "random-digraph"]
    assert all(list(row) == [*STATIC, *FURTHER, "rounds_measured"] for row in rows.values())
    assert rows["ring"]["rounds_to_1e-6"] == 64
    assert rows["ring"]["messages_per_exchange"] == 16
    assert 55 <= rows["ring"]["rounds_measured"] <= 64
    assert rows["base-2"]["rounds_measured"] == rows["base-2"]["finite_time_rounds"] == 3
    again = json.loads(run("compare", "ring", "base-2", "epidemic", "random-digraph", "--peers", "8", "--json"))
    assert document == again


def test_compare_for_people_fits_a_terminal(tmp_path: Path) -> None:
    text = run("compare", "ring", "directed-exponential", "one-peer-exponential", "epidemic-local", "random-geometric",
               "--peers", "16", "--plot", str(tmp_path / "all.png"))
    assert max(map(len, text.splitlines())) <= 80
    assert "one-peer-exponential" in text
    assert "…" not in text
    assert (tmp_path / "all.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("arguments", "message"), [
    (("compare", "ring", "hypercube", "--peers", "6"), "no hypercube of 6 peers"),
    (("compare", "ring", "rng"), "did you mean 'ring'"),
])
def test_what_is_wrong_is_a_topology_error(arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(TopologyError, match=message):
        CliRunner().invoke(command, arguments, catch_exceptions=False)


def test_compare_needs_a_topology() -> None:
    result = CliRunner().invoke(command, ["compare"])
    assert result.exit_code == 2
    assert "Missing argument 'FILE...'" in result.output


def test_help_has_an_example() -> None:
    assert "Example: p2pser topology compare" in run("compare", "--help")


# ---- drawings ----------------------------------------------------------------------------------------------

def test_panels() -> None:
    assert panels(load("ring")) == panels(load("directed-ring")) == [None]
    assert panels(load("one-peer-hypercube")) == [0, 1, 2]
    assert panels(load("base-2", 100)) == [0, 1, 2, 3]
    assert panels(load("epidemic")) == [0]


def lines(name: str, exchange: int | None = None) -> list[str]:
    axes = Figure().add_subplot()
    draw_on(axes, load(name), exchange=exchange)
    return sorted(type(patch.get_arrowstyle()).__name__ for patch in axes.patches)  # type: ignore[attr-defined]


def test_one_way_links_are_arrows() -> None:
    assert lines("directed-ring") == ["CurveFilledB"] * 8
    assert lines("ring") == ["Curve"] * 8
    assert lines("one-peer-exponential", 0) == ["CurveFilledB"] * 8
    assert lines("one-peer-exponential", 2) == ["Curve"] * 4  # four places on is four places back
    assert lines("one-peer-exponential") == ["Curve"] * 20  # all that are ever used
    assert lines("one-peer-hypercube", 1) == ["Curve"] * 4


def test_every_peer_has_a_number_that_can_be_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In the gallery of all shipped topologies, numbers of two of them were too small to be drawn."""
    figures: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path: figures.append(figure))
    draw_side_by_side([load(name, 16) for name in sorted(shipped()) if name != "server"], tmp_path / "all.png")
    for axes in figures[0].axes:
        assert [text.get_text() for text in axes.texts] == [str(i) for i in range(16)], axes.get_title()
        assert min(text.get_fontsize() for text in axes.texts) >= 6, axes.get_title()


def test_titles_of_schedules() -> None:
    assert title(load("base-2")) == "base-2 · 8 peers · consensus in 3 exchanges"
    assert title(load("directed-ring")) == "directed-ring · 8 peers · 0.924 an exchange"


def test_schedules_are_drawn_exchange_by_exchange(tmp_path: Path) -> None:
    draw(load("base-2", 6), tmp_path / "base.svg")
    text = (tmp_path / "base.svg").read_text(encoding="utf-8")
    assert "base-2 · exchange 1 of 4" in text
    assert "consensus in 4 exchanges" in text
    assert "base-2 · exchange 4" in text
    draw_side_by_side([load("ring"), load("random-matching")], tmp_path / "both.svg")
    text = (tmp_path / "both.svg").read_text(encoding="utf-8")
    assert "slem 0.805" in text
    assert "random-matching · exchange 1" in text
    assert "random-matching · exchange 2" not in text
