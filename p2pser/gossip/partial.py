"""Rows of which peers exchange a part: an entry that a neighbour lacks is a missing edge for that entry.

Let m_i be 1 where peer i has an entry and lets it go, else 0. Then mixing is, entry by entry::

    x_i += sum_j W_ij m_i m_j (x_j - x_i)

W restricted to an entry's holders, what the others would have given staying at home: symmetric where W is, so that
each entry's mean over its holders is conserved, and at most as fast as gossip on the holders' own graph. (The ratio
mix(m x) / mix(m) conserves nothing.) It serves two things at once: peers whose networks have different widths
(``models.widths``), and parameters that a peer keeps to itself (``gossip.share``).

A peer sends each neighbour the entries that both exchange, in the order of the row, encoded once for all neighbours of
one width. Whoever receives them puts them over its own row: so algorithms see rows of their own form, and a difference
of zero where nothing came.

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
"""What ``gossip.share`` can say beside patterns of names."""


def shared_names(schema: Schema, share: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the parameters that are mixed, in the order of a row.

    share: ``gossip.share``. The head is the layer ``head``, or the last one; the first layer is the first parameter's.
    Raises ConfigError where a pattern is no parameter's name, or nothing would be shared.
    """
    names = [name for name, _ in schema.entries]
    layers = [name.rpartition(".")[0] for name in names]
    if len(share) > 1 and set(share) & set(WORDS):
        raise ConfigError(f"gossip.share = {', '.join(share)}: {', '.join(WORDS)} stand alone: name one of them, or "
                          "patterns of names only")
    if share[0] == "all":
        return tuple(names)
    if share[0] in WORDS:
        last = "head" if any(layer.split(".")[0] == "head" for layer in layers) else layers[-1]
        local = last if share[0] == "body" else layers[0]
        chosen = [name for name in names if not f"{name}.".startswith(f"{local}.")]
    else:
        for pattern in share:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise ConfigError(f"gossip.share: {pattern!r} is the name of no parameter of this model; they are "
                                  f"{', '.join(names)}")
        chosen = [name for name in names if any(fnmatchcase(name, pattern) for pattern in share)]
    if not chosen:
        raise ConfigError(f"gossip.share = {', '.join(share)} leaves nothing to share: the model has the parameters "
                          f"{', '.join(names)}; set gossip.share=all, or take a model with more layers")
    return tuple(chosen)


def shared_entries(schema: Schema, share: Sequence[str]) -> Tensor:
    """Return which entries of a row (D,) are mixed: bool. Raises ConfigError as ``shared_names``."""
    chosen = set(shared_names(schema, share))
    return torch.cat([torch.full((int(np.prod(shape)),), name in chosen) for name, shape in schema.entries])


def parts_of(widths: Sequence[float], held: Mapping[float, Tensor], schema: Schema, share: Sequence[str], *,
             compact: bool) -> Parts | None:
    """Return what of a row of ``schema`` crosses each edge; None where that is all of everybody's.

    widths, held, compact: see ``Parts``. Raises ConfigError as ``shared_names``.
    """
    parts = Parts(widths, held, shared_entries(schema, share), compact=compact)
    return None if parts.plain else parts


