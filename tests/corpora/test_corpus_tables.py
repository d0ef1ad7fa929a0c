"""The tables of the adapters against literal constants: every code of an emotion, every speaker's gender."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pser.corpora.emotions import PROTOTYPES, nearest_emotion
from p2pser.corpora.loading import adapter, load

# Folder or name of a file, then speaker, gender, language and emotion.
CLIPS: dict[str, list[tuple[str, str, str, str, str]]] = {
    "emodb": [
        ("03a01Wa.wav", "03", "m", "de", "anger"), ("08a01La.wav", "08", "f", "de", "boredom"),
        ("09a01Ea.wav", "09", "f", "de", "disgust"), ("10a01Aa.wav", "10", "m", "de", "fear"),
        ("11a01Fa.wav", "11", "m", "de", "happiness"), ("12a01Ta.wav", "12", "m", "de", "sadness"),
        ("13a01Na.wav", "13", "f", "de", "neutral"), ("14a01Na.wav", "14", "f", "de", "neutral"),
        ("15a01Na.wav", "15", "m", "de", "neutral"), ("16a01Na.wav", "16", "f", "de", "neutral"),
    ],
    "ravdess": [
        ("03-01-01-01-01-01-01.wav", "01", "m", "en", "neutral"), ("03-01-02-01-01-01-02.wav", "02", "f", "en", "calm"),
        ("03-01-03-01-01-01-03.wav", "03", "m", "en", "happiness"),
        ("03-01-04-01-01-01-10.wav", "10", "f", "en", "sadness"),
        ("03-01-05-01-01-01-11.wav", "11", "m", "en", "anger"),
        ("03-01-06-01-01-01-18.wav", "18", "f", "en", "fear"), ("03-01-07-01-01-01-23.wav", "23", "m", "en", "disgust"),
        ("03-01-08-01-01-01-24.wav", "24", "f", "en", "surprise"),
    ],
    "esd": [
        ("0001/Angry/0001_000351.wav", "0001", "f", "zh", "anger"),
        ("0002/Happy/0002_000701.wav", "0002", "f", "zh", "happiness"),
        ("0003/Sad/0003_001051.wav", "0003", "f", "zh", "sadness"),
        ("0004/Surprise/0004_001401.wav", "0004", "m", "zh", "surprise"),
        *((f"{speaker}/Neutral/{speaker}_000001.wav", speaker, gender, language, "neutral")
          for language, speakers in (("zh", "0005m 0006m 0007f 0008m 0009f 0010m"),
                                     ("en", "0011m 0012m 0013m 0014m 0015f 0016f 0017f 0018f 0019f 0020m"))
          for speaker, gender in ((word[:4], word[4]) for word in speakers.split())),
    ],
    "savee": [
        ("DC/a01.wav", "DC", "m", "en", "anger"), ("DC/d01.wav", "DC", "m", "en", "disgust"),
        ("DC/f01.wav", "DC", "m", "en", "fear"), ("JE/h01.wav", "JE", "m", "en", "happiness"),
        ("JK/n01.wav", "JK", "m", "en", "neutral"), ("KL/sa01.wav", "KL", "m", "en", "sadness"),
        ("KL/su01.wav", "KL", "m", "en", "surprise"),
    ],
    "emovo": [
        ("dis-f1-b1.wav", "f1", "f", "it", "disgust"), ("gio-f2-b1.wav", "f2", "f", "it", "happiness"),
        ("neu-f3-b1.wav", "f3", "f", "it", "neutral"), ("pau-m1-b1.wav", "m1", "m", "it", "fear"),
        ("rab-m2-b1.wav", "m2", "m", "it", "anger"), ("sor-m3-b1.wav", "m3", "m", "it", "surprise"),
        ("tri-m3-b1.wav", "m3", "m", "it", "sadness"),
    ],
    "shemo": [
        ("F01A01.wav", "F01", "f", "fa", "anger"), ("F01H01.wav", "F01", "f", "fa", "happiness"),
        ("F02N01.wav", "F02", "f", "fa", "neutral"), ("M01F01.wav", "M01", "m", "fa", "fear"),
        ("M01S01.wav", "M01", "m", "fa", "sadness"), ("M02W01.wav", "M02", "m", "fa", "surprise"),
    ],
    "urdu": [
        ("SF1_F1_A1.wav", "SF1", "f", "ur", "anger"), ("SF1_F2_H1.wav", "SF1", "f", "ur", "happiness"),
        ("SM1_F3_N1.wav", "SM1", "m", "ur", "neutral"), ("SM2_F4_S1.wav", "SM2", "m", "ur", "sadness"),
    ],
    "tess": [
        ("OAF_back_angry.wav", "OAF", "f", "en", "anger"), ("OAF_back_disgust.wav", "OAF", "f", "en", "disgust"),
        ("OAF_back_fear.wav", "OAF", "f", "en", "fear"), ("YAF_back_happy.wav", "YAF", "f", "en", "happiness"),
        ("YAF_back_neutral.wav", "YAF", "f", "en", "neutral"), ("YAF_back_ps.wav", "YAF", "f", "en", "surprise"),
        ("YAF_back_sad.wav", "YAF", "f", "en", "sadness"),
    ],
    "jl": [
        ("female1_angry_1a_1.wav", "female1", "f", "en", "anger"),
        ("female2_excited_1a_1.wav", "female2", "f", "en", "excitement"),
        ("male1_happy_1a_1.wav", "male1", "m", "en", "happiness"),
        ("male2_neutral_1a_1.wav", "male2", "m", "en", "neutral"),
        ("male2_sad_1a_1.wav", "male2", "m", "en", "sadness"),
    ],
    "nemo": [
        ("EB0_anger_1.wav", "EB0", "", "pl", "anger"), ("EB0_fear_1.wav", "EB0", "", "pl", "fear"),
        ("EB0_happiness_1.wav", "EB0", "", "pl", "happiness"), ("MK1_neutral_1.wav", "MK1", "", "pl", "neutral"),
        ("MK1_sadness_1.wav", "MK1", "", "pl", "sadness"), ("MK1_surprised_1.wav", "MK1", "", "pl", "surprise"),
    ],
    "crema-d": [
        ("1001_DFA_ANG_XX.wav", "1001", "", "en", "anger"), ("1002_DFA_DIS_XX.wav", "1002", "", "en", "disgust"),
        ("1003_DFA_FEA_XX.wav", "1003", "", "en", "fear"), ("1004_DFA_HAP_XX.wav", "1004", "", "en", "happiness"),
        ("1090_DFA_NEU_XX.wav", "1090", "", "en", "neutral"), ("1091_DFA_SAD_XX.wav", "1091", "", "en", "sadness"),
    ],
}
MELD_GENDERS = {"Chandler": "m", "Joey": "m", "Monica": "f", "Phoebe": "f", "Rachel": "f", "Ross": "m", "Gunther": ""}
IEMOCAP_CODES = {"ang": "anger", "hap": "happiness", "sad": "sadness", "neu": "neutral", "exc": "excitement",
                 "fru": "frustration", "dis": "disgust", "fea": "fear", "sur": "surprise", "oth": None, "xxx": None}
IEMOCAP_FOUR = {"ang": "anger", "hap": "happiness", "exc": "happiness", "sad": "sadness", "neu": "neutral"}


@pytest.mark.parametrize("name", sorted(CLIPS))
def test_each_code_and_speaker_by_itself(tmp_path: Path, name: str) -> None:
    for path, *_ in CLIPS[name]:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    corpus = load(name, tmp_path)
    read = {corpus.relative(clip): (clip.speaker, clip.gender, clip.language, clip.emotion) for clip in corpus.clips}
    assert read == {path: tuple(facts) for path, *facts in CLIPS[name]}


def test_the_principal_speakers_of_meld(tmp_path: Path) -> None:
    header = "Utterance,Speaker,Emotion,Dialogue_ID,Utterance_ID\n"
    rows = "".join(f"Hi.,{speaker},joy,0,{number}\n" for number, speaker in enumerate(MELD_GENDERS))
    (tmp_path / "train_sent_emo.csv").write_text(header + rows)
    (tmp_path / "train").mkdir()
    for number in range(len(MELD_GENDERS)):
        (tmp_path / "train" / f"dia0_utt{number}.wav").touch()
    assert {clip.speaker: clip.gender for clip in load("meld", tmp_path).clips} == MELD_GENDERS


@pytest.mark.parametrize(("name", "codes"), [("iemocap", IEMOCAP_CODES), ("iemocap:4", IEMOCAP_FOUR)])
def test_the_codes_and_genders_of_iemocap(tmp_path: Path, name: str, codes: dict[str, str | None]) -> None:
    wav = tmp_path / "Session3" / "sentences" / "wav" / "Ses03M_script01_1"
    labels = tmp_path / "Session3" / "dialog" / "EmoEvaluation"
    wav.mkdir(parents=True)
    labels.mkdir(parents=True)
    turns = {f"Ses03M_script01_1_{'FM'[number % 2]}{number:03d}": code for number, code in enumerate(IEMOCAP_CODES)}
    (labels / "Ses03M_script01_1.txt").write_text("".join(
        f"[1.0 - 2.0]\t{turn}\t{code}\t[2.5000, 3.5000, 4.5000]\n" for turn, code in turns.items()))
    for turn in turns:
        (wav / f"{turn}.wav").touch()
    clips = load(name, tmp_path).clips
    assert {clip.extra["label"]: clip.emotion for clip in clips} == codes
    assert {(clip.speaker, clip.gender) for clip in clips} == {("Ses03F", "f"), ("Ses03M", "m")}
    assert {(clip.valence, clip.arousal, clip.dominance) for clip in clips} == {(2.5, 3.5, 4.5)}
    assert {clip.extra["kind"] for clip in clips} == {"scripted"}


@pytest.mark.parametrize(("name", "split"), [
    ("emodb", "loso"), ("savee", "loso"), ("emovo", "loso"), ("tess", "loso"), ("jl", "loso"), ("ravdess", "group:4"),
    ("esd", "group:4"), ("shemo", "group:4"), ("urdu", "group:3"), ("nemo", "group:2"), ("crema-d", "group:4"),
])
def test_default_splits(tmp_path: Path, name: str, split: str) -> None:
    for path, *_ in CLIPS[name]:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    corpus = load(name, tmp_path)
    assert (corpus.default_split, corpus.names_speakers) == (split, True)


@pytest.mark.parametrize(("name", "languages", "clips", "emotions"), [
    ("crema-d", ("en",), 7442, 6), ("emodb", ("de",), 535, 7), ("emovo", ("it",), 588, 7),
    ("esd", ("zh", "en"), 35000, 5), ("iemocap", ("en",), 10039, 9), ("jl", ("en",), 2400, 10),
    ("meld", ("en",), 13708, 7), ("nemo", ("pl",), 4481, 6), ("ravdess", ("en",), 1440, 8), ("savee", ("en",), 480, 7),
    ("shemo", ("fa",), 3000, 6), ("tess", ("en",), 2800, 7), ("urdu", ("ur",), 400, 4),
])
def test_sizes(name: str, languages: tuple[str, ...], clips: int, emotions: int) -> None:
    about = adapter(name).about
    assert (about.languages, about.clips, about.emotions) == (languages, clips, emotions)


def test_prototypes_in_arousal_valence_and_dominance() -> None:
    assert PROTOTYPES == {
        "anger": (0.59, -0.51, 0.25), "boredom": (-0.62, -0.65, -0.33), "calm": (-0.46, 0.68, 0.20),
        "disgust": (0.35, -0.60, 0.11), "excitement": (0.75, 0.62, 0.38), "fear": (0.60, -0.64, -0.43),
        "frustration": (0.52, -0.64, 0.35), "happiness": (0.51, 0.81, 0.46), "neutral": (0.0, 0.0, 0.0),
        "sadness": (-0.27, -0.63, -0.33), "surprise": (0.67, 0.40, -0.13),
    }


@pytest.mark.parametrize(("point", "nearest"), [
    ((0.6, -0.6, 0.2), "anger"),  # dominance alone separates these two
    ((0.6, -0.6, -0.4), "fear"),
    ((0.7, 0.5, 0.4), "excitement"),
    ((0.7, 0.5, -0.2), "surprise"),
    ((-0.6, -0.6, -0.3), "boredom"),  # arousal
    ((-0.2, -0.6, -0.3), "sadness"),
    ((0.3, -0.6, 0.1), "disgust"),
    ((-0.4, 0.6, 0.2), "calm"),  # valence
])
def test_the_nearest_emotion_by_each_dimension(point: tuple[float, float, float], nearest: str) -> None:
    assert nearest_emotion(*point) == nearest
