"""Adapters of corpora that the tests have no recordings of: files in the authors' layout, with the traps."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from p2pser.base.errors import CorpusError
from p2pser.base.registries import CORPORA
from p2pser.corpora.loading import adapter, load, recognise
from p2pser.corpora.manifest import Corpus, read_manifest, write_manifest


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def write(path: Path, text: str, encoding: str = "utf-8") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))


def rows(corpus: Corpus) -> list[tuple[str, str, str, str, str]]:
    return [(corpus.relative(c), c.speaker, c.gender, c.language, c.emotion or "") for c in corpus.clips]


def reasons(corpus: Corpus) -> dict[str, str]:
    return {path.relative_to(corpus.root).as_posix(): why for path, why in corpus.left_out}


ONE_OF_EACH = {
    "ravdess": "Actor_01/03-01-01-01-01-01-01.wav",
    "crema-d": "AudioWAV/1001_DFA_ANG_XX.wav",
    "tess": "OAF_angry/OAF_back_angry.wav",
    "savee": "DC/a01.wav",
    "emodb": "wav/03a01Fa.wav",
    "emovo": "f1/rab-f1-b1.wav",
    "urdu": "Angry/SM1_F21_A021.wav",
    "shemo": "female/F07W05.wav",
    "esd": "0011/Angry/0011_000351.wav",
    "jl": "JL(wav+txt)/female1_angry_1a_1.wav",
    "iemocap": "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav",
    "nemo": "samples/EB0_anger_1.wav",
    "meld": "train/dia0_utt0.wav",
}


@pytest.mark.parametrize("name", list(CORPORA))
def test_each_is_recognised_by_its_names_and_by_no_other_corpus(tmp_path: Path, name: str) -> None:
    touch(tmp_path, ONE_OF_EACH[name])
    assert [other for other in CORPORA if adapter(other).matches(tmp_path / ONE_OF_EACH[name])] == [name]
    assert recognise(tmp_path) == name


@pytest.mark.parametrize("name", list(CORPORA))
def test_each_says_what_it_is_and_how_to_get_it(name: str) -> None:
    about = adapter(name).about
    assert about.title in about.line
    assert all((about.languages, about.licence, about.source, about.reference, about.clips > 0, about.emotions > 1))


@pytest.mark.parametrize("name", list(CORPORA))
def test_a_folder_of_something_else_says_what_was_expected(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "hello.wav")
    with pytest.raises(CorpusError, match=r"none of the 1 recording |labels are in") as error:
        load(name, tmp_path)
    assert str(tmp_path) in str(error.value)


def test_tess(tmp_path: Path) -> None:
    touch(tmp_path, "OAF_back_angry.wav", "YAF_germ_ps.wav", "OA_bite_neutral.wav", "again/OAF_back_angry.wav",
          "OAF_back_bored.wav")
    corpus = load("tess", tmp_path)
    assert rows(corpus) == [("OAF_back_angry.wav", "OAF", "f", "en", "anger"),
                            ("OA_bite_neutral.wav", "OAF", "f", "en", "neutral"),
                            ("YAF_germ_ps.wav", "YAF", "f", "en", "surprise")]
    assert corpus.clips[0].transcript == "Say the word back."
    assert reasons(corpus) == {"again/OAF_back_angry.wav": "a second copy of OAF_back_angry.wav",
                               "OAF_back_bored.wav": "TESS has no emotion 'bored'"}
    assert (corpus.version.partition(",")[0], corpus.default_split) == ("3 of 2800 clips", "loso")


def test_savee_has_codes_of_one_and_two_letters(tmp_path: Path) -> None:
    touch(tmp_path, "DC/sa01.wav", "DC/su02.wav", "DC/a01.wav", "JE/n30.wav", "KL_f04.wav", "KL/f04.wav", "XX/a01.wav",
          "DC/s01.wav")
    corpus = load("savee", tmp_path)
    assert rows(corpus) == [("DC/a01.wav", "DC", "m", "en", "anger"), ("DC/sa01.wav", "DC", "m", "en", "sadness"),
                            ("DC/su02.wav", "DC", "m", "en", "surprise"), ("JE/n30.wav", "JE", "m", "en", "neutral"),
                            ("KL/f04.wav", "KL", "m", "en", "fear")]
    assert "names a speaker of SAVEE" in reasons(corpus)["XX/a01.wav"]
    assert reasons(corpus)["KL_f04.wav"] == "a second copy of KL/f04.wav"
    assert "not named as in SAVEE" in reasons(corpus)["DC/s01.wav"]


def test_emovo(tmp_path: Path) -> None:
    corpus = load("emovo", touch(tmp_path, "rab-f1-b1.wav", "gio-m3-n5.wav", "pau-f2-l1.wav", "xyz-f1-b1.wav"))
    assert rows(corpus) == [("gio-m3-n5.wav", "m3", "m", "it", "happiness"), ("pau-f2-l1.wav", "f2", "f", "it", "fear"),
                            ("rab-f1-b1.wav", "f1", "f", "it", "anger")]
    assert reasons(corpus) == {"xyz-f1-b1.wav": "EMOVO has no emotion 'xyz'"}


def test_urdu(tmp_path: Path) -> None:
    corpus = load("urdu", touch(tmp_path, "Angry/SM1_F21_A021.wav", "Sad/SF11_F3_S0100.wav", "Happy/SM2_F1_X01.wav"))
    assert rows(corpus) == [("Angry/SM1_F21_A021.wav", "SM1", "m", "ur", "anger"),
                            ("Sad/SF11_F3_S0100.wav", "SF11", "f", "ur", "sadness")]
    assert reasons(corpus) == {"Happy/SM2_F1_X01.wav": "URDU has no emotion 'X'"}


def test_shemo_has_f_for_female_and_for_fear(tmp_path: Path) -> None:
    corpus = load("shemo", touch(tmp_path, "F07W05.wav", "M01F12.wav", "M02X01.wav"))
    assert rows(corpus) == [("F07W05.wav", "F07", "f", "fa", "surprise"), ("M01F12.wav", "M01", "m", "fa", "fear")]
    assert reasons(corpus) == {"M02X01.wav": "ShEMO has no emotion 'X'"}


def test_esd_reads_the_folder_and_the_texts(tmp_path: Path) -> None:
    touch(tmp_path, "0011/Angry/0011_000351.wav", "0001/Happy/train/0001_000701.wav", "0012/0012_000001.wav",
          "0021/Sad/0021_000001.wav")
    write(tmp_path / "0011" / "0011.txt", "0011_000351\tThe nine the eggs, I keep.\tAngry\n", "utf-16")
    write(tmp_path / "0001" / "0001.txt", "0001_000701\t打远一看\t快乐\n")
    corpus = load("esd", tmp_path)
    assert rows(corpus) == [("0001/Happy/train/0001_000701.wav", "0001", "f", "zh", "happiness"),
                            ("0011/Angry/0011_000351.wav", "0011", "m", "en", "anger")]
    assert [c.transcript for c in corpus.clips] == ["打远一看", "The nine the eggs, I keep."]
    assert [c.extra.get("part") for c in corpus.clips] == ["train", None]
    assert "is not an emotion's" in reasons(corpus)["0012/0012_000001.wav"]
    assert reasons(corpus)["0021/Sad/0021_000001.wav"] == "ESD has no speaker 0021"
    english = load("esd:en", tmp_path)
    assert (english.name, english.speakers) == ("esd:en", ("0011",))
    assert "speaks zh, not en" in reasons(english)["0001/Happy/train/0001_000701.wav"]


def test_jl_knows_female_from_male(tmp_path: Path) -> None:
    touch(tmp_path, "female1_angry_1a_1.wav", "male2_excited_10b_2.wav", "male1_anxious_3a_1.wav")
    corpus = load("jl", tmp_path)
    assert rows(corpus) == [("female1_angry_1a_1.wav", "female1", "f", "en", "anger"),
                            ("male1_anxious_3a_1.wav", "male1", "m", "en", "anxious"),
                            ("male2_excited_10b_2.wav", "male2", "m", "en", "excitement")]
    primary = load("jl:primary", tmp_path)
    assert primary.labels == ("anger", "excitement")
    assert reasons(primary) == {"male1_anxious_3a_1.wav": "anxious is not one of JL's primary emotions"}


def test_nemo_reads_genders_where_they_are(tmp_path: Path) -> None:
    touch(tmp_path, "samples/EB0_anger_1.wav", "samples/MK1_sadness_12.wav", "samples/MK1_boredom_1.wav",
          "samples/KS0_surprised_26.wav")
    bare = load("nemo", tmp_path)
    assert [(clip.emotion, clip.gender) for clip in bare.clips] == [("anger", ""), ("surprise", ""), ("sadness", "")]
    assert reasons(bare) == {"samples/MK1_boredom_1.wav": "nEMO has no emotion 'boredom'"}
    assert "genders" in bare.notes[0]
    write(tmp_path / "db.speaker.csv", "speaker,gender,age\nEB0,female,27\nKS0,male,23\nMK1,other,1\n")
    assert [clip.gender for clip in load("nemo", tmp_path).clips] == ["f", "m", ""]
    write(tmp_path / "data.tsv", "file_id\temotion\traw_text\tnormalized_text\tspeaker_id\tgender\tage\n"
                                 "EB0_anger_1.wav\tanger\tTo jest \"test\".\tto jest test\tEB0\tfemale\t22\n"
                                 "MK1_sadness_12.wav\tsadness\tŻółw\tżółw\tMK1\tmale\t33\n")
    for folder in (tmp_path, tmp_path / "samples"):
        corpus = load("nemo", folder)
        assert [(c.speaker, c.gender) for c in corpus.clips] == [("EB0", "f"), ("KS0", ""), ("MK1", "m")]
        assert corpus.clips[2].transcript == "Żółw"
        assert corpus.notes == ()
    write(tmp_path / "data.tsv", "file\tspeaker\n")
    with pytest.raises(CorpusError, match=r"data\.tsv has no column 'file_id'"):
        load("nemo", tmp_path)


@pytest.fixture
def cremad(tmp_path: Path) -> Path:
    """Five clips in the repository's layout: two acted emotions, a tie, the silent one, one without votes."""
    touch(tmp_path, "AudioWAV/1001_DFA_ANG_XX.wav", "AudioWAV/1002_IEO_HAP_LO.wav", "AudioWAV/1002_IEO_SAD_HI.wav",
          "AudioWAV/1076_MTI_SAD_XX.wav", "AudioWAV/1076_TSI_NEU_XX.wav", "AudioMP3/1001_DFA_ANG_XX.mp3",
          "AudioWAV/1002_IEO_JOY_HI.wav")
    write(tmp_path / "VideoDemographics.csv", '"ActorID","Age","Sex","Race","Ethnicity"\n'
                                              '1001,51,"Male","Caucasian","Not Hispanic"\n'
                                              '1002,21,"Female","Caucasian","Not Hispanic"\n')
    write(tmp_path / "processedResults" / "tabulatedVotes.csv",
          '"","A","D","F","H","N","S","fileName","numResponses","agreement","emoVote"\n'
          '"100001",8,0,0,0,2,0,"1001_DFA_ANG_XX",10,0.8,"A"\n'
          '"100002",0,0,0,3,6,0,"1002_IEO_HAP_LO",9,0.6666667,"N"\n'
          '"100003",0,0,4,0,0,4,"1002_IEO_SAD_HI",8,0.5,"F:S"\n'
          '"200001",0,0,0,10,0,0,"1001_DFA_ANG_XX",10,1,"H"\n'
          '"300002",0,0,0,9,0,0,"1002_IEO_HAP_LO",9,1,"H"\n')
    write(tmp_path / "processedResults" / "summaryTable.csv",
          '"","FileName","VoiceVote","VoiceLevel","FaceVote","FaceLevel","MultiModalVote","MultiModalLevel"\n'
          '"1","1001_DFA_ANG_XX","A","60","H","57","A","57.38"\n'
          '"2","1002_IEO_HAP_LO","N","71.67","H","57","H","57.38"\n'
          '"3","1002_IEO_SAD_HI","F:S","60.14:50","A:F","30.67:51.00","N","63.5"\n')
    return tmp_path


