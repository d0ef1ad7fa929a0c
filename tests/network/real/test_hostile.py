"""Hostile neighbours with a valid key, as real processes: the honest end together, and name the liar."""

from __future__ import annotations

import contextlib
import functools
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
from floods import FLOODS
from liars import ALL, Liar
from lives import wait_in_round
from real_peers import Record, furthest
from relays import Relays
from test_ending import killed_in_exchange
from trials import Trial

from p2pser.config import Config
from p2pser.graph.spec import Topology, load, parse

QUICK = ("network.ping_after=0.5", "network.suspect_after=1.0", "network.dead_after=4.0", "network.round_timeout=5")
ROUNDS, SINCE, PACE = 40, 8, 0.05
HONEST = range(3)
Change = Callable[[Config, Topology, int], None]
LARGEST = 2.0
"""No parameter of these models is larger after training without liars: the largest is 0.3."""
MOST_MIB = 170
"""Memory of a peer beyond that of its forkserver, whose modules another test may have chosen; usually below 0."""
MOST_LINES = 120
"""Lines of events.jsonl: 15 without liars."""
PLAUSIBLE = {"equivocate", "replay", "silent", "stalling", "far-ahead", "at-the-end", "last-round", "everybody-dead",
             "byes", "credits", "chunks", "pongs", "parts", "forged-state", "forged-model", "two-faced",
             "silent-outside"}
"""Lies that may look like another state of the network: nobody needs to be named for them."""


def around(liars: int) -> Topology:
    """Three honest peers, each a neighbour of the others and of all liars."""
    edges = [[i, j] for j in range(3 + liars) for i in HONEST if i < j]
    return parse({"graph": {"edges": edges}}, "around")


def play(real: Any, topology: Topology, liars: dict[int, str], *settings: str, rounds: int = ROUNDS,
         victims: Mapping[int, Change | None] = MappingProxyType({}), change: Change | None = None,
         act: Callable[[Trial], None] = lambda trial: None, held: Mapping[int, int] = MappingProxyType({})) -> Trial:
    """Run a network with liars, and check what holds for its honest peers.

    victims : honest peers that are disturbed, and what they change in themselves. act : disturbs them. change : what
    the other honest peers change in themselves. held : peers that stay after a round until ``act`` lets them go on.
    """
    honest = [i for i in range(topology.size) if i not in liars]
    config = real.config("out", *QUICK, f"training.rounds={rounds}", "training.local_steps=1", *settings,
                         peers=topology.size)
    trained: dict[int, set[int]] = {i: set() for i in honest}
    memory = dict.fromkeys(honest, 0)
    looked = 0.0

    def heard(record: Record) -> None:
        nonlocal looked
        if "kind" not in record and record["reporter"] in trained:
            trained[record["reporter"]].add(record["round"])
        if record["heard"] > looked + 0.3:
            looked = record["heard"]
            for i in honest:
                memory[i] = max(memory[i], peak(trial, i))

    with Relays(topology) as relays, Trial(config, topology, relays, PACE) as trial:
        trial.heard = heard
        changes = {**dict.fromkeys(honest, change), **victims}
        trial.changes = {**{i: Liar(lie, SINCE, seconds=5.0 if lie in PLAUSIBLE else 20.0) for i, lie in liars.items()},
                         **{i: its for i, its in changes.items() if its is not None}}
        trial.held.update(held)
        trial.start()
        act(trial)
        codes = trial.until_end(90, honest)
    assert set(codes.values()) <= {0, 3}, f"{codes} {trial.story.failures}\n{trial.story}"
    rows = real.rows(config, honest)
    assert torch.isfinite(rows).all()
    agreed = [i for i in honest if trial.story.summaries[i]["consensus"]]
    together = config.gossip.algorithm != "trimmed-mean" and "two-faced" not in liars.values()
    assert agreed == (honest if together else []), f"{codes} {trial.story}"
    assert "two-faced" in liars.values() or furthest(rows) < 1e-6, f"{codes} {trial.story.summaries}"
    assert float(rows.abs().max()) < LARGEST or config.model.name == "xgb"  # trees hold the numbers of nodes
    assert min(len(ones) for i, ones in trained.items() if i not in victims) >= 0.9 * rounds, \
        {i: len(ones) for i, ones in trained.items()}
    assert max(memory.values()) < MOST_MIB, memory
    for i in honest:
        assert not ({one["peer"] for one in trial.events(i) if one["kind"] == "dead"} & set(honest)) - set(victims), \
            str(trial.story)
        assert not set(trial.story.summaries[i]["peers_dead"]) & set(honest), str(trial.story)
        assert len(trial.events(i)) < MOST_LINES, f"peer {i}: {len(trial.events(i))} lines"
    for liar, lie in liars.items():
        named = [one for i in topology.neighbours(liar) if i in honest for one in trial.events(i)
                 if one.get("peer") == liar and one["kind"] in ("struck", "banned", "refused", "trouble")
                 and "accepts connections" not in one.get("reason", "")]
        assert lie in PLAUSIBLE or named, f"peer {liar} ({lie}) is named nowhere"
    return trial


