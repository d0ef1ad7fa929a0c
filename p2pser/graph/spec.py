"""Topology files (YAML): one file, the same for all peers: the graph, the weights, the peers' addresses and keys.

.. code-block:: yaml

    name: ring                         # default: the file's name
    graph: {kind: ring, peers: 8}      # or a schedule, a networkx generator, {edges: [[0, 1], …]}, {graphml: FILE}
    weights: metropolis                # or another rule of mixing.RULES, or {edges: [[i, j, w], …]} by hand
    hub: 0                             # optional, for a star: this peer is a server (federated learning)
    epoch: 1                           # optional: raised by each change of the file during a run, default 0
    retired: [2]                       # optional: peers that have left for good; their ids are not used again
    peers:                             # optional
      0: {address: "tcp://192.0.2.10:5700", listen: "tcp://*:5700", key: "40 characters"}
      1: {address: none, key: "40 characters"}      # behind a firewall: it dials its neighbours, which cannot dial it
    signed: {by: …, signature: …}      # optional: its author's signature (p2pser topology sign, base/signing.py)

``{edges: [[0, 1], …], directed: true}`` gives directed links: 0 sends to 1. Weights by hand name every link: w is the
weight of peer i's message at peer j, and on undirected graphs also of j's at i, unless there is an entry [j, i, …].
``{kind: sequence, files: [a.yaml, b.yaml], each: 1}`` uses the graphs and weights of several files in turn.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
from pydantic import ValidationError

from p2pser.base.arguments import check
from p2pser.base.documents import LARGEST_YAML, kind_of_file, read_text, read_yaml
from p2pser.base.errors import TopologyError, nearest
from p2pser.base.paths import packaged
from p2pser.base.signing import SIGNED, author
from p2pser.graph import building, graphs, mixing, retiring
from p2pser.graph.file_format import NOWHERE, FileForm, GraphForm, HandWeights, explain
from p2pser.graph.schedule import Alternating, Schedule, Static, Stochastic, entries_of, frozen, stochastic_of
from p2pser.graph.sparse import Sparse


@dataclass(frozen=True)
class PeerEntry:
    """The entry of one peer in a topology file."""

    address: str | None = None
    """The address that neighbours dial, ``tcp://host:port``, or ``file_format.NOWHERE``; None: the network settings'
    host and base_port + id."""
    listen: str | None = None
    """The address that it listens on, where that differs from ``address``."""
    key: str | None = None
    """Its CURVE public key, Z85 (40 characters)."""


@dataclass(frozen=True, eq=False)
class Topology:
    """A graph of peers and its mixing weights.

    ``graph`` has the nodes 0 .. N-1, is undirected, connected except for retired peers, without self-loops, and frozen.
    It holds every link that any exchange uses: the union of a schedule's graphs, and directed links without direction.
    """

    name: str
    graph: nx.Graph
    peers: Mapping[int, PeerEntry]
    """The entries of the file, by id; may be empty."""
    weights: str
    """The rule's name; ``by-hand``, or ``schedule`` where the schedule has its own."""
    document: Mapping[str, Any]
    """The parsed file, with ``--peers`` and the seed applied."""
    hub: int | None = None
    """The centre of a star, a server that averages for all others and holds no recordings; None: no server."""
    schedule: Schedule | None = None
    """None: the static, undirected ``graph`` with symmetric ``weights``."""
    hand: HandWeights = ()
    """Symmetric weights by hand, (i, j, W_ij) of both directions of every link."""
    epoch: int = 0
    """The number of changes of the run's topology file: a file of a later epoch replaces it during the run."""
    retired: tuple[int, ...] = ()
    """The peers that have left for good, ascending: nodes of ``graph`` without links."""
    signed_by: str | None = None
    """The public key (signing.author) of the file's signer; None: it is not signed."""

    @property
    def size(self) -> int:
        """N: the number of peers."""
        size: int = self.graph.number_of_nodes()
        return size

    @property
    def members(self) -> tuple[int, ...]:
        """The peers that have not left for good, ascending."""
        return tuple(i for i in range(self.size) if i not in self.retired)

    def without_gaps(self) -> Topology:
        """Return the topology without the retired peers, with the ids 0, 1, …"""
        if not self.retired:
            return self
        place = {i: k for k, i in enumerate(self.members)}
        return replace(self, graph=nx.freeze(retiring.compact(self.graph, self.members)), retired=(),
                       peers={place[i]: entry for i, entry in self.peers.items()},
                       hub=None if self.hub is None else place[self.hub],
                       hand=tuple((place[i], place[j], w) for i, j, w in self.hand))

    def neighbours(self, i: int) -> tuple[int, ...]:
        """Return the neighbours of peer ``i``, ascending; TopologyError where there is no such peer."""
        if i not in self.graph:
            raise TopologyError(f"there is no peer {i!r} in the topology {self.name!r}: its peers are "
                                f"0 to {self.size - 1}")
        return tuple(sorted(self.graph.neighbors(i)))

    @property
    def directed(self) -> bool:
        """Whether at some exchange a peer receives from a neighbour that it does not send to."""
        return self.schedule is not None and self.schedule.directed

    @property
    def stochastic(self) -> Stochastic:
        """The stochasticity of all W: ``doubly``, as symmetric ones are, else only ``row`` or ``column``."""
        return "doubly" if self.schedule is None else self.schedule.stochastic

    def matrix(self, t: int = 0, counts: Mapping[int, int] | None = None) -> np.ndarray:
        """Return W of exchange ``t``: (N, N) float64, read-only; W[i, j] is the weight of j's message at peer i.

        ``counts``: clips by peer, for the Metropolis chain that conserves the clip-weighted mean. Raises TopologyError
        where counts are given to a schedule or to another weight rule.
        """
        check(Topology.matrix, locals())
        if counts is not None:
            self._require_metropolis()
            return frozen(mixing.metropolis(self.graph, counts))
        return self._static if self.schedule is None else self.schedule.matrix(t)

    def _require_metropolis(self) -> None:
        if self.schedule is not None or self.weights != "metropolis":
            what = f"weights: {self.weights}" if self.schedule is None else "a schedule or directed links"
            raise TopologyError(f"clip counts cannot weight the topology {self.name!r}: it has {what}, and only "
                                "static undirected Metropolis weights have a clip-weighted form; mix clips x rows "
                                "and clips, and divide, or use gossip.weighting=uniform")

    def entries(self, t: int = 0, counts: Mapping[int, int] | None = None) -> Sparse:
        """Return the entries of ``matrix``; errors as there."""
        check(Topology.entries, locals())
        if counts is not None:
            self._require_metropolis()
            return mixing.metropolis_entries(self.graph, counts)
        return self._entries if self.schedule is None else entries_of(self.schedule, t)

    @cached_property
    def _entries(self) -> Sparse:
        if self.retired:
            return self.without_gaps().entries().spread(self.members, self.size)
        if self.hand:
            return mixing.by_hand(self.size, self.hand)
        return mixing.RULES[self.weights](self.graph)

    @cached_property
    def _static(self) -> np.ndarray:
        return frozen(self._entries.dense())

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_static", "_entries")}

    def sources(self, i: int, t: int) -> tuple[int, ...]:
        """Return the peers whose messages peer ``i`` mixes at exchange ``t``, ascending; errors as ``neighbours``."""
        self.neighbours(i)
        return tuple(j for j in np.flatnonzero(self.matrix(t)[i]).tolist() if j != i)

    def receivers(self, i: int, t: int) -> tuple[int, ...]:
        """Return the peers to which peer ``i`` sends at exchange ``t``, ascending; errors as ``neighbours``."""
        self.neighbours(i)
        return tuple(j for j in np.flatnonzero(self.matrix(t)[:, i]).tolist() if j != i)

    def digest(self) -> str:
        """Return 32 hex digits of what must be equal on all peers: size, edges, schedule, weights.

        The name, the addresses and the keys are left out: they may differ between sites, and change during a run. Each
        peer admits the keys in its own file. Peers compare the epoch separately, and also the weights of a solver,
        whose last bits differ between machines.
        """
        content: dict[str, Any] = {
            "size": self.size,
            "edges": sorted([min(u, v), max(u, v)] for u, v in self.graph.edges),
            "weights": self.weights,
            "keys": [],  # earlier versions had the keys here: the digests of files without keys stay the same
        }
        if self.hub is not None:
            content["hub"] = self.hub
        if self.retired:
            content["retired"] = list(self.retired)
        if self.schedule is not None:
            content["schedule"] = self.schedule.identity
        elif self.hand:
            content["matrix"] = self.matrix().tolist()
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


