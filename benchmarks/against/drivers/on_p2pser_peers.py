"""p2pser between processes: `p2pser demo` on a ring, watched from outside, nothing evaluated, no checkpoints.

Its clips are those of the synthetic corpus, whose vectors have the job's shape; their features are computed before.
"""

from __future__ import annotations

import json

import torch
from job import FOUND, HIDDEN, SHAPES, Job
from watched_run import NEVER, running

from p2pser.config import Config
from p2pser.features.federation import federate

FIRST, SPARE = 2, 20
"""Rounds that are not measured, and rounds after the last one looked at."""


def main() -> None:
    job = Job.given()
    settings = [f"model.hidden={HIDDEN}", "model.dropout=0", f"training.local_steps={job.steps}",
                f"training.batch_size={job.batch}", f"training.lr={job.lr}", f"training.momentum={job.momentum}",
                "training.weight_decay=0", "training.clip_norm=0", "training.label_smoothing=0",
                "training.schedule=constant"]
    federation = federate(Config().with_settings(settings), job.peers)
    assert federation.train[0].features.shape[1:] == SHAPES["mlp"]
    with running(job.peers, FIRST + job.rounds + SPARE, *settings, f"peer.checkpoint_every={NEVER}") as run:
        start = run.reached(1)
        began, used = run.reached(FIRST), run.cpu()
        ended, after = run.reached(FIRST + job.rounds), run.cpu()
        memory, sent = run.pss(), run.bytes_per_payload_byte()
    print(FOUND + json.dumps({
        "start_s": start, "round_s": [(ended - began) / job.rounds], "cpu_s": [(after - used) / job.rounds],
        "memory_mb": memory / 1e6, "bytes_per_payload_byte": sent, "torch": torch.__version__}), flush=True)


if __name__ == "__main__":
    main()
