"""Asynchronous runs of real peers: they end with one model, nobody waits for a slow one, and a killed run resumes."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from itertools import accumulate
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import pytest
import torch
import yaml
from commands import Command
from lives import Life

from p2pser.features.federation import federate
from p2pser.graph.spec import load
from p2pser.peer.telemetry import read
from p2pser.run.checkpoint import available
from p2pser.simulation.clock import preset
from p2pser.simulation.engine import simulate
from p2pser.simulation.scenario import Scenario

if TYPE_CHECKING:
    from p2pser.training.learner import Learner

RING = load("ring", peers=4)
EVERYBODY = range(4)
Furthest = Callable[[torch.Tensor], float]

EXTRA = 60
"""Products of matrices in each local step of the slow peer, which nobody needs."""


def _work_more() -> None:
    """Let the local steps of this process take more work."""
    from p2pser.training.learner import Learner

    plain: Callable[..., Iterator[Any]] = Learner._gradients
    busy = torch.zeros(160, 160)

    @functools.wraps(plain)
    def slow(self: Learner, *arguments: Any) -> Iterator[Any]:
        for found in plain(self, *arguments):
            for _ in range(EXTRA):
                busy @ busy
            yield found

    Learner._gradients = slow  # type: ignore[method-assign]


@pytest.mark.parametrize("name", ["ad-psgd", "stale-gossip"])
def test_all_end_with_one_model_as_the_simulators_are_distributed(real: Any, furthest: Furthest, name: str) -> None:
    topology = load("ring", peers=6)
    config = real.config("out", f"gossip.algorithm={name}", peers=6)
    story = real.run(config, topology)
    assert story.exit_codes == dict.fromkeys(range(6), 0), str(story)
    for one in story.summaries.values():
        assert one["consensus"]
        assert one["peers_dead"] == one["left_out"] == []
        told = one["asynchronous"]
        assert told["open"] == told["drift"] == 0
        assert sum(told["staleness"]["histogram"]) > 0
        assert told["staleness"]["max"] <= told["staleness"]["bound"]
    rows = real.rows(config, range(6))
    assert furthest(rows) < 1e-6
    # The order of things differs from run to run: the model of a run of processes must lie among those of simulated
    # ones, whose clocks differ, where one local step a round instead of five would not.
    federation = federate(config, 6, workers=1)
    clocks = [preset(links, jitter=jitter, seed=seed)
              for links, jitter in (("lan", 0.1), ("lan", 0.5), ("wan", 0.3)) for seed in range(4)]
    simulated = torch.stack([simulate(config, topology, federation, Scenario(clock=clock)).row for clock in clocks])
    other = simulate(config.with_settings(["training.local_steps=1"]), topology, federation).row

    def away(rows: list[torch.Tensor]) -> torch.Tensor:
        return torch.cdist(torch.stack(rows), simulated).mean(dim=1)

    among = 2.5 * float(away(list(simulated)).median())
    end = float(away([rows[0]]))
    print(f"{name}: {end:.3f} of the run, {away([other])} of another, {among:.3f} among the simulated")
    assert end < among < float(away([other]))


@pytest.mark.parametrize("name", ["ad-psgd", "stale-gossip"])
def test_nobody_waits_for_a_slow_peer(real: Any, tmp_path: Path, name: str) -> None:
    config = real.config("out", f"gossip.algorithm={name}", "training.rounds=20", peers=4)
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")), encoding="utf-8")
    with Command("peer", "--id", "1", "--topology", "ring.yaml", "--peers", "4", "--run", str(tmp_path / "run.yaml"),
                 "--json", change=_work_more) as slow:
        story = real.run(config, RING, ids=(0, 2, 3))
        summaries = {**story.summaries, 1: json.loads(slow.communicate()[0])}
    seconds = [[one["seconds"] for one in read(real.peer_folder(config, me) / "metrics.jsonl")] for me in EVERYBODY]
    ends = [list(accumulate(each)) for each in seconds]
    assert all(len(times) == 20 for times in ends)
    fast = median(ends[me][-1] for me in (0, 2, 3))  # the system may stop one of them for seconds
    done = sum(time <= fast for time in ends[1])
    print(f"{name}: the others did 20 rounds while the slow peer did {done}; waited "
          f"{[round(summaries[me]['asynchronous']['waited_s'], 2) for me in EVERYBODY]} s")
    assert done <= 10
    assert all(one["consensus"] and one["left_out"] == [] for one in summaries.values())
    assert all(one["asynchronous"]["open"] == one["asynchronous"]["drift"] == 0 for one in summaries.values())


@pytest.mark.parametrize("name", ["ad-psgd", "stale-gossip"])
def test_a_run_that_was_killed_resumes_and_ends_with_one_model(real: Any, furthest: Furthest, name: str) -> None:
    config = real.config("out", f"gossip.algorithm={name}", "peer.checkpoint_every=2", "training.rounds=60", peers=4)
    reached = dict.fromkeys(EVERYBODY, -1)

    def kill(peers: Any, record: dict[str, Any]) -> None:
        if "kind" not in record:
            reached[record["peer"]] = record["round"]
        if min(reached.values()) >= 3:
            for child in peers.children.values():
                child.process.kill()

    real.run(config, RING, kill, lives=dict.fromkeys(EVERYBODY, Life(pace=0.2)))
    assert all(available(real.peer_folder(config, me) / "checkpoint") for me in EVERYBODY)
    story = real.run(config, RING)
    assert story.exit_codes == dict.fromkeys(EVERYBODY, 0), str(story)
    assert all(real.events(config, me, "resumed") for me in EVERYBODY)
    assert all(one["asynchronous"]["open"] == 0 for one in story.summaries.values())
    assert furthest(real.rows(config, EVERYBODY)) < 1e-6
