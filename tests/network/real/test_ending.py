"""Peers killed in the last phase, or on a full disk there, between real processes: all end with one model."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from relays import Relays
from trials import Trial, between

from p2pser.config import Config
from p2pser.graph.spec import Topology, load

RING = load("ring", peers=4)
QUICK = ("network.ping_after=0.3", "network.suspect_after=1.0", "network.dead_after=3.0", "training.rounds=6",
         "gossip.consensus_tolerance=1e-13")
Furthest = Callable[[torch.Tensor], float]


def killed_in_exchange(exchange: int, config: Config, topology: Topology, me: int) -> None:
    """In a child: the process is killed when this exchange of the final consensus begins."""
    from p2pser.peer.recorder import Recorder

    plain = Recorder.consensus

    def consensus(self: Recorder, k: int, rows: torch.Tensor) -> None:
        if k == exchange:
            os.kill(os.getpid(), signal.SIGKILL)
        plain(self, k, rows)

    Recorder.consensus = consensus  # type: ignore[method-assign]


def killed_before_the_summary(config: Config, topology: Topology, me: int) -> None:
    """In a child: the process is killed when its model is written and its summary is not."""
    from p2pser.peer.folder import PeerFolder

    def finish(self: PeerFolder, summary: dict[str, Any]) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    PeerFolder.finish = finish  # type: ignore[method-assign]


def until_said(trial: Trial, peer: int, words: str) -> None:
    """Wait until a peer has said a sentence with these words."""
    trial.until(lambda: any(words in one for one in trial.story.sentences(peer)), 60, f"{words!r} of peer {peer}")


def test_a_peer_killed_in_the_final_consensus_takes_the_model_of_those_that_finish(real: Any,
                                                                                  furthest: Furthest) -> None:
    config = real.config("out", *QUICK, "network.serve_after=40", peers=4)
    with Relays(RING) as relays, Trial(config, RING, relays) as trial:
        trial.changes[2] = functools.partial(killed_in_exchange, 5)
        trial.start()
        trial.until(lambda: 2 in trial.gone, 60, "peer 2 is killed")
        del trial.changes[2]
        trial.start(2)
        codes = trial.until_end()
    assert codes == {0: 3, 1: 3, 2: 0, 3: 3}, str(trial.story)
    assert furthest(real.rows(config, range(4))) < 1e-6
    summaries = trial.story.summaries
    assert {i: one["agreed"] for i, one in summaries.items()} == {0: 3, 1: 3, 2: 4, 3: 3}
    assert summaries[2]["handed_over_by"] == [1, 3], str(trial.story)


def test_a_finished_peer_that_is_started_again_hands_its_model_over(real: Any, furthest: Furthest) -> None:
    config = real.config("out", *QUICK, peers=4)
    with Relays(RING) as relays, Trial(config, RING, relays) as trial:
        trial.changes[2] = functools.partial(killed_in_exchange, 5)
        trial.start()
        trial.until_end()
        assert {i: trial.gone[i] for i in (0, 1, 3)} == {0: 3, 1: 3, 3: 3}, str(trial.story)
        del trial.changes[2]
        trial.start(2)
        until_said(trial, 2, "start one of them again with the same command")
        trial.config = config.with_settings(["network.serve_after=60"])
        trial.start(3)
        trial.until_end(peers=[2])
        trial.kill(3, number=signal.SIGTERM)
        codes = trial.until_end(peers=[2, 3])
    assert codes == {2: 0, 3: 3}, str(trial.story)
    assert real.row(config, 2).equal(real.row(config, 3))
    assert trial.story.summaries[2]["handed_over_by"] == [3]


def test_peers_killed_between_model_and_summary_end_with_the_same_model(real: Any) -> None:
    config = real.config("out", *QUICK, "training.fine_tune=3", peers=4)
    with Relays(RING) as relays, Trial(config, RING, relays) as trial:
        trial.changes.update(dict.fromkeys(range(4), killed_before_the_summary))
        trial.start()
        assert trial.until_end() == dict.fromkeys(range(4), -signal.SIGKILL), str(trial.story)
        rows = real.rows(config, range(4))
        trial.changes.clear()
        trial.start()
        codes = trial.until_end()
    assert codes == dict.fromkeys(range(4), 0), str(trial.story)
    assert real.rows(config, range(4)).equal(rows)
    assert all(one["agreed"] == 4 and one["uar_personal"] is not None for one in trial.story.summaries.values())


def test_all_killed_at_different_exchanges_of_the_final_consensus_end_with_one_model(real: Any,
                                                                                    furthest: Furthest) -> None:
    config = real.config("out", *QUICK, peers=4)
    with Relays(RING) as relays, Trial(config, RING, relays) as trial:
        for i, exchange in enumerate((5, 6, 7, 6)):
            trial.changes[i] = functools.partial(killed_in_exchange, exchange)
        trial.start()
        assert trial.until_end() == dict.fromkeys(range(4), -signal.SIGKILL), str(trial.story)
        trial.changes.clear()
        trial.start()
        codes = trial.until_end()
    assert codes == dict.fromkeys(range(4), 0), str(trial.story)
    assert furthest(real.rows(config, range(4))) < 1e-6


class Elsewhere:
    """Relays, and a peer that writes on a disk of its own."""

    def __init__(self, relays: Relays, peer: int, out: Path) -> None:
        self._relays, self._peer, self._out = relays, peer, out
        self.namespace, self.impose, self.reset = relays.namespace, relays.impose, relays.reset

    def view(self, me: int, config: Config) -> tuple[Config, Topology]:
        config, topology = self._relays.view(me, config)
        return (config.with_settings([f"peer.out={self._out}"]) if me == self._peer else config), topology


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MiB; skipped where this user may mount none."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if sys.platform != "linux" or os.geteuid() or shutil.which("mount") is None:
        pytest.skip("only root on Linux may mount a small disk")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], capture_output=True,
                             check=False)
    if mounted.returncode:
        pytest.skip(f"no small disk: {mounted.stderr.decode()}")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(disk: Path) -> Path:
    """Fill a disk with a file; return it."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(512)):
                pass
        except OSError:
            return ballast
    return ballast


