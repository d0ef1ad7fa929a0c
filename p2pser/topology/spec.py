"""Topology files (YAML): one file, the same for all peers: who talks to whom, where and with which keys.

.. code-block:: yaml

    name: ring                         # default: the file's name
    graph: {kind: ring, peers: 8}      # or a networkx generator, {edges: [[0, 1], …]}, {graphml: FILE}
    weights: metropolis
    hub: 0                             # optional, of a star: this peer is a server (federated learning)
    peers:                             # optional
      0: {address: "tcp://192.0.2.10:5700", listen: "tcp://*:5700", key: "40 characters"}
"""

from __future__ import annotations

import hashlib
import json
import sysconfig
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import networkx as nx
import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictInt, ValidationError

from p2pser.errors import TopologyError, nearest
from p2pser.topology import graphs


@dataclass(frozen=True)
class PeerEntry:
    """What a topology file says of one peer."""

    address: str | None = None
    """Where others dial it, ``tcp://host:port``; None: the network settings' host and base_port + id."""
    listen: str | None = None
    """Where it listens, if that is said apart from its address."""
    key: str | None = None
    """Its CURVE public key, Z85 (40 characters)."""


@dataclass(frozen=True, eq=False)
class Topology:
    """Who talks to whom.

    ``graph`` has the nodes 0 .. N-1, is undirected, connected, without self-loops, and frozen.
    """

    name: str
    graph: nx.Graph
    peers: Mapping[int, PeerEntry]
    """The entries that the file gives, by id; may be empty."""
    weights: str
    document: Mapping[str, Any]
    """The parsed file with ``--peers`` and the seed applied."""
    hub: int | None = None
    """The centre of a star that averages for all others, its clients, and holds no recordings; None: no server."""

    @property
    def size(self) -> int:
        """N: the number of peers."""
        size: int = self.graph.number_of_nodes()
        return size

    def neighbours(self, i: int) -> tuple[int, ...]:
        """Return the neighbours of peer ``i``, ascending; TopologyError where there is no such peer."""
        if i not in self.graph:
            raise TopologyError(f"there is no peer {i} in the topology {self.name!r}: its peers are "
                                f"0 to {self.size - 1}")
        return tuple(sorted(self.graph.neighbors(i)))

    def digest(self) -> str:
        """Return 32 hex digits over what must be equal on all peers: size, edges, weights, keys.

        Neither the name nor addresses, which may look different from different sites.
        """
        content = {
            "size": self.size,
            "edges": sorted([min(u, v), max(u, v)] for u, v in self.graph.edges),
            "weights": self.weights,
            "keys": [[i, entry.key] for i, entry in sorted(self.peers.items()) if entry.key is not None],
        }
        if self.hub is not None:
            content["hub"] = self.hub
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


# ---- the file's form ---------------------------------------------------------------------------------------

Z85 = frozenset("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#")


def _endpoint(text: str) -> str:
    host, _, port = text.removeprefix("tcp://").rpartition(":")
    if not text.startswith("tcp://") or not host or any(c.isspace() or c == "/" for c in host):
        raise ValueError("write it as tcp://HOST:PORT")
    if not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
        raise ValueError("its port must be a number from 1 to 65535")
    return text


def _z85(text: str) -> str:
    if len(text) != 40 or not set(text) <= Z85:
        raise ValueError("a public key is 40 Z85 characters, as 'p2pser keys' prints it (quote it in YAML)")
    return text


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Entry(_Form):
    address: Annotated[str, AfterValidator(_endpoint)] | None = None
    listen: Annotated[str, AfterValidator(_endpoint)] | None = None
    key: Annotated[str, AfterValidator(_z85)] | None = None


class _Graph(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)  # the kind says which parameters it has

    kind: str | None = None
    peers: StrictInt | None = Field(None, ge=1, le=graphs.MAX_PEERS)
    edges: list[tuple[StrictInt, StrictInt]] | None = None
    graphml: str | None = None


class _File(_Form):
    name: str | None = Field(None, min_length=1, max_length=64)
    graph: _Graph
    weights: Literal["metropolis"] = "metropolis"
    hub: StrictInt | None = Field(None, ge=0)
    peers: dict[StrictInt, _Entry] = {}


