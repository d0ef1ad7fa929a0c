"""Several corpora as one: speakers stay apart, labels with the same meaning are merged, folds and shares fit."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pser.base.errors import ConfigError, CorpusError
from p2pser.config import Config, CorpusSettings
from p2pser.corpora import combined as several
from p2pser.corpora.adapters.ravdess import ACTORS
from p2pser.corpora.folds import EMOBOX, folds
from p2pser.corpora.labels import absent_note, choose_labels, label_notes, merged
from p2pser.corpora.manifest import UNKNOWN, Clip, Corpus, assemble, read_manifest, write_manifest
from p2pser.corpora.partitioning import partition_corpus, splits
from p2pser.corpora.partitions import partition

EMOTIONS = ("anger", "fear", "neutral")


def corpus_of(name: str, speakers: Sequence[str], emotions: Sequence[str] = EMOTIONS, language: str = "de",
              clips: int = 6, split: str | None = None) -> Corpus:
    """A corpus with so many clips of each speaker, emotions in turn."""
    root = Path("/data") / name
    made = [Clip(root / f"{speaker}-{number:03d}.wav", speaker, emotions[number % len(emotions)], language=language)
            for speaker in speakers for number in range(clips)]
    return assemble(name, "1", made, [], root, split=split)


@pytest.fixture
def three() -> Corpus:
    return several.combine([
        corpus_of("b", ["s1", "s2"], language="en"),
        corpus_of("a", ["s1", "s2", "s3"], ("anger", "boredom", "fear", "neutral"), clips=8, split="loso"),
        corpus_of("ravdess", ACTORS, ("anger", "calm", "fear"), "en", split="emobox"),
    ])


def test_speakers_and_paths_are_told_apart_and_the_order_does_not_matter(three: Corpus) -> None:
    assert three.name == "a+b+ravdess"
    assert three.version == "a 1, b 1, ravdess 1"
    assert len(three.speakers) == 3 + 2 + 24
    assert {"a/s1", "b/s1"} <= set(three.speakers)
    first, last = three.clips[0], three.clips[-1]
    assert (first.corpus, first.language, three.relative(first)) == ("a", "de", "a/s1-000.wav")
    assert (last.corpus, last.language, three.relative(last)) == ("ravdess", "en", "ravdess/24-005.wav")
    parts = [several.alone(three, part)[0] for part in three.parts]
    assert several.combine(parts[::-1]) == three
    assert [part.speakers for part in parts][:2] == [("s1", "s2", "s3"), ("s1", "s2")]
    assert (three.default_split, three.names_speakers) == ("each", True)


def test_unnamed_speakers_stay_unnamed() -> None:
    both = several.combine([corpus_of("a", ["s1", "s2"]), corpus_of("b", [UNKNOWN])])
    assert set(both.speakers) == {"a/s1", "a/s2", UNKNOWN}
    assert not both.names_speakers


def test_two_of_one_name_are_refused() -> None:
    with pytest.raises(CorpusError, match="two of the corpora are called 'a'"):
        several.combine([corpus_of("a", ["x"]), corpus_of("a", ["y"])])


def test_dimensions_come_to_one_scale() -> None:
    rated = corpus_of("rated", ["x"])
    clips = tuple(dataclasses.replace(clip, arousal=5.0, valence=3.0) for clip in rated.clips)
    both = several.combine([dataclasses.replace(rated, clips=clips, scale=(1.0, 5.0)), corpus_of("b", ["y"])])
    assert {(clip.arousal, clip.valence, clip.dominance) for clip in both.clips if clip.corpus == "rated"} \
        == {(1.0, 0.0, None)}
    assert both.scale == (-1.0, 1.0)


def test_the_labels_are_those_that_all_have(three: Corpus) -> None:
    labels = choose_labels(three, None)
    assert labels == ("anger", "fear")
    (note,) = label_notes(three, labels)
    assert "boredom (6 clips of a), calm (48 clips of ravdess), neutral (6 clips of a, 4 clips of b)" in note
    calmer = merged(three, {"calm": "neutral"})
    assert calmer.notes == ("calm counts as neutral (48 clips)",)
    assert choose_labels(calmer, None) == ("anger", "fear", "neutral")
    assert choose_labels(three, ["calm", "anger"]) == ("calm", "anger")
    assert "a has no calm; b has no calm" in label_notes(three, ("calm", "anger"))
    apart = several.combine([corpus_of("a", ["x"], ("anger", "fear")), corpus_of("b", ["y"], ("calm", "fear"))])
    with pytest.raises(CorpusError, match=r"have fear in common.*a: anger, fear; b: calm, fear.*corpus\.map"):
        choose_labels(apart, None)


def test_merges_know_other_names_and_take_votes_along() -> None:
    corpus = corpus_of("c", ["x"], ("excitement", "happiness", "neutral"))
    voted = dataclasses.replace(corpus.clips[0], votes={"excitement": 0.5, "happiness": 0.25, "neutral": 0.25})
    corpus = dataclasses.replace(corpus, clips=(voted, *corpus.clips[1:]))
    found = merged(corpus, {"excited": "happy"})
    assert Counter(clip.emotion for clip in found.clips) == {"happiness": 4, "neutral": 2}
    assert found.clips[0].votes == {"happiness": 0.75, "neutral": 0.25}
    with pytest.raises(CorpusError, match=r"merges 'angry', and c has no such emotion|merges 'anger'"):
        merged(corpus, {"angry": "neutral"})
    assert merged(corpus, {"angry": "neutral"}, all_known=False).clips == corpus.clips
    assert merged(corpus, {}) is corpus


def test_each_corpus_is_split_its_own_way(three: Corpus) -> None:
    made = folds(three, "auto")
    assert len(made) == 6
    assert made[0].name == "a loso:s1 + b group:2/0 + ravdess emobox:0"
    for number, fold in enumerate(made):
        assert fold.disjoint
        tested = {name: {s.split("/")[1] for s in fold.test_speakers if s.startswith(f"{name}/")} for name in "ab"}
        assert tested["a"] == {f"s{number % 3 + 1}"}
        assert len(tested["b"]) == 1
        assert {s.split("/")[1] for s in fold.test_speakers if s.startswith("ravdess/")} == set(EMOBOX[number])
    with pytest.raises(CorpusError, match="the split each is for several corpora"):
        folds(corpus_of("a", ["x", "y"]), "each")


def test_shorter_corpora_are_noted(data: Path) -> None:
    (data / "x" / "fear" / "r").mkdir()
    (data / "x" / "fear" / "r" / "1.wav").touch()
    settings = ["corpus.name=folder+folder", f"corpus.data=[{data / 'x'}, {data / 'y'}]"]
    assert "of the 3 folds, corpora with fewer (y 2) repeat theirs" in \
        partition_corpus(Config().with_settings(settings), 2).notes
    assert not any("begin" in note for note in
                   partition_corpus(Config().with_settings([*settings, "corpus.split=loso"]), 2).notes)


def test_one_corpus_or_language_is_left_out(three: Corpus) -> None:
    made = folds(three, "corpus")
    assert [fold.name for fold in made] == ["corpus:a", "corpus:b", "corpus:ravdess"]
    assert [{three.clips[i].corpus for i in fold.test} for fold in made] == [{"a"}, {"b"}, {"ravdess"}]
    assert all(fold.disjoint and len(fold.train) + len(fold.test) == len(three.clips) for fold in made)
    assert folds(three, "corpus:b") == [made[1]]
    german, english = folds(three, "language")
    assert {three.clips[i].language for i in german.test} == {"de"} == {three.clips[i].language for i in english.train}
    with pytest.raises(CorpusError, match="has no corpus 'ravdes'; did you mean 'ravdess'"):
        folds(three, "corpus:ravdes")
    with pytest.raises(CorpusError, match="needs the corpus of every clip, and 12 clips have none"):
        folds(corpus_of("a", ["x", "y"]), "corpus")
    with pytest.raises(CorpusError, match="holds out one language of several"):
        folds(corpus_of("a", ["x", "y"]), "language")


@given(st.lists(st.integers(1, 5), min_size=2, max_size=4), st.integers(1, 12),
       st.sampled_from(["corpus", "corpus:even", "language", "language:even"]))
def test_a_peer_holds_clips_of_one_group(speakers: list[int], peers: int, how: str) -> None:
    clips = [Clip(Path(f"{group}-{number}-{take}"), f"{group}/{number}", EMOTIONS[take % 3], language=f"l{group}",
                  corpus=f"c{group}") for group, count in enumerate(speakers) for number in range(count)
             for take in range(6)]
    if peers < len(speakers):
        with pytest.raises(CorpusError, match="needs a peer for each"):
            partition(clips, how, peers, 0)
        return
    if how.endswith("even") and -(-peers // len(speakers)) > 6 * min(speakers):
        return
    held = partition(clips, how, peers, 0)
    assert sorted(index for share in held for index in share) == list(range(len(clips)))
    groups = [{clips[index].corpus for index in share} for share in held]
    assert all(len(group) == 1 for group in groups)
    order = [min(group) for group in groups]
    assert order == sorted(order)
    counts = Counter(order)
    if how.endswith("even"):
        assert max(counts.values()) - min(counts.values()) <= 1
    else:  # no corpus could take a peer from another and leave the most loaded lighter
        loads = {name: 6 * speakers[int(name[1:])] / count for name, count in counts.items()}
        for name, count in counts.items():
            if count > 1:
                assert max(loads.values()) <= 6 * speakers[int(name[1:])] / (count - 1) + 1e-9


def test_by_default_several_corpora_are_partitioned_by_corpus(three: Corpus) -> None:
    held = partition(three.clips, "auto", 8, 0)
    assert all(len({three.clips[index].corpus for index in share}) == 1 for share in held)
    assert held == partition(three.clips, "corpus", 8, 0)
    assert partition(three.clips, "auto", 2, 0) == partition(three.clips, "speaker", 2, 0)
    one = corpus_of("a", ["x", "y", "z"]).clips
    assert partition(one, "auto", 3, 0) == partition(one, "speaker", 3, 0)
    with pytest.raises(CorpusError, match="needs the corpus of every clip"):
        partition(one, "corpus", 3, 0)
    with pytest.raises(CorpusError, match="did you mean 'corpus:even'"):
        partition(three.clips, "corpus:evn", 8, 0)
    tiny = several.combine([corpus_of("a", ["x"], clips=2), corpus_of("b", ["y", "z"])]).clips
    with pytest.raises(CorpusError, match="2 training clips of a are too few for 3 peers"):
        partition(tiny, "corpus:even", 6, 0)


def test_a_manifest_keeps_the_corpora(three: Corpus, tmp_path: Path) -> None:
    clips = []
    for clip in three.clips[::7]:
        path = tmp_path / three.relative(clip)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        clips.append(dataclasses.replace(clip, path=path))
    write_manifest(dataclasses.replace(three, clips=tuple(clips), parts=()), tmp_path / "manifest.csv")
    back = read_manifest(tmp_path / "manifest.csv")
    assert back.clips == tuple(clips)
    assert {clip.corpus for clip in back.clips} == {"a", "b", "ravdess"}
    assert len(folds(back, "corpus")) == 3


# From settings --------------------------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two corpora of folders, and a manifest."""
    for name, emotions in (("x", ("anger", "calm", "fear")), ("y", ("anger", "fear", "sadness"))):
        for emotion in emotions:
            for speaker in "pq":
                path = tmp_path / name / emotion / speaker / "1.wav"
                path.parent.mkdir(parents=True)
                path.touch()
    (tmp_path / "z").mkdir()
    (tmp_path / "z" / "1.wav").touch()
    (tmp_path / "z" / "2.wav").touch()
    (tmp_path / "z" / "manifest.csv").write_text("path,speaker,emotion\n1.wav,p,anger\n2.wav,r,fear\n")
    return tmp_path


