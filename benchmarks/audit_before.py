"""The audit's attacks on the messages of the code before the private mode: the first column of docs/privacy.md's table.

CHECKOUT is a checkout of commit 392f965. Its simulator runs in a separate process, on the halves of clips that the
audit gives to the peers, with the features of the present code. It records the rows that neighbours would receive, and
the sums of features that its peers send in every run, whatever features.normalise is. The attacks are those of
``p2pser audit``. They draw batches of their own, whereas the old code drew them from the seed that all peers know.

    git worktree add CHECKOUT 392f965
    python benchmarks/audit_before.py --checkout CHECKOUT --corpus emodb --data FOLDER --peers 10 [--seeds 5] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from p2pser.config import Config
from p2pser.features.federation import Federation, federate
from p2pser.gossip.mixer import Step
from p2pser.graph import spec
from p2pser.graph.spec import Topology
from p2pser.privacy import runs
from p2pser.privacy.audit import audit
from p2pser.run.setup import STATISTICS
from p2pser.simulation.engine import simulate
from p2pser.simulation.results import Simulation
from p2pser.simulation.witness import Witness
from p2pser.wire.codec import Received

BEFORE = '''
import json, sys
import numpy as np
import torch
torch.set_num_threads(1)
from p2pser.config import Config
from p2pser.gossip.consensus import living_slem
from p2pser.gossip.statistics import statistics
from p2pser.learning.census import census_sums
from p2pser.simulation.engine import simulate
from p2pser.simulation.mixer import SimulatedMixer
from p2pser.speech.federation import Examples, Federation
from p2pser.speech.folds import Split
from p2pser.speech.manifest import Corpus
from p2pser.topology.spec import load

folder, peers, graph, labels, normalise, settings, kept = json.loads(sys.argv[1])
data = np.load(folder + "/clips.npz")
train = {i: Examples(data[f"features{i}"], data[f"labels{i}"], tuple(data[f"speakers{i}"].tolist()),
                     tuple(data[f"paths{i}"].tolist())) for i in range(peers)}
corpus = Corpus(name="before", version="1", clips=())
federation = Federation(tuple(labels), train, None, Split("none", (), (), (), False), corpus, normalise, [], 0, ())
config, topology = Config().with_settings(settings), load(graph, peers)
found = {}
mix = SimulatedMixer.mix

def recorded(self, rows, at, *codec):
    mixed = mix(self, rows, at, *codec)
    if at.round in kept:
        found[f"sent{at.round}"] = rows.numpy().copy()
        found[f"start{at.round + 1}"] = mixed.numpy().copy()
    return mixed

SimulatedMixer.mix = recorded
run = simulate(config, topology, federation, each_peer=False)
sums = np.stack([census_sums(train[i], config.training, len(labels)) for i in range(peers)])
agreed = statistics(SimulatedMixer(topology), torch.from_numpy(sums), -1, topology,
                    slem=living_slem(topology, None, (), 0))
np.savez(folder + "/messages.npz", sums=sums, initial=next(iter(run.networks.values())).start.numpy(),
         exchanges=[agreed.exchanges, run.final.exchanges], **found)
'''
"""The program of the process with the old code; its module names are those of that commit."""


class Recorded:
    """Takes the place of the audit's simulated run: a run by the old code, whose messages the witness receives.

    Parameters
    ----------
    checkout : the folder of that code.
    settings : those that the old code has too.
    rounds : the numbers of rounds after which the audit attacks.
    """

    def __init__(self, checkout: Path, settings: list[str], rounds: tuple[int, ...]) -> None:
        self.checkout, self.settings = checkout, settings
        self.kept = sorted({each for round in rounds for each in (round - 2, round - 1, round) if each >= 0})

    def __call__(self, config: Config, topology: Topology, federation: Federation, *, each_peer: bool,
                 witness: Witness) -> Simulation:
        """Return a run of no rounds by the present code, for the model and the statistics; the witness receives the
        messages of the old code's run.
        """
        messages = self._messages(config, topology, federation)
        initial = torch.from_numpy(messages["initial"])
        if not torch.equal(initial, witness.initial):  # type: ignore[attr-defined]
            raise SystemExit("the old code starts from other parameters, so the attacks do not fit: check out 392f965")
        edges = [(dst, src) for src in range(topology.size) for dst in topology.neighbours(src)]
        statistics, final = messages["exchanges"].tolist()
        for dst, src in edges:
            witness.received(Step(STATISTICS, 0), (dst, src), Received(src, messages["sums"][src].tobytes()))
        witness.received(Step(STATISTICS, statistics - 1), edges[0], Received(edges[0][1], b""))
        witness.held(0, initial.repeat(topology.size, 1))
        for round in self.kept:
            if f"sent{round}" not in messages:
                break
            rows = torch.from_numpy(messages[f"sent{round}"])
            witness.trained(round, rows)
            for dst, src in edges:
                witness.received(Step(round, 0), (dst, src), Received(src, rows[src]))
            witness.held(round + 1, torch.from_numpy(messages[f"start{round + 1}"]))
        witness.received(Step(config.training.rounds + 1, final - 1), edges[0], Received(edges[0][1], b""))
        run = simulate(config.with_settings(["training.rounds=0"]), topology, federation, each_peer=each_peer)
        return replace(run, config=config)

    def _messages(self, config: Config, topology: Topology, federation: Federation) -> Mapping[str, NDArray[Any]]:
        with tempfile.TemporaryDirectory() as folder:
            clips = {f"{what}{i}": np.asarray(getattr(examples, what)) for i, examples in federation.train.items()
                     for what in ("features", "labels", "speakers", "paths")}
            np.savez(Path(folder) / "clips.npz", **clips)  # type: ignore[arg-type]
            given = [folder, topology.size, topology.name, federation.labels, federation.normalise,
                     [*self.settings, f"seed={config.seed}"], self.kept]
            subprocess.run([sys.executable, "-c", BEFORE, json.dumps(given)], check=True, cwd=self.checkout,
                           env={**os.environ, "PYTHONPATH": str(self.checkout)})
            return dict(np.load(Path(folder) / "messages.npz"))


def main() -> None:
    """Print the findings of the attacks, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkout", type=Path, required=True)
    parser.add_argument("--corpus", default="synthetic")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--topology", default="ring")
    parser.add_argument("--peers", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--colluding", type=int, default=1)
    parser.add_argument("--after-rounds", default="1,3,10")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rounds = tuple(int(round) for round in given.after_rounds.split(","))
    topology = spec.load(given.topology, given.peers)
    by_normalise = {}
    # The sums of features are attacked where the present code would send them: with features.normalise=global.
    for normalise, seen, length in (("speaker", rounds, []), ("global", (1,), ["training.rounds=1"])):
        own = ["gossip.algorithm=dfedavg", *length]
        data = [f"corpus.data={json.dumps(str(given.data))}"] if given.data else []
        config = Config().with_settings([f"corpus.name={given.corpus}", *data, "corpus.split=none",
                                         f"features.normalise={normalise}", *own])
        runs.simulate = Recorded(given.checkout.resolve(), own, seen)  # type: ignore[assignment,attr-defined]
        result = audit(config, topology, federate(config, topology.size), rounds=seen,
                              colluding=given.colluding, seeds=given.seeds)
        by_normalise[normalise] = [finding.to_dict() for finding in result.findings
                                   if (normalise == "speaker") == (finding.seen != "statistics")]
    if given.json:
        print(json.dumps(by_normalise))
        return
    for normalise, findings in by_normalise.items():
        for finding in findings:
            print(normalise, json.dumps(finding))


if __name__ == "__main__":
    main()
