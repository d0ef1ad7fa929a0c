"""Sites with recordings of their own, of which none has clips of all emotions: they agree on what to learn, and how to
scale features."""

from __future__ import annotations

import csv
import shutil
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from lives import Life

from p2pser.config import Config
from p2pser.corpora.spread import after_agreement
from p2pser.graph.spec import Topology, load
from p2pser.models.directory import Card
from p2pser.models.directory import load as load_model

STOP = 5
NEW = 3
CHAIN = load("chain", peers=4)
CLIPS = {0: ("calm", 8), 2: ("excited", 12), NEW: ("calm", 1)}
"""The emotions of each site's clips, and their number. Site 1 has none, and relays between the others."""
SPREAD = {0: ("calm excited", 24), 2: ("calm excited", 48), NEW: ("calm excited", 5)}
"""Site 3 has four clips of calm and one of excited: by itself it would scale globally."""
Sites = dict[int, tuple[Config, Topology]]


def sites(real: Any, tones: Path, folder: Path, topology: Topology, *settings: str,
          clips: Mapping[int, tuple[str, int]] = CLIPS) -> Sites:
    with tones.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    common = real.config("out", "training.rounds=30", "training.local_steps=10", "peer.checkpoint_every=2",
                         "corpus.partition=own", "corpus.split=none", *settings, peers=4)
    found = {1: (common.with_settings(["corpus.name=none", "corpus.data=none"]), topology)}
    for i, (emotions, number) in clips.items():
        write(folder / f"{i}.csv", tones.parent, [row for row in rows if row["emotion"] in emotions.split()][:number])
        found[i] = common.with_settings([f"corpus.data={folder / f'{i}.csv'}"]), topology
    return found


def write(path: Path, recordings: Path, rows: list[dict[str, str]]) -> None:
    lines = [f"{recordings / row['path']},{row['speaker']},{row['emotion']}" for row in rows]
    path.write_text("\n".join(["path,speaker,emotion", *lines]), encoding="utf-8")


def stopped(real: Any, its: Sites) -> None:
    """Run all sites up to a round, and stop them there."""
    asked: set[int] = set()

    def interrupt(peers: Any, record: dict[str, Any]) -> None:
        me = record["reporter"]
        if "kind" not in record and record.get("round", 0) >= STOP and me not in asked:
            asked.add(me)
            peers.kill(me, signal.SIGINT)

    story = real.run(*its[0], interrupt, odd=its, lives=dict.fromkeys(its, Life(held_after=STOP)))
    assert not story.summaries, str(story)
    assert set(story.exit_codes.values()) == {0}, str(story)


def labels(real: Any, its: Sites, peer: int) -> tuple[str, ...]:
    return card(real, its, peer).labels


def card(real: Any, its: Sites, peer: int) -> Card:
    return load_model(real.peer_folder(its[peer][0], peer) / "model")[1]


def test_one_emotion_one_clip_or_none_is_enough_also_for_a_peer_that_comes_later(
    real: Any, tones: Path, tmp_path: Path, furthest: Callable[[torch.Tensor], float]
) -> None:
    its = sites(real, tones, tmp_path, CHAIN)
    stopped(real, its)
    for i in (1, NEW):  # the list comes from the neighbours then
        shutil.rmtree(real.peer_folder(its[i][0], i))
    story = real.run(*its[0], odd=its)
    assert story.exit_codes == dict.fromkeys(range(4), 0), str(story)
    assert {labels(real, its, i) for i in range(4)} == {("calm", "excitement")}
    assert furthest(torch.stack([real.row(its[i][0], i) for i in range(4)])) < 1e-6
    assert real.events(its[NEW][0], NEW, "joined")
    assert {(card(real, its, i).normalise, card(real, its, i).training["why_normalised"]) for i in range(4)} == {
        ("global", after_agreement("global").reason)}  # a relay and a newcomer too
    assert [one["normalise"] for one in real.events(its[NEW][0], NEW, "scaling")] == ["global"]
    assert [one["absent"] for one in real.events(its[0][0], 0, "labels")] == [["excitement"]]
    assert [one["absent"] for one in real.events(its[1][0], 1, "labels")] == [["calm", "excitement"]]


def test_a_site_that_brings_a_new_emotion_into_a_run_under_way_ends_with_a_sentence(
    real: Any, tones: Path, tmp_path: Path
) -> None:
    its = sites(real, tones, tmp_path, CHAIN)
    stopped(real, its)
    shutil.rmtree(real.peer_folder(its[NEW][0], NEW))
    text = (tmp_path / f"{NEW}.csv").read_text(encoding="utf-8")
    (tmp_path / f"{NEW}.csv").write_text(text.replace(",calm", ",fear"), encoding="utf-8")
    story = real.run(*its[0], odd=its)
    assert story.exit_codes == {0: 3, 1: 3, 2: 3, NEW: 2}, str(story)
    assert "peer 3 has clips of fear, and the run has begun with calm, excitement" in story.failures[NEW]
    assert "--set corpus.map=fear=calm" in story.failures[NEW]


@pytest.mark.parametrize(("algorithm", "clips", "how"), [
    ("secure-average", SPREAD, "speaker"), ("gradient-tracking", CLIPS, "global")])
def test_other_algorithms_agree_on_the_emotions_too(
    real: Any, tones: Path, tmp_path: Path, furthest: Callable[[torch.Tensor], float], algorithm: str,
    clips: Mapping[int, tuple[str, int]], how: str
) -> None:
    its = sites(real, tones, tmp_path, load("ring", peers=4), f"gossip.algorithm={algorithm}", "training.rounds=4",
                "training.momentum=0", "training.local_steps=1", "training.balance=weights", clips=clips)
    story = real.run(*its[0], odd=its)
    assert story.exit_codes == dict.fromkeys(range(4), 0), str(story)
    assert {labels(real, its, i) for i in range(4)} == {("calm", "excitement")}
    assert furthest(torch.stack([real.row(its[i][0], i) for i in range(4)])) < 1e-6
    assert {card(real, its, i).normalise for i in range(4)} == {how}
