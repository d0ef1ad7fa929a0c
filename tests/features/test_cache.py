"""The cache: nothing is computed twice, and damaged files cost time only."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pser.config import FeatureSettings
from p2pser.features import cache, clip_features
from p2pser.features.extraction import extract
from p2pser.features.kinds.functionals import Functionals

RATE = 16000
DIGEST = "0123456789abcdef" * 2


def tone(path: Path, f0: float, age: float = 1e6) -> Path:
    soundfile.write(path, 0.1 * np.sin(2 * np.pi * f0 * np.arange(RATE // 5) / RATE), RATE)
    changed = path.stat().st_mtime - age
    os.utime(path, (changed, changed))
    return path


@pytest.fixture
def clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.setenv("P2PSER_CACHE", str(tmp_path / "cache"))
    return [tone(tmp_path / f"{number}.wav", 100 + 10 * number) for number in range(5)]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The computations and reads, in order."""
    made: list[str] = []
    compute, digest = clip_features.compute_kind, cache.content_digest

    def counted(signal: np.ndarray, name: str, chosen: FeatureSettings) -> np.ndarray:
        made.append("compute")
        return compute(signal, name, chosen)

    def read(path: Path) -> str:
        made.append("read")
        return digest(path)

    monkeypatch.setattr(clip_features, "compute_kind", counted)
    monkeypatch.setattr(cache, "content_digest", read)
    return made


def test_a_second_run_computes_nothing_and_reads_nothing(clips: list[Path], calls: list[str]) -> None:
    first = extract(clips, FeatureSettings()).features
    assert calls == ["read", "compute"] * 5
    calls.clear()
    second = extract(clips, FeatureSettings()).features
    assert calls == []
    np.testing.assert_array_equal(np.stack(first), np.stack(second))


def test_settings_that_matter_are_part_of_the_key(clips: list[Path], calls: list[str]) -> None:
    extract(clips, FeatureSettings(seconds=3.0, normalise="none"))
    calls.clear()
    extract(clips, FeatureSettings(seconds=1.0, normalise="speaker"))
    assert calls == []  # neither changes functionals
    extract(clips, FeatureSettings(n_mfcc=13))
    assert calls.count("compute") == 5
    base = FeatureSettings(kind="logmel")
    same = [{"n_mfcc": 30}, {"normalise": "global"}]
    other = [{"seconds": 2.0}, {"n_mels": 32}, {"sample_rate": 8000}, {"kind": "mfcc"}]
    keys = [clip_features.settings_key(base.model_copy(update=change)) for change in same + other]
    assert keys[:2] == [clip_features.settings_key(base)] * 2
    assert len({clip_features.settings_key(base), *keys[2:]}) == 5