@pytest.mark.parametrize("below", ["", "AudioWAV"])
def test_cremad_as_acted(cremad: Path, below: str) -> None:
    corpus = load("auto", cremad / below)
    assert corpus.name == "crema-d"
    assert [(c.path.name, c.speaker, c.gender, c.emotion) for c in corpus.clips] == [
        ("1001_DFA_ANG_XX.wav", "1001", "m", "anger"), ("1002_IEO_HAP_LO.wav", "1002", "f", "happiness"),
        ("1002_IEO_SAD_HI.wav", "1002", "f", "sadness"), ("1076_TSI_NEU_XX.wav", "1076", "", "neutral")]
    assert [dict(c.votes) for c in corpus.clips] == [
        {"anger": 0.8, "neutral": 0.2}, {"happiness": 1 / 3, "neutral": 2 / 3}, {"fear": 0.5, "sadness": 0.5}, {}]
    assert (corpus.clips[1].extra["level"], corpus.clips[1].transcript) == ("low", "It's eleven o'clock.")
    why = {path.name: reason for path, reason in corpus.left_out}
    assert why["1076_MTI_SAD_XX.wav"].startswith("it is silent")
    assert why["1002_IEO_JOY_HI.wav"] == "CREMA-D has no emotion JOY of actor 1002"
    assert below or why["1001_DFA_ANG_XX.mp3"] == "a second copy of AudioWAV/1001_DFA_ANG_XX.wav"
    assert (corpus.version.partition(",")[0], corpus.notes) == ("4 of 7441 clips", ())


