"""Public statistics: those of the synthetic corpus, computed by every site alike."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from p2pser.base.errors import CorpusError
from p2pser.config import Config, FeatureSettings
from p2pser.corpora import synthetic
from p2pser.corpora.manifest import Clip, Corpus
from p2pser.features import public
from p2pser.features.extraction import Extraction, extract
from p2pser.features.normalisation import statistics

RATE = 16000


@pytest.fixture
def clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """Five tones in the place of the synthetic corpus."""
    monkeypatch.setenv("P2PSER_CACHE", str(tmp_path / "cache"))
    draw, made = np.random.default_rng(3), []
    for number in range(5):
        tone = 0.2 * np.sign(np.sin(2 * np.pi * (110 + 30 * number) * np.arange(RATE // 4) / RATE))
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, tone + draw.normal(0, 0.01, tone.size), RATE)
        made.append(path)
    corpus = Corpus("synthetic", "1", tuple(Clip(path, f"s{path.stem}", "neutral") for path in made))
    monkeypatch.setattr(synthetic, "corpus", lambda: corpus)
    public._computed.cache_clear()
    yield made
    public._computed.cache_clear()


def test_public_statistics_are_those_of_the_synthetic_corpus(clips: list[Path]) -> None:
    found = public.public_statistics(FeatureSettings())
    exact = statistics(np.stack(extract(clips, FeatureSettings(), workers=1).features))
    assert found.count == 5
    there = exact.std > 0
    assert there.sum() > 500
    np.testing.assert_array_less(np.abs(found.mean - exact.mean)[there], exact.std[there] / 1000)
    np.testing.assert_array_less(np.abs(found.std - exact.std)[there], exact.std[there] / 1000)
    np.testing.assert_array_equal(found.std[~there], 0.0)


def test_last_bits_of_features_do_not_change_public_statistics(
        clips: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(5)
    features = (draw.normal(2, 1, (5, 40)) * 10.0 ** draw.integers(-3, 4, 40)).astype(np.float32)
    found = []
    for values in (features, features + np.spacing(features) * draw.choice([-1, 1], features.shape)):
        monkeypatch.setattr(public, "extract", lambda paths, settings, values=values, **more: Extraction(
            list(values), [], 5, 0, 0.0))
        public._computed.cache_clear()
        found.append(public.public_statistics(FeatureSettings()))
    np.testing.assert_array_equal(found[0].mean, found[1].mean)
    np.testing.assert_array_equal(found[0].std, found[1].std)
    assert (found[0].std > 0).all()


def test_a_clip_that_cannot_be_used_is_named(clips: list[Path]) -> None:
    clips[3].write_bytes(b"")
    with pytest.raises(CorpusError, match=r"needs all clips of the synthetic corpus, and .*3\.wav cannot be used"):
        public.public_statistics(FeatureSettings())


def test_peers_compare_what_the_clips_are_made_of_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(public, "version", lambda package: f"9.{len(package)}")
    assert public.recipe() == "synthetic 1, espeakng-loader 9.15"


def test_the_setting_names_public_statistics() -> None:
    assert Config().with_settings(["features.normalise=public"]).features.normalise == "public"
