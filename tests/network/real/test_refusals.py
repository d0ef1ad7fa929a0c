"""Peers that do not fit are refused with a reason on both sides; commands that cannot work say why."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from commands import Command

from p2pser.graph.spec import load
from p2pser.models.directory import load as load_model

RING, OTHER = load("ring", peers=5), load("complete", peers=5)
ODD = 3
REST = (0, 1, 2, 4)
SETTINGS = ("network.refused_wait=1", "training.rounds=4")


@pytest.mark.parametrize(("what", "reason"), [
    ("labels", "settings corpus.labels differ"), ("topology", "topology files"), ("secret", "key")])
def test_an_odd_peer_is_refused_and_the_others_finish(real: Any, tmp_path: Path, what: str, reason: str) -> None:
    config = real.config("out", *SETTINGS, peers=5)
    odd, topology = config, RING
    if what == "labels":
        odd = config.with_settings(["corpus.labels=[excited, calm]"])
    elif what == "topology":
        topology = OTHER
    else:
        secret = tmp_path / "secret"
        secret.write_bytes(os.urandom(32))
        secret.chmod(0o600)
        odd = config.with_settings([f"network.secret={secret}"])
    story = real.run(config, RING, odd={ODD: (odd, topology)})
    assert story.exit_codes == {**dict.fromkeys(REST, 3), ODD: 2}, str(story)
    assert sorted(story.summaries) == list(REST)
    assert reason in story.failures[ODD]
    for neighbour in RING.neighbours(ODD):
        refusals = real.events(config, neighbour, "refused", peer=ODD)
        assert [one for one in refusals if reason in one["reason"]], (neighbour, refusals)
        assert ODD in story.summaries[neighbour]["peers_dead"]
    for other in set(REST) - set(RING.neighbours(ODD)):
        assert not real.events(config, other, "refused")


def test_a_finished_run_says_so_and_runs_again_only_when_fresh(real: Any) -> None:
    three = load("ring", peers=3)
    config = real.config("out", "training.rounds=2", peers=3)
    assert real.run(config, three).exit_codes == {0: 0, 1: 0, 2: 0}
    before = real.row(config, 1)
    again = real.run(config, three, ids=[1])
    assert again.exit_codes == {1: 0}
    assert [one for one in again.sentences(1) if "has finished this run" in one and "--fresh" in one]
    assert not real.events(config, 1, "resumed")
    assert real.row(config, 1).equal(before)


def test_a_peer_takes_part_with_corrected_settings_after_a_start_that_did_no_round(real: Any) -> None:
    three = load("ring", peers=3)
    config = real.config("out", "training.rounds=2", peers=3)
    wrong = config.with_settings(["training.lr=0.02", "network.start_timeout=0.5"])
    assert real.run(wrong, three, ids=[1]).exit_codes == {1: 1}
    story = real.run(config, three)
    assert story.exit_codes == {0: 0, 1: 0, 2: 0}, str(story)


def test_finished_folder_with_other_settings_is_refused(real: Any) -> None:
    three = load("ring", peers=3)
    config = real.config("out", "training.rounds=2", peers=3)
    assert real.run(config, three).exit_codes == {0: 0, 1: 0, 2: 0}
    story = real.run(config.with_settings(["training.lr=0.02"]), three, ids=[1])
    assert story.exit_codes == {1: 2}, str(story)
    assert "training.lr (0.05 then, 0.02 now)" in story.failures[1]
    assert "--fresh" in story.failures[1]


def test_peers_that_leave_the_scaling_open_scale_as_the_model_from_which_they_start(real: Any) -> None:
    three = load("ring", peers=3)
    first = real.config("first", "training.rounds=1", "features.normalise=none", peers=3)
    assert real.run(first, three).exit_codes == {0: 0, 1: 0, 2: 0}
    model = first.peer.out / first.name / "peer-0" / "model"
    second = real.config("second", "training.rounds=1", f"peer.start={model}", peers=3)
    assert second.features.normalise == "auto"
    story = real.run(second, three)
    assert story.exit_codes == {0: 0, 1: 0, 2: 0}, str(story)
    assert [said for said in story.sentences(1) if "features.normalise=none" in said]
    _, card = load_model(second.peer.out / second.name / "peer-2" / "model")
    assert card.normalise == "none"


def test_start_timeout_names_the_neighbours_that_did_not_come(real: Any) -> None:
    config = real.config("out")
    began = time.monotonic()
    with Command("peer", "--id", "1", "--peers", "5", "--corpus", "manifest", "--data", str(config.corpus.data),
                 "--out", str(config.peer.out), "--start-timeout", "1", "--set", "corpus.split=speakers:s8",
                 "--set", f"network.base_port={config.network.base_port}") as peer:
        out, said = peer.communicate()
        assert peer.returncode == 1, said
    last = said.strip().splitlines()[-1]
    assert "peers 0 and 2" in last or "peers 0, 2" in last, said
    assert "Traceback" not in said
    assert out == ""
    assert time.monotonic() - began > 1


def test_a_taken_port_is_refused(real: Any) -> None:
    config = real.config("out")
    with socket.socket() as taken:
        # What an earlier run's connections left behind (TIME_WAIT) does not take a port.
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", config.network.base_port + 1))
        taken.listen()
        story = real.run(config, RING, ids=[1])
    assert story.exit_codes == {1: 2}, str(story)
    assert str(config.network.base_port + 1) in story.failures[1]
