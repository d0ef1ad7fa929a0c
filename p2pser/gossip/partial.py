"""Partial exchange of rows: an entry that a neighbour lacks is a missing edge for that entry.

Let m_i be 1 where peer i has an entry and shares it, else 0. Then mixing is, entry by entry::

    x_i += sum_j W_ij m_i m_j (x_j - x_i)

This is W restricted to an entry's holders, where the weight of other peers stays with the receiver. It is symmetric if
W is, so that each entry's mean over its holders is conserved, and at most as fast as gossip on the holders' own graph.
(The ratio mix(m x) / mix(m) conserves no mean.) It serves peers whose networks have different widths
(``models.widths``), and parameters that stay at their peer (``gossip.share``).

A peer sends each neighbour the entries that both exchange, in the order of the row, encoded once for all neighbours of
one width. The receiver writes them over a copy of its own row: algorithms see rows of their own form, with a difference
of zero at all other entries.

Sources: E. Diao, J. Ding, V. Tarokh, "HeteroFL", ICLR 2021 (nested widths, with a server); M. G. Arivazhagan et al.,
"Federated Learning with Personalization Layers", 2019 (a local head); P. P. Liang et al., "Think Locally, Act
Globally: Federated Learning with Local and Global Representations", 2020 (local first layers).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase

import networkx as nx
import numpy as np
import torch
from torch import Tensor

from p2pser.base.errors import ConfigError, LocalProtocolError, RemoteProtocolError
from p2pser.models.rows import Schema

WORDS = ("all", "body", "upper")
"""The values of ``gossip.share`` beside patterns of names."""


def shared_names(schema: Schema, share: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the parameters that are mixed, in the order of a row.

    share: ``gossip.share``. The head is the layer ``head``, else the last layer; the first layer is that of the first
    parameter. Raises ConfigError where a pattern matches no parameter, or no parameter would be shared.
    """
    names = [name for name, _ in schema.entries]
    layers = [name.rpartition(".")[0] for name in names]
    if len(share) > 1 and set(share) & set(WORDS):
        raise ConfigError(f"gossip.share = {', '.join(share)}: {', '.join(WORDS)} cannot be combined: give one of "
                          "them, or patterns of names only")
    if share[0] == "all":
        return tuple(names)
    if share[0] in WORDS:
        last = "head" if any(layer.split(".")[0] == "head" for layer in layers) else layers[-1]
        local = last if share[0] == "body" else layers[0]
        chosen = [name for name in names if not f"{name}.".startswith(f"{local}.")]
    else:
        for pattern in share:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise ConfigError(f"gossip.share: {pattern!r} matches no parameter of this model; they are "
                                  f"{', '.join(names)}")
        chosen = [name for name in names if any(fnmatchcase(name, pattern) for pattern in share)]
    if not chosen:
        raise ConfigError(f"gossip.share = {', '.join(share)} leaves no parameter to share: the model has the "
                          f"parameters {', '.join(names)}; set gossip.share=all, or take a model with more layers")
    return tuple(chosen)


def shared_entries(schema: Schema, share: Sequence[str]) -> Tensor:
    """Return which entries of a row are mixed, (D,) bool. Raises ConfigError as ``shared_names``."""
    chosen = set(shared_names(schema, share))
    return torch.cat([torch.full((int(np.prod(shape)),), name in chosen) for name, shape in schema.entries])


def parts_of(widths: Sequence[float], held: Mapping[float, Tensor], schema: Schema, share: Sequence[str], *,
             compact: bool) -> Parts | None:
    """Return the parts of a row of ``schema`` that cross each edge; None where all peers exchange whole rows.

    widths, held, compact: see ``Parts``. Raises ConfigError as ``shared_names``.
    """
    parts = Parts(widths, held, shared_entries(schema, share), compact=compact)
    return None if parts.plain else parts


