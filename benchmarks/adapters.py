"""Adapters of a speech encoder beside its frozen layers, by gossip: one fold, the same clips, steps and seeds.

One speaker a peer, exponential graph. ``ssl`` and an mlp, then the family ``adapter`` without adapters (rank 0: weights
of the layers and a head) and with them; all settings are fixed beforehand. The rate of the latter two is five times the
shipped one, for which 40 steps are too few. Printed for each seed: UAR of the consensus model on the speaker left out,
the clips that all peers drew, the processor's seconds, and the bytes of a peer's row:

    python benchmarks/adapters.py --corpus emodb --data D/emodb --encoder DIR --fold 0 --seeds 2
"""

from __future__ import annotations

import argparse
import time

from p2pser.config import Config
from p2pser.corpora.partitioning import partition_corpus
from p2pser.evaluation.metrics import confusion, uar
from p2pser.features.federation import federate
from p2pser.graph.spec import load
from p2pser.models.cost import BYTES
from p2pser.simulation.engine import simulate

SCHEMES = {
    "ssl, mlp": ["model.name=mlp", "features.kind=ssl", "training.optimizer=adamw", "training.lr=0.002"],
    "layer weights, head": ["model.name=adapter", "model.parameters.rank=0", "training.lr=0.01"],
    "adapters, layer weights, head": ["model.name=adapter", "training.lr=0.01"],
}


def main() -> None:
    """Print a line for each scheme and seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option in ("--corpus", "--data", "--encoder"):
        parser.add_argument(option, required=True)
    for option, default in (("--fold", 0), ("--seeds", 1), ("--rounds", 20), ("--peers", 9)):
        parser.add_argument(option, type=int, default=default)
    parser.add_argument("--norm", default="global")
    given = parser.parse_args()
    topology = load("exponential", peers=given.peers)
    for seed in range(given.seeds):
        for name, settings in SCHEMES.items():
            config = Config().with_settings([
                f"corpus.name={given.corpus}", f"corpus.data={given.data}", f"corpus.fold={given.fold}", f"seed={seed}",
                f"features.encoder={given.encoder}", f"features.normalise={given.norm}", "training.local_steps=2",
                f"training.rounds={given.rounds}", "training.batch_size=16", "peer.evaluate_every=1000", *settings])
            held = partition_corpus(config, given.peers).held
            federation = federate(config, given.peers, workers=1, progress=True)
            began = time.process_time()
            run = simulate(config, topology, federation)
            seconds = time.process_time() - began
            predictions = run.predictions
            assert predictions is not None
            score = float(uar(confusion(predictions.targets, predictions.predicted, predictions.classes)))
            drawn = sum(2 * given.rounds * min(16, len(clips)) for clips in held)
            print(f"seed {seed}  {name:30} UAR {score:.3f}  {drawn} clips drawn  {seconds:.0f} s  "
                  f"{BYTES * run.rows.shape[1]} bytes a row", flush=True)


if __name__ == "__main__":
    main()
