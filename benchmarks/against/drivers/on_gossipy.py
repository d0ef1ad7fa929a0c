"""gossipy: all-to-all gossip on a ring; each peer mixes its neighbours' models with its own, then trains.

With --push, the vanilla simulator instead: each peer sends its model to one random neighbour a round, and a peer that
gets a model mixes it with its own, and trains (once a round on average).
"""

from __future__ import annotations

import sys
import types

import numpy as np
import torch
from job import Job, Watch, build, clips

# gossipy imports torchvision for a data set that nothing here uses; the release on the package index needs CUDA.
sys.modules.setdefault("torchvision", types.ModuleType("torchvision"))

import gossipy  # noqa: E402
import gossipy.node as nodes_of  # noqa: E402
from gossipy import core, simul  # noqa: E402
from gossipy.model import TorchModel  # noqa: E402
from gossipy.model import handler as handlers  # noqa: E402


class Model(TorchModel):
    """The job's model, as gossipy's handlers want it."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.net = build(job)

    def init_weights(self) -> None:
        """All peers start with the same weights, which they have already."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.net(features)


class Rounds(simul.SimulationEventReceiver):
    """A round is one time step of the simulator."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.messages = 0

    def update_message(self, failed: bool, msg: object = None) -> None:
        self.messages += not failed

    def update_timestep(self, t: int) -> None:
        self.watch.mark()

    def update_end(self) -> None:
        pass


class NoTest:
    """In place of gossipy's DataDispatcher: each peer's clips are given to its node; nothing is held out."""

    def has_test(self) -> bool:
        return False


def main() -> None:
    job = Job.given()
    gossipy.set_seed(0)
    push = "--push" in sys.argv
    peers = job.peers
    ring = np.zeros((peers, peers), dtype=np.int8)
    for i in range(peers):
        ring[i, (i + 1) % peers] = ring[i, (i - 1) % peers] = 1
    # Older releases know one kind of network and one way to merge.
    network = getattr(core, "StaticP2PNetwork", core.P2PNetwork)(peers, ring)
    kind = handlers.TorchModelHandler if push else handlers.WeightedTMH
    # The peer's clips are one epoch of as many batches as it takes steps.
    proto = kind(net=Model(job), optimizer=torch.optim.SGD, optimizer_params=job.optimizer,
                 criterion=torch.nn.CrossEntropyLoss(), local_epochs=1, batch_size=job.batch,
                 create_model_mode=core.CreateModelMode.MERGE_UPDATE)
    node = nodes_of.GossipNode if push else nodes_of.All2AllGossipNode
    nodes = {i: node(i, (clips(job, i), None), 1, proto.copy(), network, True) for i in range(peers)}
    simulator = (simul.GossipSimulator if push else simul.All2AllGossipSimulator)(
        nodes=nodes, data_dispatcher=NoTest(), delta=1, protocol=core.AntiEntropyProtocol.PUSH)
    watch = Watch(job)
    rounds = Rounds(watch)
    simulator.add_receiver(rounds)
    simulator.initialized = True  # init_nodes would train once before the first round
    watch.mark()
    how = () if push else (core.UniformMixing(network),)
    simulator.start(*how, n_rounds=job.all_rounds)
    updates = sum(node.model_handler.n_updates for node in nodes.values())
    watch.report(parameters=proto.get_size(), messages=rounds.messages, updates=updates)


if __name__ == "__main__":
    main()
