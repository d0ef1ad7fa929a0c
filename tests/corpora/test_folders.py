"""Folders as users have them: which of them name emotions, speakers, sessions and splits, and what is said of it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pser.base.errors import CorpusError
from p2pser.config import Config
from p2pser.corpora.labels import unknown_note
from p2pser.corpora.loading import load
from p2pser.corpora.manifest import UNKNOWN, Corpus
from p2pser.corpora.partitioning import partition_corpus
from p2pser.corpora.survey import survey


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def read(folder: Path, *names: str) -> Corpus:
    return load("auto", touch(folder, *names))


SESSIONS = ["visit{}", "Session_0{}", "t{}", "2024-01-0{}", "Tag {}", "séance{}", "rec{}", "day {} morning"]


@pytest.mark.parametrize("names", [
    *[(name.format(1), name.format(2)) for name in SESSIONS], ("pre", "post"), ("baseline", "follow-up"),
    ("Vorher", "nachher"), ("pre-treatment", "notes"),
])
@pytest.mark.parametrize("path", ["{e}/{p}/{v}/1.wav", "{p}/{v}/{e}/1.wav", "{p}/{e}/{v}/1.wav"])
def test_sessions_are_no_speakers(tmp_path: Path, path: str, names: tuple[str, str]) -> None:
    corpus = read(tmp_path, *(path.format(e=emotion, p=person, v=name) for emotion in ("anger", "joy")
                              for person in ("P1", "P2") for name in names))
    assert (corpus.speakers, corpus.labels) == (("P1", "P2"), ("anger", "happiness"))
    (note,) = corpus.notes
    assert note == (f"the folders {', '.join(sorted(names))} count as sessions of the speaker above, not as "
                    "speakers; if that is wrong, give each clip's speaker in a manifest (p2pser corpus scan "
                    f"{corpus.root} --manifest {corpus.root}/manifest.csv writes one)")


def test_sessions_without_a_speaker_above_them_are_pointed_out(tmp_path: Path) -> None:
    corpus = read(tmp_path, "anger/day1/1.wav", "joy/day1/2.wav", "anger/day2/1.wav", "joy/day2/2.wav")
    assert corpus.speakers == ("day1", "day2")
    (note,) = corpus.notes
    assert note.startswith("the folders day1, day2 count as speakers, with names of sessions; if one person is in")


def test_folders_that_recur_may_be_sessions_or_speakers(tmp_path: Path) -> None:
    corpus = read(tmp_path / "a", *(f"anger/{site}/{name}/1.wav" for site in ("A", "B") for name in "12"),
                  "joy/B/3/1.wav")
    assert corpus.speakers == ("A/1", "A/2", "B/1", "B/2", "B/3")
    (note,) = corpus.notes
    assert note.startswith("the folders 1, 2 count as speakers in each of several folders (A/1 and B/1 are two); if "
                           "that is one person, or none, give each clip's speaker in a manifest (p2pser")
    assert read(tmp_path / "b", "anger/A/1/1.wav", "joy/B/2/1.wav").notes == ()


def test_folders_below_a_speaker_with_clips_may_be_of_that_speaker(tmp_path: Path) -> None:
    corpus = read(tmp_path, "anger/ann/1.wav", "joy/ann/deep/1.wav", "joy/ben/1.wav")
    assert corpus.speakers == ("ann", "ann/deep", "ben")
    (note,) = corpus.notes
    assert note.startswith("the folder ann/deep counts as a speaker beside the one above (ann), which has clips too; "
                           "if that is one person, give each clip's speaker in a manifest")


def test_a_person_may_have_the_name_of_a_session(tmp_path: Path) -> None:
    names = ("Meyer", "Post", "Roth")
    corpus = read(tmp_path, *(f"anger/Berlin/{name}/1.wav" for name in names), "joy/Rom/Roth/1.wav")
    assert corpus.speakers == ("Berlin/Meyer", "Berlin/Post", "Berlin/Roth", "Rom/Roth")


@pytest.mark.parametrize("split", ["train", "Test_set", "devel", "validation 1", "train_fold2", "evaluation"])
def test_splits_are_no_speakers(tmp_path: Path, split: str) -> None:
    corpus = read(tmp_path, f"{split}/anger/ann/1.wav", "other/joy/ben/2.wav")
    assert corpus.speakers == ("ann", "other/ben")


def test_emotions_on_two_levels_are_all_read(tmp_path: Path) -> None:
    usual = [f"{emotion}/{name}/1.wav" for emotion in ("anger", "neutral", "sad") for name in "AB"]
    turned = [f"{name}/{emotion}/1.wav" for name in "XY" for emotion in ("Angry", "neutral")]
    corpus = read(tmp_path / "a", *usual, *turned)
    assert (corpus.labels, corpus.speakers) == (("anger", "neutral", "sadness"), ("A", "B", "X", "Y"))
    assert corpus.notes == ("the folders X, Y count as speakers, not as emotions: the names are none of emotions, "
                            "and other folders on these paths have such names",)
    corpus = read(tmp_path / "b", "P/pre/anger/1.wav", "P/post/joy/1.wav", "P/anger/1.wav")
    assert (corpus.labels, corpus.speakers, corpus.left_out) == (("anger", "happiness"), ("P",), ())


def test_words_below_an_unknown_emotion_are_no_emotions(tmp_path: Path) -> None:
    """Joy and Normal may be a speaker and an intensity."""
    corpus = read(tmp_path, "anger/ann/1.wav", "sad/ben/1.wav", "joy/ben/1.wav", "irony/Joy/1.wav", "awe/normal/1.wav",
                  "awe/strong/1.wav")
    assert corpus.labels == ("anger", "awe", "happiness", "irony", "sadness")


def test_words_that_are_no_known_emotions_are_named(tmp_path: Path) -> None:
    (note,) = unknown_note(read(tmp_path / "a", "wavs/1.wav", "wavs/2.wav"))
    assert note == ("'wavs' (2) is no known word for an emotion and counts as one of its own; to count a word as "
                    "another, add --set corpus.map=wavs=EMOTION; to learn some emotions only, name them with "
                    "corpus.labels; if these are no emotions, give each clip's emotion in a manifest")
    few = read(tmp_path / "b", "anger/1.wav", "joy/1.wav", "sad/1.wav", "Neutral voice/1.wav", "01_angry/1.wav")
    (note,) = unknown_note(few)
    assert note.startswith("'01_angry' (1), 'neutral voice' (1) are no known words for emotions and count as ones of")
    assert "add --set 'corpus.map=01_angry=anger,neutral voice=neutral'; to" in note
    assert unknown_note(read(tmp_path / "c", "anger/1.wav", "joy/1.wav")) == ()


def test_the_emotions_of_a_known_corpus_are_its_own(tmp_path: Path) -> None:
    corpus = load("crema-d", touch(tmp_path, "1001_DFA_ANG_XX.wav"))
    clips = (dataclasses.replace(corpus.clips[0], emotion="pride"),)
    assert unknown_note(dataclasses.replace(corpus, clips=clips)) == ()
    assert unknown_note(dataclasses.replace(corpus, clips=clips, name="mine")) != ()


def test_a_run_tells_unknown_words_but_those_that_its_settings_decide(tmp_path: Path) -> None:
    touch(tmp_path, "anger/ann/1.wav", "joy/ann/1.wav", "angry2/ann/1.wav")

    def notes(*settings: str) -> list[str]:
        config = Config().with_settings(["corpus.name=auto", f"corpus.data={tmp_path}", "corpus.split=none",
                                         "corpus.partition=own", *settings])
        return [note for note in partition_corpus(config, 1).notes if "no known word" in note]

    assert len(notes()) == 1
    assert notes("corpus.map=angry2=anger") == notes("corpus.labels=anger,joy") == []


def test_a_folder_without_speakers_has_unknown_ones(tmp_path: Path) -> None:
    assert read(tmp_path, "sad/1.wav", "joy/train/1.wav").speakers == (UNKNOWN,)


@pytest.fixture
def locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of which ``anger/locked`` and ``wav/locked`` cannot be read."""
    listed = os.scandir

    def scandir(path: str) -> Iterator[os.DirEntry[str]]:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    return touch(tmp_path, "anger/ann/1.wav", "joy/ben/1.wav", "anger/locked/1.wav")