def test_another_version_of_the_code_computes_again(
    clips: list[Path], calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    extract(clips, FeatureSettings())
    calls.clear()
    monkeypatch.setattr(Functionals, "version", Functionals.version + 1)
    extract(clips, FeatureSettings())
    assert calls.count("compute") == 5


def test_content_counts_and_not_the_name(clips: list[Path], calls: list[str], tmp_path: Path) -> None:
    before = extract(clips, FeatureSettings()).features
    calls.clear()
    copy = tmp_path / "copy.wav"
    copy.write_bytes(clips[1].read_bytes())
    tone(clips[0], 300)
    after = extract([*clips, copy], FeatureSettings()).features
    assert calls.count("compute") == 1
    assert not np.array_equal(after[0], before[0])
    np.testing.assert_array_equal(after[5], before[1])


def test_a_file_that_has_just_changed_is_not_trusted_by_its_time(clips: list[Path], calls: list[str]) -> None:
    tone(clips[0], 100, age=0)
    extract(clips, FeatureSettings())
    calls.clear()
    extract(clips, FeatureSettings())
    assert calls == ["read"]  # again, but not computed


def test_damaged_features_are_computed_again(clips: list[Path], calls: list[str]) -> None:
    before = extract(clips, FeatureSettings()).features
    files = sorted((clips[0].parent / "cache" / "features").glob("*/*/*.npy"))
    assert len(files) == 5
    files[0].write_bytes(b"")
    files[1].write_bytes(files[1].read_bytes()[:-100])
    files[2].write_bytes(b"\x00" * 500)
    np.save(files[3], np.zeros(3, dtype=np.float32))
    calls.clear()
    after = extract(clips, FeatureSettings()).features
    assert calls.count("compute") == 4
    np.testing.assert_array_equal(np.stack(before), np.stack(after))


def test_a_cache_that_cannot_be_written_costs_time_only(
    clips: list[Path], calls: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("P2PSER_CACHE", str(tmp_path / "file"))
    for _ in range(2):
        extraction = extract(clips, FeatureSettings())
        assert extraction.left_out == []
        assert all(values is not None for values in extraction.features)
    assert calls.count("compute") == 10


@settings(max_examples=50, deadline=None)
@given(junk=st.lists(st.one_of(
    st.binary(max_size=30),
    st.sampled_from([b'["0.wav", 1, 2', b'["0.wav"]', b"[]", b"null", b'{"0.wav": 1}', b'[1, 2, 3, "x"]',
                     b'["0.wav", 1, 2, null]', b'[["0.wav"], 1, 2, "x"]', b'["0.wav", {}, [], "../../x"]']),
)))
def test_a_damaged_index_counts_as_empty(tmp_path_factory: pytest.TempPathFactory, junk: list[bytes]) -> None:
    folder = tmp_path_factory.mktemp("index")
    clip = folder / "0.wav"
    clip.write_bytes(b"x" * 10)
    os.utime(clip, (1e9, 1e9))
    index = cache.Index(folder)
    file = index._file(folder)
    file.parent.mkdir(parents=True)
    file.write_bytes(b"\n".join(junk))
    assert index.find(clip) is None
    state = clip.stat()
    index.remember(clip, DIGEST, (state.st_size, state.st_mtime_ns))
    index.write()
    assert cache.Index(folder).find(clip) == DIGEST
    clip.write_bytes(b"x" * 11)
    assert cache.Index(folder).find(clip) is None


def test_writers_at_once_leave_whole_files(tmp_path: Path) -> None:
    chosen = FeatureSettings()
    shape = clip_features.shape(chosen)
    store = cache.Store(clip_features.settings_key(chosen), shape, tmp_path)
    wrong: list[object] = []
    digests = [f"{number:032x}" for number in range(4)]
    start = threading.Barrier(4)

    def work(value: int) -> None:
        start.wait()
        for _ in range(50):
            for digest in digests:
                store.put(digest, np.full(shape, value, dtype=np.float32))
                found = store.get(digest)
                if found is None or (found != found[0]).any():
                    wrong.append(found)

    threads = [threading.Thread(target=work, args=(value,)) for value in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert sorted(file.name for file in store.folder.rglob("*") if file.is_file()) == [f"{d}.npy" for d in digests]


def test_index_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"{number}.wav").write_bytes(b"x")
        os.utime(tmp_path / f"{number}.wav", (1e9, 1e9))
    start = threading.Barrier(4)

    def work(own: int) -> None:
        index = cache.Index(tmp_path)
        start.wait()
        for number in range(own, 40, 4):
            state = (tmp_path / f"{number}.wav").stat()
            index.remember(tmp_path / f"{number}.wav", f"{number:032x}", (state.st_size, state.st_mtime_ns))
            index.write()

    threads = [threading.Thread(target=work, args=(own,)) for own in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    index = cache.Index(tmp_path)
    found = [index.find(tmp_path / f"{number}.wav") for number in range(40)]
    assert found == [f"{number:032x}" for number in range(40)]


def test_a_pipe_and_a_device_among_the_recordings_cost_only_themselves(clips: list[Path], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "endless.wav").symlink_to("/dev/zero")
    strange = [tmp_path / "pipe.wav", tmp_path / "endless.wav"]
    found = extract([*strange, *clips], FeatureSettings(kind="logmel"), workers=1)
    assert [path for path, _ in found.left_out] == strange
    assert all("a pipe or a device" in why for _, why in found.left_out)
    assert sum(values is not None for values in found.features) == len(clips)
