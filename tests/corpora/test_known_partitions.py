"""Splits and partitions against results worked out by hand, and corpora whose names begin alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from p2pser.base.errors import CorpusError
from p2pser.config import Config
from p2pser.corpora import combined, partitions
from p2pser.corpora.folds import EMOBOX, folds
from p2pser.corpora.labels import by_corpus, label_notes
from p2pser.corpora.loading import recognise
from p2pser.corpora.manifest import Clip, Corpus, assemble, read_manifest
from p2pser.corpora.partitioning import left_out_note, partition_corpus
from p2pser.corpora.partitions import partition

EMOTIONS = ("anger", "fear", "neutral")


def clips_of(speakers: Mapping[str, int], corpus: str = "", language: str = "") -> list[Clip]:
    """So many clips of each speaker, in the order given, with the emotions in turn."""
    return [Clip(Path(f"{corpus}-{speaker}-{number}.wav"), speaker, EMOTIONS[number % 3], language=language,
                 corpus=corpus) for speaker, count in speakers.items() for number in range(count)]


def corpus_of(name: str, speakers: Mapping[str, int]) -> Corpus:
    root = Path("/data") / name
    made = [Clip(root / f"{speaker}-{number:03d}.wav", speaker, EMOTIONS[number % 3], gender="fm"[len(speaker) % 2],
                 language="de") for speaker, count in speakers.items() for number in range(count)]
    return assemble(name, "1", made, [], root)


def test_speakers_go_to_the_peer_with_the_fewest_clips() -> None:
    clips = clips_of({"e": 1, "a": 9, "d": 3, "b": 5, "c": 4})  # a | b | c, then d to c (7), e to b (6)
    shares = partition(clips, "speaker", 3, 0)
    assert [sorted({clips[index].speaker for index in share}) for share in shares] == [["a"], ["b", "e"], ["c", "d"]]
    assert [len(share) for share in shares] == [9, 6, 7]
    assert shares[1] == [0, *range(13, 18)]


def test_the_speaker_with_the_largest_shares_is_cut() -> None:
    clips = clips_of({"a": 6, "b": 3})  # a in 2 (3.0 each, before b's 3), then a again: 2.0 each
    assert partition(clips, "speaker", 3, 0) == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert partition(clips, "speaker", 4, 0) == [[0, 4], [2, 3], [1, 5], [6, 7, 8]]


def test_peers_follow_the_clips_of_each_corpus_or_are_even() -> None:
    clips = [*clips_of({"s": 4, "t": 4, "u": 4}, "x", "de"), *clips_of({"v": 2, "w": 3}, "y", "en")]
    for how in ("corpus", "language"):
        shares = partition(clips, how, 4, 0)  # 12 and 5: the third peer to x (6 > 5), the fourth too (6 > 5)
        assert [(clips[share[0]].corpus, len(share)) for share in shares] == [("x", 4), ("x", 4), ("x", 4), ("y", 5)]
        even = partition(clips, f"{how}:even", 4, 0)
        assert [(clips[share[0]].corpus, len(share)) for share in even] == [("x", 8), ("x", 4), ("y", 2), ("y", 3)]
    assert partition(clips, "auto", 2, 0) == [list(range(12)), list(range(12, 17))]
    assert partition(clips, "auto", 1, 0) == [list(range(17))]  # too few peers for a corpus each: by speaker


def test_iid_sizes_differ_by_one_at_most() -> None:
    assert [len(share) for share in partition(clips_of({"a": 11}), "iid", 3, 0)] == [4, 4, 3]


def test_shares_of_a_label_are_rounded_to_the_nearest_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn(random: np.random.Generator, alpha: float, peers: int) -> np.ndarray:
        return np.array([0.26, 0.22, 0.52])

    monkeypatch.setattr(partitions, "_proportions", drawn)
    clips = [Clip(Path(f"{number}.wav"), "s", "anger") for number in range(7)]
    # The cuts are at 1.82 and 3.36 of 7 clips: 2 and 3, not 1 and 3.
    assert [len(share) for share in partition(clips, "dirichlet:1", 3, 0)] == [2, 1, 4]


def test_a_peer_with_too_few_clips_takes_from_the_largest(monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn(random: np.random.Generator, alpha: float, peers: int) -> np.ndarray:
        return np.array([0.0, 0.3, 0.7])

    monkeypatch.setattr(partitions, "_proportions", drawn)
    clips = [Clip(Path(f"{number}.wav"), "s", "anger") for number in range(10)]
    assert [len(share) for share in partition(clips, "dirichlet:1", 3, 0)] == [1, 3, 6]
    assert [len(share) for share in partition(clips, "dirichlet:1:3", 3, 0)] == [3, 3, 4]


def test_groups_are_the_same_on_every_machine() -> None:
    genders = {"a": "f", "b": "m", "c": "f", "d": "m", "e": "f", "f": "m", "g": "f", "h": "f"}
    clips = [Clip(Path(f"{speaker}.wav"), speaker, "anger", gender) for speaker, gender in genders.items()]
    groups = [fold.test_speakers for fold in folds(assemble("c", "", clips, [], Path()), "group:2")]
    assert groups == [("a", "c", "d", "e"), ("b", "f", "g", "h")]
    assert [Counter(genders[speaker] for speaker in group) for group in groups] == [{"f": 3, "m": 1}, {"f": 2, "m": 2}]


def test_clips_of_folds_have_each_label_in_equal_numbers() -> None:
    corpus = corpus_of("c", {"a": 12, "b": 12})
    made = folds(corpus, "clips:4")
    assert [fold.name for fold in made] == ["clips:4/0", "clips:4/1", "clips:4/2", "clips:4/3"]
    assert all(Counter(corpus.clips[index].emotion for index in fold.test) == dict.fromkeys(EMOTIONS, 2)
               for fold in made)


def test_the_actors_of_emobox() -> None:
    assert EMOBOX == (("01", "11", "20", "21"), ("04", "10", "12", "14"), ("08", "09", "19", "23"),
                      ("03", "05", "07", "24"), ("02", "15", "16", "18"), ("06", "13", "17", "22"))


# ---- names that begin alike --------------------------------------------------------------------------------

@pytest.fixture
def alike() -> Corpus:
    """Two corpora, the name of one the beginning of the other's, with speakers of the same names."""
    return combined.combine([corpus_of("emodb2", {"s1": 3, "s2": 6}), corpus_of("emodb", {"s1": 9, "emodb/s2": 2})])


