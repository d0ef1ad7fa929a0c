"""Machines whose libraries give other last bits take part in one run, and end with one model."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from lives import Life
from real_peers import Story, furthest

from p2pser.config import Config
from p2pser.graph.spec import Topology, load
from p2pser.peer.launch import LocalPeers

PEERS, ODD = 3, 2
RING = load("ring", peers=PEERS)


def _other_last_bits(config: Config, topology: Topology, me: int) -> None:
    """Let this process compute the initial row, the statistics' sums and eigenvalues with other last bits."""
    from p2pser import models
    from p2pser.features import normalisation
    from p2pser.graph import spectral
    from p2pser.training import target_statistics

    def nudged(plain: Callable[..., Any]) -> Callable[..., Any]:
        return functools.wraps(plain)(lambda *given: np.nextafter(plain(*given), np.inf))

    plain = models.initialise

    def initialise(module: torch.nn.Module, seed: int) -> None:
        plain(module, seed)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.copy_(torch.nextafter(parameter, torch.tensor(torch.inf)))

    models.initialise = initialise
    target_statistics.sums = normalisation.sums = nudged(normalisation.sums)
    spectral._moduli = nudged(spectral._moduli)


def test_other_last_bits_keep_no_peer_out_and_all_end_with_one_model(real: Any) -> None:
    config = real.config("out", "training.rounds=3", "features.normalise=global", "training.balance=weights",
                         peers=PEERS)
    story = Story()
    with LocalPeers(config, RING, set(range(PEERS)) - {ODD}) as peers:
        peers.start(ODD, work=Life(change=_other_last_bits))
        story.records += peers.records()
    assert story.exit_codes == {0: 0, 1: 0, 2: 0}, str(story)
    assert not any(real.events(config, me, "refused") for me in range(PEERS))
    assert furthest(real.rows(config, range(PEERS))) < 1e-6
    assert all(one["agreed"] == PEERS for one in story.summaries.values())
