"""krum's decentralised simulation without attackers: local steps of SGD, then the mean with the ring's neighbours.

A step of krum ends with mixing. In all but the last step of a round each worker receives its own model alone.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import torch
from job import Job, Watch, build, clips
from krum.primitives.aggregators.average import Average
from krum.primitives.models import Model
from krum.simulations.decentralised import DecentralisedSimulation, StepResult
from torch import Tensor
from torch.utils.data import TensorDataset


class Ring(DecentralisedSimulation[StepResult]):
    """Momentum on every worker, and a mean of three on a ring."""

    def __init__(self, job: Job) -> None:
        own = [TensorDataset(*clips(job, i)) for i in range(job.peers)]
        super().__init__(model=Model(build(job)), train_datasets=own, train_batch_size=job.batch, test_set=own[0],
                         test_batch_size=job.batch, loss_fn=torch.nn.CrossEntropyLoss(), n=job.peers, f=0,
                         aggregator=Average, seed=0)
        self.job = job
        self.velocity = torch.zeros_like(self.parameters)

    def local_update(self, gradients: Tensor) -> Tensor:
        self.velocity.mul_(self.job.momentum).add_(gradients)
        return self.parameters - self.job.lr * self.velocity

    def gather_received_models(self, honest_vectors: Tensor, byzantine_parameters: Tensor, *, worker_index: int
                               ) -> Tensor:
        if (self.step_index + 1) % self.job.steps:
            return honest_vectors[worker_index : worker_index + 1]
        i, n = worker_index, len(honest_vectors)
        return honest_vectors[[i, (i - 1) % n, (i + 1) % n]]

    def build_step_result(self, **given: Any) -> StepResult:
        return StepResult(step=self.step_index, parameters=self.parameters, **given)

    def evaluate(self) -> tuple[float, ...]:
        """Nothing is evaluated."""
        return ()


def main() -> None:
    job = Job.given()
    simulation, watch = Ring(job), Watch(job)
    for _ in range(job.all_rounds):
        watch.mark()
        simulation.run(job.steps)
    watch.mark()
    watch.report(parameters=simulation.parameters.shape[1], version=version("krum"))


if __name__ == "__main__":
    main()
