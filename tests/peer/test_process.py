"""A peer's run from start to end, several in threads of this process, with clips that are numbers only."""

from __future__ import annotations

import shutil
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from crew import LABELS, PATIENCE, ROUNDS, Crew, federation, stop_after

import p2pser
from p2pser.base.atomic import read_json
from p2pser.base.errors import CheckpointError, P2PSERError
from p2pser.experiments.baselines import local_only
from p2pser.features.clip_features import made_by
from p2pser.features.public import recipe
from p2pser.gossip.algorithms.dfedavg import DFedAvg
from p2pser.graph import mixing
from p2pser.models.directory import load as load_model
from p2pser.peer.process import Peer
from p2pser.peer.supervisor import Supervisor
from p2pser.peer.telemetry import read
from p2pser.run import checkpoint


def test_a_run_ends_with_equal_models_and_tells_its_course(crew: Crew) -> None:
    config = crew.configured("run", "peer.alone=true", "privacy.draws=seed")
    endings = crew.run(config)
    assert all(one.finished for one in endings)
    for i, ending in enumerate(endings):
        summary = ending.summary
        assert (summary["peer"], summary["rounds"], summary["consensus"]) == (i, ROUNDS, True)
        assert summary["left_out"] == summary["peers_dead"] == []
        assert summary["consensus_distance"] <= 1e-6
        assert summary["uar"] > 0.5
        assert summary["uar_before"] == read(crew.path(config, i) / "metrics.jsonl")[-1]["uar"]
        alone = local_only(config, federation(i, "global")).uar
        assert summary["uar_alone"] == alone == read_json(crew.path(config, i) / "finished.json", dict)["uar_alone"]
        assert crew.rounds(config, i) == list(range(ROUNDS))
        kinds = crew.events(config, i)
        assert kinds[0] == "listening"
        assert kinds[-2:] == ["left", "finished"]
        assert {"up", "statistics"} <= set(kinds)
        assert not {"dead", "suspect", "trouble", "refused"} & set(kinds)
    rows = torch.stack([crew.row(config, i) for i in range(3)])
    assert float((rows - rows[0]).norm()) <= 1e-6 * float(rows[0].norm())
    _, card = load_model(crew.path(config, 0) / "model")
    assert card.labels == LABELS
    assert "a note" in crew.said


class Watched(Supervisor):
    """Keeps what a peer tells; ``due`` counts the calls at which WATCHDOG was due."""

    def __init__(self) -> None:
        super().__init__({"NOTIFY_SOCKET": "@nobody", "WATCHDOG_USEC": "60000"})
        self.sent: list[str] = []
        self.due = threading.Semaphore(0)

    def pulse(self) -> bool:
        due = super().pulse()
        if due:
            self.due.release()
        return due

    def _send(self, message: str) -> None:
        self.sent.append(message)


def test_a_service_manager_hears_nothing_of_a_peer_whose_training_is_stuck(crew: Crew) -> None:
    watched, while_stuck = Watched(), []

    def hear(peer: Peer, record: dict[str, Any]) -> None:
        if record.get("round") == 2 and "kind" not in record:
            watched.due = threading.Semaphore(0)
            # The first may have begun before the last progress, which the second then tells of.
            assert all(watched.due.acquire(timeout=PATIENCE) for _ in range(2))
            while_stuck.append(watched.sent.count("WATCHDOG=1"))
            assert all(watched.due.acquire(timeout=PATIENCE) for _ in range(3))
            while_stuck.append(watched.sent.count("WATCHDOG=1"))

    others = [crew.pool.submit(crew.peer(crew.config, i).run) for i in (1, 2)]
    assert crew.peer(crew.config, 0, hear, supervisor=watched).run().finished
    assert all(other.result(timeout=PATIENCE).finished for other in others)
    assert while_stuck[0] == while_stuck[1]
    assert watched.sent.count("READY=1") == 1
    assert any(message.startswith("STATUS=round 7 of 7 is over: loss ") for message in watched.sent)


def test_a_finished_run_is_not_run_again_unless_fresh(crew: Crew) -> None:
    before = crew.run(crew.config)[1]
    again = crew.peer(crew.config, 1).run()
    assert again == before
    assert any("has finished this run" in sentence and "--fresh" in sentence for sentence in crew.said)
    fresh = crew.run(crew.config, fresh=True)
    assert fresh[1].finished
    assert crew.rounds(crew.config, 1) == list(range(ROUNDS))
    assert crew.events(crew.config, 1).count("finished") == 1


