"""Federations: the clips of each peer, and one sentence for a corpus that cannot be partitioned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from p2pser.base.errors import CorpusError
from p2pser.config import Config
from p2pser.corpora.folds import Split
from p2pser.corpora.manifest import Clip, Corpus
from p2pser.corpora.spread import AUTO
from p2pser.features import federation
from p2pser.features import normalisation as normalise
from p2pser.features.audio import long_note
from p2pser.features.federation import Examples, Federation, federate, normalised, normalised_copies

RATE = 16000
SPEAKERS, EMOTIONS, TAKES = ("ann", "bob", "cy", "dee", "eve", "fay"), ("anger", "happiness", "neutral"), 2


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    random = np.random.default_rng(0)
    for number, speaker in enumerate(SPEAKERS):
        for rank, emotion in enumerate(EMOTIONS):
            for take in range(TAKES):
                f0 = 100 + 15 * number + 40 * rank
                signal = 0.2 * np.sign(np.sin(2 * np.pi * f0 * np.arange(RATE // 5) / RATE))
                signal += random.normal(0, 0.01, signal.size)
                target = folder / emotion / speaker / f"{take}.wav"
                target.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(target, signal, RATE)
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def run(recordings: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Config]:
    """The settings of a run on the recordings, or on a table of some of them."""
    monkeypatch.setenv("P2PSER_CACHE", str(cache))

    def make(*more: str, rows: list[str] | None = None, table: str = "table") -> Config:
        data, name = recordings, "folder"
        if rows is not None:
            data, name = recordings / f"{table}.csv", "manifest"
            data.write_text("path,speaker,emotion\n" + "".join(row + "\n" for row in rows))
        return Config().with_settings([f"corpus.name={name}", f"corpus.data={data}", *more])

    return make


def rows(speakers: tuple[str, ...] = SPEAKERS, emotions: tuple[str, ...] = EMOTIONS) -> list[str]:
    return [f"{emotion}/{speaker}/{take}.wav,{speaker},{emotion}"
            for emotion in emotions for speaker in speakers for take in range(TAKES)]


def test_recordings_that_end_early_are_counted_by_reason(run: Callable[..., Config], recordings: Path) -> None:
    whole = (recordings / "anger" / "ann" / "0.wav").read_bytes()
    (recordings / "cut.wav").write_bytes(whole[:-1000])
    found = federate(run(rows=[*rows(), "cut.wav,ann,anger"], table="cut"), 2, workers=1)
    (recordings / "cut.wav").unlink()
    assert found.notes[-1] == (
        "1 recording ends early (a cut transfer, a full disk), and counts by what there is: 1 × the WAV file has fewer "
        f"samples than its header says; first {recordings / 'cut.wav'}")


def test_a_fold_is_dealt_by_speaker(run: Callable[..., Config]) -> None:
    found = federate(run("corpus.split=speakers:ann+eve"), 4, workers=1)
    assert found.labels == EMOTIONS
    assert set(found.train) == {0, 1, 2, 3}
    held = [set(examples.speakers) for examples in found.train.values()]
    assert sorted(speaker for speakers in held for speaker in speakers) == ["bob", "cy", "dee", "fay"]
    assert found.test is not None
    assert set(found.test.speakers) == {"ann", "eve"}
    assert (found.speaker_overlap, found.split.disjoint, found.normalise, found.left_out) == (0, True, "speaker", [])
    for examples in [*found.train.values(), found.test]:
        assert examples.features.shape == (len(examples), examples.features.shape[1])
        assert examples.features.dtype == np.float32
        assert examples.labels.dtype == np.int64
        for label, speaker, path in zip(examples.labels, examples.speakers, examples.paths):
            assert path.split("/")[:2] == [EMOTIONS[label], speaker]
    together = [index for held in found.held for index in held]
    assert sorted(together) == sorted(found.split.train)


def test_one_peer_alone_has_what_it_has_among_all(
    run: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    extract = federation.extract

    def counted(paths: list[Path], *rest: object, **more: object) -> object:
        asked.append(len(paths))
        return extract(paths, *rest, **more)

    monkeypatch.setattr(federation, "extract", counted)
    config = run("corpus.split=group:3", "corpus.fold=1")
    whole = federate(config, 4, workers=1)
    for peer in range(4):
        own = federate(config, 4, only=peer)
        assert list(own.train) == [peer]
        assert own.held == whole.held
        assert own.train[peer].paths == whole.train[peer].paths
        np.testing.assert_array_equal(own.train[peer].features, whole.train[peer].features)
        assert own.test is not None
        assert whole.test is not None
        np.testing.assert_array_equal(own.test.features, whole.test.features)
    assert asked == [36, *(len(share) + 12 for share in whole.held)]


def test_labels_are_chosen_and_the_others_left_out(run: Callable[..., Config]) -> None:
    found = federate(run("corpus.labels=[neutral, anger]", "corpus.split=speakers:ann"), 2, workers=1)
    assert found.labels == ("neutral", "anger")
    assert len(found.left_out) == len(SPEAKERS) * TAKES
    assert all("happiness" in reason for _, reason in found.left_out)
    for examples in found.train.values():
        first = {path.split("/")[0] for path, label in zip(examples.paths, examples.labels) if label == 0}
        assert first == {"neutral"}


def test_a_bad_clip_is_left_out_and_the_run_goes_on(run: Callable[..., Config], recordings: Path) -> None:
    bad = recordings / "bad.wav"
    bad.write_text("hello")
    config = run("corpus.split=speakers:ann", rows=[*rows(), "bad.wav,bob,happiness"], table="bad")
    found = federate(config, 5, workers=1)
    assert [path for path, _ in found.left_out] == [bad]
    assert found.notes[-1].startswith("1 file is left out: 1 × it is ")
    assert sum(map(len, found.train.values())) == 30
    assert sum(map(len, found.held)) == 31


def test_a_peer_without_a_usable_clip_is_an_error_that_says_why(run: Callable[..., Config], recordings: Path) -> None:
    bad = recordings / "bad2.wav"
    bad.write_text("hello")
    config = run("corpus.split=speakers:ann", rows=[*rows(("ann", "bob")), "bad2.wav,zed,happiness"], table="bad2")
    with pytest.raises(CorpusError, match=r"peer 1 has no usable training clip.*bad2\.wav: it is a text file"):
        federate(config, 2)
    config = run("corpus.split=speakers:zed", rows=[*rows(("ann", "bob")), "bad2.wav,zed,happiness"], table="bad2")
    with pytest.raises(CorpusError, match="test set speakers:zed has no usable clip"):
        federate(config, 2)


@pytest.mark.parametrize(("more", "sentence"), [
    (["corpus.labels=[anger]"], "a model needs 2 emotions"),
    (["corpus.labels=[anger, angre]"], "did you mean 'anger'"),
    (["corpus.labels=[anger, anger]"], "named twice"),
    (["corpus.fold=4", "corpus.split=group:4"], "there is no fold 4.*folds 0 to 3"),
    (["corpus.fold=1", "corpus.split=speakers:ann"], "fold 0 only"),
    (["corpus.split=nonsense"], "there is no split"),
])
def test_an_impossible_partition_is_refused(run: Callable[..., Config], more: list[str], sentence: str) -> None:
    with pytest.raises(CorpusError, match=sentence):
        federate(run(*more), 2)


def test_impossible_peers_are_refused(run: Callable[..., Config]) -> None:
    with pytest.raises(CorpusError, match="there is no peer 4: the 4 peers are 0 to 3"):
        federate(run(), 4, only=4)
    with pytest.raises(CorpusError, match="too few for 500 peers"):
        federate(run(), 500)


def test_speaker_statistics_need_named_speakers(run: Callable[..., Config]) -> None:
    nameless = [row.replace(f",{row.split(',')[1]},", ",,") for row in rows()]
    with pytest.raises(CorpusError, match="speaker statistics need the speaker of every clip"):
        federate(run("features.normalise=speaker", "corpus.split=none", rows=nameless, table="nameless"), 2)
    found = federate(run("corpus.split=clips:3", rows=nameless, table="nameless"), 2, workers=1)
    assert found.normalise == "global"
    assert any("speaker" in note for note in found.notes)


def test_more_peers_than_speakers_cut_speakers_and_it_is_noted(run: Callable[..., Config]) -> None:
    found = federate(run("corpus.split=speakers:ann"), 8, workers=1)
    assert len(found.train) == 8
    assert all(len(examples) > 0 for examples in found.train.values())
    assert any("divided over several peers" in note for note in found.notes)
    assert not any("divided over several peers" in note for note in federate(run("corpus.split=speakers:ann"), 5).notes)


def test_shared_speakers_are_counted_and_noted(run: Callable[..., Config]) -> None:
    found = federate(run("corpus.split=clips:3"), 3, workers=1)
    assert found.test is not None
    trained = {speaker for examples in found.train.values() for speaker in examples.speakers}
    assert found.speaker_overlap == len(trained & set(found.test.speakers)) > 1
    assert not found.split.disjoint
    assert any("do not hold for new speakers" in note for note in found.notes)


def test_a_recording_that_is_there_twice_is_counted_and_named(
        run: Callable[..., Config], recordings: Path, tmp_path: Path) -> None:
    copies = {"bob": recordings / "anger" / "ann" / "0.wav", "cy": recordings / "anger" / "dee" / "0.wav"}
    for speaker, original in copies.items():
        # Of other bytes: equal files are kept out of training (corpora.copies).
        (tmp_path / f"{speaker}.wav").write_bytes(original.read_bytes() + b"\0\0")
    table = [*rows(), *(f"{tmp_path / speaker}.wav,{speaker},anger" for speaker in copies)]
    found = federate(run("corpus.split=speakers:ann", rows=table), 4, workers=1)
    (note,) = [note for note in found.notes if "twice" in note]
    assert note.startswith("2 recordings are there twice, first ")
    assert "speakers cy and dee" in note or "speakers dee and cy" in note
    assert "1 of them in training and in the test set" in note
    assert not any("twice" in note for note in federate(run("corpus.split=speakers:ann", rows=rows()), 4).notes)


def test_copies_that_contradict_each_other_are_counted(run: Callable[..., Config], recordings: Path,
                                                       tmp_path: Path) -> None:
    (tmp_path / "x.wav").write_bytes((recordings / "anger" / "ann" / "0.wav").read_bytes() + b"\0\0")
    found = federate(run("corpus.split=none", rows=[*rows(), f"{tmp_path / 'x'}.wav,ann,neutral"]), 2, workers=1)
    (note,) = [note for note in found.notes if "twice" in note]
    assert note.endswith(", 1 of them under two emotions, which contradict each other: leave one of each out")


def test_a_recording_too_long_for_one_emotion_is_named(run: Callable[..., Config], tmp_path: Path) -> None:
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, 8000 * 121)
    soundfile.write(tmp_path / "long.wav", noise, 8000)
    found = federate(run("corpus.split=none", rows=[*rows(), f"{tmp_path / 'long'}.wav,ann,anger"]), 2, workers=1)
    assert ("1 recording lasts longer than 2 min, and it counts as one clip with one emotion: cut it into utterances "
            f"(the longest, {tmp_path / 'long'}.wav: 2 min 1 s)") in found.notes
    (tmp_path / "longer.wav").write_text("text " * 20_000)
    assert long_note([tmp_path / "longer.wav", tmp_path / "none.wav"]) == ()


def test_own_clips_are_not_dealt(run: Callable[..., Config]) -> None:
    found = federate(run("corpus.partition=own", "corpus.split=none"), 3, only=1, workers=1)
    assert len(found.train[1]) == 36
    assert found.test is None
    assert [note for note in found.notes if "left out" not in note and "are scaled" not in note] == []


@pytest.mark.parametrize(("kind", "asked", "expected"), [
    ("functionals", "auto", "speaker"), ("logmel", "auto", "global"), ("logmel", "speaker", "speaker"),
    ("functionals", "none", "none"), ("functionals", "global", "global"),
])
def test_what_auto_normalisation_means(run: Callable[..., Config], kind: str, asked: str, expected: str) -> None:
    config = run(f"features.kind={kind}", f"features.normalise={asked}", "features.seconds=0.2")
    found = federate(config, 2, only=0, workers=1)
    assert found.normalise == expected
    examples = found.train[0]
    training = normalise.statistics(examples.features)
    scaled = normalised(examples, found.normalise, training)
    assert scaled.shape == examples.features.shape
    assert scaled.dtype == np.float32
    if expected == "none":
        np.testing.assert_array_equal(scaled, examples.features)
    else:
        assert np.abs(scaled.mean(dtype=np.float64)) < 1e-2
        assert scaled.std() == pytest.approx(1, abs=0.25)


@pytest.mark.parametrize(("partition", "expected"), [("speaker", "speaker"), ("iid", "global"),
                                                     ("dirichlet:0.1", "global")])
def test_by_default_speakers_are_normalised_where_peers_hold_whole_ones(
    partition: str, expected: str, run: Callable[..., Config]
) -> None:
    assert federate(run("features.normalise=auto", f"corpus.partition={partition}"), 2).normalise == expected


def test_each_normalisation_uses_its_own_statistics() -> None:
    features = np.array([[1.0], [3.0], [10.0], [30.0]], dtype=np.float32)
    examples = Examples(features, np.zeros(4, dtype=np.int64), ("a", "a", "b", "b"), ("0", "1", "2", "3"),
                        copies=features[None] + 1)
    training = normalise.Statistics(9.0, np.array([5.0]), np.array([2.0]))
    expected = {"none": [1, 3, 10, 30], "speaker": [-1.1281521, 0, -0.8918826, 2.6756478], "global": [-2, -1, 2.5, 8]}
    copies = {"none": [2, 4, 11, 31], "speaker": [-0.5640761, 0.5640761, -0.7135061, 2.8540243],
              "global": [-1.5, -0.5, 3, 8]}
    for how, values in expected.items():
        np.testing.assert_allclose(normalised(examples, how, training)[:, 0], values, rtol=1e-6, atol=1e-6)
        scaled = normalised_copies(examples, how, training)
        assert scaled is not None
        np.testing.assert_allclose(scaled[0, :, 0], copies[how], rtol=1e-6, atol=1e-6)


def test_normalised_refuses_missing_statistics_and_unknown_names() -> None:
    examples = Examples(np.zeros((1, 2), dtype=np.float32), np.zeros(1, dtype=np.int64), ("a",), ("a.wav",))
    with pytest.raises(CorpusError, match="needs the training statistics"):
        normalised(examples, "global", None)
    with pytest.raises(CorpusError, match="did you mean 'global'"):
        normalised(examples, "globl", None)


def test_emodb_one_speaker_a_peer(shared_data: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P2PSER_CACHE", str(cache))
    config = Config().with_settings(["corpus.name=emodb", f"corpus.data={shared_data / 'emodb'}"])
    found = federate(config, 9, only=8, workers=1)
    assert found.split.test_speakers == ("03",)
    assert [len(share) for share in found.held] == [58, 43, 38, 55, 35, 61, 69, 56, 71]
    assert set(found.train[8].speakers) == {"16"}
    assert found.test is not None
    assert len(found.test) == 49
    assert found.labels == ("anger", "boredom", "disgust", "fear", "happiness", "neutral", "sadness")
    assert (found.normalise, found.speaker_overlap, found.left_out) == ("speaker", 0, [])


def test_a_hub_holds_no_clips_and_its_clients_hold_the_same_as_without_it(run: Callable[..., Config]) -> None:
    config = run("corpus.split=speakers:ann+eve")
    plain, found = federate(config, 4, workers=1), federate(config, 5, hub=2, workers=1)
    assert (len(found.train[2]), found.held[2]) == (0, ())
    assert found.train[2].features.shape == (0, *plain.train[0].features.shape[1:])
    for peer, client in enumerate((0, 1, 3, 4)):
        assert found.train[client].paths == plain.train[peer].paths
    alone = federate(config, 5, only=2, hub=2, workers=1)
    assert list(alone.train) == [2]
    assert len(alone.train[2]) == 0
    assert normalised(alone.train[2], "speaker", None).shape == alone.train[2].features.shape
    assert alone.test is not None


def test_a_peer_that_relays_scales_as_the_others_agree(run: Callable[..., Config]) -> None:
    found = federate(run("corpus.name=none", "features.normalise=global"), 4, only=3)
    assert (found.labels, len(found.train[3]), found.test) == ((), 0, None)
    assert federate(run("corpus.name=none"), 4, only=3).normalise == AUTO


def test_other_emotions_move_the_labels_and_count_the_votes_anew() -> None:
    clips = (Clip(Path("a.wav"), "p", "joy", votes={"joy": 0.6, "fear": 0.4}), Clip(Path("b.wav"), "p", "calm"),
             Clip(Path("c.wav"), "p", None))
    examples = Examples(np.zeros((3, 1), dtype=np.float32), np.array([1, 0, -1]), ("p",) * 3,
                        ("a.wav", "b.wav", "c.wav"))
    found = Federation(("calm", "joy"), {2: examples}, None, Split("none", (0, 1, 2), (), (), False),
                       Corpus("site", "", clips), "none", [], 0, ((), (), (0, 1, 2)))
    wider = found.relabelled(("anger", "calm", "fear", "joy"), soft=True)
    assert wider.labels == ("anger", "calm", "fear", "joy")
    assert wider.train[2].labels.tolist() == [3, 1, -1]
    assert wider.train[2].soft is not None
    np.testing.assert_allclose(wider.train[2].soft[:2], [[0, 0, 0.4, 0.6], [0, 1, 0, 0]], atol=1e-6)
    assert found.relabelled(("calm", "joy"), soft=False).train[2].soft is None


def test_a_hub_of_clients_with_their_own_recordings_needs_none(run: Callable[..., Config]) -> None:
    settings = ("corpus.partition=own", "corpus.labels=[anger, neutral]", "features.normalise=global")
    found = federate(Config().with_settings(settings), 5, only=0, hub=0)
    assert (found.labels, found.normalise, found.test, found.left_out) == (("anger", "neutral"), "global", None, [])
    client = federate(run(*settings, "corpus.split=none"), 5, only=1, hub=0, workers=1)
    assert found.train[0].features.shape == (0, *client.train[1].features.shape[1:])
    assert found.labels == client.labels
    assert federate(Config().with_settings([*settings, "features.normalise=auto"]), 5, only=0, hub=0).spread(0) is None
    with pytest.raises(CorpusError, match=r"set corpus\.labels, equal at all"):
        federate(Config().with_settings(["corpus.partition=own"]), 5, only=0, hub=0)