def test_a_corpus_whose_name_begins_anothers_keeps_its_clips(alike: Corpus) -> None:
    assert [part.name for part in alike.parts] == ["emodb", "emodb2"]
    assert alike.speakers == ("emodb/emodb/s2", "emodb/s1", "emodb2/s1", "emodb2/s2")
    first, places = combined.alone(alike, alike.parts[0])
    second, others = combined.alone(alike, alike.parts[1])
    assert (len(first.clips), len(second.clips)) == (11, 9)
    assert (first.speakers, second.speakers) == (("emodb/s2", "s1"), ("s1", "s2"))
    assert sorted(places + others) == list(range(20))
    assert {alike.relative(clip).partition("/")[0] for clip in alike.clips[11:]} == {"emodb2"}
    assert alike.relative(alike.clips[-1]) == "emodb2/s2-005.wav"


def test_splits_and_labels_tell_names_that_begin_alike_apart(alike: Corpus) -> None:
    (fold,) = folds(alike, "corpus:emodb")
    assert {alike.clips[index].corpus for index in fold.test} == {"emodb"}
    assert (len(fold.test), len(fold.train)) == (11, 9)
    assert [len(share) for share in partition(alike.clips, "corpus", 2, 0)] == [11, 9]
    assert by_corpus(alike) == {"emodb": {"anger": 4, "fear": 4, "neutral": 3},
                                "emodb2": {"anger": 3, "fear": 3, "neutral": 3}}
    (note,) = label_notes(alike, ("anger", "fear"))
    assert note.endswith("not among the 2 labels: neutral (3 clips of emodb, 3 clips of emodb2)")