def test_an_interrupted_run_resumes_to_the_same_bits(crew: Crew) -> None:
    whole, torn = crew.configured("whole"), crew.configured("torn")
    crew.run(whole)
    endings = crew.run(torn, stop_after(4))
    assert not any(one.finished for one in endings)
    for i, ending in enumerate(endings):
        assert ending.summary["round"] in checkpoint.available(crew.path(torn, i) / "checkpoint")
        assert read(crew.path(torn, i) / "events.jsonl")[-1]["reason"] == "interrupted"
        assert not (crew.path(torn, i) / "model").exists()
    assert all(one.finished for one in crew.run(torn))
    for i in range(3):
        assert "resumed" in crew.events(torn, i)
        assert crew.rounds(torn, i) == list(range(ROUNDS))
        assert torch.equal(crew.row(torn, i), crew.row(whole, i))


def test_what_leaving_writes_costs_no_checkpoint_that_the_others_have(crew: Crew) -> None:
    torn = crew.configured("torn", "peer.checkpoint_every=1")
    crew.run(torn, stop_after(5))
    available = [checkpoint.available(crew.path(torn, i) / "checkpoint") for i in range(3)]
    assert set.intersection(*map(set, available))
    crew.run(torn)
    assert all("resumed" in crew.events(torn, i) for i in range(3))


def test_leaving_keeps_every_checkpoint_that_was_kept(crew: Crew) -> None:
    torn = crew.configured("torn", "peer.checkpoint_every=2")
    crew.run(torn, stop_after(5))
    available = [checkpoint.available(crew.path(torn, i) / "checkpoint") for i in range(3)]
    assert available == [[2, 4, 5]] * 3  # two are kept while the run goes on


def test_a_run_that_left_no_checkpoint_begins_again_and_tells_each_round_once(crew: Crew) -> None:
    whole, torn = crew.configured("whole"), crew.configured("torn")
    crew.run(whole)
    crew.run(torn, stop_after(3))
    for i in range(3):
        shutil.rmtree(crew.path(torn, i) / "checkpoint")
    crew.run(torn)
    for i in range(3):
        assert "resumed" not in crew.events(torn, i)
        assert crew.rounds(torn, i) == list(range(ROUNDS))
        assert torch.equal(crew.row(torn, i), crew.row(whole, i))


def test_interrupted_before_anything_it_leaves_at_once(crew: Crew) -> None:
    peer = crew.peer(crew.config, 0)
    peer.interrupt()
    ending = peer.run()
    assert not ending.finished
    assert ending.summary["round"] is None
    assert any("before the first round" in sentence for sentence in crew.said)


def test_interrupted_while_it_waits_for_neighbours(crew: Crew) -> None:
    def hear(peer: Peer, record: dict[str, Any]) -> None:
        if record.get("kind") == "waiting":
            peer.interrupt()

    assert not crew.peer(crew.config, 0, hear).run().finished
    assert crew.events(crew.config, 0) == ["listening", "waiting", "left"]