@pytest.mark.parametrize("table", ["summaryTable.csv", "tabulatedVotes.csv"])
def test_cremad_as_voted_by_either_table(cremad: Path, table: str) -> None:
    for path in (cremad / "processedResults").iterdir():
        if path.name != table:
            path.unlink()
    corpus = load("crema-d:voted", cremad)
    assert corpus.name == "crema-d:voted"
    assert [(c.path.name, c.emotion, c.extra["acted"]) for c in corpus.clips] == [
        ("1001_DFA_ANG_XX.wav", "anger", "anger"), ("1002_IEO_HAP_LO.wav", "neutral", "happiness")]
    why = {path.name: reason for path, reason in corpus.left_out}
    assert why["1002_IEO_SAD_HI.wav"] == "the listeners were divided between fear and sadness"
    assert why["1076_TSI_NEU_XX.wav"] == "no listener voted on it"


def test_cremad_without_its_tables(cremad: Path) -> None:
    (cremad / "VideoDemographics.csv").unlink()
    for path in (cremad / "processedResults").iterdir():
        path.unlink()
    corpus = load("crema-d", cremad)
    assert {clip.gender for clip in corpus.clips} == {""}
    assert corpus.notes == ("without VideoDemographics.csv beside the recordings genders are not known",)
    with pytest.raises(CorpusError, match=r"processedResults/summaryTable\.csv, which is not beside"):
        load("crema-d:voted", cremad)


