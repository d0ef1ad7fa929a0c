"""What a peer notices of its recordings at the next start."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from crew import PATIENCE, Crew, examples, federation

from p2pser.base.errors import ConfigError
from p2pser.config import Config
from p2pser.corpora.manifest import ARRAYS, Clip, Corpus
from p2pser.features.federation import Federation
from p2pser.graph.spec import load
from p2pser.peer.clips import changes, known_now, require_consent, withdraw
from p2pser.peer.folder import PeerFolder
from p2pser.peer.telemetry import read


def recorded(root: Path, *clips: str, me: int = 1) -> Federation:
    """A federation of recordings ``NAME:CONTENT:EMOTION:SPEAKER``, all of them peer 1's."""
    root.mkdir(exist_ok=True)
    listed = []
    for text in clips:
        name, content, emotion, speaker = text.split(":")
        (root / name).write_text(content)
        listed.append(Clip(root / name, speaker, emotion))
    own: Sequence[int] = range(len(clips))
    return replace(federation(me, "none"), corpus=Corpus("numbers", "1", tuple(listed), root=root),
                   held=((), tuple(own), ()), train={me: examples(me)})


def test_clips_are_known_by_digest(tmp_path: Path) -> None:
    before = known_now(recorded(tmp_path, "a:1:joy:x", "b:2:joy:x", "c:3:fear:y", "d:4:joy:x", "e:5:fear:y"), 1)
    os.utime(tmp_path / "a", (1, 1))  # another time of change only
    now = known_now(recorded(tmp_path, "a:1:joy:x", "b:7:joy:x", "c:3:joy:y", "moved:4:joy:x", "f:6:joy:x", "g:8:joy:x",
                             "h:9:joy:x"), 1)
    said = changes(before, now)
    assert (said.new, said.gone, said.changed, said.renamed) == (3, 1, 2, 1)
    assert str(said) == "3 are new, 1 is gone, 2 are changed, 1 is renamed"
    assert str(changes(now, now)) == ""
    assert not {"x", "y", "joy", "fear"} & {part for known in now.values() for part in known}
    arrays = recorded(tmp_path, "a:1:joy:x")
    assert known_now(replace(arrays, corpus=replace(arrays.corpus, name=ARRAYS)), 1) == {}
    assert known_now(replace(arrays, left_out=[(tmp_path / "a", "silent")]), 1) == {}


def test_the_next_start_tells_by_counts_what_has_changed_and_goes_on_with_it(crew: Crew) -> None:
    root, crew.normalise = crew.folder / "recordings", "none"
    first = recorded(root, "a:1:joy:x", "b:2:joy:x")
    config = crew.configured("run", "training.rounds=2")
    longer = crew.configured("run", "training.rounds=4")

    def run(settings: Config, data: Federation) -> None:
        peers = [crew.peer(settings, i) for i in range(3)]
        peers[1]._federation = data
        assert all(end.result(timeout=PATIENCE).finished for end in [crew.pool.submit(peer.run) for peer in peers])

    for _ in range(2):
        run(config, first)
    assert not any("of its clips" in said for said in crew.said)
    kept = crew.path(config, 1) / "clips.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    run(longer, recorded(root, "b:2:joy:x", "c:3:joy:x", "d:4:joy:x"))
    told = "peer 1: of its clips 2 are new, 1 is gone since the last start; the run goes on with them, not bit-equal to"
    assert any(said.startswith(told) for said in crew.said)
    events = [one for one in read(crew.path(config, 1) / "events.jsonl") if one["kind"] == "clips_changed"]
    assert [(one["new"], one["gone"], one["changed"], one["renamed"]) for one in events] == [(2, 1, 0, 0)]


def test_a_recording_that_was_withdrawn_does_not_come_back_under_another_name(tmp_path: Path) -> None:
    folder = PeerFolder(Config().with_settings([f"peer.out={tmp_path}"]), load("ring", peers=3), 1)
    folder.path.mkdir(parents=True)
    now = known_now(recorded(tmp_path / "clips", "a:1:joy:x", "b:2:joy:y"), 1)
    require_consent(folder, now)
    withdraw(folder, {"b": now["b"][0]})
    assert folder.withdrawn_clips.stat().st_mode & 0o777 == 0o600
    require_consent(folder, {"a": now["a"]})
    with pytest.raises(ConfigError, match=r"c\.wav is a recording of a speaker who is forgotten") as caught:
        require_consent(folder, known_now(recorded(tmp_path / "clips", "a:1:joy:x", "c.wav:2:joy:z"), 1))
    assert caught.value.exit_code == 2
    with folder:
        folder.claim(fresh=True)
    with pytest.raises(ConfigError, match="forgotten"):
        require_consent(folder, {"c.wav": now["b"]})