@pytest.mark.parametrize("named", ["list", "mapping"])
def test_corpora_are_named_in_a_list_or_a_mapping(data: Path, named: str) -> None:
    places = {"folder": data / "x", "manifest": data / "z"}
    settings = CorpusSettings(name="folder+manifest", data=places if named == "mapping" else tuple(places.values()))
    found = several.load(settings)
    assert found.name == "x+z"
    assert found.speakers == ("x/p", "x/q", "z/p", "z/r")


def test_one_folder_holds_a_folder_for_each(data: Path) -> None:
    settings = CorpusSettings(name="emodb+crema-d:voted+synthetic:es", data=data)
    assert settings.parts() == (("emodb", data / "emodb"), ("crema-d:voted", data / "crema-d"), ("synthetic:es", None))


@pytest.mark.parametrize(("settings", "sentence"), [
    ({"name": "folder+folder", "data": [Path("x")]}, "lists 1 paths for the 2 corpora"),
    ({"name": "emodb+ravdess", "data": {"emobd": Path("x")}}, "names 'emobd'.*did you mean 'emodb'"),
    ({"name": "emodb+ravdess"}, "the corpus emodb needs its recordings"),
])
def test_names_and_data_must_fit(settings: dict[str, object], sentence: str) -> None:
    with pytest.raises((ConfigError, CorpusError), match=sentence):
        several.load(CorpusSettings.model_validate(settings))