def test_cremad_votes_that_are_no_counts(cremad: Path) -> None:
    for votes in ("1,-1,0,0,0,0", "many,0,0,0,0,0"):
        write(cremad / "processedResults" / "tabulatedVotes.csv",
              f'"","A","D","F","H","N","S","fileName"\n"100001",{votes},"1001_DFA_ANG_XX"\n')
        with pytest.raises(CorpusError, match="the votes on 1001_DFA_ANG_XX are not counts"):
            load("crema-d", cremad)


def test_votes_survive_the_manifest(cremad: Path) -> None:
    corpus = load("crema-d", cremad)
    write_manifest(corpus, cremad / "clips.csv")
    assert read_manifest(cremad / "clips.csv").clips == corpus.clips


EVALUATION = """% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]

[6.2901 - 8.2357]\tSes01F_impro01_F000\tneu\t[2.5000, 2.0000, 3.5000]
C-E2:\tNeutral;\t()
C-E3:\tNeutral; Sadness;\t()
C-F1:\tHappiness;\t(self)
A-E3:\tval 3; act 2; dom  3;\t()

[10.0100 - 11.3925]\tSes01F_impro01_M000\texc\t[4.0000, 4.5000, 3.0000]
C-E2:\tExcited;\t()
C-E3:\tOther;\t(amused)

[14.8872 - 18.0175]\tSes01F_impro01_F001\txxx\t[1.5000, 4.5000, 5.0000]

[20.0000 - 21.0000]\tSes01F_impro01_M001\tfru\t[2.0000, 3.0000, 3.0000]
"""


