"""``p2pser forget``: the clips of a speaker are used by no later start, and the receipt says what remains."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from p2pser.base.errors import ConfigError, CorpusError, ModelError
from p2pser.cli.main import cli
from p2pser.config import Config
from p2pser.graph.spec import PeerEntry, load
from p2pser.network.keys import make
from p2pser.peer.folder import PeerFolder
from p2pser.peer.forgetting import forget
from p2pser.peer.process import Peer
from p2pser.run import checkpoint

TOPOLOGY = load("chain", peers=2)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    rows = [f"{speaker}-{k}.wav,{speaker},{emotion}" for speaker in ("ann", "bob")
            for k, emotion in enumerate(("joy", "anger", "joy"))]
    for row in rows:
        (tmp_path / row.partition(",")[0]).touch()
    (tmp_path / "manifest.csv").write_text("\n".join(["path,speaker,emotion", *rows, ""]), encoding="utf-8")
    return Config().with_settings([f"peer.out={tmp_path / 'runs'}", "corpus.name=manifest", f"corpus.data={tmp_path}",
                                   "corpus.partition=own", "corpus.split=none"])


def folder(config: Config) -> PeerFolder:
    return PeerFolder(config, TOPOLOGY, 1)


def with_checkpoint(config: Config, round: int) -> None:
    checkpoint.save(folder(config).checkpoints, round, {"x": torch.zeros(1, 2)}, {}, {})


def test_the_next_start_reads_none_of_the_speakers_clips(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    forget(config, TOPOLOGY, 1, "bob")
    asked = {}
    monkeypatch.setattr("p2pser.peer.process.federate", lambda *_, **options: asked.update(options) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        Peer(config, TOPOLOGY, 1).prepare()
    assert asked["forgotten"] == ("bob",)
    forget(config, TOPOLOGY, 1, "ann")
    with folder(config) as locked:
        locked.claim(fresh=True)
    assert folder(config).forgotten() == ("ann", "bob")  # --fresh forgets a run, not whom to forget


def test_the_receipt_says_what_remains(config: Config) -> None:
    assert "no checkpoint" in forget(config, TOPOLOGY, 1, "bob")["remains"][0]
    with_checkpoint(config, 5)
    receipt = forget(config, TOPOLOGY, 1, "bob")
    assert "resumes at round 5" in receipt["remains"][0]
    assert checkpoint.available(folder(config).checkpoints) == [5]
    assert (receipt["clips"], receipt["peer"], receipt["run"], receipt["retrain"]) == (3, 1, "run", False)
    removed = forget(config, TOPOLOGY, 1, "bob", retrain=True)
    assert "checkpoints and model are removed" in removed["remains"][0]
    assert checkpoint.available(folder(config).checkpoints) == []
    written = sorted(folder(config).receipts.iterdir())
    assert [path.name for path in written] == ["forget-0000.json", "forget-0001.json", "forget-0002.json"]
    assert json.loads(written[1].read_text(encoding="utf-8")) == receipt
    assert {path.stat().st_mode & 0o777 for path in (*written, folder(config).forgotten_file)} == {0o600}
    folder(config).finish({"finished": True})
    assert "the run has finished" in forget(config, TOPOLOGY, 1, "ann")["remains"][0]


def test_the_peer_of_a_private_run_forgets_too(config: Config) -> None:
    """Between sites, whose topology file gives keys, ``privacy.mode`` chooses the algorithm."""
    sites = replace(load("ring", peers=3), peers={i: PeerEntry(key=make().public) for i in range(3)})
    peer = Peer(config, sites, 1)
    assert peer.config.gossip.algorithm == "secure-average"
    with peer.folder:
        peer.folder.claim(fresh=False)
    assert forget(config, sites, 1, "bob")["clips"] == 3


def test_who_cannot_be_forgotten(config: Config) -> None:
    with pytest.raises(CorpusError, match="no clip of the speaker 'bbo'; did you mean 'bob'"):
        forget(config, TOPOLOGY, 1, "bbo")
    running = folder(config)
    running.claim(fresh=False)
    with pytest.raises(ConfigError, match="another process runs this peer"):
        forget(config, TOPOLOGY, 1, "bob")
    running.release()
    assert folder(config).forgotten() == ()


def test_the_command_takes_the_peers_own_options(config: Config, tmp_path: Path) -> None:
    call = ["forget", "bob", "--id", "1", "--topology", "chain", "--peers", "2", "--data", str(tmp_path), "--out",
            str(tmp_path / "runs")]
    shown = CliRunner().invoke(cli, call, catch_exceptions=False)
    assert shown.output.startswith("peer 1 leaves 3 clips of bob out from the next start on\nwhat remains:\n  - ")
    assert folder(config).forgotten() == ("bob",)
    plain = CliRunner().invoke(cli, [*call, "--json"], catch_exceptions=False)
    assert json.loads(plain.output)["speaker"] == "bob"
    # The folder of a run that starts from a model compares it.
    with pytest.raises(ModelError, match="is not a model directory"):
        CliRunner().invoke(cli, [*call, "--from", str(tmp_path)], catch_exceptions=False)