# ---- reading -----------------------------------------------------------------------------------------------

def shipped() -> dict[str, Path]:
    """Return the topology files that come with p2pser, by name."""
    return {path.stem: path for path in sorted(packaged("topologies").glob("*.yaml"))}


def find(name_or_path: str) -> Path:
    """Return the topology file of a path, or of the name of a shipped one (with or without .yaml).

    Raises TopologyError, naming the nearest shipped one, where there is none.
    """
    path = Path(name_or_path)
    try:
        if path.is_file():
            return path
    except (OSError, ValueError):  # a name that no file can have: too long, a zero byte
        raise TopologyError(f"{name_or_path[:60]!r} cannot be the name of a topology file") from None
    known = shipped()
    bare = path.name == name_or_path
    if bare and name_or_path.removesuffix(".yaml") in known:
        return known[name_or_path.removesuffix(".yaml")]
    if path.is_dir():
        raise TopologyError(f"{name_or_path!r} is a folder, not a topology file; give a YAML file")
    stem = path.name.removesuffix(".yaml")
    raise TopologyError(f"there is no topology {name_or_path!r}, neither a file nor a shipped one"
                        f"{nearest(stem, known)}")


def load(name_or_path: str, peers: int | None = None, seed: int = 0) -> Topology:
    """Return the topology of a file, or of the name of a shipped one.

    ``peers`` overrides the number of peers; ``seed`` applies to random graphs whose file gives none.
    Raises TopologyError where the file is missing or malformed, or its graph does not exist or is not connected.

    >>> load("ring", peers=4).neighbours(0)
    (1, 3)
    """
    return _load(find(str(name_or_path)), peers, seed)


