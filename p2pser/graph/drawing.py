"""Drawings of topologies: peers as circles, links as lines, one-way links as arrows, dead peers crossed out.

A schedule is drawn as small multiples: a panel for each of the first exchanges of its period.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import networkx as nx
import numpy as np

from p2pser.base import pictures
from p2pser.base.errors import TopologyError
from p2pser.base.wording import counted
from p2pser.graph import spectral, theory
from p2pser.graph.graph_kinds import sides
from p2pser.graph.spec import Topology

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PEER, RIM, EDGE = "#2f6f9f", "#17405f", "#9aa7b1"
DEAD, CROSS, LOST = "#d5d8db", "#8a3b34", "#b4babf"
_CIRCLES = frozenset({
    "ring", "complete", "exponential", "watts-strogatz", "directed-ring", "directed-exponential",
    "one-peer-exponential", "base", "epidemic", "random-matching", "sequence",
})
PANELS = 4
"""The number of exchanges of a schedule that are drawn."""


def positions(topology: Topology) -> dict[int, np.ndarray]:
    """Return the coordinates (2,) of each peer by id; deterministic. The kind of graph determines the layout."""
    section = topology.document.get("graph", {})
    kind, size = section.get("kind"), topology.size
    if kind in ("grid", "torus"):
        shape = sides(size, section.get("rows"), section.get("columns"))
        if shape is not None:
            return _lattice(*shape)
    if kind == "star" and size > 2:
        return {0: np.zeros(2), **{i + 1: point for i, point in _circle(size - 1).items()}}
    if kind == "chain":
        return _snake(size)
    if kind == "tree":
        return _tree(size, section.get("branching", 2))
    if kind in ("hypercube", "one-peer-hypercube") and size > 4:
        return _hypercube(size)
    known = nx.get_node_attributes(topology.graph, "pos")
    if len(known) == size:
        return _apart({i: np.array(place, dtype=float) for i, place in known.items()})
    if kind in _CIRCLES or size < 4:
        return _circle(size)
    if size <= 64:  # stress-based, from a circle: deterministic, and clearer than a spring layout; O(N^3)
        placed: dict[int, np.ndarray] = _apart(nx.kamada_kawai_layout(topology.graph, pos=_circle(size)))
    else:
        placed = nx.spring_layout(topology.graph, seed=0, iterations=100)
    return placed


def _apart(at: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
    """Move peers apart that are closer than about half their mean distance: their ids must be readable."""
    points = np.array([at[i] for i in range(len(at))])
    least = 0.55 * float(np.ptp(points, axis=0).max()) / math.sqrt(max(1, len(points)))
    for _ in range(200):
        between = points[:, None] - points[None]
        distances = np.linalg.norm(between, axis=2)
        np.fill_diagonal(distances, np.inf)
        missing = np.clip(1.05 * least - distances, 0, None)
        if distances.min(initial=np.inf) >= least:
            break
        points = points + (between / np.maximum(distances, 1e-9)[..., None] * missing[..., None]).sum(axis=1) / 2
    return dict(enumerate(points))


def _circle(size: int) -> dict[int, np.ndarray]:
    turns = [math.tau * i / size for i in range(size)]
    return {i: np.array([math.sin(turn), math.cos(turn)]) for i, turn in enumerate(turns)}


def _lattice(rows: int, columns: int) -> dict[int, np.ndarray]:
    return {row * columns + column: np.array([float(column), -float(row)])
            for row in range(rows) for column in range(columns)}


def _snake(size: int) -> dict[int, np.ndarray]:
    """Return the positions of a chain in the rows of a square, alternating in direction."""
    width = max(min(size, 4), math.ceil(math.sqrt(size)))
    at = [divmod(i, width) for i in range(size)]
    return {i: np.array([float(column if row % 2 == 0 else width - 1 - column), -float(row)])
            for i, (row, column) in enumerate(at)}


def _tree(size: int, branching: int) -> dict[int, np.ndarray]:
    """Return the positions of a tree: the leaves in a row, in order, and each parent above the middle of its children.
    """
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
    """Return projections of a hypercube's corners: a direction for each bit, so that its cubes do not overlap."""
    bits = size.bit_length() - 1
    steps = [(1.0, 0.0), (0.0, 1.0), (0.42, 0.36)]
    for bit in range(3, bits):  # a copy of the cube so far, alternately to the right and upwards
        far = 2.1 * 2.2 ** ((bit - 3) // 2)
        steps.append((far, 0.12 * far) if bit % 2 else (0.12 * far, far))
    corners = np.array([[i >> bit & 1 for bit in range(bits)] for i in range(size)], dtype=float)
    return dict(enumerate(corners @ np.array(steps[:bits])))


def _curved(topology: Topology) -> dict[tuple[int, int], float]:
    """Return the curvature of the links that would cross other peers as straight lines."""
    section = topology.document.get("graph", {})
    shape = sides(topology.size, section.get("rows"), section.get("columns"))
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
    """Return ``ring · 8 peers · slem 0.805``, with the number of dead peers; for schedules the rate per exchange."""
    if topology.schedule is None:
        speed = f"slem {spectral.slem(topology.matrix()):.3f}"
    else:
        theoretical = theory.convergence(topology)
        finite = theoretical.finite_time
        speed = (f"{theoretical.per_exchange:.3f} an exchange" if finite is None
                 else f"consensus in {counted(finite, 'exchange')}")
    lost = f" · {len(dead)} dead" if dead else ""
    return f"{topology.name} · {counted(topology.size, 'peer')} · {speed}{lost}"


def panels(topology: Topology) -> list[int | None]:
    """Return the exchanges to draw, one for each panel: the first ones of a schedule's period; [None] where it is
    static.
    """
    period = 1 if topology.schedule is None else topology.schedule.period
    return [None] if period == 1 else list(range(min(PANELS, period or 1)))


def _lines(topology: Topology, exchange: int | None) -> list[tuple[int, int, str]]:
    """Return (from, to, arrow style) of each link: of one exchange, or of all."""
    if exchange is None and not (topology.directed and panels(topology) == [None]):
        return [(u, v, "-") for u, v in topology.graph.edges]
    W = topology.matrix(exchange or 0)
    pairs = [(int(j), int(i)) for i, j in np.argwhere(W) if i != j]
    one_way = [(j, i, "-|>") for j, i in pairs if W[j, i] == 0]
    return one_way + [(j, i, "-") for j, i in pairs if W[j, i] != 0 and j < i]


def draw_on(axes: Axes, topology: Topology, dead: Collection[int] = (), exchange: int | None = None) -> None:
    """Draw a topology on matplotlib axes: ids in circles; dead peers grey and crossed out, with dashed links.

    Parameters
    ----------
    axes : matplotlib axes.
    topology : the topology.
    dead : the ids of the dead peers; TopologyError where one is not in the topology.
    exchange : the exchange of a schedule whose links are drawn; None: the links of all exchanges.
    """
    from matplotlib.patches import FancyArrowPatch

    for peer in dead:
        topology.neighbours(peer)
    at, size = positions(topology), topology.size
    bent, lines = _curved(topology), _lines(topology, exchange)
    unit = _frame(axes, np.array([at[i] for i in range(size)]), bool(bent))
    radius = max(2.0, min(13.0, 0.4 * unit * _closest(at)))  # [points]: large enough for the id where possible
    width = max(0.4, min(1.8, 40.0 / max(1, len(lines))))
    for u, v, style in lines:
        lost = u in dead or v in dead
        line: dict[str, Any] = {
            "color": LOST if lost else EDGE, "linewidth": width, "zorder": 1 if lost else 2,
            "linestyle": (0, (3, 3)) if lost else "solid",
        }
        curve = f"arc3,rad={bent.get((u, v), 0.0)}"
        axes.add_patch(FancyArrowPatch(at[u], at[v], arrowstyle=style, connectionstyle=curve, shrinkA=0,
                                       shrinkB=0 if style == "-" else radius, mutation_scale=max(5.0, 0.8 * radius),
                                       **line))
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
    axes.set_title(title(topology, dead) if exchange is None else f"{topology.name} · exchange {exchange + 1}",
                   fontsize=11)


def _closest(at: dict[int, np.ndarray]) -> float:
    """Return the smallest distance between two peers in the drawing; 1 for a single peer."""
    points = np.array(list(at.values()))
    if len(points) < 2:
        return 1.0
    from scipy.spatial import cKDTree

    distances = cKDTree(points).query(points, k=2)[0]
    return float(distances[:, 1].min())


def _frame(axes: Axes, points: np.ndarray, bent: bool) -> float:
    """Set the limits to a square around the points; return the length of one unit in typographic points."""
    low, high = points.min(axis=0), points.max(axis=0)
    centre, reach = (low + high) / 2, max(float((high - low).max()), 1.0) * (0.66 if bent else 0.6)
    axes.set_xlim(centre[0] - reach, centre[0] + reach)
    axes.set_ylim(centre[1] - reach, centre[1] + reach)
    axes.set_aspect("equal")
    axes.set_axis_off()
    box, (wide, high_inches) = axes.get_position(), axes.figure.get_size_inches()
    return float(72.0 * min(box.width * wide, box.height * high_inches) / (2 * reach))


def draw(topology: Topology, path: Path | str, dead: Collection[int] = ()) -> None:
    """Write a drawing to ``path`` (.png, .svg or .pdf), 5 by 5 inches a panel.

    Raises TopologyError where the file cannot be written.
    """
    _write([(topology, exchange) for exchange in panels(topology)], path, 5.0, dead)


def _heading(topology: Topology, exchange: int | None, dead: Collection[int]) -> str:
    """Return the two lines above a small panel; from a schedule's second exchange on, the second is empty."""
    name, *facts = title(topology, dead).split(" · ") if not exchange else [topology.name]
    which = "" if exchange is None else f" · exchange {exchange + 1}"
    if exchange == 0 and topology.schedule is not None and topology.schedule.period is not None:
        which += f" of {topology.schedule.period}"
    return f"{name}{which}\n{' · '.join(facts)}"


def draw_side_by_side(topologies: Sequence[Topology], path: Path | str) -> None:
    """Write one drawing of several topologies, a panel each, more for schedules.

    Raises TopologyError where the file cannot be written.
    """
    _write([(topology, exchange) for topology in topologies for exchange in panels(topology)], path, 3.6)


def _write(drawn: Sequence[tuple[Topology, int | None]], path: Path | str, side: float,
           dead: Collection[int] = ()) -> None:
    columns = min(len(drawn), max(PANELS, math.isqrt(len(drawn))))
    rows = -(-len(drawn) // columns)
    figure = pictures.new_figure(side * columns, side * rows, dpi=80)
    for place, (topology, exchange) in enumerate(drawn):
        draw_on(figure.add_subplot(rows, columns, place + 1), topology, dead, exchange)
        if len(drawn) > 1:
            figure.axes[-1].set_title(_heading(topology, exchange, dead), fontsize=9)
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise TopologyError(f"cannot write the drawing {path}: {error}; give a .png, .svg or .pdf in "
                            "a folder that can be written") from None
