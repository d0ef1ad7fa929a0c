"""p2pser's simulator: dfedavg on a ring, nothing evaluated."""

from __future__ import annotations

import numpy as np
from job import CHANNELS, CLASSES, HIDDEN, SHAPES, Job, Watch, clips

from p2pser.config import Config
from p2pser.corpora.folds import Split
from p2pser.corpora.manifest import Corpus
from p2pser.features.federation import Examples, Federation
from p2pser.graph import spec
from p2pser.simulation.engine import simulate


def settings(job: Job) -> list[str]:
    """Return p2pser's settings of the job: without what other systems do not do (clipping, weight decay, dropout)."""
    model = {"mlp": ["model.name=mlp", f"model.hidden={HIDDEN}"],
             "cnn": ["model.name=cnn2d", "features.kind=logmel", f"model.hidden={','.join(map(str, CHANNELS))}",
                     "model.stride=1", "training.optimizer=sgd"]}
    return [*model[job.model], "model.dropout=0", f"training.rounds={job.all_rounds}",
            f"training.local_steps={job.steps}", f"training.batch_size={job.batch}", f"training.lr={job.lr}",
            f"training.momentum={job.momentum}", "training.weight_decay=0", "training.clip_norm=0",
            "training.label_smoothing=0", "training.schedule=constant", "gossip.max_consensus_exchanges=1"]


def federation(job: Job) -> Federation:
    """Return the clips of all peers, none held out."""
    train = {}
    for i in range(job.peers):
        x, y = clips(job, i)
        train[i] = Examples(x.numpy(), y.numpy().astype(np.int64), (f"s{i}",) * len(y),
                            tuple(f"{i}/{k}" for k in range(len(y))))
    return Federation(tuple(f"emotion {k}" for k in range(CLASSES)), train, None, Split("made-up", (), (), (), True),
                      Corpus("made-up", "1", (), (), default_split="none"), "none", [], 0, ((),) * job.peers)


def main() -> None:
    job = Job.given()
    assert len(SHAPES[job.model]) in (1, 2)
    watch, seen = Watch(job), federation(job)
    watch.mark()  # of the warm-up's first round, which therefore holds the set-up too
    run = simulate(Config().with_settings(settings(job)), spec.load("ring", job.peers), seen,
                   observe=lambda round: watch.mark())
    watch.report(parameters=run.schema.size, system="p2pser")


if __name__ == "__main__":
    main()