class Parts:
    """What of a row crosses each edge.

    widths: each peer's. held: by width, which entries of the whole row (D,) such a peer has (bool). shared: which
    entries (D,) are mixed at all. compact: hosted rows hold the entries that their peer has (a process that hosts one
    peer); else all rows are whole ones, 0 where their peer has nothing (the simulator).
    """

    def __init__(self, widths: Sequence[float], held: Mapping[float, Tensor], shared: Tensor, *, compact: bool) -> None:
        self.widths = tuple(widths)
        self.compact = compact
        self._held, self._shared = dict(held), shared
        self._positions: dict[tuple[float, float, int], Tensor | None] = {}
        self._kinds: dict[float, Tensor] = {}

    @property
    def plain(self) -> bool:
        """Whether everybody exchanges whole rows: then no parts are needed."""
        return len(set(self.widths)) == 1 and bool(self._local(0, self.held(0) & self._shared).all())

    def held(self, peer: int) -> Tensor:
        """Return which entries of the whole row a peer has, (D,) bool."""
        return self._held[self.widths[peer]]

    def mixed(self) -> Tensor:
        """Return which entries each peer exchanges with somebody like it, (N, D) bool."""
        return torch.stack([self.held(peer) & self._shared for peer in range(len(self.widths))])

    @property
    def all_shared(self) -> bool:
        """Whether no peer keeps an entry to itself that others have too."""
        return bool(self._shared.all())

    def positions(self, i: int, j: int, size: int) -> Tensor | None:
        """Return which entries of a row of peer i, ``size`` long, it exchanges with peer j, ascending; None: all.

        Several rows side by side are taken as such. Raises LocalProtocolError where ``size`` is no multiple of a row.
        """
        key = (self.widths[i], self.widths[j], size)
        if key not in self._positions:
            common = self._local(i, self.held(i) & self.held(j) & self._shared)
            times, rest = divmod(size, len(common))
            if rest or not times:
                raise LocalProtocolError(f"a row of {size} is not made of rows of {len(common)}, of which peer {i} "
                                         "exchanges a part")
            self._positions[key] = None if bool(common.all()) else common.repeat(times).nonzero()[:, 0]
        return self._positions[key]

    def cut(self, i: int, j: int, row: Tensor) -> Tensor:
        """Return what peer i sends of its row to peer j: the row itself where that is all."""
        positions = self.positions(i, j, row.numel())
        return row if positions is None else row[positions]

    def fit(self, i: int, j: int, own: Tensor, value: Tensor) -> Tensor:
        """Return what came from peer j as a row like ``own``, peer i's, from which it differs where something came.

        Raises RemoteProtocolError where it has another length.
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
        """Return which entries of a row of ``peer`` everybody exchanges, ascending."""
        common = self._shared.clone()
        for held in {width: self._held[width] for width in self.widths}.values():
            common &= held
        return self._local(peer, common).nonzero()[:, 0]

    def groups(self) -> tuple[frozenset[int], ...]:
        """Return the holders of each sort of entries that are mixed, the largest group first."""
        found = {frozenset(i for i, own in enumerate(self.widths) if own >= width) for width in set(self.widths)}
        return tuple(sorted(found, key=lambda group: (-len(group), sorted(group))))

    def measure(self, peer: int) -> Callable[[Tensor, Tensor], float]:
        """Return a measure of the difference of two rows like peer i's (``gossip.consensus.Measure``).

        The largest relative difference, each sort of entries by itself: so that what is small along all edges of each
        sort's holders is small between any two of them.
        """
        width = self.widths[peer]
        if width not in self._kinds:
            sorts = torch.zeros(len(self._shared), dtype=torch.int64)
            for held in [self._held[one] for one in sorted(set(self.widths))]:
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
        """Entries (D,) of the whole row as those of a row of ``peer``."""
        return entries[self.held(peer)] if self.compact else entries


def cut_off(groups: Sequence[frozenset[int]], living: nx.Graph, peer: int) -> list[str]:
    """Return a sentence for each group to which ``peer`` belongs and whose rest it reaches only through others.

    living: the graph without what was cut by deaths. What only the group has is then agreed on in each part.
    """
    warnings = []
    reached = nx.node_connected_component(living, peer)
    for group in groups:
        if peer not in group:
            continue
        apart = (group & reached) - nx.node_connected_component(living.subgraph(group), peer)
        if apart:
            others = ", ".join(map(str, sorted(apart)))
            warnings.append(f"since peers were lost, peer {peer} reaches peers {others} only through narrower ones: "
                            "what these lack is averaged on each side by itself")
    return warnings
