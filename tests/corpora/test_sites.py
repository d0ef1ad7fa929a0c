"""Folders for sites: the partitioned clips come back in their order, merged and complete."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import yaml

from p2pser import config as settings
from p2pser.base.errors import CorpusError
from p2pser.config import Config
from p2pser.corpora import combined as several
from p2pser.corpora.manifest import Corpus, read_manifest
from p2pser.corpora.partitioning import partition_corpus
from p2pser.corpora.sites import write_sites


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Two corpora of three speakers each, with an emotion to merge and one to leave out."""
    for name, emotions in (("y", ("anger", "calm", "fear")), ("x", ("anger", "fear", "neutral", "surprise"))):
        for emotion, speaker, take in itertools.product(emotions, "pqr", "12"):
            path = tmp_path / name / emotion / speaker / f"{take}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{name} {emotion} {speaker} {take}")
    return Config().with_settings([
        "corpus.name=folder+folder", f"corpus.data=[{tmp_path / 'y'}, {tmp_path / 'x'}]", "corpus.map=calm=neutral",
        "training.rounds=7", "seed=5"])


def contents(corpus: Corpus) -> list[tuple[str, str, str | None, str]]:
    return [(clip.path.read_text(), clip.speaker, clip.emotion, clip.corpus) for clip in corpus.clips]


@pytest.mark.parametrize("copy", [True, False])
@pytest.mark.parametrize("partition", ["corpus", "iid", "speaker"])
def test_a_folder_holds_the_clips_of_its_peer(config: Config, tmp_path: Path, copy: bool, partition: str) -> None:
    config = config.with_settings([f"corpus.partition={partition}", "corpus.fold=1"])
    partitioning, out = partition_corpus(config, 3), tmp_path / "out"
    written = write_sites(config, partitioning, out, copy=copy)
    shares = {f"peer-{i}": share for i, share in enumerate(partitioning.held)}
    for folder, share in [*shares.items(), ("test", partitioning.split.test)]:
        back = read_manifest(out / folder / "manifest.csv")
        chosen = [partitioning.corpus.clips[index] for index in share]
        # In the same order: local steps draw clips by their places.
        assert contents(back) == [(c.path.read_text(), c.speaker, c.emotion, c.corpus) for c in chosen]
        inside = [clip.path.is_relative_to(out / folder) for clip in back.clips]
        assert all(inside) if copy else not any(inside)
    normalise = "global" if partition == "iid" else "speaker"
    assert (written["labels"], written["normalise"]) == (["anger", "fear", "neutral"], normalise)
    assert "calm counts as neutral (6 clips)" in written["notes"]
    assert sum(holds["clips"] for holds in written["peers"].values()) + written["test"]["clips"] == 36


def test_the_run_file_holds_what_all_must_share(config: Config, tmp_path: Path) -> None:
    write_sites(config, partition_corpus(config, 3), tmp_path / "out")
    run = tmp_path / "out" / "run.yaml"
    tree = yaml.safe_load(run.read_text())
    assert str(tmp_path) not in run.read_text()
    assert tree["corpus"] == {"split": "none", "partition": "own", "labels": ["anger", "fear", "neutral"]}
    site = settings.load(run, ["corpus.name=auto", f"corpus.data={tmp_path / 'out' / 'peer-2'}"])
    differing = {name for name, value in site.shared().items() if value != config.shared()[name]}
    assert differing == {"corpus.labels", "features.normalise"}
    own = partition_corpus(site, 3)
    assert (own.labels, own.scaling.how) == (("anger", "fear", "neutral"), "speaker")
    assert len(own.held[2]) == len(several.load(site.corpus).clips)


def test_dimensions_are_written_from_minus_one_to_one(tmp_path: Path) -> None:
    rows = "".join(f"{i}.wav,s{i},{'anger' if i % 2 else 'fear'},{1 + i}\n" for i in range(5))
    (tmp_path / "own.csv").write_text("path,speaker,emotion,arousal\n" + rows)
    for i in range(5):
        (tmp_path / f"{i}.wav").touch()
    config = Config().with_settings(["corpus.name=manifest", f"corpus.data={tmp_path / 'own.csv'}", "corpus.split=none",
                                     "training.task=both", "corpus.scale=[1, 5]"])
    write_sites(config, partition_corpus(config, 1), tmp_path / "out")
    back = read_manifest(tmp_path / "out" / "peer-0" / "manifest.csv")
    assert [clip.arousal for clip in back.clips] == [-1.0, -0.5, 0.0, 0.5, 1.0]


def test_nothing_is_overwritten(config: Config, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(CorpusError, match="is not an empty folder"):
        write_sites(config, partition_corpus(config, 3), tmp_path / "out")


def test_clips_outside_of_the_corpus_s_folder_are_copied_in_order(tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    names = [f"../{name}.wav" for name in "cab"]
    (tmp_path / "lists" / "own.csv").write_text(
        "path,speaker,emotion\n" + "".join(f"{name},s,{e}\n" for name, e in zip(names, ("anger", "fear", "anger"))))
    for name in "abc":
        (tmp_path / f"{name}.wav").write_text(name)
    config = Config().with_settings(["corpus.name=manifest", f"corpus.data={tmp_path / 'lists' / 'own.csv'}",
                                     "corpus.split=none"])
    write_sites(config, partition_corpus(config, 1), tmp_path / "out", copy=True)
    back = read_manifest(tmp_path / "out" / "peer-0" / "manifest.csv")
    assert [clip.path.read_text() for clip in back.clips] == ["a", "b", "c"]
    assert all(clip.path.resolve().is_relative_to(tmp_path / "out") for clip in back.clips)


def test_copies_whose_names_a_file_system_may_take_for_one_are_all_there(tmp_path: Path) -> None:
    names = ("10:15.wav", "10-15.wav", "a.wav", "A.wav")
    for emotion, speaker, name in itertools.product(("anger", "fear"), "pq", names):
        path = tmp_path / "x" / emotion / speaker / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{emotion} {speaker} {name}")
    config = Config().with_settings(["corpus.name=folder", f"corpus.data={tmp_path / 'x'}", "corpus.split=none"])
    write_sites(config, partition_corpus(config, 2), tmp_path / "out", copy=True)
    back = [read_manifest(tmp_path / "out" / f"peer-{peer}" / "manifest.csv") for peer in (0, 1)]
    said = [clip.path.read_text().split()[:2] == [clip.emotion, clip.speaker] for each in back for clip in each.clips]
    assert (len(said), all(said)) == (16, True)
    for each in back:
        assert len({clip.path.name.casefold() for clip in each.clips}) == 8
        assert len({clip.path.read_text() for clip in each.clips}) == 8
