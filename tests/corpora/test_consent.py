"""Clips whose speakers have not agreed to their use are left out, and a run with a banned purpose does not begin."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from p2pser.base.errors import ConfigError, CorpusError
from p2pser.config import Config
from p2pser.corpora.manifest import read_manifest, write_manifest
from p2pser.corpora.partitioning import Partitioning, partition_corpus

TODAY = date(2026, 3, 1)
HEAD = "path,speaker,emotion,purpose,consent_until,licence"


def manifest(folder: Path, *rows: str, head: str = HEAD) -> Path:
    for row in rows:
        (folder / row.partition(",")[0]).touch()
    path = folder / "manifest.csv"
    path.write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
    return path


def used(path: Path, *settings: str, forgotten: tuple[str, ...] = ()) -> tuple[Partitioning, list[str]]:
    config = Config().with_settings(["corpus.name=manifest", f"corpus.data={path}", "corpus.split=none",
                                     "corpus.partition=own", "features.normalise=none", *settings])
    made = partition_corpus(config, 2, forgotten=forgotten, today=TODAY)
    return made, [made.corpus.clips[index].path.name for index in made.held[0]]


def test_a_consent_lasts_until_its_last_day(tmp_path: Path) -> None:
    made, names = used(manifest(tmp_path, "a.wav,ann,joy,,2026-02-28,", "b.wav,bob,joy,,2026-03-01,CC0",
                                "c.wav,cem,anger,,,", "d.wav,dan,anger,,nan,", "e.wav,eve,anger,,1999-12-31,"))
    assert names == ["b.wav", "c.wav", "d.wav"]
    assert [(path.name, why) for path, why in made.corpus.left_out] == [
        ("a.wav", "the consent to its use is over"), ("e.wav", "the consent to its use is over")]
    assert made.labels == ("anger", "happiness")


@pytest.mark.parametrize("day", ["31.12.2026", "2026-02-30", "soon", "2026", "2026-1-1-1", "9" * 30 + "-1-1"])
def test_a_consent_that_ends_on_no_day_is_refused_in_one_sentence(tmp_path: Path, day: str) -> None:
    path = manifest(tmp_path, "a.wav,ann,joy,,2026-05-01,", f"b.wav,bob,anger,,{day},")
    with pytest.raises(CorpusError, match=rf"line 3 of the manifest .*consent_until = '{day}' is no day") as it:
        read_manifest(path)
    assert it.value.exit_code == 2


def test_a_clip_is_used_for_the_purposes_that_were_agreed_to(tmp_path: Path) -> None:
    path = manifest(tmp_path, "a.wav,ann,joy,medical,,", "b.wav,bob,joy,Research; medical,,", "c.wav,cem,anger,,,",
                    "d.wav,dan,anger,research,,")
    assert used(path, "privacy.purpose=medical")[1] == ["a.wav", "b.wav", "c.wav"]
    assert used(path, "privacy.purpose=research")[1] == ["b.wav", "c.wav", "d.wav"]
    made, names = used(path)
    assert names == ["c.wav"]
    reasons = {path.name: why for path, why in made.corpus.left_out}
    assert reasons["b.wav"] == "the consent is for medical and research, and the run names no purpose (--purpose)"


@pytest.mark.parametrize("purpose", ["work", "education", "medical work"])
def test_the_european_ban_is_named_where_clips_are_of_work_or_education(tmp_path: Path, purpose: str) -> None:
    path = manifest(tmp_path, f"a.wav,ann,joy,{purpose} safety,,", "b.wav,bob,anger,safety,,")
    for settings in ((), ("privacy.purpose=research",)):
        with pytest.raises(CorpusError, match=r"2024/1689, article 5\(1\)\(f\).*February 2025.*--purpose medical or"):
            used(path, *settings)
    assert used(path, "privacy.purpose=safety")[1] == ["a.wav", "b.wav"]


@pytest.mark.parametrize(("purpose", "why"), [("work", "2024/1689"), ("education", "2024/1689"), ("A b", "one word")])
def test_a_purpose_that_is_banned_or_no_word_is_refused(purpose: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        Config().with_settings([f"privacy.purpose={purpose}"])


def test_forgotten_speakers_are_left_out_of_training_and_test(tmp_path: Path) -> None:
    path = manifest(tmp_path, *(f"{speaker}-{emotion}.wav,{speaker},{emotion},,,"
                                for speaker in ("ann", "bob", "cem") for emotion in ("joy", "anger")))
    made, names = used(path, "corpus.split=speakers:cem", forgotten=("bob", "cem"))
    assert names == ["ann-anger.wav", "ann-joy.wav"]
    assert made.split.test == ()
    shares = [used(path, "corpus.partition=iid", "seed=3", forgotten=who)[0].held for who in ((), ("bob",))]
    assert [tuple(i for i in share if i not in (2, 3)) for share in shares[0]] == [*shares[1]]


def test_the_columns_survive_writing(tmp_path: Path) -> None:
    corpus = read_manifest(manifest(tmp_path, "a.wav,ann,joy,medical,2027-01-31,CC BY 4.0", "b.wav,bob,anger,,,"))
    write_manifest(corpus, tmp_path / "again.csv")
    again = read_manifest(tmp_path / "again.csv")
    assert [clip.extra for clip in again.clips] == [clip.extra for clip in corpus.clips]
    assert corpus.clips[0].extra == {"purpose": "medical", "consent_until": "2027-01-31", "licence": "CC BY 4.0"}
