"""The synthetic corpus: the same bytes for the same seed, made once, marked as what it is."""

from __future__ import annotations

import hashlib
import sys
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from p2pser.base.errors import CorpusError
from p2pser.corpora import loading as corpora
from p2pser.corpora import prosody, synthetic
from p2pser.corpora.manifest import Corpus, read_manifest, write_manifest
from p2pser.corpora.prosody import DIMENSIONS, EMOTIONS
from p2pser.corpora.sentences import SENTENCES

loader = pytest.importorskip("espeakng_loader", reason="espeak-ng is not installed (extra: synthetic)")


def digests(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return synthetic.generate(tmp_path_factory.mktemp("made"), 0, speakers=3, workers=1)


def test_the_same_bytes_for_the_same_seed(made: Corpus, tmp_path: Path) -> None:
    synthetic.generate(tmp_path, 0, speakers=3, workers=3)
    assert digests(tmp_path) == digests(made.root)
    assert len(digests(tmp_path)) == 3 * 25 + 1


def test_the_whole_corpus_is_made_again_as_it_is_in_the_cache(tmp_path: Path) -> None:
    synthetic.generate(tmp_path, 0)
    assert digests(tmp_path) == digests(synthetic.corpus().root)
    assert len(digests(tmp_path)) == 601


def test_every_voice_speaks_the_same_each_time() -> None:
    library, data = synthetic._espeak()
    for speaker in prosody.plan(0):
        few = replace(speaker, takes=speaker.takes[::9])
        first, again = (synthetic._speak(few, library, data) for _ in range(2))
        assert first[0] == again[0]
        assert all(np.array_equal(*pair) for pair in zip(first[1], again[1])), speaker.voice


def test_other_seeds_are_other_clips_and_fewer_speakers_the_same(made: Corpus, tmp_path: Path) -> None:
    synthetic.generate(tmp_path / "other", 1, speakers=1)
    synthetic.generate(tmp_path / "first", 0, speakers=1)
    first, other, whole = (digests(folder) for folder in (tmp_path / "first", tmp_path / "other", made.root))
    clips = [name for name in first if name.endswith(".wav")]
    assert all(first[name] == whole[name] for name in clips)
    assert all(first[name] != other[name] for name in clips)


def test_clips_are_what_the_manifest_says(made: Corpus) -> None:
    assert made.synthetic
    assert read_manifest(made.root / "manifest.csv").clips == made.clips
    for clip in made.clips:
        signal, rate = soundfile.read(clip.path)
        assert rate == 16000
        assert soundfile.info(clip.path).subtype == "PCM_16"
        assert 0.5 < len(signal) / rate < 15
        assert 0.002 < np.sqrt(np.mean(signal**2)) < 0.4
        assert np.abs(signal).max() < 0.99
        assert clip.transcript == SENTENCES[clip.language][int(clip.extra["text"])]


def test_level_is_as_asked(made: Corpus) -> None:
    asked = [float(clip.extra["level"]) for clip in made.clips]
    signals = [soundfile.read(clip.path)[0] for clip in made.clips]
    got = [20 * np.log10(np.sqrt(np.mean(signal**2))) for signal in signals]
    assert np.corrcoef(asked, got)[0, 1] > 0.98


@pytest.mark.parametrize("seed", [0, 1])
def test_the_plan_is_balanced(seed: int) -> None:
    speakers = prosody.plan(seed)
    assert len(speakers) >= 24
    assert len(speakers) == len({speaker.name for speaker in speakers}) == len({speaker.voice for speaker in speakers})
    assert len({speaker.language for speaker in speakers}) == 3
    assert set(Counter((speaker.gender, speaker.language) for speaker in speakers).values()) == {len(speakers) // 6}
    takes = [take for speaker in speakers for take in speaker.takes]
    assert len(takes) == 600
    assert Counter(take.emotion for take in takes) == dict.fromkeys(EMOTIONS, 120)
    assert prosody.plan(seed) == speakers
    assert len({take.prosody for take in takes}) > 590


def test_prosody_tells_emotions_apart_but_not_always() -> None:
    takes = [take for speaker in prosody.plan(0) for take in speaker.takes]
    of = {emotion: [take.prosody for take in takes if take.emotion == emotion] for emotion in EMOTIONS}
    mean = {emotion: np.mean(prosodies, axis=0) for emotion, prosodies in of.items()}
    rate, level = DIMENSIONS.index("rate"), DIMENSIONS.index("level")
    assert mean["sadness"][rate] < mean["neutral"][rate] < mean["fear"][rate]
    assert max(mean, key=lambda emotion: float(mean[emotion][level])) == "anger"
    spread = np.std(of["anger"], axis=0)
    assert (spread > 0.2 * np.array(prosody.UNITS)).all()


def test_sentences_are_distinct_and_as_many_in_each_language() -> None:
    assert len({len(sentences) for sentences in SENTENCES.values()}) == 1
    assert all(len(set(sentences)) == len(sentences) for sentences in SENTENCES.values())


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of this test, and a corpus of two speakers."""
    whole = prosody.plan
    monkeypatch.setenv("P2PSER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(prosody, "plan", lambda seed, language=None: [
        replace(speaker, takes=speaker.takes[:2]) for speaker in whole(seed, language)[:2]])
    return tmp_path / "cache"


def test_all_speakers_in_one_language(small: Path) -> None:
    mixed, spanish = synthetic.corpus(0), synthetic.corpus(0, "es")
    assert {clip.language for clip in mixed.clips} == {"de", "en"}
    assert {clip.language for clip in spanish.clips} == {"es"}
    assert (mixed.name, spanish.name) == ("synthetic", "synthetic:es")
    assert {clip.transcript for clip in spanish.clips} <= set(SENTENCES["es"])
    assert corpora.load("synthetic:es", None) == spanish
    with pytest.raises(CorpusError, match="no variant 'fr'"):
        corpora.load("synthetic:fr", None)


def test_made_once_for_all_that_ask(
    small: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    generate, calls = synthetic.generate, []

    def counted(*arguments: object, **named: object) -> Corpus:
        calls.append(arguments)
        return generate(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(synthetic, "generate", counted)
    found: list[Corpus] = []
    askers = [threading.Thread(target=lambda: found.append(synthetic.corpus(0))) for _ in range(4)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert len(calls) == 1
    assert len(found) == 4
    assert all(corpus == found[0] for corpus in found)
    assert (found[0].name, found[0].synthetic, len(found[0].clips)) == ("synthetic", True, 4)
    assert "making the synthetic corpus" in capfd.readouterr().err
    assert synthetic.corpus(0) == found[0]
    assert capfd.readouterr().err == ""
    assert [path.name for path in (small / "synthetic").iterdir() if path.is_dir()] == [found[0].root.name]


def test_what_was_not_finished_is_made_again(small: Path) -> None:
    root = synthetic.corpus(0).root
    (root / "manifest.csv").unlink()
    (root / "s01" / "anger-1.wav").write_bytes(b"half")
    assert len(synthetic.corpus(0).clips) == 4
    assert (root / "s01" / "anger-1.wav").stat().st_size > 10000


def test_what_a_system_has_cleaned_up_in_part_is_made_again(small: Path) -> None:
    first = synthetic.corpus()
    for clip in first.clips[3:5]:
        clip.path.unlink()
    assert synthetic.corpus().clips == first.clips
    assert all(clip.path.is_file() for clip in first.clips)


def test_a_failure_leaves_nothing(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "_espeak", lambda: (loader.get_library_path(), str(small)))
    with pytest.raises(CorpusError, match="could not speak for s0"):
        synthetic.corpus(0)
    assert [path for path in (small / "synthetic").iterdir() if path.is_dir()] == []


def test_without_espeak_the_extra_is_named(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(CorpusError, match=r"pip install 'p2pser\[synthetic\]'"):
        synthetic.corpus(0)


def test_a_cache_that_cannot_be_written_is_named(small: Path) -> None:
    small.write_text("a file where the folder should be")
    with pytest.raises(CorpusError, match="P2PSER_CACHE"):
        synthetic.corpus(0)


def test_espeak_is_never_loaded_here(made: Corpus) -> None:
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("this system does not show what a process has loaded")
    assert made.clips
    assert "espeak" not in maps.read_text()


def test_a_copy_stays_marked_as_synthetic(made: Corpus, tmp_path: Path) -> None:
    write_manifest(made, tmp_path / "copied.csv")
    copied = read_manifest(tmp_path / "copied.csv")
    assert copied.synthetic
    assert [clip.emotion for clip in copied.clips] == [clip.emotion for clip in made.clips]


def test_a_long_path_of_the_data_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("x" * 120)
    long.mkdir()
    library, data = synthetic._espeak()
    (long / "espeak-ng-data").symlink_to(Path(data, "espeak-ng-data"))
    monkeypatch.setattr(synthetic, "_espeak", lambda: (library, str(long)))
    assert len(synthetic.generate(tmp_path / "out", 0, speakers=1).clips) == 25
