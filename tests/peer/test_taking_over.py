"""A peer that has missed the end of the run takes the model of its neighbours, which hand it over. With a network."""

from __future__ import annotations

from typing import Any

import torch
from crew import PATIENCE, Crew

from p2pser.config import Config
from p2pser.peer.process import Peer


def leave_in_consensus(crew: Crew, config: Config, victim: int) -> list[Any]:
    """Start all; the victim leaves in the final consensus. Return the futures."""
    def hear(peer: Peer, record: dict[str, Any]) -> None:
        if record.get("kind") == "sketch" and record.get("exchange") == 0:
            peer.interrupt()

    return [crew.pool.submit(crew.peer(config, i, *((hear,) if i == victim else ())).run) for i in range(3)]


def test_a_peer_that_left_in_the_consensus_takes_the_model_of_those_that_have_finished(crew: Crew) -> None:
    config = crew.configured("handed", "network.serve_after=50", "training.fine_tune=3")
    futures = leave_in_consensus(crew, config, 1)
    assert not futures[1].result(timeout=PATIENCE).finished
    taken = crew.peer(config, 1).run()
    others = [futures[i].result(timeout=PATIENCE) for i in (0, 2)]
    assert [one.summary["agreed"] for one in others] == [2, 2]
    assert taken.exit_code == 0
    assert (taken.summary["agreed"], taken.summary["handed_over_by"]) == (3, [0, 2])
    rows = torch.stack([crew.row(config, i) for i in range(3)])
    assert float((rows - rows[0]).norm()) <= 1e-6 * float(rows[0].norm())
    assert (crew.path(config, 1) / "personal").is_dir()
    assert any("hands its model to peer 1" in sentence for sentence in crew.said)
    assert any("takes the model of peers 0 and 2" in sentence for sentence in crew.said)


def test_a_finished_peer_that_is_started_again_hands_its_model_over(crew: Crew) -> None:
    config = crew.configured("later", "network.serve_after=0.1")
    futures = leave_in_consensus(crew, config, 1)
    assert [future.result(timeout=PATIENCE).finished for future in futures] == [True, False, True]
    late = crew.pool.submit(crew.peer(config.with_settings(["network.serve_after=50"]), 1).run)
    server = crew.peer(config.with_settings(["network.serve_after=50"]), 2)
    again = crew.pool.submit(server.run)
    taken = late.result(timeout=PATIENCE)
    server.interrupt()
    assert again.result(timeout=PATIENCE) == futures[2].result()
    assert taken.summary["handed_over_by"] == [2]
    assert crew.row(config, 1).equal(crew.row(config, 2))
    assert any("takes the model of peer 2 alone" in sentence for sentence in crew.said)