class Parts:
    """The parts of a row that cross each edge.

    widths: each peer's. held: by width, the entries (D,) bool of the whole row that such a peer has. shared: the
    entries (D,) bool that are mixed at all. compact: a hosted row contains only the entries that its peer has (a
    process that hosts one peer); else all rows are whole, with 0 for entries that the peer lacks (the simulator).
    """

    def __init__(self, widths: Sequence[float], held: Mapping[float, Tensor], shared: Tensor, *, compact: bool) -> None:
        self.widths = tuple(widths)
        self.compact = compact
        self._held, self._shared = dict(held), shared
        self._positions: dict[tuple[float, float, int], Tensor | None] = {}
        self._kinds: dict[float, Tensor] = {}

    @property
    def plain(self) -> bool:
        """Whether all peers exchange whole rows, so that no parts are needed."""
        return len(set(self.widths)) == 1 and bool(self._local(0, self.held(0) & self._shared).all())

    def held(self, peer: int) -> Tensor:
        """Return which entries of the whole row a peer has, (D,) bool."""
        return self._held[self.widths[peer]]

    def mixed(self) -> Tensor:
        """Return the entries that each peer exchanges with peers of its width, (N, D) bool."""
        return torch.stack([self.held(peer) & self._shared for peer in range(len(self.widths))])

    @property
    def all_shared(self) -> bool:
        """Whether all entries are mixed."""
        return bool(self._shared.all())

    def positions(self, i: int, j: int, size: int) -> Tensor | None:
        """Return the entries of a row of peer i, of length ``size``, that it exchanges with peer j; None: all.

        The row may be several rows, concatenated. Raises LocalProtocolError where ``size`` is no multiple of a row.
        """
        key = (self.widths[i], self.widths[j], size)
        if key not in self._positions:
            common = self._local(i, self.held(i) & self.held(j) & self._shared)
            times, rest = divmod(size, len(common))
            if rest or not times:
                raise LocalProtocolError(f"a row of {size} is no multiple of {len(common)}, the length of a row of "
                                         f"which peer {i} exchanges a part")
            self._positions[key] = None if bool(common.all()) else common.repeat(times).nonzero()[:, 0]
        return self._positions[key]

    def cut(self, i: int, j: int, row: Tensor) -> Tensor:
        """Return the part of its row that peer i sends to peer j, or the whole row itself."""
        positions = self.positions(i, j, row.numel())
        return row if positions is None else row[positions]

    def fit(self, i: int, j: int, own: Tensor, value: Tensor) -> Tensor:
        """Return ``own``, the row of peer i, with the entries that peer j sent.

        Raises RemoteProtocolError where ``value`` has another length.
        """
        positions = self.positions(i, j, own.numel())
        expected = own.numel() if positions is None else len(positions)
        if value.numel() != expected:
            raise RemoteProtocolError(f"peer {j} sent {value.numel()} numbers where peer {i} shares {expected} with it",
                                      j)
        if positions is None:
            return value
        row = own.to(value.dtype, copy=True)
        row[positions] = value
        return row

    def everywhere(self, peer: int) -> Tensor:
        """Return the entries of a row of ``peer`` that all peers exchange, ascending."""
        common = self._shared.clone()
        for held in {width: self._held[width] for width in self.widths}.values():
            common &= held
        return self._local(peer, common).nonzero()[:, 0]

    def groups(self) -> tuple[frozenset[int], ...]:
        """Return the holders of each sort of entries that are mixed, the largest group first."""
        groups = {frozenset(i for i, own in enumerate(self.widths) if own >= width) for width in set(self.widths)}
        return tuple(sorted(groups, key=lambda group: (-len(group), sorted(group))))

    def measure(self, peer: int) -> Callable[[Tensor, Tensor], float]:
        """Return a measure of the difference of two rows of this peer's form (``agreement.consensus.Measure``).

        It is the largest relative difference of any sort of entries: a difference that is small along all edges of a
        sort's holders is small between any two of them.
        """
        width = self.widths[peer]
        if width not in self._kinds:
            sorts = torch.zeros(len(self._shared), dtype=torch.int64)
            for held in [self._held[held_width] for held_width in sorted(set(self.widths))]:
                sorts += held
            self._kinds[width] = self._local(peer, sorts)
        kind = self._kinds[width]

        def relative(own: Tensor, other: Tensor) -> float:
            worst = 0.0
            for sort in torch.unique(kind).tolist():
                there = kind == sort
                gap = float(torch.linalg.vector_norm((own - other)[there]))
                worst = max(worst, gap / max(float(torch.linalg.vector_norm(own[there])), 1e-300) if gap else 0.0)
            return worst

        return relative

    def _local(self, peer: int, entries: Tensor) -> Tensor:
        """Return entries (D,) of the whole row as entries of a row of ``peer``."""
        return entries[self.held(peer)] if self.compact else entries


def cut_off(groups: Sequence[frozenset[int]], living: nx.Graph, peer: int) -> list[str]:
    """Return a warning for each group of ``peer`` that is connected only through peers outside the group.

    living: the graph without the edges cut by deaths. The parts of such a group agree separately on its own entries.
    """
    warnings = []
    reached = nx.node_connected_component(living, peer)
    for group in groups:
        if peer not in group:
            continue
        apart = (group & reached) - nx.node_connected_component(living.subgraph(group), peer)
        if apart:
            others = ", ".join(map(str, sorted(apart)))
            warnings.append(f"since peers were lost, peer {peer} reaches peers {others} only through narrower peers: "
                            "the parameters that these lack are averaged on each side separately")
    return warnings
