"""Folders of ``corpus split`` at sites of their own: the run equals the one that partitions the corpus itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import networkx as nx
import pytest
import torch

from p2pser import config as settings
from p2pser.corpora.partitioning import partition_corpus
from p2pser.corpora.sites import write_sites
from p2pser.features.federation import federate
from p2pser.graph.spec import Topology
from p2pser.simulation.engine import simulate

PEERS = 4
RING = Topology("ring", nx.cycle_graph(PEERS), {}, "metropolis", {})


@pytest.mark.parametrize(("partition", "copy"), [("speaker", True), ("dirichlet:0.5:4", False)])
def test_sites_with_folders_of_their_own_train_as_partitioned(
    real: Any, tmp_path: Path, partition: str, copy: bool
) -> None:
    config = real.config("partitioned", f"corpus.partition={partition}", "training.rounds=4", peers=PEERS)
    written = write_sites(config, partition_corpus(config, PEERS), tmp_path / "sites", copy=copy)
    assert sorted(written["peers"]) == [f"peer-{i}" for i in range(PEERS)]
    port = config.network.base_port
    sites = {i: settings.load(tmp_path / "sites" / "run.yaml", [
        "corpus.name=auto", f"corpus.data={tmp_path / 'sites' / f'peer-{i}'}", f"peer.out={tmp_path / 'out'}",
        "peer.evaluate_every=1000", f"network.base_port={port}"]) for i in range(PEERS)}
    story = real.run(config, RING, odd={i: (site, RING) for i, site in sites.items()})
    assert story.exit_codes == dict.fromkeys(range(PEERS), 0), str(story)
    rows = torch.stack([real.row(sites[i], i) for i in range(PEERS)])
    exact = simulate(config, RING, federate(config, PEERS, workers=1), exact=True)
    assert torch.equal(rows, exact.final.rows.to(torch.float32))


@pytest.mark.parametrize("fixed", [True, False])
def test_sites_that_lack_emotions_train_as_partitioned(real: Any, tmp_path: Path, fixed: bool) -> None:
    """Twelve sites with a share of dirichlet:0.05, of which most hold clips of one emotion only.

    The emotions are fixed by the settings, or agreed by the peers.
    """
    many = 12
    ring = Topology("ring", nx.cycle_graph(many), {}, "metropolis", {})
    config = real.config("partitioned", "corpus.partition=dirichlet:0.05", "training.rounds=4",
                         "features.normalise=global", peers=many)
    written = write_sites(config, partition_corpus(config, many), tmp_path / "sites")
    assert min(len(site["emotions"]) for site in written["peers"].values()) == 1
    sites = {i: settings.load(tmp_path / "sites" / "run.yaml", [
        "corpus.name=auto", f"corpus.data={tmp_path / 'sites' / f'peer-{i}'}", f"peer.out={tmp_path / 'out'}",
        "peer.evaluate_every=1000", f"network.base_port={config.network.base_port}",
        *([] if fixed else ["corpus.labels=none"])]) for i in range(many)}
    story = real.run(config, ring, odd={i: (site, ring) for i, site in sites.items()})
    assert story.exit_codes == dict.fromkeys(range(many), 0), str(story)
    rows = torch.stack([real.row(sites[i], i) for i in range(many)])
    exact = simulate(config, ring, federate(config, many, workers=1), exact=True)
    assert torch.equal(rows, exact.final.rows.to(torch.float32))
    lacking = [i for i in range(many) if len(written["peers"][f"peer-{i}"]["emotions"]) == 1]
    assert all(any("no clip of" in one for one in story.sentences(i)) for i in lacking)