def _explain(error: ValidationError, where: str) -> TopologyError:
    first = error.errors()[0]
    *section, last = first["loc"] or ("",)
    place = ".".join(str(part) for part in first["loc"]) or "the document"
    if first["type"] == "extra_forbidden":
        model = _Entry if section[:1] == ["peers"] else _File
        inside = f" in {'.'.join(map(str, section))}" if section else ""
        hint = nearest(str(last), model.model_fields)
        return TopologyError(f"{where}: there is no key {str(last)!r}{inside}{hint}")
    if first["type"] == "missing":
        return TopologyError(f"{where}: the key {place!r} is missing; add for example "
                             "'graph: {kind: ring, peers: 8}'")
    message = first["msg"].removeprefix("Value error, ")
    given = f" = {first['input']!r}" if isinstance(first["input"], (str, int, float)) else ""
    return TopologyError(f"{where}: {place}{given}: {message}")


# ---- reading -----------------------------------------------------------------------------------------------

class _Loader(yaml.SafeLoader):
    """YAML's safe loader, refusing a key given twice: a peer's second entry would replace its first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable):
                if key in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is given twice",
                                                            key_node.start_mark)
                seen.add(key)
        return super().construct_mapping(node, deep)


def shipped() -> dict[str, Path]:
    """Return the topology files of p2pser itself, by name: of the source tree, else where pip put them."""
    package = Path(__file__).resolve().parents[2]
    for folder in (package / "topologies", package / "share" / "p2pser" / "topologies",
                   Path(sysconfig.get_path("data")) / "share" / "p2pser" / "topologies"):
        if (folder / "ring.yaml").is_file():
            return {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    return {}


def find(name_or_path: str) -> Path:
    """Return the file that is meant: a path, else a shipped one (with or without .yaml).

    Raises TopologyError that names the nearest shipped one.
    """
    path = Path(name_or_path)
    try:
        if path.is_file():
            return path
    except (OSError, ValueError):  # no possible name of a file (too long, a zero byte)
        raise TopologyError(f"{name_or_path[:60]!r} cannot be the name of a topology file") from None
    known = shipped()
    bare = path.name == name_or_path
    if bare and name_or_path.removesuffix(".yaml") in known:
        return known[name_or_path.removesuffix(".yaml")]
    if path.is_dir():
        raise TopologyError(f"{name_or_path} is a folder, not a topology file; give a YAML file")
    stem = path.name.removesuffix(".yaml")
    raise TopologyError(f"there is no topology {name_or_path!r}, neither a file nor a shipped one"
                        f"{nearest(stem, known)}")


def load(name_or_path: str, peers: int | None = None, seed: int = 0) -> Topology:
    """Return the topology of a file or of a shipped name.

    ``peers`` overrides the number of peers; ``seed`` is that of random graphs whose file gives none.
    Raises TopologyError where the file is missing, malformed, or its graph impossible or not connected.

    >>> load("ring", peers=4).neighbours(0)
    (1, 3)
    """
    path = find(str(name_or_path))
    if path.suffix.lower() == ".graphml":
        return parse({"graph": {"graphml": str(path.resolve())}}, str(path), path.stem, None, peers, seed)
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 (a SafeLoader)
    except OSError as error:
        raise TopologyError(f"cannot read the topology file {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise TopologyError(f"{path} is not a YAML file: {' '.join(str(error).split())}") from None
    return parse(document, str(path), path.stem, path.parent, peers, seed)


def parse(document: Any, where: str, name: str = "topology", folder: Path | None = None,
          peers: int | None = None, seed: int = 0) -> Topology:
    """Return the topology of a parsed document (a mapping as in the file); ``where`` names it in errors.

    ``name``: its name where the document gives none. ``folder``: what a GraphML file's path is relative to.
    """
    if not isinstance(document, Mapping):
        raise TopologyError(f"{where} must hold a mapping with the key 'graph', not {_kind_of(document)}")
    try:
        form = _File.model_validate(dict(document))
    except ValidationError as error:
        raise _explain(error, where) from None
    section = dict(document["graph"])
    graph = _graph(form.graph, section, where, folder, peers, seed)
    entries = {i: PeerEntry(one.address, one.listen, one.key) for i, one in sorted(form.peers.items())}
    _check_entries(entries, graph.number_of_nodes(), where)
    _check_hub(form.hub, graph, where)
    resolved = {**document, "name": form.name or name, "graph": section}
    return Topology(form.name or name, nx.freeze(graph), entries, form.weights, resolved, hub=form.hub)


def _kind_of(document: Any) -> str:
    return "nothing" if document is None else f"a {type(document).__name__}"


def _graph(form: _Graph, section: dict[str, Any], where: str, folder: Path | None,
           peers: int | None, seed: int) -> nx.Graph:
    """Build the graph; ``section``, the document's own, gets the number of peers and the seed in use."""
    extra = dict(form.model_extra or {})
    ways = [way for way in ("kind", "edges", "graphml") if getattr(form, way) is not None]
    if len(ways) != 1:
        said = f"both {ways[0]} and {ways[1]}" if ways else "none of them"
        hint = nearest(next(iter(extra)), ("kind", "edges", "graphml")) if extra and not ways else ""
        raise TopologyError(f"{where}: graph needs one of kind, edges and graphml, but gives {said}"
                            f"{hint if 'did you mean' in hint else ''}")
    size = form.peers if peers is None else peers
    if form.kind is None:
        for key in extra:
            raise TopologyError(f"{where}: there is no key {key!r} in a graph given by {ways[0]}"
                                f"{nearest(key, ('edges', 'graphml', 'peers'))}")
        graph = (_graphml(form.graphml, where, folder) if form.graphml is not None
                 else _listed(form.edges or [], form.peers, where))
        if size is not None and size != graph.number_of_nodes():
            raise TopologyError(f"{where} has {graph.number_of_nodes()} peers by its {ways[0]}, so it cannot "
                                f"have {size}; leave the number of peers out or choose another topology")
        section["peers"] = graph.number_of_nodes()
        return graph
    if graphs.is_random(form.kind):
        extra.setdefault("seed", seed)
        section["seed"] = extra["seed"]
    try:
        graph = graphs.build(form.kind, size, **extra)
    except TopologyError as error:
        raise TopologyError(f"{where}: {error}") from None
    section["peers"] = graph.number_of_nodes()
    return graph


