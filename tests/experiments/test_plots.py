"""The pictures: that they are drawn from what runs give, gaps and deaths included."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from p2pser.experiments.report import canvas, styles
from p2pser.experiments.report import runs as plots
from p2pser.graph import spec
from p2pser.graph.mixing import metropolis
from p2pser.graph.spectral import slem
from p2pser.graph.theory import chebyshev

Drawn = list[Any]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    """The figures that a test draws, kept for a look."""
    figures: Drawn = []
    make = plots.new_figure

    def keep(width: float, height: float) -> Any:
        figures.append(make(width, height))
        return figures[-1]

    monkeypatch.setattr(plots, "new_figure", keep)
    return figures


def png_size(path: Path) -> tuple[int, int]:
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", data[16:24])
    return width, height


def run(path: Path, **changes: Any) -> None:
    """Draw a made-up run of 8 peers on a ring, with ``changes`` to what is drawn."""
    topology = spec.load("ring", 8)
    rounds = 12
    rise = (0.8 - 0.6 * np.exp(-np.arange(rounds) / 4)).tolist()
    shown = {"topology": topology, "dead": [3], "rounds": rounds,
             "uar": {"mean": rise, "worst": [value - 0.1 for value in rise],
                     "consensus model": [value if at % 5 == 4 else None for at, value in enumerate(rise)]},
             "baselines": {"pooled": 0.81, "local-only": 0.39},
             "distance": (0.1 * np.exp(-np.arange(rounds) / 8)).tolist(),
             "final_distance": [0.03, 0.01, 1e-3, 1e-5, 1e-7], "slem": slem(metropolis(topology.graph))}
    plots.run_picture(path, **(shown | changes))


def labels(axes: Any) -> list[str]:
    return list(axes.get_legend_handles_labels()[1])


def test_a_run_has_three_panels(tmp_path: Path, drawn: Drawn) -> None:
    run(tmp_path / "pictures" / "run.png")
    width, height = png_size(tmp_path / "pictures" / "run.png")
    assert (width, height) == (round(13.5 * canvas.DPI), round(4.4 * canvas.DPI))
    left, middle, right = drawn[0].axes
    assert "ring" in left.get_title() + left.get_title(loc="left")
    assert labels(middle) == ["mean", "worst", "consensus model"]
    assert {text.get_text() for text in middle.texts} == {"pooled 0.810", "local-only 0.390"}
    assert right.get_yscale() == "log"
    assert labels(right)[0] == "measured"
    assert len(labels(right)) == 3


def test_what_was_measured_is_what_is_drawn(tmp_path: Path, drawn: Drawn) -> None:
    run(tmp_path / "run.png")
    _, middle, right = drawn[0].axes
    consensus = next(line for line in middle.lines if line.get_label() == "consensus model")
    assert consensus.get_xdata().tolist() == [5, 10]
    training, final = right.lines[:2]
    assert training.get_xdata().tolist() == list(range(1, 13))
    assert final.get_xdata().tolist() == [12, 13, 14, 15, 16]
    assert final.get_ydata().tolist() == [0.03, 0.01, 1e-3, 1e-5, 1e-7]
    plain = next(line for line in right.lines if "plain" in line.get_label())
    ratios = plain.get_ydata()[1:] / plain.get_ydata()[:-1]
    assert np.allclose(ratios, slem(metropolis(spec.load("ring", 8).graph)))


@pytest.mark.parametrize("changes", [
    {"dead": []},
    {"baselines": {}},
    {"baselines": {"pooled": 0.5, "local-only": 0.49, "chance": None}},
    {"final_distance": []},
    {"final_distance": [0.0, 0.0]},
    {"distance": [0.0] * 12, "final_distance": [None, 1e-3]},
    {"slem": 0.0},
    {"slem": 1.0},
    {"rounds": 1, "uar": {"mean": [0.5]}, "distance": [0.1]},
    {"rounds": 0, "uar": {}, "distance": [], "final_distance": [0.1, 0.01]},
    {"uar": {"mean": [None] * 12}},
])
def test_odd_runs_are_drawn_too(tmp_path: Path, drawn: Drawn, changes: dict[str, Any]) -> None:
    run(tmp_path / "run.png", **changes)
    assert png_size(tmp_path / "run.png")[0] > 1000
    assert all(np.isfinite(axes.get_ylim()).all() for axes in drawn[0].axes)


def test_chebyshev_is_one_over_the_polynomial() -> None:
    for sigma in (0.3, 0.805, 0.997):
        k = np.arange(9)
        polynomial = np.array([np.polynomial.Chebyshev.basis(int(n))(1 / sigma) for n in k])
        assert np.allclose(chebyshev(k, sigma), 1 / polynomial, rtol=1e-10)


def test_topologies_beside_each_other(tmp_path: Path, drawn: Drawn) -> None:
    curves = {"ring": {"uar": [[0.2, 0.5, 0.7], [0.4, 0.6, 0.8]],
                       "distance": [[1e-1, 1e-2, 1e-3], [1e-3, 1e-2, 1e-1]]},
              "complete": {"uar": [[0.3, 0.6, 0.75]], "distance": [[1e-2, 1e-3, 0.0]]}}
    plots.compare_picture(tmp_path / "compare.png", curves, {"pooled": 0.8})
    assert png_size(tmp_path / "compare.png")[0] >= 900
    ring, complete, ring_distance, complete_distance = drawn[0].axes
    own, = [line for line in ring.lines if line.get_color() == styles.topology_styles(["ring"])["ring"].colour]
    assert np.allclose(own.get_ydata(), [0.3, 0.55, 0.75])
    behind, = [line for line in ring.lines if line.get_color() == styles.PALE]
    assert np.allclose(behind.get_ydata(), [0.3, 0.6, 0.75])
    assert [len(axes.collections) for axes in drawn[0].axes] == [1, 0, 1, 0]  # a band only for several runs
    assert np.allclose(ring_distance.lines[0].get_ydata(), 1e-2)  # the geometric mean
    assert complete_distance.lines[1].get_xdata().tolist() == [1, 2]
    assert [axes.get_title(loc="left") for axes in (ring, complete)] == ["ring", "complete"]
    assert [text.get_text() for text in drawn[0].legends[0].get_texts()] == ["pooled 0.800"]
    assert ring.get_ylim() == complete.get_ylim()


def test_distances_that_are_rounding_take_no_axis(tmp_path: Path, drawn: Drawn) -> None:
    curves = {"ring": {"uar": [[0.5, 0.6]], "distance": [[0.1, 0.01]]},
              "complete dfedavg": {"uar": [[0.5, 0.6]], "distance": [[1e-7, 1e-7]]}}
    plots.compare_picture(tmp_path / "compare.png", curves, {})
    ring, complete = drawn[0].axes[2:]
    assert ring.get_ylim()[0] > 1e-3
    assert [text.get_text() for text in complete.texts] == ["below $10^{-6}$"]


def test_a_model_has_one_colour_in_every_picture(tmp_path: Path, drawn: Drawn) -> None:
    """demo draws two models and simulate three."""
    for names in (["mean peer", "worst peer"], ["consensus model", "mean peer", "worst peer"]):
        run(tmp_path / "run.png", uar={name: [0.5] * 12 for name in names})
    demo, simulate = ({line.get_label(): line.get_color() for line in figure.axes[1].lines} for figure in drawn)
    assert demo["mean peer"] == simulate["mean peer"]
    assert demo["worst peer"] == simulate["worst peer"]


def test_a_topology_has_one_style_whatever_is_beside_it() -> None:
    shipped = sorted(spec.shipped())
    looks = styles.topology_styles(shipped)
    assert len({(look.colour, look.dash) for look in looks.values()}) == len(shipped)
    assert len({(look.colour, look.marker) for look in looks.values()}) == len(shipped)
    assert styles.topology_styles(["torus", "mine", "ring"])["ring"] == looks["ring"]
    six = styles.topology_styles(["ring", "chain", "star", "torus", "exponential", "complete"]).values()
    assert len({look.colour for look in six}) == len({look.marker for look in six}) == 6
    own = styles.topology_styles(["a", "b", "ring"])
    assert len(set(own.values())) == 3


def test_runs_of_unequal_length_and_gaps(tmp_path: Path, drawn: Drawn) -> None:
    curves = {"ring": {"uar": [[0.2, None, 0.6], [0.4]], "distance": [[0.1, 0.1, 0.1], [0.1]]}, "star": {}}
    plots.compare_picture(tmp_path / "compare.svg", curves, {})
    line = drawn[0].axes[0].lines[0]
    assert line.get_xdata().tolist() == [1, 3]
    assert np.allclose(line.get_ydata(), [0.3, 0.6])
    assert (tmp_path / "compare.svg").read_text(encoding="utf-8").count("<svg") == 1


@pytest.mark.parametrize("curves", [{}, {"complete": {"uar": [[0.1, 0.5, 0.6]], "distance": [[0.0, 0.0, 0.0]]}}])
def test_nothing_to_compare(tmp_path: Path, curves: Any) -> None:
    plots.compare_picture(tmp_path / "compare.png", curves, {})
    assert png_size(tmp_path / "compare.png")[0] >= 900


def test_pictures_do_not_touch_global_state(tmp_path: Path) -> None:
    import sys

    run(tmp_path / "run.png")
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()
