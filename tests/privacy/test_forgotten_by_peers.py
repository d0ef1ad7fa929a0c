"""``p2pser forget`` measures what the parameters of peers tell of a speaker, before and after they train anew."""

from __future__ import annotations

import csv
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml
from click.testing import CliRunner

from p2pser.cli.main import cli
from p2pser.config import Config
from p2pser.graph.spec import load
from p2pser.peer.launch import free_base_port
from p2pser.peer.process import Peer

RATE, CLIPS = 16000, 12
TOPOLOGY = load("chain", 2)
PATIENCE = 250.0
"""Longest time of a peer's run on a busy machine [s]."""


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """A folder of tones of seven speakers, and three manifests: of s0 and s1, of these and three more, of s2 and s3.
    The tones say nothing of their emotions: what a model learns of them, it learns by heart."""
    draw, time = np.random.default_rng(7), np.arange(int(0.3 * RATE)) / RATE
    for speaker in range(7):
        for clip in range(CLIPS):
            pitch, tremolo = draw.uniform(100, 300), draw.uniform(2, 12)
            tone = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 6))
            signal = 0.2 * tone * (1 + 0.8 * np.sin(2 * np.pi * tremolo * time))
            soundfile.write(tmp_path / f"s{speaker}-{clip}.wav", signal + draw.normal(0, 0.003, len(time)), RATE)
    for name, speakers in (("mine", (0, 1)), ("more", (0, 1, 4, 5, 6)), ("theirs", (2, 3))):
        with (tmp_path / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["path", "speaker", "emotion"])
            table.writerows([f"s{speaker}-{clip}.wav", f"s{speaker}", ("calm", "excited")[clip % 2]]
                            for speaker in speakers for clip in range(CLIPS))
    return tmp_path


@pytest.fixture
def config(recordings: Path) -> Config:
    # No dropout: it draws from torch's own generator, which the threads of this process share.
    return Config().with_settings([
        "corpus.name=manifest", f"corpus.data={recordings / 'mine.csv'}", "corpus.partition=own", "corpus.split=none",
        "model.hidden=[16]", "model.dropout=0", "training.rounds=30", "training.local_steps=5",
        "training.fine_tune=5", "peer.evaluate_every=1000", "network.serve_after=0", "privacy.draws=seed",
        f"peer.out={recordings / 'runs'}", f"network.base_port={free_base_port(2)}"])


def test_a_speaker_is_known_until_the_peers_train_anew(config: Config, recordings: Path) -> None:
    _train(config, recordings)
    assert "no recordings of speakers on whom no peer has trained" in _forget(config, recordings)["remains"][-1]
    # Recordings of three others come, whose speakers are held out from now on.
    config = config.with_settings([f"corpus.data={recordings / 'more.csv'}", "corpus.split=speakers:s4+s5+s6"])
    first = _forget(config, recordings, "--retrain")
    assert not (config.peer.out / config.name / "peer-0" / "model").exists()
    assert first["before"] is None
    model, personal = first["measured"]
    assert (model["of"], personal["of"]) == ("the model after 30 rounds", "the personal model")
    counts = [model["speaker"]["clips"], model["others"]["clips"], model["stranger_clips"], model["strangers"]]
    assert counts == [CLIPS, CLIPS, 3 * CLIPS, 3]
    for each in (model, personal):
        assert each["speaker"]["auc"] > 0.85
        assert each["verdict"] == "EXCEEDED"

    shutil.rmtree(config.peer.out / config.name / "peer-1")  # the other peer begins anew too
    _train(config, recordings)
    second = _forget(config, recordings)
    assert second["before"] == {"time": first["time"], "measured": first["measured"]}
    for each in second["measured"]:
        assert each["speaker"]["low"] < 0.5 < each["speaker"]["high"]
        assert each["verdict"] in ("within", "unclear")
        assert each["others"]["auc"] > 0.85
    assert "has begun its present parameters without these clips" in second["remains"][0]
    assert second["remains"][-2].startswith(f"before, by the receipt of {first['time']}: ")


def _train(config: Config, recordings: Path) -> None:
    """Run both peers to their end, in threads of this process, with real sockets."""
    other = config.with_settings([f"corpus.data={recordings / 'theirs.csv'}", "corpus.split=none"])
    peers = [Peer(config, TOPOLOGY, 0), Peer(other, TOPOLOGY, 1)]
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(peer.run) for peer in peers]
        try:
            assert all(future.result(timeout=PATIENCE).finished for future in futures)
        finally:
            for peer in peers:
                peer.interrupt()


def _forget(config: Config, folder: Path, *options: str) -> dict[str, Any]:
    """Return the receipt of the command for peer 0."""
    (folder / "run.yaml").write_text(yaml.safe_dump(json.loads(config.model_dump_json())), encoding="utf-8")
    done = CliRunner().invoke(cli, ["forget", "s0", "--id", "0", "--topology", "chain", "--peers", "2", "--run",
                                    str(folder / "run.yaml"), "--json", *options], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    receipt: dict[str, Any] = json.loads(done.stdout)
    return receipt
