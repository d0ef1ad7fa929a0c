"""A recording under two names is not in training and in the test set."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pser.config import Config
from p2pser.corpora.copies import copies, note
from p2pser.corpora.manifest import read_manifest
from p2pser.corpora.partitioning import partition_corpus

ALIKE = bytes(5000) + b"1" + bytes(5000)
FILES = {"a1": ALIKE, "a2": b"a" * 10001, "b1": ALIKE, "b2": b"a" * 10001, "b3": b"b", "c1": bytes(10001), "c2": b"c",
         "c3": b"", "d1": b"", "d2": ALIKE}
"""The recordings of speakers a to d: a1, b1 and d2 are one, a2 and b2 too; c1 has but the same size."""


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    for name, content in FILES.items():
        (tmp_path / f"{name}.wav").write_bytes(content)
    rows = [f"{name}.wav,{name[0]},{'joy' if name[1] == '1' else 'fear'}" for name in FILES]
    (tmp_path / "clips.csv").write_text("\n".join(["path,speaker,emotion", *rows]))
    return tmp_path / "clips.csv"


def test_files_of_equal_bytes_are_copies_and_empty_ones_are_not(manifest: Path) -> None:
    corpus = read_manifest(manifest)
    assert [[corpus.clips[place].path.stem for place in group] for group in copies(corpus.clips)] == [
        ["a1", "b1", "d2"], ["a2", "b2"]]
    assert note(corpus) == (
        "2 recordings are there under two speakers, first a1.wav (speaker a) and b1.wav (speaker b): leave one of each "
        "out",
        "1 recording is there under two emotions, first a1.wav (speaker a, happiness) and d2.wav (speaker d, fear): "
        "they contradict each other, so leave the wrong ones out")
    (manifest.parent / "b2.wav").unlink()
    assert len(copies(corpus.clips)) == 1


def test_training_has_no_copy_of_a_test_clip(manifest: Path) -> None:
    def held(split: str) -> tuple[list[str], tuple[str, ...]]:
        config = Config().with_settings(["corpus.name=manifest", f"corpus.data={manifest}", f"corpus.split={split}"])
        found = partition_corpus(config, 1)
        return [found.corpus.clips[place].path.stem for place in found.split.train], found.notes

    names, notes = held("speakers:b")
    assert names == ["c1", "c2", "c3", "d1"]
    assert ("3 training clips are left out, since the test set has the same recording, 1 of them under another "
            "emotion, first a1.wav (speaker a) and b1.wav (speaker b)") in notes
    names, notes = held("speakers:d")
    assert ("2 training clips are left out, since the test set has the same recording, 2 of them under another "
            "emotion, first a1.wav (speaker a, happiness) and d2.wav (speaker d, fear)") in notes
    names, notes = held("speakers:c")
    assert names == ["a1", "a2", "b1", "b2", "b3", "d1", "d2"]
    assert not [one for one in notes if "left out" in one]