def test_a_disk_that_is_full_costs_a_checkpoint_and_not_the_run(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    save = checkpoint.save

    def full(folder: Path, round: int, *rest: Any) -> Path:
        if "peer-1" in str(folder) and round == 4:
            raise CheckpointError("cannot write the checkpoint of round 4: no space left on device")
        return save(folder, round, *rest)

    monkeypatch.setattr(checkpoint, "save", full)
    assert all(one.finished for one in crew.run(crew.config))
    failed = [one for one in read(crew.path(crew.config, 1) / "events.jsonl") if one["kind"] == "checkpoint_failed"]
    assert [one["round"] for one in failed] == [4]
    assert "no space left" in failed[0]["reason"]
    assert checkpoint.available(crew.path(crew.config, 1) / "checkpoint") == [6, ROUNDS]


def test_an_error_in_one_peer_is_a_bye_to_the_others(crew: Crew) -> None:
    """Its neighbours hear at once that it failed, and go on without waiting for its silence."""
    def hear(peer: Peer, record: dict[str, Any]) -> None:
        if peer.me == 2 and record.get("round") == 3 and "kind" not in record:
            raise P2PSERError("something happened to this peer")

    futures = [crew.pool.submit(crew.peer(crew.config, i, hear).run) for i in range(3)]
    with pytest.raises(P2PSERError, match="something happened"):
        futures[2].result(timeout=PATIENCE)
    for i in (0, 1):
        summary = futures[i].result(timeout=PATIENCE).summary
        assert summary["peers_dead"] == [2]
        bye = [one for one in read(crew.path(crew.config, i) / "events.jsonl") if one["kind"] == "bye"]
        assert (2, "failed") in [(one["peer"], one["reason"]) for one in bye]
        assert "dead" not in crew.events(crew.config, i)


def test_start_timeout_without_anybody_is_an_error_with_their_names(crew: Crew) -> None:
    config = crew.configured("alone", "network.start_timeout=0.3")
    with pytest.raises(P2PSERError, match="start peers 0, 2") as caught:
        crew.peer(config, 1).run()
    assert caught.value.exit_code == 1
    assert crew.events(config, 1)[-1] == "left"


def test_the_folder_is_free_again_after_a_run(crew: Crew) -> None:
    config = crew.configured("alone", "network.start_timeout=0.2")
    for expected in range(2):
        with pytest.raises(P2PSERError, match="start peers"):
            crew.peer(config, 1).run()
        listening = [one for one in read(crew.path(config, 1) / "events.jsonl") if one["kind"] == "listening"]
        assert len(listening) == expected + 1
        assert [one["incarnation"] for one in listening] == sorted({one["incarnation"] for one in listening})


def test_nothing_is_told_of_clips_that_is_not_asked_for(crew: Crew) -> None:
    crew.normalise = "none"
    assert all(one.finished for one in crew.run(crew.config))
    for i in range(3):
        assert "statistics" not in crew.events(crew.config, i)
    peer = crew.peer(crew.config, 1)
    cohort, _ = peer.prepare()
    assert "clips" not in peer.hello(cohort, 4).body()
    weighed = crew.peer(crew.configured("told", "gossip.weighting=clips"), 1)
    assert weighed.hello(cohort, 4).body()["clips"] == len(cohort.participants[0].examples)


def test_no_draw_of_a_peer_can_be_repeated_from_the_runs_seed(crew: Crew) -> None:
    """All peers know the seed; the secret key is in no message, and in every checkpoint."""
    short = ("training.rounds=1", "peer.checkpoint_every=1", "training.batch_size=4")
    config, public = crew.configured("secret", *short), crew.configured("public", *short, "privacy.draws=seed")
    assert all(one.finished for each in (config, public) for one in crew.run(each))
    for i in range(3):
        rows, _, meta = checkpoint.load(crew.path(config, i) / "checkpoint", 1)
        assert meta["draws"] == (crew.path(config, i) / "draws.key").read_bytes().hex()
        seeded, _, without = checkpoint.load(crew.path(public, i) / "checkpoint", 1)
        assert not torch.allclose(rows["x"], seeded["x"])
        assert "draws" not in without
    assert not (crew.path(public, 0) / "draws.key").exists()


def test_hello_tells_the_weights_that_a_solver_found_and_no_others(
        crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = crew.peer(crew.config, 1)
    cohort, _ = peer.prepare()
    assert peer.hello(cohort, 4).weights == {}
    monkeypatch.setitem(mixing.RULES, "fastest", mixing.lazy)  # type: ignore[arg-type]
    peer.topology = replace(peer.topology, weights="fastest")
    assert peer.hello(cohort, 4).weights == {"0": pytest.approx(1 / 6), "2": pytest.approx(1 / 6)}


def test_hello_tells_what_computes_the_features_and_which_packages_plugins_come_from(crew: Crew) -> None:
    @p2pser.register_algorithm("of-this-test")
    @dataclass(frozen=True, kw_only=True)
    class OfThisTest(DFedAvg):
        """Another name for dfedavg."""

    plain = crew.peer(crew.config, 1)
    cohort, _ = plain.prepare()
    settings = plain.hello(cohort, 4).settings
    assert settings["features.version"] == made_by(crew.config.features) == "functionals 2"
    assert settings["draws"] == "131f9f53f4271c05"
    assert settings["features.normalise"] == "global"
    assert "features.statistics" not in settings
    cohort.federation = replace(cohort.federation, normalise="public")
    assert plain.hello(cohort, 4).settings["features.statistics"] == recipe()
    assert not any(name.startswith("plugin.") for name in settings)
    other = crew.peer(crew.configured("run", "gossip.algorithm=of-this-test"), 1)
    assert other.hello(cohort, 4).settings["plugin.gossip algorithm.of-this-test"] == __name__


def test_the_bytes_of_the_final_consensus_are_a_part_of_those_sent(crew: Crew) -> None:
    for rounds in (0, 1):  # what is posted when all have agreed is not sent
        ends = crew.run(crew.configured(f"rounds-{rounds}", f"training.rounds={rounds}", "model.hidden=[5000]"))
        assert all(0 < end.summary["consensus_bytes"] < end.summary["bytes_sent"] for end in ends)