@pytest.fixture
def iemocap(tmp_path: Path) -> Path:
    """Four labelled turns of a dialogue, one without a label, and the whole dialogue."""
    wav = "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01"
    touch(tmp_path, *(f"{wav}_{turn}.wav" for turn in ("F000", "M000", "F001", "M001", "MXX0")),
          "Session1/dialog/wav/Ses01F_impro01.wav")
    write(tmp_path / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt", EVALUATION)
    write(tmp_path / "Session1/dialog/EmoEvaluation/Categorical/Ses01F_impro01_e2_cat.txt", "not an evaluation")
    write(tmp_path / "Session1/dialog/transcriptions/Ses01F_impro01.txt",
          "Ses01F_impro01_F000 [006.2901-008.2357]: Excuse me.\n"
          "Ses01F_impro01_M000 [010.0100-011.3925]: Do you have your forms?\n")
    return tmp_path


def test_iemocap_all_turns(iemocap: Path) -> None:
    corpus = load("auto", iemocap)
    clips = {clip.path.stem.removeprefix("Ses01F_impro01_"): clip for clip in corpus.clips}
    assert {turn: (clip.speaker, clip.gender, clip.emotion) for turn, clip in clips.items()} == {
        "F000": ("Ses01F", "f", "neutral"), "F001": ("Ses01F", "f", None), "M000": ("Ses01M", "m", "excitement"),
        "M001": ("Ses01M", "m", "frustration")}
    assert [(c.valence, c.arousal, c.dominance) for c in (clips["F000"], clips["F001"])] == [
        (2.5, 2, 3.5), (1.5, 4.5, 5)]
    assert corpus.scale == (1, 5)
    assert clips["M000"].transcript == "Do you have your forms?"
    assert dict(clips["F000"].votes) == {"neutral": 0.75, "sadness": 0.25}
    assert dict(clips["M000"].votes) == {"excitement": 0.5}
    assert clips["F000"].extra == {"session": "Ses01", "dialogue": "Ses01F_impro01", "kind": "improvised",
                                   "label": "neu"}
    why = {path.stem: reason for path, reason in corpus.left_out}
    assert why == {"Ses01F_impro01": "a whole dialogue; its turns are in sentences/wav",
                   "Ses01F_impro01_MXX0": "no evaluation names this turn"}
    assert "1 turns have dimensions but no emotion" in corpus.notes[0]


def test_iemocap_four_classes(iemocap: Path) -> None:
    corpus = load("iemocap:4", iemocap)
    assert [(c.path.stem[-4:], c.emotion, c.extra["label"]) for c in corpus.clips] == [
        ("F000", "neutral", "neu"), ("M000", "happiness", "exc")]
    assert sorted(why for _, why in corpus.left_out if "4 classes" in why) == [
        "its label fru is not one of the 4 classes", "its label xxx is not one of the 4 classes"]
    assert corpus.version.partition(",")[0] == "2 of 5531 clips"


def test_iemocap_without_labels_says_where_they_are(iemocap: Path) -> None:
    with pytest.raises(CorpusError, match="name the folder that holds the sessions"):
        load("iemocap", iemocap / "Session1" / "sentences")


MELD = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime\n"


@pytest.fixture
def meld(tmp_path: Path) -> Path:
    """The same id in two parts, said by different people; a choir; one that no table names; one of no part."""
    touch(tmp_path, "train_splits/dia0_utt0.wav", "test/dia0_utt0.wav", "test/dia0_utt1.wav", "test/dia9_utt9.wav",
          "dia0_utt0.wav", "dev/dia0_utt0.wav")
    write(tmp_path / "train_sent_emo.csv", MELD + '1,"Well, no.",Ross,joy,positive,0,0,8,21,"00:16:16,059","1"\n')
    write(tmp_path / "test_sent_emo.csv",
          MELD + '1,Why do all you\x92re coffee mugs have numbers?,Mark,surprise,positive,0,0,3,19,"0","1"\n'
                 '2,Hi!,Joey and Chandler,neutral,neutral,0,1,3,19,"0","1"\n', "latin-1")
    return tmp_path


def test_meld_repeats_ids_across_its_parts(meld: Path) -> None:
    corpus = load("auto", meld)
    assert rows(corpus) == [("test/dia0_utt0.wav", "Mark", "", "en", "surprise"),
                            ("train_splits/dia0_utt0.wav", "Ross", "m", "en", "happiness")]
    assert [(c.extra["part"], c.extra["dialogue"]) for c in corpus.clips] == [("test", "test 0"), ("train", "train 0")]
    assert corpus.clips[1].transcript == "Well, no."
    assert reasons(corpus) == {
        "dia0_utt0.wav": "no folder above it is named train, dev or test, and ids repeat across them",
        "test/dia0_utt1.wav": "several speak at once (Joey and Chandler)",
        "test/dia9_utt9.wav": "test_sent_emo.csv does not name it",
        "dev/dia0_utt0.wav": "dev_sent_emo.csv is missing"}
    assert corpus.notes == ("without dev_sent_emo.csv its recordings have no labels",)


def test_meld_of_one_part(meld: Path) -> None:
    assert rows(load("meld", meld / "train_splits"))[0][1] == "Ross"


def test_meld_videos_are_no_recordings(tmp_path: Path) -> None:
    touch(tmp_path, "train/dia0_utt0.mp4")
    write(tmp_path / "train_sent_emo.csv", MELD)
    with pytest.raises(CorpusError, match="holds MELD's videos but not their sound"):
        load("meld", tmp_path)
    (tmp_path / "train_sent_emo.csv").unlink()
    with pytest.raises(CorpusError, match=r"train_sent_emo\.csv.* none of which"):
        load("meld", tmp_path)


TABLES = {
    "emodb": ["erkennung.txt", "db.emotion.csv"],
    "nemo": ["data.tsv"],
    "crema-d": ["VideoDemographics.csv", "processedResults/tabulatedVotes.csv", "processedResults/summaryTable.csv"],
    "esd": ["0011.txt"],
    "iemocap": ["dialog/EmoEvaluation/Ses01F_impro01.txt"],
    "meld": ["train_sent_emo.csv"],
}
HEADERS = ["Satz erkannt nat", "file,emotion,emotion.confidence", "file_id\tspeaker_id\tgender", "actorid,age,sex",
           ",A,D,F,H,N,S,fileName", ",FileName,VoiceVote", MELD.strip(),
           "[1.0 - 2.0]\tSes01F_impro01_F000\tneu\t[1.0, 2.0, 3.0]", ""]
CELLS = ["03a01Fa.wav", "EB0_anger_1", "1001_DFA_ANG_XX", "1001", "A", "A:N", "100001", "0", "1", "-1", "nan", "9" * 30,
         "", "C-E1:", "Anger;", "()", '"', "1.2.3"]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(sorted(TABLES)), data=st.data())
