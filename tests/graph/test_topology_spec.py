"""Topology files: what they mean, where they are found, and one sentence for all that is wrong in one."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import networkx as nx
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from p2pser.base.errors import TopologyError
from p2pser.base.registries import GRAPHS, SCHEDULES
from p2pser.graph import mixing
from p2pser.graph.sparse import Sparse
from p2pser.graph.spec import PeerEntry, Topology, load, parse, shipped

KEYS = [f"{i:040d}" for i in range(10)]  # digits are Z85 too


def written(folder: Path, text: str, name: str = "net.yaml") -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


# ---- the shipped files -------------------------------------------------------------------------------------

EXTRA = {"server": "star", "base-2": "base", "base-3": "base", "epidemic-local": "epidemic"}
"""Shipped files that are not named after their kind."""


def test_every_kind_is_shipped() -> None:
    assert {EXTRA.get(name, name) for name in shipped()} == set(GRAPHS) | set(SCHEDULES)


@pytest.mark.parametrize("name", sorted(GRAPHS))
@pytest.mark.parametrize("peers", [None, 4, 8, 9, 16, 20, 64])
def test_shipped_files_load_at_several_sizes(name: str, peers: int | None) -> None:
    if peers is not None and not GRAPHS[name].fits(peers):
        with pytest.raises(TopologyError, match=rf"no {name} of {peers} peers: .*; the next numbers"):
            load(name, peers)
        return
    topology = load(name, peers)
    assert topology.size == (peers or topology.document["graph"]["peers"])
    directed = name in ("directed-ring", "directed-exponential", "random-digraph")
    assert (topology.name, topology.weights) == (name, "out-degree" if directed else "metropolis")
    assert (topology.schedule is not None, topology.directed) == (directed, directed)
    assert nx.is_connected(topology.graph)
    assert shipped()[name].read_text(encoding="utf-8").startswith("# ")  # what it is good for


def test_names_with_and_without_yaml_mean_the_same() -> None:
    assert load("ring.yaml").digest() == load("ring").digest() == load(str(shipped()["ring"])).digest()


def test_a_path_comes_before_the_shipped_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, "graph: {kind: ring, peers: 5}", "ring.yaml")
    monkeypatch.chdir(tmp_path)
    assert load("ring.yaml").size == 5
    assert load("ring").size == 8


def test_a_folder_of_that_name_does_not_hide_a_shipped_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ring").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load("ring").size == 8


# ---- what a topology is ------------------------------------------------------------------------------------

def test_neighbours_ascend() -> None:
    topology = load("ring")
    assert [topology.neighbours(i) for i in (0, 3, 7)] == [(1, 7), (2, 4), (0, 6)]
    with pytest.raises(TopologyError, match="no peer 8 in the topology 'ring': its peers are 0 to 7"):
        topology.neighbours(8)


def test_the_graph_is_frozen() -> None:
    with pytest.raises(nx.NetworkXError, match=r"[Ff]rozen"):
        load("ring").graph.add_edge(0, 4)


def test_a_topology_travels_to_another_process() -> None:
    topology = load("erdos-renyi", 12)
    again: Topology = pickle.loads(pickle.dumps(topology))
    assert again.digest() == topology.digest()
    assert again.neighbours(3) == topology.neighbours(3)


def test_the_document_makes_the_same_topology_again() -> None:
    topology = load("random-regular", peers=12, seed=7)
    assert topology.document["graph"] == {"kind": "random-regular", "peers": 12, "seed": 7}
    again = parse(yaml.safe_load(yaml.safe_dump(dict(topology.document))), "again")
    assert again.digest() == topology.digest()


def test_the_seed_of_the_file_wins(tmp_path: Path) -> None:
    path = written(tmp_path, "graph: {kind: erdos-renyi, peers: 20, seed: 3}")
    digest = load(path).digest()
    assert load(path, seed=4).digest() == digest == load("erdos-renyi", 20, seed=3).digest()
    assert load("erdos-renyi", 20, seed=4).digest() != digest


def test_random_topologies_stay_what_they_are() -> None:
    # Peers with different versions of p2pser or networkx must draw the same graph.
    assert {name: load(name, 8, seed=0).digest() for name, kind in GRAPHS.items() if kind.random} == {
        "barabasi-albert": "3977ec0a45e3269e450641acc51fef07",
        "erdos-renyi": "eb0b99ad055dacf8e25126b622407f24",
        "random-digraph": "4f147852ee4d0e1e1fa2c7c087e6713b",
        "random-geometric": "b9b2f462e263ed2b30b9ef484125b179",
        "random-regular": "68e6892ceeed2c477f599563e50dfe73",
        "watts-strogatz": "36786861423f16ecd6c16217a2f0f83e",
    }


def entries(keys: list[str], host: str = "192.0.2.1") -> dict[int, dict[str, str]]:
    return {i: {"address": f"tcp://{host}:{5700 + i}", "key": key} for i, key in enumerate(keys)}


def test_the_digest_covers_edges_and_weights_only() -> None:
    def digest(**changes: Any) -> str:
        document = {"name": "a", "graph": {"kind": "ring", "peers": 4}, "peers": entries(KEYS[:4])}
        return parse({**document, **changes}, "test").digest()

    same = digest()
    assert len(same) == 32
    assert digest(name="b") == same
    assert digest(peers=entries(KEYS[:4], "198.51.100.7")) == same
    assert digest(graph={"edges": [[1, 0], [2, 1], [2, 3], [3, 0]]}) == same
    assert digest(peers=entries([*KEYS[:3], KEYS[5]])) == same  # a key may be replaced during a run
    assert digest(peers={}) == same
    assert digest(weights="lazy") != same
    assert digest(graph={"kind": "complete", "peers": 4}) != same


def test_the_digest_leaves_out_what_a_solver_finds_with_other_last_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixing, "require_cvxpy", lambda: None)
    digests = set()
    for noise in (0.0, 1e-9):
        monkeypatch.setitem(mixing.RULES, "fastest",  # type: ignore[arg-type]
                            lambda graph, noise=noise: Sparse.from_dense(mixing.lazy(graph).dense() + noise))
        topology = parse({"graph": {"kind": "ring", "peers": 4}, "weights": "fastest"}, "test")
        assert topology.matrix()[0, 1] == pytest.approx(1 / 6, abs=1e-8)
        digests.add(topology.digest())
    assert len(digests) == 1


def test_peers_section(tmp_path: Path) -> None:
    path = written(tmp_path, f"""
