"""decentralizepy between processes: D-PSGD on a ring over TCP, each peer a process, nothing evaluated.

Its node takes its classes by name from a configuration, so this module is also the data set: ``Clips`` and ``Model``.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from decentralizepy.datasets.Dataset import Dataset
from decentralizepy.graphs.Ring import Ring
from decentralizepy.mappings.Linear import Linear
from decentralizepy.models.Model import Model as Base
from decentralizepy.node.DPSGDNode import DPSGDNode
from job import BORN, FOUND, Job, build, clips, descendants, pss
from torch import multiprocessing

PORT = 20_000


class Model(Base):
    """The job's model."""

    def __init__(self) -> None:
        super().__init__()
        self.net = build(Job.given())

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.net(features)


class Clips(Dataset):
    """A peer's clips. Its node asks for them once at the start of a round."""

    def __init__(self, rank: int, machine_id: int, mapping: Linear, notes: str = "", **given: Any) -> None:
        super().__init__(rank, machine_id, mapping, **given)
        self.x, self.y = clips(Job.given(), rank)
        self.notes = Path(notes) / f"{rank}.begun"

    def get_trainset(self, batch_size: int = 1, shuffle: bool = False) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        with self.notes.open("a") as notes:
            notes.write(f"{time.perf_counter() - BORN} {time.process_time()}\n")
        order = torch.randperm(len(self.x))
        return ((self.x[part], self.y[part]) for part in order.split(batch_size))

    def get_testset(self) -> None:
        """Nothing is evaluated."""


def configuration(job: Job, folder: Path) -> dict[str, dict[str, Any]]:
    """Return decentralizepy's sections."""
    addresses = folder / "addresses.json"
    addresses.write_text(json.dumps({"0": "127.0.0.1"}))
    return {
        "DATASET": {"dataset_package": "on_decentralizepy", "dataset_class": "Clips", "model_class": "Model",
                    "notes": str(folder)},
        "OPTIMIZER_PARAMS": {"optimizer_package": "torch.optim", "optimizer_class": "SGD", **job.optimizer},
        "TRAIN_PARAMS": {"training_package": "decentralizepy.training.Training", "training_class": "Training",
                         "rounds": job.steps, "full_epochs": False, "batch_size": job.batch, "shuffle": True,
                         "loss_package": "torch.nn", "loss_class": "CrossEntropyLoss"},
        "COMMUNICATION": {"comm_package": "decentralizepy.communication.TCP", "comm_class": "TCP",
                          "addresses_filepath": str(addresses), "offset": PORT},
        "SHARING": {"sharing_package": "decentralizepy.sharing.Sharing", "sharing_class": "Sharing"},
    }


def main() -> None:
    job = Job.given()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ring, mapping, config = Ring(job.peers), Linear(1, job.peers), configuration(job, folder)
        nodes = [multiprocessing.Process(target=DPSGDNode, args=(
            rank, 0, mapping, ring, config, job.all_rounds, name, name, 30, 10**9, 10**9, 0))
            for rank in range(job.peers)]
        for node in nodes:
            node.start()
        memory = 0
        while any(node.is_alive() for node in nodes):
            memory = max(memory, sum(map(pss, [os.getpid(), *descendants()])))
            time.sleep(0.2)
        if any(node.exitcode for node in nodes):
            sys.exit("a node of decentralizepy ended with an error")
        begun = [[[float(field) for field in line.split()]
                  for line in (folder / f"{rank}.begun").read_text().splitlines()] for rank in range(job.peers)]
        results = [json.loads((folder / f"{rank}_results.json").read_text()) for rank in range(job.peers)]
    # A round has ended for all when the last peer begins the next one.
    ends = [max(peer[k][0] for peer in begun) for k in range(1, job.all_rounds)]
    used = [sum(peer[k][1] for peer in begun) for k in range(1, job.all_rounds)]
    parameters = Model().count_params()
    sent = sum(result["total_bytes"][str(job.all_rounds)] for result in results)
    figures = {"start_s": ends[0], "memory_mb": memory / 1e6, "torch": torch.__version__, "parameters": parameters,
               "round_s": [later - earlier for earlier, later in pairwise(ends)],
               "cpu_s": [later - earlier for earlier, later in pairwise(used)],
               "bytes_per_payload_byte": sent / (4 * parameters * 2 * job.peers * job.all_rounds)}
    print(FOUND + json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
