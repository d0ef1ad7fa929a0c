"""Which statistics features are scaled by, from the spread of each speaker's emotions."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pser.config import Config
from p2pser.corpora.manifest import Clip
from p2pser.corpora.partitioning import partition_corpus
from p2pser.corpora.spread import AUTO, agreed, choose, differing, in_parts, spread


def clips(**speakers: str) -> list[Clip]:
    """Return a clip for each letter: its emotion, "-" for none."""
    return [Clip(Path(f"{speaker}{place}.wav"), speaker, None if letter == "-" else letter)
            for speaker, letters in speakers.items() for place, letter in enumerate(letters)]


@pytest.mark.parametrize(("held", "own", "everyone"), [
    ({"s": "aabb", "t": "abab"}, 1 / 2, 1 / 2),
    ({"s": "aaaa", "t": "bbbb"}, 0.0, 1 / 2),
    ({"s": "a", "t": "b", "u": "a"}, 0.0, 4 / 9),  # the mean of one clip is the clip itself
    ({"s": "abc", "t": "aaaaaaaaa"}, 3 / 12 * 2 / 3, 1 - (10**2 + 1 + 1) / 144),
    ({"s": "--", "t": "----"}, 2 / 6 * 1 / 2 + 4 / 6 * 3 / 4, 5 / 6),
    ({}, 0.0, 1.0),
])
def test_how_often_two_clips_differ_in_emotion(held: dict[str, str], own: float, everyone: float) -> None:
    assert spread(clips(**held)) == pytest.approx(own)
    if held:
        assert differing(clips(**held)) == pytest.approx(everyone)


@pytest.mark.parametrize(("own", "everyone", "how", "reason"), [
    (0.65, 0.8, "speaker", "differ in emotion at least 80% as often as any two"),
    (0.63, 0.8, "global", "less than 80% as often as any two"),
    (0.0, 0.0, "global", "less than 10%"), (0.8, 0.8, "speaker", "at least 90%"),
])
def test_a_speaker_s_own_statistics_serve_where_the_emotions_are_spread(own: float, everyone: float, how: str,
                                                                        reason: str) -> None:
    chosen = choose(own, everyone)
    assert (chosen.how, reason in chosen.reason) == (how, True)


@pytest.mark.parametrize(("spreads", "classes", "how"), [
    ([6, 6, 7], 4, "speaker"), ([6, 6, 0], 4, "global"), ([4, 4, 4, 1], 2, "speaker"), ([4, 4, 4, 1], 3, "global"),
    ([7, 7, 7, 7, 7, 7, 7, 7, -1], 7, "global"), ([], 3, "global"), ([7, 7], 0, "speaker"), ([6, 6], 0, "global"),
])
def test_sites_agree_on_the_mean_of_what_each_says(spreads: list[int], classes: int, how: str) -> None:
    assert agreed(spreads, classes) == how


def test_a_site_says_its_spread_in_eighths() -> None:
    held = clips(s="abcd", t="ab")  # 3/4 and 1/2, weighted by 4 and 2 clips: 2/3
    assert (in_parts(held, named=True), in_parts(held, named=False)) == (5, -1)


@pytest.mark.parametrize(("rows", "expected", "reason"), [
    ([f"{who}{emotion}{k}.wav,{who},{emotion}" for who in ("ann", "eve") for emotion in ("anger", "fear")
      for k in (0, 1)], "speaker", "at least 90% as often as any two"),
    ([f"{who}{emotion}{k}.wav,{who},{emotion}" for who, emotion in (("ann", "anger"), ("eve", "fear")) for k in (0, 1)],
     "global", "a speaker's own would take the emotion out"),
])
def test_the_default_normalisation_follows_the_spread_of_emotions(
    rows: list[str], expected: str, reason: str, tmp_path: Path
) -> None:
    for row in rows:
        (tmp_path / row.partition(",")[0]).touch()
    (tmp_path / "own.csv").write_text("path,speaker,emotion\n" + "\n".join(rows) + "\n")
    config = Config().with_settings(["corpus.name=manifest", f"corpus.data={tmp_path / 'own.csv'}",
                                     "corpus.split=none"])
    for settings, chosen in (([], expected), (["features.normalise=speaker"], "speaker"),
                             (["corpus.partition=own"], AUTO), (["privacy.epsilon=8"], "speaker"),
                             (["corpus.partition=own", "privacy.epsilon=8"], "speaker"),
                             (["corpus.partition=own", "features.kind=logmel"], "global")):
        assert partition_corpus(config.with_settings(settings), 2).scaling.how == chosen
    assert reason in partition_corpus(config, 2).notes[0]
