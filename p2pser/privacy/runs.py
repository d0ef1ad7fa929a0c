"""Recorded runs: what the peers of a run received, from a simulation of it or from the folders of its peers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from p2pser.base.errors import ConfigError
from p2pser.base.wording import peer_list
from p2pser.config import Config
from p2pser.features.federation import Federation
from p2pser.features.normalisation import Statistics
from p2pser.gossip.mixer import Step
from p2pser.gossip.mode import by_mode
from p2pser.gossip.partial import shared_entries
from p2pser.gossip.reading import Edge
from p2pser.gossip.registry import create
from p2pser.graph.spec import Topology
from p2pser.models import for_run
from p2pser.models.rows import Schema
from p2pser.peer import recording
from p2pser.peer.folder import PeerFolder
from p2pser.privacy.subjects import Subjects, subjects
from p2pser.privacy.wire import Wire
from p2pser.run.participant import Cohort
from p2pser.run.setup import counts_for
from p2pser.simulation.engine import simulate
from p2pser.training.target_statistics import Asked
from p2pser.wire.codec import Received


@dataclass(frozen=True)
class RecordedRun:
    """A run, and what its peers received.

    config : of the run. subjects : its peers, and what the attacker holds beforehand. wire : what was received.
    rounds : those of the audit that were recorded. schema : the layout of a row. asked : the sums that peers send
    first. statistics : of the features. module : the network.
    """

    config: Config
    subjects: Subjects
    wire: Wire
    rounds: tuple[int, ...]
    schema: Schema
    asked: Asked
    statistics: Statistics | None
    module: nn.Module


def simulated(config: Config, topology: Topology, federation: Federation, rounds: tuple[int, ...], rejoins: bool
              ) -> RecordedRun:
    """Simulate a run in which peers train on half of their clips, in places drawn by chance, and record it.

    Parameters
    ----------
    config, topology, federation : of the run.
    rounds : the numbers of rounds after which the attacks are made.
    rejoins : whether the observers have lost their state.
    """
    # After N exchanges a row space cannot grow, so no later one of the final consensus needs to be simulated.
    exchanges = min(topology.size, config.gossip.max_consensus_exchanges)
    config = config.with_settings([f"gossip.max_consensus_exchanges={exchanges}"])
    half = subjects(federation, config.seed)
    cohort = Cohort(config, half.federation, half.federation.train)
    wire = _wire(config, topology, half, cohort, rounds, rejoins)
    run = simulate(config, topology, half.federation, each_peer=False, witness=wire)
    return RecordedRun(run.config, half, wire, rounds, cohort.schema, cohort.asked, run.statistics,
                       run.networks[1.0].module)


def recorded(config: Config, topology: Topology, federation: Federation, rounds: tuple[int, ...], rejoins: bool
             ) -> RecordedRun:
    """Return a run that took place between processes, from the folders of all its peers.

    Parameters are as in ``simulated``; the federation has the whole clips of all peers, of which they trained on half.

    Raises ConfigError where a folder is of a run with other settings, or was not recorded, or none of ``rounds`` was.
    """
    config = for_run(config, topology.size)
    folders = folders_of(config, topology)
    half = subjects(federation, config.seed, moved=False)
    cohort = Cohort(config, half.federation, half.federation.train)
    messages, own, (peers, sums) = _read(folders)
    done = max((round + 1 for round, _ in own[recording.TRAINED]), default=0)
    rounds = tuple(round for round in rounds if round <= done)
    if not rounds:
        raise ConfigError(f"{folders[0].path.parent} has recorded {done} rounds, and none of those to attack is one of "
                          "them: name others (--after-rounds)")
    wire = _wire(config, topology, half, cohort, rounds, rejoins)
    for (step, edge), message in sorted(messages.items(), key=lambda item: item[0]):
        wire.received(step, edge, message)
    shape = topology.size, cohort.schema.size
    for kind, take in ((recording.HELD, wire.held), (recording.TRAINED, wire.trained)):
        for round in sorted({round for round, _ in own[kind]}):
            rows = torch.full(shape, torch.nan)  # a peer that was lost has none
            for peer in range(topology.size):
                if (row := own[kind].get((round, peer))) is not None:
                    rows[peer] = row
            take(round, rows)
    cohort.prepare(sums, peers)
    return RecordedRun(config, half, wire, rounds, cohort.schema, cohort.asked, cohort.statistics,
                       cohort.networks[1.0].module)


def folders_of(config: Config, topology: Topology) -> dict[int, PeerFolder]:
    """Return the folders of a recorded run's peers.

    Raises ConfigError where one is of a run with other settings, or was not recorded, or the recordings of all peers
    are not in one place.
    """
    if config.corpus.partition == "own":
        raise ConfigError("the audit of a run that took place compares its messages with the recordings of all peers, "
                          "and with corpus.partition=own each site has its own: give --before")
    config, _ = by_mode(config, topology)
    folders = {peer: PeerFolder(for_run(config, topology.size), topology, peer) for peer in range(topology.size)}
    for folder in folders.values():
        folder.finished()  # raises where the settings differ
    missing = [peer for peer, folder in folders.items() if not folder.recordings.is_dir()]
    if missing:
        raise ConfigError(f"{folders[0].path.parent} has no recorded messages of {peer_list(missing)}: run all peers "
                          "with --set privacy.record=10, or give --before, which simulates the run")
    return folders


def _wire(config: Config, topology: Topology, half: Subjects, cohort: Cohort, rounds: tuple[int, ...], rejoins: bool
          ) -> Wire:
    gossip = config.gossip
    algorithm = create(gossip.algorithm, gossip.parameters, config, topology)
    clips = {peer: len(examples) for peer, examples in half.federation.train.items()}
    weights = np.array([clips[i] if algorithm.weighs_clips else 1 for i in range(topology.size)])
    sent = shared_entries(cohort.schema, gossip.share)
    return Wire(topology, cohort.initial()[0], frozenset(round - 1 for round in rounds),
                counts_for(gossip, topology, clips), weights / weights.sum() if algorithm.sums else None,
                algorithm.numbers, rejoins, None if sent.all() else sent, algorithm.slots, algorithm.fragment)


def _read(folders: Mapping[int, PeerFolder]) -> tuple[
        dict[tuple[Step, Edge], Received | None], dict[str, dict[tuple[int, int], Tensor]], tuple[int, Tensor]]:
    """Return the messages by step and edge (dst, src), each peer's own rows by kind and (round, peer), and the sums of
    the set-up, as the first peer has them, with the number of peers over which they are the mean.
    """
    messages: dict[tuple[Step, Edge], Received | None] = {}
    own: dict[str, dict[tuple[int, int], Tensor]] = defaultdict(dict)
    sums: tuple[int, Tensor] | None = None
    for peer, folder in folders.items():
        for record in recording.records(folder.recordings):
            kind = record[0]
            if kind == recording.MESSAGE:
                step, sender, message = recording.received(record)
                messages[step, (peer, sender)] = message
            elif kind == recording.SUMS:
                sums = sums or (record[1], recording.numbers(record[2], torch.float64))
            else:
                own[kind][record[1], peer] = recording.numbers(record[2], torch.float32)
    return messages, own, sums or (1, torch.zeros(0, dtype=torch.float64))