def test_a_site_need_not_have_all_emotions() -> None:
    own = Corpus("site", "", (Clip(Path("a.wav"), "p", "fear"), Clip(Path("b.wav"), "q", "fear")))
    assert choose_labels(own, None, all_known=False) == ("fear",)
    assert choose_labels(own, ["Wut", "fear"], all_known=False) == ("anger", "fear")
    assert absent_note(own, ["anger", "fear", "calm"]) == ("site has no clip of anger, calm: other peers have to have "
                                                           "some",)
    assert absent_note(own, ["fear"]) == ()
    for wanted in (["fear"], ["fear", "angst"]):
        with pytest.raises(CorpusError):
            choose_labels(own, wanted, all_known=False)


def test_what_is_merged_is_a_setting(data: Path) -> None:
    settings = ["corpus.name=folder+folder", f"corpus.data=[{data / 'x'}, {data / 'y'}]"]
    config = Config().with_settings([*settings, "corpus.map=calm=sadness"])
    assert config.corpus.map == {"calm": "sadness"}
    assert "corpus.map" not in config.shared()  # each site has its own words
    assert Config.model_validate_json(config.model_dump_json()) == config
    partitioning = partition_corpus(config, 2)
    assert partitioning.labels == ("anger", "fear", "sadness")
    assert "calm counts as sadness (2 clips)" in partitioning.notes
    assert not any("repeat theirs" in note for note in partitioning.notes)
    clips = partitioning.corpus.clips
    assert [{clips[index].corpus for index in share} for share in partitioning.held] == [{"x"}, {"y"}]
    assert partition_corpus(Config().with_settings(settings), 2).labels == ("anger", "fear")
    for wrong, why in (("calm=neutral,neutral=fear", "name the chain's end"), ("calm", "EMOTION=EMOTION")):
        with pytest.raises(ConfigError, match=why):
            Config().with_settings([f"corpus.map={wrong}"])


