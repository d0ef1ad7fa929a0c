"""pfl: federated averaging over all users in every round by its simulated backend, nothing evaluated."""

from __future__ import annotations

from functools import cache, partial
from itertools import cycle
from typing import Any

import pfl
import torch
from job import Job, Watch, build, clips
from pfl.aggregate.simulate import SimulatedBackend
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.pytorch import PyTorchTensorDataset
from pfl.hyperparam.base import NNTrainHyperParams
from pfl.metrics import Metrics
from pfl.model.pytorch import PyTorchModel


class Learning(torch.nn.Module):
    """The job's model with its loss, as pfl wants it."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.net = build(job)

    def loss(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(self.net(x), y)

    def metrics(self, x: torch.Tensor, y: torch.Tensor) -> dict[str, Any]:
        return {}


class Rounds(TrainingProcessCallback):
    """Tells when a round has ended."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch

    def after_central_iteration(self, *given: Any, **named: Any) -> tuple[bool, Metrics]:
        self.watch.mark()
        return False, Metrics()


def main() -> None:
    job = Job.given()
    module = Learning(job)

    @cache
    def user(peer: int) -> PyTorchTensorDataset:
        return PyTorchTensorDataset(clips(job, peer))

    turns = cycle(range(job.peers))
    model = PyTorchModel(module, partial(torch.optim.SGD, **job.optimizer),
                         torch.optim.SGD(module.parameters(), lr=1.0))
    watch = Watch(job)
    watch.mark()
    FederatedAveraging().run(
        NNAlgorithmParams(central_num_iterations=job.all_rounds, evaluation_frequency=10 * job.all_rounds,
                          train_cohort_size=job.peers, val_cohort_size=0),
        SimulatedBackend(FederatedDataset(user, lambda: next(turns)), None),
        model,
        NNTrainHyperParams(local_num_epochs=1, local_learning_rate=job.lr, local_batch_size=job.batch),
        callbacks=[Rounds(watch)])
    watch.report(parameters=sum(parameter.numel() for parameter in module.parameters()), version=pfl.__version__)


if __name__ == "__main__":
    main()
