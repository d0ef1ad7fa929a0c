"""Drawings of a topology: peers as circles, links as lines, the dead crossed out."""

from __future__ import annotations

import math
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import networkx as nx
import numpy as np

from p2pser.errors import TopologyError
from p2pser.topology import kinds, mixing, spectral
from p2pser.topology.spec import Topology

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PEER, RIM, EDGE = "#2f6f9f", "#17405f", "#9aa7b1"
DEAD, CROSS, LOST = "#d5d8db", "#8a3b34", "#b4babf"
_CIRCLES = frozenset({"ring", "complete", "exponential", "watts-strogatz"})


def positions(topology: Topology) -> dict[int, np.ndarray]:
    """Return where each peer is drawn: (2,) coordinates by id, by the kind of graph; the same every time."""
    section = topology.document.get("graph", {})
    kind, size = section.get("kind"), topology.size
    if kind in ("grid", "torus"):
        shape = kinds.sides(size, section.get("rows"), section.get("columns"))
        if shape is not None:
            return _lattice(*shape)
    if kind == "star" and size > 2:
        return {0: np.zeros(2), **{i + 1: point for i, point in _circle(size - 1).items()}}
    if kind == "chain":
        return _snake(size)
    if kind == "tree":
        return _tree(size, section.get("branching", 2))
    if kind == "hypercube" and size > 4:
        return _hypercube(size)
    if kind in _CIRCLES or size < 4:
        return _circle(size)
    if size <= 64:  # stress-based placement from a circle: deterministic, and clearer than springs; O(N^3)
        placed: dict[int, np.ndarray] = nx.kamada_kawai_layout(topology.graph, pos=_circle(size))
    else:
        placed = nx.spring_layout(topology.graph, seed=0, iterations=100)
    return placed


def _circle(size: int) -> dict[int, np.ndarray]:
    turns = [math.tau * i / size for i in range(size)]
    return {i: np.array([math.sin(turn), math.cos(turn)]) for i, turn in enumerate(turns)}


def _lattice(rows: int, columns: int) -> dict[int, np.ndarray]:
    return {row * columns + column: np.array([float(column), -float(row)])
            for row in range(rows) for column in range(columns)}


def _snake(size: int) -> dict[int, np.ndarray]:
    """Put a chain into rows that make a square, turning at the ends."""
    width = max(min(size, 4), math.ceil(math.sqrt(size)))
    at = [divmod(i, width) for i in range(size)]
    return {i: np.array([float(column if row % 2 == 0 else width - 1 - column), -float(row)])
            for i, (row, column) in enumerate(at)}