def peak(trial: Trial, peer: int) -> int:
    """The largest resident memory of a peer so far, less that of its forkserver [MiB]; 0 where it has ended."""
    with contextlib.suppress(OSError, KeyError):
        own = status(trial.peers.pid(peer))
        return (own["VmHWM"] - status(own["PPid"])["VmRSS"]) // 1024
    return 0


def status(process: int) -> dict[str, int]:
    """The numbers of /proc/PID/status, memory in KiB."""
    lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    return {name: int(value[0]) for name, _, rest in (line.partition(":") for line in lines)
            if (value := rest.split()) and value[0].isdecimal()}


GROUPS = [
    ("nan", "inf", "huge", "garbage"), ("wrong-size", "one-number", "bytes-for-a-row", "bomb"),
    ("flood-garbage", "early-done", "row-for-bytes"), ("everybody-dead", "roll-call", "set-up"),
    ("silent", "stalling"), ("silent-outside",),
    ("pings", "pongs", "hellos", "junk"), ("refusals", "byes", "credits", "chunks"), ("parts",),
    ("two-faced",), ("forged-state", "forged-model"), ("future", "far-ahead"), ("replay", "in-turn"),
    ("last-round", "equivocate"), ("at-the-end", "nan"),
]


def test_every_lie_is_told() -> None:
    assert {lie for group in GROUPS for lie in group} == set(ALL)


@pytest.mark.parametrize("lies", GROUPS, ids="+".join)
def test_the_honest_end_together(real: Any, lies: Sequence[str]) -> None:
    limit = ("gossip.max_consensus_exchanges=200",) if "two-faced" in lies else ()
    liars = {3 + at: lie for at, lie in enumerate(lies)}
    floods = {liar for liar, lie in liars.items() if lie in FLOODS and lie not in PLAUSIBLE}
    if not floods:
        play(real, around(len(lies)), liars, *limit)
        return

    def until_named(trial: Trial) -> None:
        """On a busy machine a flood takes longer than the run."""
        trial.until(lambda: floods <= {one["peer"] for one in trial.told("struck")}, 60, f"strikes of {floods}")
        trial.kill(2, number=signal.SIGCONT)

    play(real, around(len(lies)), liars, "network.round_timeout=60", held={2: 12}, act=until_named)


def test_a_peer_that_comes_back_beside_a_liar_takes_no_forged_state(real: Any, tmp_path: Path) -> None:
    """The others wait in a round until it is there, however long its start takes."""
    gate = tmp_path / "gate"

    def comes_back(trial: Trial) -> None:
        trial.until_round(SINCE)
        trial.kill(0)
        trial.until_told("dead", (1, 2), peer=0)
        trial.start(0, fresh=True)
        trial.until(lambda: any("run is in progress" in one for one in trial.story.sentences(0)), 60,
                    "peer 0 finds the run")
        gate.touch()

    trial = play(real, around(1), {3: "forged-state"}, "features.normalise=global", "network.round_timeout=300",
                 rounds=100, victims={0: None}, change=functools.partial(wait_in_round, 12, gate), act=comes_back)
    (joined,) = trial.told("joined", reporter=0)
    assert joined["host"] in (1, 2)
    # The forged state is compared where it comes before the second honest one.
    assert all((one["taken"], one["differing"]) == (joined["host"], [3])
               for one in trial.told("states_differ", reporter=0))


def test_a_peer_that_missed_the_end_beside_a_liar_takes_no_forged_model(real: Any) -> None:
    def comes_back(trial: Trial) -> None:
        trial.until(lambda: 0 in trial.gone, 60, "peer 0 is killed")
        del trial.changes[0]
        trial.start(0)

    trial = play(real, around(1), {3: "forged-model"}, "gossip.consensus_tolerance=1e-13", "network.serve_after=40",
                 victims={0: functools.partial(killed_in_exchange, 2)}, act=comes_back)
    assert trial.story.summaries[0]["handed_over_by"] == [1, 2]


ALGORITHMS = {
    "trimmed-mean": ("complete", 6, 5, ("gossip.parameters.hostile=1",)),
    "push-sum": ("directed-exponential", 5, 4, ()),
    "choco": ("ring", 4, 3, ()),
    "relay": ("tree", 5, 4, ()),
    "fedavg": ("server", 4, 3, ()),
    "trees": ("ring", 4, 3, ("model.name=xgb",)),
    "ad-psgd": ("complete", 5, 4, ()),
    "stale-gossip": ("complete", 5, 4, ()),
    "gradient-tracking": ("ring", 4, 3, ("training.momentum=0",)),
    "overlap": ("ring", 4, 3, ()),
    "power-gossip": ("ring", 4, 3, ()),
}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_honest_end_together_under_other_algorithms(real: Any, name: str) -> None:
    graph, size, liar, settings = ALGORITHMS[name]
    algorithm = () if name == "trees" else (f"gossip.algorithm={name}",)
    play(real, load(graph, peers=size, seed=0), {liar: "in-turn"}, *algorithm, *settings, rounds=24)
