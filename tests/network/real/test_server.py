"""Server federated learning between real processes: what dies with the hub, and what does not."""

from __future__ import annotations

import signal
from typing import Any

import pytest
import torch
from lives import Life
from relays import Relays
from trials import Trial

from p2pser.base.errors import P2PSERError
from p2pser.experiments import demo
from p2pser.features.federation import federate
from p2pser.graph.spec import load
from p2pser.run.checkpoint import available
from p2pser.simulation.engine import simulate

SERVER = load("server", peers=5)
EVERYBODY = range(5)
CLIENTS = range(1, 5)
QUICK = ("network.ping_after=0.3", "network.suspect_after=1.0", "network.dead_after=3.0")
FEDAVG = ("gossip.algorithm=fedavg", "gossip.parameters.sample=0.5", "gossip.weighting=clips",
          "features.normalise=global")


def ended_round(record: dict[str, Any]) -> int | None:
    """The round after which a peer tells its measurements; None for any other record."""
    return record["round"] if "kind" not in record else None


def test_when_the_hub_dies_its_clients_end_with_a_sentence_and_resume_with_it(real: Any) -> None:
    config = real.config("out", *FEDAVG, "peer.checkpoint_every=2", "network.hub_wait=0", *QUICK)

    def kill(peers: Any, record: dict[str, Any]) -> None:
        if record["reporter"] == 0 and ended_round(record) == 5:
            peers.kill(0)

    story = real.run(config, SERVER, kill, lives={0: Life(held_after=5)})
    assert story.exit_codes == {0: -signal.SIGKILL, **dict.fromkeys(CLIENTS, P2PSERError.exit_code)}, str(story)
    assert set(story.failures) == set(CLIENTS)
    said = set(story.failures.values())
    assert len(said) == 1
    assert said.pop().startswith("the hub, peer 0, is lost, and no other peer averages: training cannot go on; ")
    for i in CLIENTS:
        assert real.events(config, i, "dead", peer=0)
        assert not (real.peer_folder(config, i) / "model").exists()
        assert available(real.peer_folder(config, i) / "checkpoint")
    story = real.run(config, SERVER)
    assert story.exit_codes == dict.fromkeys(EVERYBODY, 0), str(story)
    whole = simulate(config, SERVER, federate(config, 5, hub=0, workers=1), exact=True)
    assert torch.equal(real.row(config, 3), whole.row)


def test_clients_wait_for_their_hub_and_go_on_with_it(real: Any) -> None:
    config = real.config("out", "gossip.algorithm=fedopt", "training.rounds=30", "training.local_steps=1", *QUICK)
    with Relays(SERVER) as relays, Trial(config, SERVER, relays, 0.05) as trial:
        trial.held[0] = 6
        trial.start()
        trial.until_round(6)
        trial.kill(0)
        trial.until_told("waiting", CLIENTS)
        trial.start(0)
        codes = trial.until_end()
    assert codes == dict.fromkeys(EVERYBODY, 0), str(trial.story)
    assert all(real.events(config, i, "rejoined", peer=0) for i in CLIENTS)
    rows = real.rows(config, EVERYBODY)
    assert torch.equal(rows, rows[:1].expand_as(rows))


def test_when_a_client_dies_the_others_go_on(real: Any) -> None:
    config = real.config("out", "gossip.algorithm=fedavg", "training.rounds=20", *QUICK)

    def kill(peers: Any, record: dict[str, Any]) -> None:
        if record["reporter"] == 2 and ended_round(record) == 3:
            peers.kill(2)

    story = real.run(config, SERVER, kill, lives={2: Life(held_after=3)})
    living = [0, 1, 3, 4]
    assert story.exit_codes == {**dict.fromkeys(living, 3), 2: -signal.SIGKILL}, str(story)
    assert all(one["peers_dead"] == [2] for one in story.summaries.values())
    rows = real.rows(config, living)
    assert torch.equal(rows, rows[:1].expand_as(rows))


def test_a_hub_needs_no_recordings_where_clients_bring_their_own(real: Any) -> None:
    told = ("corpus.partition=own", "corpus.split=none", "corpus.labels=[calm, excited]", "features.normalise=global",
            "gossip.algorithm=fedavg", "training.rounds=3")
    config = real.config("out", *told)
    bare = config.model_copy(update={"corpus": config.corpus.model_copy(update={"name": "synthetic", "data": None})})
    story = real.run(config, SERVER, odd={0: (bare, SERVER)})
    assert story.exit_codes == dict.fromkeys(EVERYBODY, 0), str(story)
    rows = real.rows(config, EVERYBODY)
    assert torch.equal(rows, rows[:1].expand_as(rows))
    assert story.summaries[0]["uar"] is None


def test_the_demo_says_what_died_with_the_hub(real: Any) -> None:
    config = real.config("out", "gossip.algorithm=fedavg", "training.rounds=300", *QUICK)
    federation = federate(config, 5, hub=0, workers=1)
    said = (r"no peer finished: the hub, peer 0, is lost, and no other peer averages: training cannot go on; [^;]*; "
            r"their ")
    with pytest.raises(P2PSERError, match=said):
        demo.run(config, SERVER, federation, kills=[demo.Kill(0, 3)])
    whole = demo.run(real.config("whole", "gossip.algorithm=fedavg"), SERVER, federation)
    assert (whole["peers"], whole["peers_dead"], whole["consensus_distance"]) == (5, [], 0.0)
    assert whole["uar"]["worst_peer"] == whole["uar"]["mean_peer"] == whole["uar"]["consensus"]