def test_only_some_are_trained_on(data: Path) -> None:
    settings = ["corpus.name=folder+folder", f"corpus.data=[{data / 'x'}, {data / 'y'}]"]
    config = Config().with_settings([*settings, "corpus.train=[y]"])
    partitioning, whole = (partition_corpus(chosen, 1) for chosen in (config, Config().with_settings(settings)))
    assert {partitioning.corpus.clips[index].corpus for index in partitioning.split.train} == {"y"}
    assert partitioning.split.test == whole.split.test
    assert {partitioning.corpus.clips[index].corpus for index in partitioning.split.test} == {"x", "y"}
    assert partitioning.held == (partitioning.split.train,)
    with pytest.raises(CorpusError, match=r"corpus\.train names 'w'"):
        partition_corpus(config.with_settings(["corpus.train=[w]"]), 1)
    assert len(splits(config)) == 2


def test_statistics_of_corpora_together_are_noted(data: Path) -> None:
    settings = ["corpus.name=folder+folder", f"corpus.data=[{data / 'x'}, {data / 'y'}]"]
    spoken = partition_corpus(Config().with_settings(settings), 2)
    assert spoken.scaling.how == "speaker"
    together = partition_corpus(Config().with_settings([*settings, "features.normalise=global"]), 2)
    assert any("all corpora together" in note for note in together.notes)
    assert not any("all corpora together" in note for note in spoken.notes)