def _load(path: Path, peers: int | None, seed: int, nested: bool = False) -> Topology:
    if path.suffix.lower() == ".graphml":
        return parse({"graph": {"graphml": str(path.resolve())}}, str(path), path.stem, None, peers, seed, nested)
    text = read_text(path, "the topology file", TopologyError, LARGEST_YAML)
    where = f"the topology file {path}"
    document = read_yaml(text, where, TopologyError)
    if (kind := kind_of_file(document)) and "graph" not in document:
        raise TopologyError(f"{path} is {kind}: give the topology file, as p2pser topology assemble writes it")
    if not isinstance(document, Mapping) or SIGNED not in document:
        return parse(document, str(path), path.stem, path.parent, peers, seed, nested)
    by = author(read_yaml(text, where, TopologyError, plain=True), where, TopologyError)
    unsigned = {name: value for name, value in document.items() if name != SIGNED}
    return replace(parse(unsigned, str(path), path.stem, path.parent, peers, seed, nested), signed_by=by)


def parse(document: Any, where: str, name: str = "topology", folder: Path | None = None,
          peers: int | None = None, seed: int = 0, nested: bool = False) -> Topology:
    """Return the topology of a parsed document.

    Parameters
    ----------
    document : a mapping as in a topology file.
    where : the document's name in errors.
    name : the topology's name where the document gives none.
    folder : the folder that the paths of GraphML files and of a sequence's files are relative to.
    peers : the number of peers, instead of the document's.
    seed : the seed of random graphs where the document gives none.
    nested : whether the document is a part of a sequence, and cannot be a sequence itself.

    Raises
    ------
    TopologyError
        Where the document is malformed, or its graph does not exist or is not connected.
    """
    if not isinstance(document, Mapping):
        raise TopologyError(f"{where} must hold a mapping with the key 'graph', not {_kind_of(document)}")
    try:
        form = FileForm.model_validate(dict(document))
    except ValidationError as error:
        raise explain(error, where) from None
    if form.retired:
        return _with_retired(document, form, where, name, folder, peers, seed)
    section = dict(document["graph"])
    if nested and form.graph.kind == "sequence":
        raise TopologyError(f"{where} is a sequence itself; a sequence can only name files of other kinds")
    if form.graph.kind == "sequence":
        built: nx.Graph | Schedule = _sequence(form.graph, section, where, folder, peers, seed)
    else:
        built = building.build(form.graph, section, where, folder, peers, seed)
    schedule = None if isinstance(built, nx.Graph) else built
    hand: HandWeights = ()
    if isinstance(built, nx.Graph):
        graph, (weights, schedule, hand) = graphs.undirected(built), building.weighted(built, form.weights, where)
    else:
        graph, weights, schedule = graphs.checked(built.links(), where), "schedule", built
        if form.weights is not None:
            raise TopologyError(f"{where}: the schedule {form.graph.kind} has its own weights; leave the key "
                                "'weights' out")
    section["peers"] = graph.number_of_nodes()
    entries = {i: PeerEntry(entry.address, entry.listen, entry.key) for i, entry in sorted(form.peers.items())}
    _check_entries(entries, graph, where)
    _check_hub(form.hub, graph, schedule, where)
    resolved = {**document, "name": form.name or name, "graph": section}
    return Topology(form.name or name, nx.freeze(graph), entries, weights, resolved, form.hub, schedule, hand,
                    form.epoch)