name: three sites
graph: {{kind: ring, peers: 3}}
peers:
  0: {{address: "tcp://192.0.2.10:5700", listen: "tcp://*:5700", key: "{KEYS[0]}"}}
  1: {{address: "tcp://[2001:db8::1]:5700", key: "{KEYS[1]}"}}
  2: {{key: "{KEYS[2]}"}}
""")
    topology = load(path)
    assert topology.name == "three sites"
    assert topology.peers == {
        0: PeerEntry("tcp://192.0.2.10:5700", "tcp://*:5700", KEYS[0]),
        1: PeerEntry("tcp://[2001:db8::1]:5700", None, KEYS[1]),
        2: PeerEntry(None, None, KEYS[2]),
    }


def test_some_may_be_out_of_reach_of_all_others() -> None:
    hidden = {0: {"address": "none"}, 2: {"address": "none"}}
    topology = parse({"graph": {"kind": "ring", "peers": 4}, "peers": hidden}, "t")
    assert topology.peers == {0: PeerEntry("none", None, None), 2: PeerEntry("none", None, None)}


def test_addresses_may_be_given_for_some() -> None:
    topology = parse({"graph": {"kind": "ring", "peers": 3}, "peers": {1: {"address": "tcp://h:1"}}}, "t")
    assert topology.peers == {1: PeerEntry("tcp://h:1", None, None)}


def test_networkx_generators_by_name() -> None:
    topology = parse({"graph": {"kind": "barabasi_albert_graph", "peers": 12, "m": 2}}, "t", seed=4)
    assert topology.size == 12
    assert topology.document["graph"] == {"kind": "barabasi_albert_graph", "peers": 12, "m": 2, "seed": 4}
    assert parse({"graph": {"kind": "petersen_graph"}}, "t").document["graph"]["peers"] == 10


# ---- edge lists and GraphML --------------------------------------------------------------------------------

def test_edge_list(tmp_path: Path) -> None:
    topology = load(written(tmp_path, "graph: {edges: [[0, 1], [2, 1], [1, 2], [2, 3]]}"))
    assert (topology.name, topology.size) == ("net", 4)
    assert sorted(topology.graph.edges) == [(0, 1), (1, 2), (2, 3)]
    assert load(str(tmp_path / "net.yaml"), peers=4).digest() == topology.digest()


def test_graphml_beside_the_file_or_itself(tmp_path: Path) -> None:
    nx.write_graphml(nx.cycle_graph(5), tmp_path / "five.graphml")
    topology = load(written(tmp_path, "graph: {graphml: five.graphml}"))
    assert sorted(topology.graph.edges) == [(0, 1), (0, 4), (1, 2), (2, 3), (3, 4)]
    direct = load(str(tmp_path / "five.graphml"))
    assert (direct.name, direct.digest()) == ("five", topology.digest())


def test_graphml_numbers_keep_their_meaning(tmp_path: Path) -> None:
    nx.write_graphml(nx.Graph([(2, 0), (0, 1)]), tmp_path / "g.graphml")
    assert load(str(tmp_path / "g.graphml")).neighbours(0) == (1, 2)


def test_graphml_names_are_numbered_in_their_order(tmp_path: Path) -> None:
    nx.write_graphml(nx.Graph([("clinic", "lab"), ("lab", "car")]), tmp_path / "g.graphml")
    topology = load(str(tmp_path / "g.graphml"))
    assert [topology.graph.nodes[i]["label"] for i in range(3)] == ["clinic", "lab", "car"]
    assert topology.neighbours(1) == (0, 2)


def test_an_edge_to_a_node_that_is_not_declared_is_refused(tmp_path: Path) -> None:
    nx.write_graphml(nx.path_graph(["car", "clinic", "lab"]), tmp_path / "g.graphml")
    text = (tmp_path / "g.graphml").read_text(encoding="utf-8")
    (tmp_path / "g.graphml").write_text(text.replace('target="lab"', 'target="lba"'), encoding="utf-8")
    with pytest.raises(TopologyError, match="has an edge to 'lba', and no node of this id"):
        load(str(tmp_path / "g.graphml"))


def test_directed_graphml(tmp_path: Path) -> None:
    nx.write_graphml(nx.DiGraph([(0, 1), (1, 2), (2, 0)]), tmp_path / "g.graphml")
    topology = load(str(tmp_path / "g.graphml"))
    assert topology.directed
    assert (topology.sources(0, 0), topology.receivers(0, 0)) == ((2,), (1,))
    nx.write_graphml(nx.DiGraph([(0, 1), (1, 2), (2, 1)]), tmp_path / "g.graphml")
    with pytest.raises(TopologyError, match="not strongly connected: messages of peer 1 cannot reach peer 0;"):
        load(str(tmp_path / "g.graphml"))


@pytest.mark.parametrize("content", ["", "no xml", "<graphml/>", "<a><b></a>", "<graphml><graph/></graphml>"])
def test_what_is_no_graphml_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(TopologyError, match=r"g\.graphml"):
        load(written(tmp_path, content, "g.graphml"))


# ---- what is wrong -----------------------------------------------------------------------------------------

RING = "graph: {kind: ring, peers: 4}\n"


@pytest.mark.parametrize(("text", "message"), [
    ("", "must hold a mapping with the key 'graph', not nothing"),
    ("- 1", "not a list"),
    ("graph: [", "is not YAML: .*line 1"),
    (RING + "graph: {kind: star, peers: 4}", "the key 'graph' is given twice"),
    (RING + "peers:\n  1: {address: 'tcp://a:1'}\n  1: {address: 'tcp://b:1'}", "the key 1 is given twice"),
    ("name: x", "the key 'graph' is missing; add for example"),
    (RING + "weight: metropolis", "there is no key 'weight'; did you mean 'weights'"),
    (RING + "weights: uniform", "weights = 'uniform': .*'metropolis'"),
    (RING + "name: ''", "name = ''"),
    ("graph: ring", "graph = 'ring'"),
    ("graph: {kid: ring, peers: 4}", "needs one of kind, edges and graphml, but gives none.*mean 'kind'"),
    ("graph: {kind: ring, peers: 4, edges: [[0, 1]]}", "but gives both kind and edges"),
    ("graph: {kind: rink, peers: 4}", "no graph kind 'rink'; did you mean 'ring'"),
    ("graph: {kind: ring}", "needs the number of peers: add 'peers: N'"),
    ("graph: {kind: ring, peers: 0}", "graph.peers = 0 must be a whole number from 1 to 200000"),
    ("graph: {kind: ring, peers: 8.0}", "graph.peers = 8.0 must be a whole number"),
    ("graph: {kind: ring, peers: '8'}", "graph.peers = '8' must be a whole number"),
    ("graph: {kind: ring, peers: true}", "graph.peers = True must be a whole number"),
    ("graph: {kind: random-regular, peers: 8, degre: 3}", "no parameter 'degre'; did you mean 'degree'"),
    ("graph: {kind: hypercube, peers: 6}", "no hypercube of 6 peers.*: 4 and 8"),
    ("graph: {edges: []}", r"edges is empty: give pairs of ids"),
    (RING + "peers: {'2': {}}", "peers.2 is the text '2', and ids are whole numbers: write them without quotes"),
    ("a: &a {kind: ring, peers: 4}\ngraph:\n  <<: *a", r"line 3 merges a mapping \(<<\), which is no YAML 1\.2; write"),
    ("graph: {edges: [[0, 1], [2, 3]]}", r"not connected: .*\{0, 1\}, \{2, 3\}"),
    ("graph: {edges: [[0, 1]], peers: 3}", r"not connected: .*\{0, 1\}, \{2\}"),
    ("graph: {edges: [[0, 3]], peers: 3}", "the edges name peer 3, but ids go from 0 to 2"),
    ("graph: {edges: [[0, -1]]}", "the edges name peer -1"),
    ("graph: {edges: [[0, 99999999]]}", "the edges name peer 99999999, but ids go from 0 to 199999"),
    ("graph: {edges: [[0, 1], [1, 1]]}", "links peer 1 to itself"),
    ("graph: {edges: [[0, 1, 2]]}", "graph.edges.0 must be a list of pairs of ids"),
    ("graph: {edges: [[0, a]]}", "graph.edges.0.1 = 'a' must be a list of pairs of ids"),
    ("graph: {edges: [[0, 1]], peer: 2}", "no key 'peer' in a graph given by edges; did you mean 'peers'"),
    ("graph: {graphml: none.graphml}", "cannot read the GraphML file .*none.graphml: No such file"),
    (RING + "peers: {7: {}}", "peers names peer 7, but the graph has the ids 0 to 3; remove"),
    (RING + "peers: {-1: {}}", "peers names peer -1"),
    (RING + "peers: {a: {}}", "peers.a"),
    (RING + "peers: {0: {adress: 'tcp://a:1'}}", "no key 'adress' in peers.0; did you mean 'address'"),
    (RING + "peers: {0: {address: 'a:1'}}", "peers.0.address = 'a:1': write it as tcp://HOST:PORT"),
    (RING + "peers: {0: {address: 'tcp://:1'}}", "write it as tcp://HOST:PORT"),
    (RING + "peers: {0: {address: 'tcp://0.0.0.0:5700'}}", "no other machine can dial it"),
    (RING + "peers: {0: {address: 'tcp://fd00::1:5700'}}", "write an IPv6 address in brackets"),
    (RING + "peers: {0: {address: 'tcp://a:99999'}}", "its port must be a number from 1 to 65535"),
    (RING + "peers: {0: {address: 'ipc:///tmp/x'}}", "write it as tcp://HOST:PORT"),
    (RING + "peers: {0: {key: short}}", "peers.0.key = 'short': a public key is 40 Z85 characters"),
    (RING + f"peers: {{0: {{key: '{40 * '#'}'}}}}", "a public key is 40 Z85 characters"),
    (RING + "peers: {0: {address: 'tcp://clinic$a:5700'}}", "it is not a host name: host names have the letters a"),
    (RING + f"peers: {{0: {{key: '{KEYS[0]}'}}, 1: {{key: '{KEYS[1]}'}}}}",
     "a key for peer 0 but none for peer 2; give the keys of all peers or of none"),
    ("graph: {kind: chain, peers: 2}\npeers: {0: {address: 'tcp://a:1'}, 1: {address: 'tcp://a:1'}}",
     "the peers 0 and 1 have the same address"),
    ("graph: {kind: chain, peers: 2}\n" + f"peers: {{0: {{key: '{KEYS[0]}'}}, 1: {{key: '{KEYS[0]}'}}}}",
     "the peers 0 and 1 have the same key"),
    (RING + "peers: {0: {address: none}, 3: {address: none}}",
     "peers 0 and 3 are neighbours and neither can be dialled"),
    (RING + "peers: {0: {address: none, listen: 'tcp://*:1'}}",
     "peer 0 has the address none, .*leave its 'listen' out"),
    (RING + "peers: {0: {listen: none}}", "peers.0.listen = 'none': write it as tcp://HOST:PORT"),
])
def test_a_wrong_file_is_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(TopologyError, match=message) as caught:
        load(written(tmp_path, text))
    assert "net.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_the_peers_option_against_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, "graph: {edges: [[0, 1]]}")
    with pytest.raises(TopologyError, match="has 2 peers by its edges, so it cannot have 8"):
        load(path, peers=8)
    path = written(tmp_path, RING + "peers: {3: {address: 'tcp://a:1'}}")
    with pytest.raises(TopologyError, match="peers names peer 3, but the graph has the ids 0 to 2"):
        load(path, peers=3)


@pytest.mark.parametrize(("name", "message"), [
    ("rin", "no topology 'rin', neither a file nor a shipped one; did you mean 'ring'"),
    ("nets/ring.yaml", "no topology 'nets/ring.yaml'.*did you mean 'ring'"),
    ("hypercub.yaml", "did you mean 'hypercube'"),
    ("qqqqq", "known: barabasi-albert, .*watts-strogatz"),
    (".", "is a folder, not a topology file"),
    ("x" * 5000, "cannot be the name of a topology file|no topology"),
])
def test_unknown_names(name: str, message: str) -> None:
    with pytest.raises(TopologyError, match=message):
        load(name)


def test_binary_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.yaml"
    path.write_bytes(b"\xff\xfe\x00RIFF\x00")
    with pytest.raises(TopologyError, match="is not UTF-8 text"):
        load(str(path))


def test_yaml_that_would_run_code_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TopologyError, match="is not YAML"):
        load(written(tmp_path, "graph: !!python/object/apply:os.system ['true']"))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 12) | st.floats(allow_nan=False) | st.text(max_size=8)
    | st.sampled_from(["ring", "torus", "petersen_graph", "erdos-renyi", "metropolis", "tcp://a:1", KEYS[0], "base",
                       "epidemic", "local", "sequence", "random-digraph", "paley_graph", "lazy", "out-degree"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["kind", "peers", "edges", "seed", "address", "key", "degree", "directed", "k", "s", "form",
                         "files", "each"]) | st.integers(0, 4),
        inner,
        max_size=4),
    max_leaves=8,
)


SECTIONS = st.sampled_from(["name", "graph", "weights", "peers"])
KINDS_NEARLY_RIGHT = st.fixed_dictionaries(
    {"kind": st.sampled_from(["base", "epidemic", "sequence", "directed-ring", "star"]), "peers": st.integers(1, 9)},
    optional={"s": st.integers(-1, 9), **dict.fromkeys(["k", "form", "files", "each", "seed"], VALUES)},
)
HAND = st.fixed_dictionaries({"edges": st.lists(st.lists(VALUES, max_size=4), max_size=4)})
NEAR = st.fixed_dictionaries({"graph": KINDS_NEARLY_RIGHT}, optional={"weights": VALUES | HAND})
DOCUMENTS = VALUES | st.dictionaries(SECTIONS, VALUES, max_size=4) | NEAR


@given(document=DOCUMENTS)
def test_any_document_gives_a_topology_or_a_sentence(document: Any) -> None:
    try:
        topology = parse(document, "fuzz")
    except TopologyError as refusal:
        sentence = str(refusal)
    else:
        sentence = ""
        assert nx.is_connected(topology.graph)
        assert list(topology.graph) == list(range(topology.size))
    assert "\n" not in sentence


def test_a_hub_needs_a_static_star() -> None:
    assert parse({"graph": {"kind": "star", "peers": 4}, "hub": 0}, "t").hub == 0
    with pytest.raises(TopologyError, match="hub 0 must be the centre of a static star"):
        parse({"graph": {"kind": "sequence", "files": ["star"]}, "hub": 0}, "t")


@given(text=st.text(max_size=60))
def test_any_text_gives_a_sentence(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    with pytest.raises(TopologyError):
        load(str(path))
