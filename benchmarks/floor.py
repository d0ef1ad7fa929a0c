"""The lower bound of a round's time: the same local training in two processes, without exchanges."""

from __future__ import annotations

import multiprocessing
import time
from multiprocessing.connection import Connection
from typing import Any

WORKERS = 2
"""Processes that share the peers' local work."""

WARM_UP = 2
"""Rounds before the clock starts."""


def measure(config: Any, peers: int, rounds: int) -> dict[str, float]:
    """Take the local steps of ``peers`` peers for ``rounds`` rounds in two fresh processes, without exchanges.

    config: p2pser.config.Config. Returns the seconds a round and the processor milliseconds a peer and round.
    """
    context = multiprocessing.get_context("spawn")
    begin = context.Barrier(WORKERS)
    pipes = [context.Pipe(duplex=False) for _ in range(WORKERS)]
    workers = [context.Process(target=_work, args=(config, peers, rounds, number, begin, pipes[number][1]),
                               daemon=True) for number in range(WORKERS)]
    for worker in workers:
        worker.start()
    try:
        figures = [_figures(pipe) for pipe, _ in pipes]
    finally:
        for worker in workers:
            worker.join(10)
            worker.kill()
    wall, cpu = max(figure[0] for figure in figures), sum(figure[1] for figure in figures)
    return {"s per round": wall / rounds, "CPU ms per peer and round": 1000 * cpu / peers / rounds}


def _figures(pipe: Connection) -> tuple[float, float]:
    if not pipe.poll(300):
        raise SystemExit("a process of the floor benchmark did not answer within 300 s")
    wall, cpu = pipe.recv()
    return wall, cpu


def _work(config: Any, peers: int, rounds: int, number: int, begin: Any, pipe: Connection) -> None:
    import torch

    from p2pser.features.federation import federate, normalised
    from p2pser.models import build
    from p2pser.models.rows import Schema
    from p2pser.training.learner import Learner

    torch.set_num_threads(config.training.threads)
    federation = federate(config, peers)
    shape = federation.train[number].features.shape[1:]
    module = build(config.model, shape, len(federation.labels), config.seed)
    schema, learners = Schema.of(module), []
    for peer in range(number, peers, WORKERS):
        examples = federation.train[peer]
        features = normalised(examples, federation.normalise, None)
        learners.append(Learner(module, schema, config.training, torch.from_numpy(features),
                                torch.from_numpy(examples.labels), seed=config.seed, peer=peer))
    rows = [schema.flatten(module) for _ in learners]
    memories = [learner.memory() for learner in learners]
    begin.wait(120)
    wall = cpu = 0.0
    for round in range(WARM_UP + rounds):
        if round == WARM_UP:
            wall, cpu = time.perf_counter(), time.process_time()
        for learner, row, memory in zip(learners, rows, memories):
            learner.train_(row, memory, round)
    pipe.send((time.perf_counter() - wall, time.process_time() - cpu))
