"""Floors: a plain loop over N models with torch's own optimiser, nothing exchanged, in one process or in two."""

from __future__ import annotations

import multiprocessing
import sys
from multiprocessing.connection import Connection

import torch
from job import Job, Watch, build, clips, step


def models(job: Job, peers: range) -> list[tuple]:
    """Return the model, the optimiser and the clips of each peer."""
    learners = []
    for peer in peers:
        module = build(job)
        learners.append((module, torch.optim.SGD(module.parameters(), **job.optimizer), *clips(job, peer)))
    return learners


def trained(job: Job, own: list[tuple]) -> None:
    """Do a round's local steps."""
    for module, optimizer, x, y in own:
        for k in range(0, len(x), job.batch):
            step(module, optimizer, x[k : k + job.batch], y[k : k + job.batch])


def in_one(job: Job) -> None:
    watch, own = Watch(job), models(job, range(job.peers))
    for _ in range(job.all_rounds):
        watch.mark()
        trained(job, own)
    watch.mark()
    watch.report()


def in_two(job: Job) -> None:
    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe() for _ in range(2)]
    workers = [context.Process(target=_worker, args=(job, range(k, job.peers, 2), there), daemon=True)
               for k, (_, there) in enumerate(pipes)]
    for worker in workers:
        worker.start()
    watch = Watch(job)
    for here, _ in pipes:
        here.recv()
    for _ in range(job.all_rounds):
        watch.mark()
        for here, _ in pipes:
            here.send(True)
        for here, _ in pipes:
            here.recv()
    watch.mark()
    for here, _ in pipes:
        here.send(False)
    for worker in workers:
        worker.join()
    watch.report()


def _worker(job: Job, peers: range, pipe: Connection) -> None:
    torch.set_num_threads(1)
    own = models(job, peers)
    pipe.send(True)
    while pipe.recv():
        trained(job, own)
        pipe.send(True)


if __name__ == "__main__":
    (in_two if "--two" in sys.argv else in_one)(Job.given())
