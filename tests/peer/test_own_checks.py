"""What a site finds out about itself: each thing that hinders the run has a sentence with the remedy."""

from __future__ import annotations

import shutil
from collections import namedtuple
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest
import soundfile

from p2pser.config import Config
from p2pser.graph.spec import Topology, load
from p2pser.peer import own_checks
from p2pser.peer.own_checks import Finding, machine, reading, recordings

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def pair() -> Topology:
    return load("chain", 2)


def site(folder: Path, *settings: str) -> Config:
    return Config().with_settings(["corpus.name=auto", f"corpus.data={folder}", "corpus.partition=own",
                                   "corpus.split=none", *settings])


def write(folder: Path, words: tuple[str, ...]) -> Path:
    time = np.arange(8000) / 16000
    for number, word in enumerate(words):
        (folder / word / "s").mkdir(parents=True)
        soundfile.write(folder / word / "s" / "0.wav", 0.3 * np.sin(2 * np.pi * (120 + 31 * number) * time), 16000)
    return folder


def sentences(findings: list[Finding], *, fits: bool) -> str:
    return "\n".join(str(one.document()["sentence"]) for one in findings if one.fits is fits)


def test_recordings_are_counted_and_own_words_are_asked_about(tmp_path: Path, pair: Topology) -> None:
    folder = write(tmp_path / "clips", ("Wut", "neutral", "fies"))
    (folder / "Wut" / "s" / "1.wav").write_text("version https://git-lfs.github.com/spec/v1\n")
    found = recordings(site(folder), pair, 0)
    assert sentences(found, fits=False) == ""
    assert "clips: 3 of 1 speaker, 2 s; 1 file is left out: 1 × " in sentences(found, fits=True)
    assert "emotions: anger 1, fies 1, neutral 1" in sentences(found, fits=True)
    assert "'fies' (1 clip) is an unknown name: the run learns it as a separate emotion" in sentences(found, fits=True)
    fixed = recordings(site(folder, "corpus.labels=anger,neutral,sadness"), pair, 0)
    assert "emotions: anger 1, neutral 1; none of sadness: other sites must have some" in sentences(fixed, fits=True)
    assert "1 clip of 'fies' will be left out: the run learns anger, neutral, sadness; to count them as another one, " \
        "add for example --set corpus.map=fies=anger" in sentences(fixed, fits=True)
    mapped = recordings(site(folder, "corpus.labels=anger,neutral", "corpus.map=fies=anger"), pair, 0)
    assert "fies" not in sentences(mapped, fits=True)


def test_how_recordings_were_read_is_told(tmp_path: Path, pair: Topology) -> None:
    config = site(write(tmp_path / "clips", ("anger/P1/pre", "neutral voice/P1/post")))
    (found,) = reading(config, pair, 0)
    assert found.fits
    assert "clips: the folders post, pre count as sessions of the speaker above, not" in found.document()["sentence"]
    told = sentences(recordings(config, pair, 0), fits=True)
    assert "--set 'corpus.map=neutral voice=neutral'" in told
    assert reading(Config().with_settings(["corpus.name=none"]), pair, 0) == []


def test_no_folder_and_no_usable_clip_are_to_be_mended(tmp_path: Path, pair: Topology) -> None:
    assert "clips: " in sentences(recordings(site(tmp_path / "none"), pair, 0), fits=False)
    folder = write(tmp_path / "clips", ("anger",))
    (folder / "anger" / "s" / "0.wav").write_text("text")
    assert "give another folder (--data)" in sentences(recordings(site(folder), pair, 0), fits=False)
    relay = Config().with_settings(["corpus.name=none", "features.normalise=global"])
    assert "clips: none: this site only relays" in sentences(recordings(relay, pair, 0), fits=True)


def test_a_machine_that_will_do(tmp_path: Path) -> None:
    found = machine(Config().with_settings([f"peer.out={tmp_path / 'runs'}"]), "tcp://127.0.0.1:5700", 1000)
    assert sentences(found, fits=False) == ""
    assert "address: tcp://127.0.0.1:5700, of this machine" in sentences(found, fits=True)
    assert not (tmp_path / "runs").exists()


def test_what_hinders_a_run_is_named_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config().with_settings([f"peer.out={tmp_path / 'runs'}"])

    class Then(datetime):
        @classmethod
        def now(cls, tz: object = None) -> Then:
            return cls(1970, 1, 2, tzinfo=timezone.utc)

    monkeypatch.setattr(own_checks, "datetime", Then)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(10, 9, 1_000_000))
    found = sentences(machine(config, "tcp://no-such-name.invalid:5700", 10**12), fits=False)
    assert "clock: it shows 1970-01-02 00:00 UTC, which is wrong: set it" in found
    assert f"disk: 1 MB free at {tmp_path}, about 96,000,067 MB needed: make room" in found
    assert "needed: end other programs, or take a smaller model" in found
    known = sentences(machine(config, "tcp://no-such-name.invalid:5700", 1), fits=True)
    assert "address: the name no-such-name.invalid is not known here" in known

    def full(dir: Path) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    assert "nothing can be written to" in sentences(machine(config, None, 1), fits=False)


def test_an_address_of_another_machine_is_noted() -> None:
    found = machine(Config(), "tcp://192.0.2.77:5700", 1)
    assert "address: tcp://192.0.2.77:5700 is not an address of this machine" in sentences(found, fits=True)
