"""A corpus, a kind of graph and a schedule of another package: listed with their origin, and used by name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import p2pser

CODE = '''
import re
from dataclasses import dataclass

import networkx as nx

from p2pser.base.registries import CORPORA
from p2pser.corpora.adapter import About, NamedClips
from p2pser.corpora.manifest import Clip
from p2pser.graph.kind import register_graph, register_schedule
from p2pser.graph.mixing import by_hand
from p2pser.graph.schedule import Computed


@CORPORA.register("diary")
class Diary(NamedClips):
    name = "diary"
    about = About("Diary, an example", ("eo",), "2", 4, 2, "anna-joy-1.wav", "free", "nowhere", "none")
    pattern = re.compile("(?P<speaker>[a-z]+)-(?P<emotion>joy|rage)-[0-9]")
    emotions = {"joy": "happiness", "rage": "anger"}
    fields = "anna-joy-1.wav: speaker, emotion, number"

    def clip(self, path, parts):
        return Clip(path, parts["speaker"], self.emotions[parts["emotion"]], language="eo")


@register_graph("two-stars", fits=lambda peers, arms=2: peers > 2 * arms, needs="more than two peers for each arm")
def two_stars(peers: int, arms: int = 2) -> nx.Graph:
    """Two hubs."""
    graph = nx.empty_graph(peers)
    graph.add_edges_from((i, j) for i in (0, 1) for j in range(i + 1, peers))
    return graph


def bare(peers):
    return nx.path_graph(peers)


@register_schedule("swap")
@dataclass(frozen=True)
class Swap(Computed):
    """Peer 0 averages with each other peer in turn."""

    @property
    def period(self) -> int:
        return max(1, self.size - 1)

    def compute(self, t):
        return by_hand(self.size, [(0, t + 1, 0.5), (t + 1, 0, 0.5)])
'''
ENTRIES = """[p2pser.corpora]
diary = diary_package
[p2pser.graphs]
two-stars = diary_package
bare = diary_package:bare
[p2pser.schedules]
swap = diary_package
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder of packages, in which the distribution diary-package 1.3 is installed."""
    info = tmp_path / "packages" / "diary_package-1.3.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: diary-package\nVersion: 1.3\n")
    (info / "entry_points.txt").write_text(ENTRIES)
    (tmp_path / "packages" / "diary_package.py").write_text(CODE)
    return tmp_path / "packages"


SCRIPT = """
import json, sys
from click.testing import CliRunner
from p2pser.cli.main import cli

done = [CliRunner().invoke(cli, arguments) for arguments in json.load(sys.stdin)]
json.dump([[result.stdout, str(result.exception or "")] for result in done], sys.stdout)
"""


def run(package: Path, *commands: list[str]) -> list[tuple[str, str]]:
    """Return standard output and error of commands, from one process that has the package."""
    paths = [str(package), str(Path(p2pser.__file__).parents[1])]
    done = subprocess.run([sys.executable, "-c", SCRIPT], input=json.dumps(commands), capture_output=True, text=True,
                          check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)})
    return [(output, error) for output, error in json.loads(done.stdout)]


def test_a_corpus_is_listed_recognised_and_loaded(package: Path, tmp_path: Path) -> None:
    clips = tmp_path / "clips"
    clips.mkdir()
    for name in ("anna-joy-1", "anna-rage-1", "ben-joy-1", "ben-rage-1"):
        (clips / f"{name}.wav").write_text("not a recording")
    as_json, as_text, scanned = run(package, ["corpus", "list", "--json"], ["corpus", "list"],
                                    ["corpus", "scan", str(clips)])
    listed = {entry["name"]: entry for entry in json.loads(as_json[0])}
    assert (listed["diary"]["from"], listed["diary"]["languages"]) == ("diary-package 1.3", ["eo"])
    assert (listed["emodb"]["from"], listed["folder"]["from"]) == (None, None)
    (line,) = (line for line in as_text[0].splitlines() if line.startswith("diary "))
    assert line.endswith(": anna-joy-1.wav (diary-package 1.3)")
    assert "no file of diary can be used" in scanned[1]


def test_graphs_and_schedules_are_listed_and_named_in_a_file(package: Path, tmp_path: Path) -> None:
    graphs = ["kind: two-stars, peers: 6, arms: 1", "kind: two-stars, peers: 6, arms: 3",
              "kind: two-stars, peers: 6, arms: many", "kind: bare, peers: 4", "kind: swap, peers: 4"]
    for number, graph in enumerate(graphs):
        (tmp_path / f"{number}.yaml").write_text(f"graph: {{{graph}}}\n")
    listed, fits, too_few, no_number, undecorated, schedule = run(
        package, ["topology", "list", "--json"],
        *(["topology", "show", str(tmp_path / f"{number}.yaml"), "--json"] for number in range(len(graphs))))
    rows = {row["name"]: row for row in json.loads(listed[0])}
    assert (rows["two-stars"]["from"], rows["two-stars"]["peers"]) == ("diary-package 1.3", 8)
    assert (rows["two-stars"]["about"], rows["two-stars"]["edges"]) == ("Two hubs.", 13)
    assert (rows["swap"]["from"], rows["swap"]["period"], rows["ring"]["from"]) == ("diary-package 1.3", 7, None)
    assert json.loads(fits[0])["edges"] == 9
    assert "there is no two-stars of 6 peers, arms 3: it needs more than two peers for each arm" in too_few[1]
    assert "arms = 'many' must be a whole number, 1 to 200000" in no_number[1]
    assert "graph kind 'bare' of diary-package 1.3 is not one: its package must decorate it" in undecorated[1]
    assert "bare" not in rows
    assert json.loads(schedule[0])["period"] == 3