def test_a_disk_that_is_full_at_the_end_costs_a_wait(real: Any, furthest: Furthest, small_disk: Path) -> None:
    config = real.config("out", *QUICK, "training.rounds=20", "peer.checkpoint_every=100", peers=4)
    with Relays(RING) as relays, Trial(config, RING, Elsewhere(relays, 2, small_disk)) as trial:
        trial.held[2] = 3
        trial.start()
        trial.until_round(3, peers=[2])
        ballast = fill(small_disk)
        trial.kill(2, number=signal.SIGCONT)
        until_said(trial, 2, "it tries again")
        said = [one for one in trial.story.sentences(2) if "it tries again" in one]
        assert "No space left on device" in said[-1]
        assert "bytes are needed" in said[-1]
        ballast.unlink()
        codes = trial.until_end()
    assert codes == dict.fromkeys(range(4), 0), str(trial.story)
    model = small_disk / config.name / "peer-2" / "model" / "model.safetensors"
    assert model.is_file()
    assert len({one["agreed"] for one in trial.story.summaries.values()} | {4}) == 1
    assert "Traceback" not in str(trial.story)


def test_a_peer_stopped_on_a_full_disk_ends_later_with_the_model(real: Any, small_disk: Path) -> None:
    config = real.config("out", *QUICK, "training.rounds=20", "peer.checkpoint_every=5", "network.serve_after=40",
                         peers=4)
    with Relays(RING) as relays, Trial(config, RING, Elsewhere(relays, 2, small_disk)) as trial:
        trial.held[2] = 7
        trial.start()
        trial.until_round(7, peers=[2])
        ballast = fill(small_disk)
        trial.kill(2, number=signal.SIGCONT)
        trial.until_told("unwritten", [2])
        trial.kill(2, number=signal.SIGTERM)
        assert trial.until_end(peers=[2]) == {2: 1}, str(trial.story)
        assert "make room" in trial.story.failures[2]
        ballast.unlink()
        trial.start(2)
        codes = trial.until_end()
    assert codes[2] == 0, str(trial.story)
    assert trial.story.summaries[2]["handed_over_by"] == [1, 3]


def test_parts_that_ended_apart_are_brought_together_by_a_start(real: Any, furthest: Furthest) -> None:
    ring = load("ring", peers=5)
    config = real.config("out", *QUICK, "training.rounds=30", "training.local_steps=1", "network.serve_after=1",
                         peers=5)
    with Relays(ring) as relays, Trial(config, ring, relays, 0.05) as trial:
        trial.held[0] = 5
        trial.start()
        trial.until_round(5)
        relays.set(between(ring, (0, 1)), cut=True)
        trial.kill(0, number=signal.SIGCONT)
        assert trial.until_end() == dict.fromkeys(range(5), 3), str(trial.story)
        apart = real.rows(config, range(5))
        assert furthest(apart[2:]) < 1e-6 < furthest(apart[1:3])
        relays.heal()
        trial.config = config.with_settings(["network.serve_after=60"])
        trial.start(2, 1)
        trial.until(lambda: trial.told("replaced", reporter=1), 60, "peer 1 takes the model of three peers")
        trial.start(0)
        trial.until(lambda: trial.told("replaced", reporter=0), 60, "peer 0 takes it too")
        trial.kill(2, number=signal.SIGTERM)
        codes = trial.until_end()
    assert codes == dict.fromkeys(range(5), 3), str(trial.story)
    assert furthest(real.rows(config, range(5))) < 1e-6
    summaries = {i: one["agreed"] for i, one in trial.story.summaries.items()}
    assert summaries == {0: 4, 1: 4, 2: 3, 3: 3, 4: 3}
    assert (real.peer_folder(config, 1) / "model-replaced" / "card.json").is_file()
    assert not trial.told("replaced", reporter=2)