def test_any_table_gives_a_corpus_or_a_sentence(tmp_path: Path, name: str, data: st.DataObject) -> None:
    folder = touch(tmp_path / name, ONE_OF_EACH[name])
    cell = st.sampled_from(CELLS) | st.text(max_size=6)
    separator = data.draw(st.sampled_from([",", "\t", " "]))
    lines = data.draw(st.lists(st.lists(cell, max_size=9).map(separator.join), max_size=5))
    content = "\n".join([data.draw(st.sampled_from(HEADERS)), *lines]).encode("utf-8", "surrogatepass")
    for table in TABLES[name]:
        (folder / table).parent.mkdir(parents=True, exist_ok=True)
        (folder / table).write_bytes(data.draw(st.just(content) | st.binary(max_size=40)))
    try:
        (clip,) = load(name, folder).clips
        said = str(clip.path)
    except CorpusError as error:
        said = str(error)
    assert str(folder) in said


@settings(max_examples=300)
@given(st.from_regex(r"[\w -]{0,6}[a-zA-Z]{0,4}[-_0-9]{0,8}[A-Za-z]{0,3}", fullmatch=True))
def test_any_name_is_some_corpus_or_none(stem: str) -> None:
    path = Path("any") / f"{stem}.wav"
    assert all(isinstance(adapter(name).matches(path), bool) for name in CORPORA)
