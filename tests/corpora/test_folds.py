"""Splits hold speakers out, partitions deal every clip once."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from p2pser.base.errors import CorpusError
from p2pser.corpora.folds import EMOBOX, folds
from p2pser.corpora.loading import load
from p2pser.corpora.manifest import UNKNOWN, Clip, Corpus, assemble
from p2pser.corpora.partitions import partition

EMOTIONS = ("anger", "fear", "neutral")


def corpus_of(counts: dict[str, int], name: str = "c", genders: dict[str, str] | None = None) -> Corpus:
    """A corpus with so many clips of each speaker, emotions in turn."""
    clips = [
        Clip(Path(f"{speaker}-{number:03d}.wav"), speaker, EMOTIONS[number % 3], (genders or {}).get(speaker, ""))
        for speaker, count in counts.items() for number in range(count)
    ]
    return assemble(name, "", clips, [], Path())


NAMES = st.text("abcdef", min_size=1, max_size=3)
CORPORA = st.dictionaries(NAMES, st.integers(1, 9), min_size=1, max_size=8).map(corpus_of)


@given(CORPORA, st.data())
def test_disjoint_splits_are_disjoint_and_cover_everything(corpus: Corpus, data: st.DataObject) -> None:
    speakers = len(corpus.speakers)
    assume(speakers >= 2)
    split = data.draw(st.sampled_from(["auto", "loso", f"group:{data.draw(st.integers(2, speakers))}"]))
    made = folds(corpus, split)
    everything = set(range(len(corpus.clips)))
    for fold in made:
        assert fold.disjoint
        assert set(fold.train) | set(fold.test) == everything
        assert not set(fold.train) & set(fold.test)
        assert fold.train
        assert fold.test
        assert set(fold.test_speakers) == {corpus.clips[index].speaker for index in fold.test}
        assert not set(fold.test_speakers) & {corpus.clips[index].speaker for index in fold.train}
    assert sorted(itertools.chain(*(fold.test for fold in made))) == sorted(everything)
    assert made == folds(corpus, split)
    assert len({fold.name for fold in made}) == len(made)


def test_groups_balance_gender() -> None:
    genders = {f"{gender}{number}": gender for gender in "fm" for number in range(8)}
    corpus = corpus_of(dict.fromkeys(genders, 2), genders=genders)
    for fold in folds(corpus, "group:4"):
        assert Counter(genders[speaker] for speaker in fold.test_speakers) == {"f": 2, "m": 2}


def test_published_folds(shared_data: Path) -> None:
    emodb = folds(load("emodb", shared_data / "emodb"), "auto")
    assert [fold.test_speakers for fold in emodb] == [(f"{speaker:02d}",) for speaker in (3, *range(8, 17))]
    ravdess = folds(load("ravdess", shared_data / "ravdess"), "auto")
    assert [fold.test_speakers for fold in ravdess] == list(EMOBOX)
    assert [len(fold.test) for fold in ravdess] == [240] * 6
    assert sorted(itertools.chain(*EMOBOX)) == [f"{actor:02d}" for actor in range(1, 25)]


def test_named_speakers_and_none() -> None:
    corpus = corpus_of({"a": 2, "b": 3, "c": 4})
    (fold,) = folds(corpus, "speakers:a+c")
    assert (fold.test_speakers, len(fold.train), fold.disjoint) == (("a", "c"), 3, True)
    (fold,) = folds(corpus, "none")
    assert (fold.test, fold.train, fold.disjoint) == ((), tuple(range(9)), True)


def test_clips_shares_speakers_and_says_so() -> None:
    made = folds(corpus_of({"a": 9, "b": 9}), "clips:3")
    assert [len(fold.test) for fold in made] == [6, 6, 6]
    assert not any(fold.disjoint for fold in made)
    for fold in made:
        assert Counter(index % 3 for index in fold.test) == {0: 2, 1: 2, 2: 2}


def test_disjoint_is_found_not_assumed() -> None:
    corpus = corpus_of({"a": 3, UNKNOWN: 3})
    assert [fold.disjoint for fold in folds(corpus, "clips:3")] == [False] * 3
    one_each = corpus_of({"a": 1, "b": 1})
    assert [fold.disjoint for fold in folds(one_each, "clips:2")] == [True] * 2
    with pytest.raises(CorpusError, match="cannot be speaker-disjoint"):
        folds(corpus, "speakers:a")


@pytest.mark.parametrize(
    ("split", "why"),
    [
        ("losso", "did you mean 'loso'"),
        ("group:9", "needs 9 speakers; c has 3"),
        ("group:1", "at least 2, e.g. group:4"),
        ("group", "at least 2"),
        ("group:x", "at least 2"),
        ("clips:99", "needs 99 clips"),
        ("emobox", "RAVDESS's"),
        ("speakers:z", "has no speaker 'z'"),
        ("speakers:", "has no speaker ''"),
        ("speakers:a+b+c", "leaves no speaker for training"),
    ],
)
def test_splits_that_do_not_fit(split: str, why: str) -> None:
    with pytest.raises(CorpusError, match=why):
        folds(corpus_of({"a": 2, "b": 3, "c": 4}), split)


@pytest.mark.parametrize("split", ["auto", "loso", "group:4", "speakers:a"])
def test_one_speaker_cannot_be_split_disjointly(split: str) -> None:
    with pytest.raises(CorpusError, match=r"all clips are of one speaker \(a\)"):
        folds(corpus_of({"a": 9}), split)


def test_emobox_needs_all_actors() -> None:
    with pytest.raises(CorpusError, match="02, 03"):
        folds(corpus_of({"01": 3, "04": 3}, name="ravdess"), "emobox")


HOW = st.sampled_from(["auto", "speaker", "iid", "dirichlet:0.1", "dirichlet:1", "dirichlet:1000", "dirichlet:1e-9"])


@given(CORPORA, HOW, st.integers(1, 12), st.integers(0, 5))
def test_a_partition_holds_every_clip_once(corpus: Corpus, how: str, peers: int, seed: int) -> None:
    clips = corpus.clips
    if peers > len(clips):
        with pytest.raises(CorpusError, match=f"too few for {peers} peers"):
            partition(clips, how, peers, seed)
        return
    held = partition(clips, how, peers, seed)
    assert len(held) == peers
    assert all(held)
    assert sorted(itertools.chain(*held)) == list(range(len(clips)))
    assert all(share == sorted(share) for share in held)
    assert held == partition(clips, how, peers, seed)


@given(CORPORA, st.integers(1, 12))
def test_speakers_stay_whole_where_they_can(corpus: Corpus, peers: int) -> None:
    clips, speakers = corpus.clips, corpus.speakers
    assume(peers <= len(clips))
    held = partition(clips, "speaker", peers, 0)
    spoken = [{clips[index].speaker for index in share} for share in held]
    holders = {speaker: [peer for peer, has in enumerate(spoken) if speaker in has] for speaker in speakers}
    if peers <= len(speakers):
        assert all(len(at) == 1 for at in holders.values())
    else:
        assert all(len({clips[index].speaker for index in share}) == 1 for share in held)
    if peers == len(speakers):
        assert [clips[share[0]].speaker for share in held] == list(speakers)


def test_shares_of_a_speaker_have_as_many_labels_as_they_can() -> None:
    corpus = corpus_of({"a": 12, "b": 3})
    held = partition(corpus.clips, "speaker", 4, 0)
    assert sorted(len(share) for share in held) == [3, 4, 4, 4]
    for share in held:
        assert {corpus.clips[index].emotion for index in share} == set(EMOTIONS)


def test_numbers_of_clips_are_balanced() -> None:
    held = partition(corpus_of({"a": 8, "b": 5, "c": 4, "d": 4, "e": 3}).clips, "speaker", 3, 0)
    assert [len(share) for share in held] == [8, 8, 8]


def test_alpha_says_how_many_labels_a_peer_has() -> None:
    clips = corpus_of({"a": 300}).clips

    def labels(alpha: str) -> int:
        held = partition(clips, f"dirichlet:{alpha}", 10, 1)
        return sum(len({clips[index].emotion for index in share}) for share in held)

    assert labels("100") == 30
    assert labels("0.05") < 24


def test_a_label_skew_leaves_no_peer_with_too_few_clips() -> None:
    clips = corpus_of({"a": 120}).clips
    loose, firm = partition(clips, "dirichlet:0.05", 8, 3), partition(clips, "dirichlet:0.05:8", 8, 3)
    assert min(map(len, loose)) < 8 <= min(map(len, firm))
    assert sorted(index for share in firm for index in share) == list(range(120))


def test_seeds_differ_and_own_shares_all() -> None:
    clips = corpus_of({"a": 20}).clips
    assert partition(clips, "iid", 4, 0) != partition(clips, "iid", 4, 1)
    assert [len(share) for share in partition(clips, "iid", 3, 0)] == [7, 7, 6]
    assert partition(clips, "own", 3, 0) == [list(range(20))] * 3


@pytest.mark.parametrize(("how", "why"), [("spaeker", "did you mean 'speaker'"), ("dirichlet:0", "positive"),
                                          ("dirichlet", "positive"), ("dirichlet:nan", "positive"),
                                          ("dirichlet:1:3", "at most 2"), ("dirichlet:1:x", "number of clips")])
def test_partitions_that_do_not_fit(how: str, why: str) -> None:
    with pytest.raises(CorpusError, match=why):
        partition(corpus_of({"a": 5}).clips, how, 2, 0)
    with pytest.raises(CorpusError, match="over 0 peers"):
        partition(corpus_of({"a": 5}).clips, "iid", 0, 0)