def _with_retired(document: Mapping[str, Any], form: FileForm, where: str, name: str, folder: Path | None,
                  peers: int | None, seed: int) -> Topology:
    """Return the topology of a document in which some peers have left for good."""
    members, size = retiring.members_of(form, where, peers)
    made = parse(retiring.without_gaps(document, form, members), where, name, folder, None, seed)
    if made.schedule is not None or form.graph.graphml is not None:
        raise TopologyError(f"{where}: peers can be retired from static undirected graphs of a kind or of edges only")
    section = {**made.document["graph"], "peers": size}
    return replace(
        made, graph=nx.freeze(retiring.with_ids(made.graph, members, size)),
        peers={members[i]: entry for i, entry in made.peers.items()},
        hub=None if made.hub is None else members[made.hub],
        hand=tuple((members[i], members[j], w) for i, j, w in made.hand), document={**made.document, "graph": section},
        retired=tuple(i for i in range(size) if i not in members))


def _kind_of(document: Any) -> str:
    return "nothing" if document is None else f"a {type(document).__name__}"


def _sequence(form: GraphForm, section: dict[str, Any], where: str, folder: Path | None,
              peers: int | None, seed: int) -> Schedule:
    extra, peers = dict(form.model_extra or {}), form.peers if peers is None else peers
    files, each = extra.get("files"), extra.get("each", 1)
    for key in extra:
        if key not in ("files", "each"):
            raise TopologyError(f"{where}: a sequence has no parameter {key!r}{nearest(key, ('files', 'each'))}")
    if not isinstance(files, list) or not files or not all(isinstance(file, str) for file in files):
        raise TopologyError(f"{where}: a sequence needs its topology files: add 'files: [a.yaml, b.yaml]'")
    if not isinstance(each, int) or isinstance(each, bool) or each < 1:
        raise TopologyError(f"{where}: each = {each!r} must be a whole number of exchanges, 1 or more")
    paths = [folder / file if folder and (folder / file).is_file() else find(file) for file in files]
    section["files"] = [str(path.resolve()) for path in paths]
    parts: list[Schedule] = []
    for path in paths:
        part = _load(path, peers, seed, nested=True)
        if parts and part.size != parts[0].size:
            raise TopologyError(f"{where}: {path.name} has {part.size} peers and {paths[0].name} {parts[0].size}; "
                                "give files of one size, or the number of peers")
        parts.append(part.schedule or Static(part.entries(), str(path)))
    stochastic_of((entries_of(part, t) for part in parts for t in range(part.period or 1)), where)
    return Alternating(tuple(parts), each)


def _check_hub(hub: int | None, graph: nx.Graph, schedule: Schedule | None, where: str) -> None:
    if hub is None:
        return
    size = graph.number_of_nodes()
    if size < 2 or hub >= size or set(graph.edges(hub)) != {(hub, i) for i in range(size) if i != hub} \
            or graph.number_of_edges() != size - 1 or schedule is not None:
        raise TopologyError(f"{where}: hub {hub} must be the centre of a static star of 2 peers or more, where the "
                            "others have no other link: give 'graph: {kind: star, peers: 9}' and 'hub: 0', or no hub")


def _check_entries(entries: Mapping[int, PeerEntry], graph: nx.Graph, where: str) -> None:
    size = graph.number_of_nodes()
    for i in entries:
        if not 0 <= i < size:
            raise TopologyError(f"{where}: peers names peer {i}, but the graph has the ids 0 to {size - 1}; "
                                "remove the entry or change the graph's number of peers")
    keyed = [i for i, entry in entries.items() if entry.key is not None]
    if keyed and len(keyed) < size:
        keyless = next(i for i in range(size) if i not in keyed)
        raise TopologyError(f"{where}: there is a key for peer {keyed[0]} but none for peer {keyless}; give "
                            "the keys of all peers or of none")
    for field in ("key", "address"):
        owner: dict[str, int] = {}
        for i, entry in entries.items():
            value = getattr(entry, field)
            if value not in (None, NOWHERE) and owner.setdefault(value, i) != i:
                raise TopologyError(f"{where}: the peers {owner[value]} and {i} have the same {field}; each "
                                    "peer needs its own")
    hidden = {i for i, entry in entries.items() if entry.address == NOWHERE}
    for i in sorted(hidden):
        if entries[i].listen is not None:
            raise TopologyError(f"{where}: peer {i} has the address {NOWHERE}, so no neighbour dials it; leave its "
                                "'listen' out")
        if both := hidden.intersection(graph[i]):
            raise TopologyError(f"{where}: the peers {i} and {min(both)} are neighbours and neither can be dialled; "
                                "give one of them an address, or take another graph")