def _listed(edges: list[tuple[int, int]], peers: int | None, where: str) -> nx.Graph:
    ends = [end for edge in edges for end in edge]
    size = peers if peers is not None else max(ends, default=0) + 1
    for end in ends:
        if not 0 <= end < min(size, graphs.MAX_PEERS):
            raise TopologyError(f"{where}: the edges name peer {end}, but ids go from 0 to "
                                f"{min(size, graphs.MAX_PEERS) - 1}")
    graph = nx.empty_graph(size)
    graph.add_edges_from(edges)
    return graphs.checked(graph, where)


def _graphml(name: str, where: str, folder: Path | None) -> nx.Graph:
    from xml.etree.ElementTree import ParseError

    path = (folder or Path()) / name
    try:
        graph = nx.read_graphml(path)
    except OSError as error:
        raise TopologyError(f"{where}: cannot read the GraphML file {path}: {error.strerror}") from None
    except (ParseError, nx.NetworkXException, ValueError, KeyError, LookupError) as error:
        reason = " ".join(str(error).split())
        raise TopologyError(f"{where}: {path} is not a GraphML file: {reason}") from None
    names = [str(node) for node in graph]
    if sorted(names) == sorted(map(str, range(len(names)))):  # ids as p2pser's own: "0" .. "N-1"
        graph = nx.relabel_nodes(graph, {node: int(node) for node in graph})
    return graphs.checked(graph, str(path))


def _check_hub(hub: int | None, graph: nx.Graph, where: str) -> None:
    if hub is None:
        return
    size = graph.number_of_nodes()
    if size < 2 or hub >= size or set(graph.edges(hub)) != {(hub, i) for i in range(size) if i != hub} \
            or graph.number_of_edges() != size - 1:
        raise TopologyError(f"{where}: hub {hub} must be the centre of a star of 2 peers or more, whose other peers "
                            "have no link but to it: give 'graph: {kind: star, peers: 9}' and 'hub: 0', or no hub")


def _check_entries(entries: Mapping[int, PeerEntry], size: int, where: str) -> None:
    for i in entries:
        if not 0 <= i < size:
            raise TopologyError(f"{where}: peers names peer {i}, but the graph has the ids 0 to {size - 1}; "
                                "remove the entry or change the graph's number of peers")
    keyed = [i for i, entry in entries.items() if entry.key is not None]
    if keyed and len(keyed) < size:
        bare = [i for i in range(size) if i not in keyed]
        raise TopologyError(f"{where}: there is a key for peer {keyed[0]} but none for peer {bare[0]}; give "
                            "the keys of all peers or of none")
    for field in ("key", "address"):
        owner: dict[str, int] = {}
        for i, entry in entries.items():
            value = getattr(entry, field)
            if value is not None and owner.setdefault(value, i) != i:
                raise TopologyError(f"{where}: the peers {owner[value]} and {i} have the same {field}; each "
                                    "peer needs its own")