def test_only_the_named_one_is_trained_on(tmp_path: Path) -> None:
    for name, emotions in (("emo", ("anger", "fear")), ("emo2", ("fear", "anger"))):
        for emotion in emotions:
            for speaker in ("s1", "s2"):
                path = tmp_path / name / emotion / speaker / "1.wav"
                path.parent.mkdir(parents=True)
                path.touch()
    config = Config().with_settings([
        "corpus.name=folder+folder", f"corpus.data=[{tmp_path / 'emo'}, {tmp_path / 'emo2'}]", "corpus.train=emo"])
    partitioning = partition_corpus(config, 1)
    assert {partitioning.corpus.clips[index].corpus for index in partitioning.split.train} == {"emo"}
    assert {partitioning.corpus.clips[index].corpus for index in partitioning.split.test} == {"emo", "emo2"}


def test_the_fold_of_the_settings_is_held_out_and_the_hub_holds_nothing(tmp_path: Path) -> None:
    for speaker in ("s1", "s2", "s3"):
        for emotion in ("anger", "fear"):
            path = tmp_path / emotion / speaker / "1.wav"
            path.parent.mkdir(parents=True)
            path.touch()
    for fold, speaker in enumerate(("s1", "s2", "s3")):
        config = Config().with_settings(["corpus.name=folder", f"corpus.data={tmp_path}", "corpus.split=loso",
                                         f"corpus.fold={fold}"])
        partitioning = partition_corpus(config, 3, hub=1)
        assert partitioning.split.test_speakers == (speaker,)
        assert [len(share) for share in partitioning.held] == [2, 0, 2]
        assert (partitioning.speaker_overlap, partitioning.labels) == (0, ("anger", "fear"))


def test_a_manifest_is_synthetic_where_all_its_clips_are(tmp_path: Path) -> None:
    for name in ("1", "2"):
        (tmp_path / f"{name}.wav").touch()
    for second, synthetic in (("espeak", True), ("", False)):
        (tmp_path / "manifest.csv").write_text(f"path,emotion,synthetic\n1.wav,anger,espeak\n2.wav,fear,{second}\n")
        assert read_manifest(tmp_path / "manifest.csv").synthetic is synthetic


def test_few_foreign_recordings_do_not_make_several_corpora(tmp_path: Path) -> None:
    for number in range(100):
        (tmp_path / f"03a01{'WLEAFTN'[number % 7]}{chr(97 + number // 7)}.wav").touch()
    for word in ("back", "bar", "base", "bath"):
        (tmp_path / f"OAF_{word}_angry.wav").touch()
    assert recognise(tmp_path) == "emodb"  # 4 of 104
    for word in ("bean", "beg"):
        (tmp_path / f"OAF_{word}_angry.wav").touch()
    with pytest.raises(CorpusError, match=r"several corpora, emodb \(100 recordings\), tess \(6 recordings\)"):
        recognise(tmp_path)


def test_labels_may_be_a_list_or_separated_by_commas() -> None:
    for labels in ("corpus.labels=fear,anger", "corpus.labels=[fear, anger]"):
        assert Config().with_settings([labels]).corpus.labels == ("fear", "anger")
    assert Config().with_settings(["corpus.labels=fear"]).corpus.labels == ("fear",)
    assert Config().with_settings(["corpus.data=a,b"]).corpus.data == Path("a,b")  # one folder with a comma


def test_files_that_are_left_out_are_counted_by_reason() -> None:
    reasons = ["it is silent", *(f"line {n} of a.csv: it has no label" for n in range(3)), "it is silent", "x", "y"]
    assert left_out_note([(Path("a"), reason) for reason in reasons]) == (
        "7 files are left out: 3 × it has no label; 2 × it is silent; 1 × x; 1 × another reason",)
    assert left_out_note([(Path("a"), "it is silent")]) == ("1 file is left out: 1 × it is silent",)
    assert left_out_note([]) == ()