def test_a_folder_that_cannot_be_read_costs_only_itself(locked: Path) -> None:
    corpus = load("auto", locked)
    assert len(corpus.clips) == 2
    assert corpus.left_out == ((locked / "anger/locked", "the folder cannot be read: Permission denied"),)
    emodb = touch(locked / "emodb", "03a01Fa.wav", "03a01Wa.wav", "wav/locked/03a01Ta.wav")
    assert load("auto", emodb).left_out == ((emodb / "wav/locked", "the folder cannot be read: Permission denied"),)
    both = touch(locked / "both", *(f"r/03-01-03-01-02-01-{number:02d}.wav" for number in range(1, 9)),
                 *(f"e/03a0{number}Fa.wav" for number in range(1, 5)), "e/locked/03a01Wa.wav", "locked/1.wav")
    corpora, others = survey(both)
    assert [corpus.name for corpus in corpora] == ["ravdess", "emodb"]
    why = "the folder cannot be read: Permission denied"
    assert others == [(both / place, why) for place in ("e/locked", "locked")]


def test_a_folder_of_which_nothing_can_be_read_is_refused(locked: Path) -> None:
    with pytest.raises(CorpusError, match=r"cannot read the folder .*anger/locked: Permission denied"):
        load("auto", locked / "anger" / "locked")
    (locked / "anger/ann/1.wav").unlink()
    with pytest.raises(CorpusError, match=r"anger/locked: the folder cannot be read: Permission denied"):
        load("auto", locked / "anger")


def test_a_site_without_recordings_is_told_how_to_relay(tmp_path: Path) -> None:
    config = Config().with_settings(["corpus.name=auto", f"corpus.data={tmp_path}"])
    with pytest.raises(CorpusError, match=r"holds no recordings \(.wav, .flac, .mp3, \.\.\.\)$"):
        partition_corpus(config, 1)
    with pytest.raises(CorpusError, match=r"relays \(--corpus none; p2pser accept: --data none\)$"):
        partition_corpus(config.with_settings(["corpus.partition=own"]), 1)
