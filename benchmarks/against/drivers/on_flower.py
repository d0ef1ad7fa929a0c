"""Flower's simulation (Ray): federated averaging over all clients in every round, nothing evaluated.

A client is stateless, as Flower's are: it gets the model, takes its local steps with a fresh optimiser, and sends it
back. Each actor has one processor and one thread, so Flower has as many processors as the machine.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict
from functools import cache
from typing import Any

# Nothing is sent anywhere. Ray lowers its workers' priority, which costs them time wherever anything else runs.
os.environ |= {"FLWR_TELEMETRY_ENABLED": "0", "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}

import flwr
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
from job import Job, Watch, build, clips, step

client, server = ClientApp(), ServerApp()


@cache
def own_clips(job: Job, peer: int) -> tuple[torch.Tensor, torch.Tensor]:
    return clips(job, peer)


@cache
def model(job: Job) -> torch.nn.Module:
    return build(job)


class Rounds(FedAvg):
    """FedAvg that tells when a round begins."""

    def __init__(self, watch: Watch) -> None:
        super().__init__(fraction_train=1.0, fraction_evaluate=0.0, min_train_nodes=watch.job.peers,
                         min_available_nodes=watch.job.peers)
        self.watch = watch

    def configure_train(self, server_round: int, *given: Any) -> Iterable[Message]:
        self.watch.mark()
        return super().configure_train(server_round, *given)


@client.train()
def train(message: Message, context: Context) -> Message:
    torch.set_num_threads(1)
    job = Job(**json.loads(message.content["config"]["job"]))
    x, y = own_clips(job, int(context.node_config["partition-id"]))
    module = model(job)
    module.load_state_dict(message.content["arrays"].to_torch_state_dict())
    optimizer = torch.optim.SGD(module.parameters(), **job.optimizer)
    losses = [step(module, optimizer, x[k : k + job.batch], y[k : k + job.batch]) for k in range(0, len(x), job.batch)]
    content = RecordDict({"arrays": ArrayRecord(module.state_dict()),
                          "metrics": MetricRecord({"loss": sum(losses) / len(losses), "num-examples": len(x)})})
    return Message(content=content, reply_to=message)


@server.main()
def main(grid: Grid, context: Context) -> None:
    job = Job.given()
    watch = Watch(job)
    module = build(job)
    result = Rounds(watch).start(grid, ArrayRecord(module.state_dict()), num_rounds=job.all_rounds,
                                 train_config=ConfigRecord({"job": json.dumps(asdict(job))}))
    watch.mark()
    if len(result.train_metrics_clientapp) != job.all_rounds:
        raise SystemExit(f"Flower trained in {len(result.train_metrics_clientapp)} rounds of {job.all_rounds}")
    watch.report(parameters=sum(parameter.numel() for parameter in module.parameters()), version=flwr.__version__)


def run() -> None:
    run_simulation(server, client, Job.given().peers, backend_config={
        "init_args": {"num_cpus": len(os.sched_getaffinity(0))}, "client_resources": {"num_cpus": 1}})


if __name__ == "__main__":
    import on_flower  # Ray's workers find the client by the module's name

    on_flower.run()
