"""``p2pser invite``, ``accept`` and ``topology assemble`` as they are typed: files, modes, exit codes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from click.testing import CliRunner, Result

from p2pser.base.errors import ConfigError, TopologyError
from p2pser.cli.main import cli
from p2pser.graph.spec import load


def call(*words: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words], catch_exceptions=False)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with ``clips/`` (anger, Wut and grantig, of one speaker) and the invitations of a run of two sites."""
    time = np.arange(8000) / 16000
    for number, word in enumerate(("anger", "Wut", "grantig")):
        (tmp_path / "clips" / word / "s").mkdir(parents=True)
        for k in range(number + 1):
            signal = 0.3 * np.sin(2 * np.pi * (120 + 31 * number + 7 * k) * time)
            soundfile.write(tmp_path / "clips" / word / "s" / f"{k}.wav", signal, 16000)
    (tmp_path / "clips" / "anger" / "s" / "text.wav").write_text("no recording")
    monkeypatch.chdir(tmp_path)
    made = call("invite", "--sites", "a,b", "--name", "duo", "--rounds", "2", "--json")
    assert made.exit_code == 0, made.output
    return tmp_path


def test_the_author_gets_a_run_file_a_key_and_an_invitation_for_each(here: Path) -> None:
    assert sorted(path.name for path in (here / "duo").iterdir()) == [
        "author.key", "invitation-0.yaml", "invitation-1.yaml", "run.yaml"]
    assert (here / "duo" / "author.key").stat().st_mode & 0o777 == 0o600
    assert yaml.safe_load((here / "duo" / "run.yaml").read_text()) == {"name": "duo", "training": {"rounds": 2}}
    assert (here / "duo" / "invitation-1.yaml").read_text().splitlines()[1] == (
        "# Next, at b: p2pser accept invitation-1.yaml --data FOLDER --address tcp://HOST:PORT")
    with pytest.raises(ConfigError, match="duo is not an empty folder"):
        call("invite", "--sites", "a,b", "--out", "duo")
    with pytest.raises(ConfigError, match="names 1 sites: give 2 to 100"):
        call("invite", "--sites", "a", "--out", "new")
    with pytest.raises(ConfigError, match=r"peer\.out is not a setting of a whole run"):
        call("invite", "--sites", "a,b", "--set", "peer.out=x", "--out", "new")
    assert not (here / "new").exists()


def test_accept_leaves_the_run_file_of_another_run_or_of_the_author_as_it_is(here: Path) -> None:
    before = (here / "duo" / "run.yaml").read_text()
    with pytest.raises(ConfigError, match=r"duo holds the run file of another run, or of the author: choose another"):
        call("accept", "duo/invitation-1.yaml", "--data", "clips", "--out", "duo")
    assert (here / "duo" / "run.yaml").read_text() == before
    assert not (here / "duo" / "peer.key").exists()


def test_a_site_accepts_and_what_is_its_own_stays(here: Path) -> None:
    first = call("accept", "duo/invitation-1.yaml", "--data", "clips", "--address", "none")
    assert first.exit_code == 0, first.output
    assert "b is invited as peer 1 to the run duo of 2 sites: a, b" in first.output
    assert "ok   clips: 6 of 1 speaker, 3 s; 1 file is left out" in first.output
    assert "ok   emotions: anger 3, grantig 3" in first.output
    assert "'grantig' (3 clips) is an unknown name" in first.output
    assert "--set corpus.map=grantig=anger" in first.output
    assert "Next: send" in first.output
    folder = here / "duo-peer-1"
    key = (folder / "peer.key").read_text()
    assert (folder / "peer.key").stat().st_mode & 0o777 == 0o600
    run = yaml.safe_load((folder / "run.yaml").read_text())
    assert run["corpus"] == {"name": "auto", "data": str(here / "clips"), "split": "none", "partition": "own"}
    assert run["network"]["secret_key"] == str(folder / "peer.key")
    assert str(here) not in (folder / "reply.yaml").read_text()
    again = call("accept", "duo/invitation-1.yaml", "--data", "clips", "--address", "tcp://192.0.2.1:5700", "--set",
                 "corpus.map=grantig=anger", "--json")
    assert json.loads(again.stdout)["fits"] is True
    assert (folder / "peer.key").read_text() == key
    reply = yaml.safe_load((folder / "reply.yaml").read_text())
    assert reply["address"] == "tcp://192.0.2.1:5700"
    assert f'public: "{reply["key"]}"' in key
    spaced = call("accept", "duo/invitation-0.yaml", "--data", "clips", "--address", "none", "--out", "Süd 1")
    assert f"--run '{here}/Süd 1/run.yaml' --topology" in spaced.output
    kept = call("accept", "duo/invitation-1.yaml", "--data", "clips")
    assert "the neighbours dial this site at: tcp://192.0.2.1:5700 (--address gives another)" in kept.output
    other = call("accept", "duo/invitation-0.yaml", "--data", "clips", "--json")
    assert re.fullmatch(r"tcp://\d+\.\d+\.\d+\.\d+:5700", json.loads(other.stdout)["address"])
    with pytest.raises(ConfigError, match="belongs to another invitation"):
        call("accept", "duo/invitation-0.yaml", "--data", "clips", "--address", "none", "--out", folder)