def _tree(size: int, branching: int) -> dict[int, np.ndarray]:
    """Put leaves side by side, in order, and each parent above the middle of its children."""
    children = [range(min(size, i * branching + 1), min(size, (i + 1) * branching + 1)) for i in range(size)]
    depth = [0] * size
    for i in range(1, size):
        depth[i] = depth[(i - 1) // branching] + 1
    across, stack = 0.0, [(0, False)]
    place: dict[int, float] = {}
    while stack:
        i, opened = stack.pop()
        if not children[i]:
            place[i], across = across, across + 1.0
        elif opened:
            place[i] = float(np.mean([place[c] for c in children[i]]))
        else:
            stack += [(i, True), *((c, False) for c in reversed(children[i]))]
    level = max(1.0, 0.8 * (across - 1) / max(1, *depth)) if size > 1 else 1.0
    return {i: np.array([place[i], -level * depth[i]]) for i in range(size)}


def _hypercube(size: int) -> dict[int, np.ndarray]:
    """Project the corners: one direction for each bit, the later ones shorter, so that cubes sit in cubes."""
    bits = size.bit_length() - 1
    steps = [(1.0, 0.0), (0.0, 1.0), (0.42, 0.36)]
    for bit in range(3, bits):  # the next cube beside the ones before, in turn to the right and upwards
        far = 2.1 * 2.2 ** ((bit - 3) // 2)
        steps.append((far, 0.12 * far) if bit % 2 else (0.12 * far, far))
    corners = np.array([[i >> bit & 1 for bit in range(bits)] for i in range(size)], dtype=float)
    return dict(enumerate(corners @ np.array(steps[:bits])))


def _curved(topology: Topology) -> dict[tuple[int, int], float]:
    """Return the links that would run through other peers if drawn straight, with their curvature."""
    section = topology.document.get("graph", {})
    shape = kinds.sides(topology.size, section.get("rows"), section.get("columns"))
    if section.get("kind") != "torus" or shape is None:
        return {}
    columns = shape[1]
    bent = {}
    for u, v in topology.graph.edges:  # u < v
        (row, column), (to_row, to_column) = divmod(u, columns), divmod(v, columns)
        if to_row - row > 1:
            bent[(u, v)] = 0.22
        elif to_column - column > 1:
            bent[(u, v)] = -0.22
    return bent


def title(topology: Topology, dead: Collection[int] = ()) -> str:
    """Return ``ring · 8 peers · slem 0.805``, with the number of the dead where there are any."""
    slem = spectral.slem(mixing.metropolis(topology.graph))
    lost = f" · {len(dead)} dead" if dead else ""
    return f"{topology.name} · {topology.size} peer{'s' * (topology.size != 1)} · slem {slem:.3f}{lost}"


def draw_on(axes: Axes, topology: Topology, dead: Collection[int] = ()) -> None:
    """Draw a topology on matplotlib axes: ids in circles; the dead grey and crossed out, their links dashed.

    Raises TopologyError where a dead peer is not in the topology.
    """
    from matplotlib.patches import FancyArrowPatch

    for peer in dead:
        topology.neighbours(peer)
    at, size = positions(topology), topology.size
    bent = _curved(topology)
    unit = _frame(axes, np.array([at[i] for i in range(size)]), bool(bent))
    radius = max(2.0, min(13.0, 0.4 * unit * _closest(at)))  # in points: readable numbers where there is room
    width = max(0.4, min(1.8, 40.0 / max(1, topology.graph.number_of_edges())))
    for u, v in topology.graph.edges:
        lost = u in dead or v in dead
        line: dict[str, Any] = {
            "color": LOST if lost else EDGE, "linewidth": width, "zorder": 1 if lost else 2,
            "linestyle": (0, (3, 3)) if lost else "solid",
        }
        curve = f"arc3,rad={bent.get((u, v), 0.0)}"
        axes.add_patch(FancyArrowPatch(at[u], at[v], arrowstyle="-", connectionstyle=curve,
                                       shrinkA=0, shrinkB=0, **line))
    for peer in range(size):
        x, y = at[peer]
        gone = peer in dead
        axes.scatter([x], [y], s=(2 * radius) ** 2, color=DEAD if gone else PEER,
                     edgecolors=CROSS if gone else RIM, linewidths=1.0, zorder=3)
        if gone:
            axes.scatter([x], [y], s=(1.5 * radius) ** 2, marker="x", color=CROSS, linewidths=1.6, zorder=4,
                         alpha=0.45)
        if radius >= 5:
            axes.text(x, y, str(peer), ha="center", va="center", fontsize=0.85 * radius, zorder=5,
                      color="#2b2e31" if gone else "white", fontweight="bold")
    axes.set_title(title(topology, dead), fontsize=11)


def _closest(at: dict[int, np.ndarray]) -> float:
    """Return the distance of the two peers that are drawn nearest to each other; 1 for a single one."""
    points = np.array(list(at.values()))
    if len(points) < 2:
        return 1.0
    from scipy.spatial import cKDTree

    distances = cKDTree(points).query(points, k=2)[0]
    return float(distances[:, 1].min())


def _frame(axes: Axes, points: np.ndarray, bent: bool) -> float:
    """Set the limits to a square around the points; return how many typographic points one unit is long."""
    low, high = points.min(axis=0), points.max(axis=0)
    centre, reach = (low + high) / 2, max(float((high - low).max()), 1.0) * (0.66 if bent else 0.6)
    axes.set_xlim(centre[0] - reach, centre[0] + reach)
    axes.set_ylim(centre[1] - reach, centre[1] + reach)
    axes.set_aspect("equal")
    axes.set_axis_off()
    box, (wide, high_inches) = axes.get_position(), axes.figure.get_size_inches()
    return float(72.0 * min(box.width * wide, box.height * high_inches) / (2 * reach))


def draw(topology: Topology, path: Path | str, dead: Collection[int] = ()) -> None:
    """Write a drawing to ``path`` (.png, .svg or .pdf), 5 by 5 inches; TopologyError where it cannot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.0, 5.0), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    draw_on(figure.add_subplot(), topology, dead)
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise TopologyError(f"cannot write the drawing {path}: {error}; give a .png, .svg or .pdf in "
                            "a folder that can be written") from None