def test_a_site_that_does_not_fit_is_told_and_writes_nothing(here: Path) -> None:
    (here / "empty").mkdir()
    done = call("accept", "duo/invitation-0.yaml", "--data", "empty", "--address", "none")
    assert done.exit_code == 2
    assert "MEND clips:" in done.output
    assert not (here / "duo-peer-0").exists()
    with pytest.raises(ConfigError, match=r"--set training\.rounds: all sites must have this setting equal"):
        call("accept", "duo/invitation-0.yaml", "--data", "clips", "--address", "none", "--set", "training.rounds=3")
    with pytest.raises(ConfigError, match=r"no other machine can dial it"):
        call("accept", "duo/invitation-0.yaml", "--data", "clips", "--address", "tcp://0.0.0.0:5700")
    assert not (here / "duo-peer-0").exists()
    relays = call("accept", "duo/invitation-0.yaml", "--data", "none", "--address", "tcp://192.0.2.1:5700")
    assert relays.exit_code == 0
    assert "this site only relays" in relays.output


def test_replies_become_the_topology_and_a_changed_one_is_signed_again(here: Path) -> None:
    for peer, address in enumerate(("tcp://192.0.2.1:5700", "none")):
        call("accept", f"duo/invitation-{peer}.yaml", "--data", "clips", "--address", address)
    replies = ["duo-peer-0/reply.yaml", "duo-peer-1/reply.yaml"]
    with pytest.raises(ConfigError, match=r"1 of 2 sites have replied; missing: b \(peer 1\)"):
        call("topology", "assemble", "duo", replies[0])
    with pytest.raises(ConfigError, match="holds no invitations"):
        call("topology", "assemble", "clips", *replies)
    with pytest.raises(ConfigError, match=r"is an invitation \(for p2pser accept\): give the reply"):
        call("topology", "assemble", "duo", "duo/invitation-0.yaml")
    made = call("topology", "assemble", "duo", *replies)
    assert made.exit_code == 0
    file = here / "duo" / "topology.yaml"
    with pytest.raises(ConfigError, match=r"topology\.yaml is a topology file \(--topology\): give a run file"):
        call("peer", "--id", "0", "--run", file, "--topology", file)
    with pytest.raises(TopologyError, match=r"run\.yaml is a run file \(--run\): give the topology file"):
        call("topology", "show", "duo/run.yaml")
    assert "peer 1 b: none, " in made.output
    assert "signed by" in call("topology", "show", file).output
    by = load(str(file)).signed_by
    file.write_text(file.read_text().replace("192.0.2.1", "192.0.2.2"))
    with pytest.raises(TopologyError, match="was changed after"):
        load(str(file))
    assert call("topology", "sign", file, "--key", "duo/author.key").exit_code == 0
    assert (load(str(file)).signed_by, load(str(file)).peers[0].address) == (by, "tcp://192.0.2.2:5700")
    call("topology", "sign", file, "--key", "duo-peer-1/peer.key")
    with pytest.raises(TopologyError, match="is signed by"):
        call("peer", "--id", "0", "--run", "duo-peer-0/run.yaml", "--topology", file)
