"""Forms: recordings with what is said in them, several at once, and what a hostile form gets; jobs without a client."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from served import save, tone, wav
from starlette.testclient import TestClient

import p2pser
from p2pser.base.errors import CorpusError
from p2pser.cli.predict import predict
from p2pser.inference.predictor import Predictor
from p2pser.serve import forms
from p2pser.serve.app import app
from p2pser.serve.forms import Body
from p2pser.serve.question import Question
from p2pser.serve.work import Gone, Limits, Workers

URL = "http://127.0.0.1:8000"
TYPE = "multipart/form-data; boundary=xx"


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return p2pser.load(save(tmp_path_factory.mktemp("models") / "model", words=True))


@pytest.fixture
def client(predictor: Predictor) -> Iterator[TestClient]:
    with TestClient(app(predictor, Limits(max_bytes=500_000, seconds=150)), base_url=URL) as client:
        yield client


def test_what_is_said_comes_beside_the_recording(client: TestClient, predictor: Predictor) -> None:
    recording = wav(tone())
    for text in ("so glad", "Straße, 走开"):
        answer = client.post("/predict", files={"file": ("a.wav", recording)}, data={"text": text}).json()
        expected = predictor.predict(recording, texts=text)[0].to_dict()
        assert answer == {**expected, "note": ""}
    silent = [client.post("/predict", content=recording), client.post("/predict", files={"file": recording}),
              client.post("/predict", files={"file": recording}, data={"text": " "})]
    assert {each.json()["note"] for each in silent} == {
        "the model reads words too, and none were given: it goes by the voice alone"}
    windows = client.post("/predict?window=0.5", content=recording).json()
    assert windows["note"].startswith("the model reads words too, and a timeline's windows have none: it goes by the")
    assert client.get("/model").json()["words"] is True


def test_a_model_without_words_says_that_a_text_does_not_count(tmp_path: Path) -> None:
    predictor, recording = p2pser.load(save(tmp_path / "model")), wav(tone())
    said = "the model reads no words: what is said does not count, only how"
    with TestClient(app(predictor, Limits()), base_url=URL) as client:
        one = client.post("/predict", files={"file": recording}, data={"text": "so glad"}).json()
        assert one["note"].endswith(said)
        two = client.post("/predict", files=[("file", recording)] * 2, data={"text": ["", "so glad"]}).json()
        assert said in two["remarks"]
        assert said not in client.post("/predict", files={"file": recording}).text
    predictor.predict(recording, texts="so glad")
    assert said in predictor.remarks
    predictor.predict(recording, texts=[""])
    assert said not in predictor.remarks
    (tmp_path / "clip.wav").write_bytes(recording)
    shown = CliRunner().invoke(predict, [str(tmp_path / "model"), str(tmp_path / "clip.wav"), "--text", "so glad"])
    assert f"p2pser: {said}\n" in shown.stderr


def test_several_recordings_are_answered_together(client: TestClient, predictor: Predictor) -> None:
    recordings = [wav(tone(pitch=pitch)) for pitch in (200.0, 300.0, 400.0)]
    sent = [recordings[0], b"no recording", recordings[1], wav(tone(0.05)), recordings[2]]
    answer = client.post("/predict?top_k=1", files=[("file", each) for each in sent],
                         data={"text": ["a", "x", "b", "x", ""]}).json()
    expected = predictor.predict(recordings, texts=["a", "b", ""])
    found = answer["predictions"]
    assert [found[k]["label"] for k in (0, 2, 4)] == [each.label for each in expected]
    assert [len(found[k]["probabilities"]) for k in (0, 2, 4)] == [1, 1, 1]
    assert [list(found[k]) for k in (1, 3)] == [["error"], ["error"]]
    assert found[3]["error"].startswith("it lasts 0.050 s")
    assert any("1 of 3 recordings have no transcript" in each for each in answer["remarks"])


def field(head: str, value: bytes = b"x") -> bytes:
    return b"--xx\r\n" + head.encode() + b"\r\n\r\n" + value + b"\r\n"


FILE = field('Content-Disposition: form-data; name="file"; filename="a.wav"')
END = b"--xx--\r\n"


@pytest.mark.parametrize(("kind", "body", "sentence"), [
    (TYPE, END, "the form has no recording"), (TYPE, b"", "the form is cut short"), (TYPE, FILE, "the form is cut sh"),
    ("multipart/form-data", FILE + END, "the body is not a form that can be read"),
    ("multipart/mixed; boundary=xx", FILE + END, "the body is not a form that can be read"),
    (f"multipart/form-data; boundary={'x' * 71}", FILE + END, "the body is not a form that can be read"),
    (TYPE, FILE * 201 + END, "the form has 201 recordings, and 200 are answered at most"),
    (TYPE, FILE * 401 + END, "the form is cut short, or has more than 400 fields"),
    (TYPE, field("Content-Disposition: form-data; name=words") + END, "there is no field 'words': a form has the fiel"),
    (TYPE, field("Content-Disposition: form-data") + END, "a field of the form has no name"),
    (TYPE, field("X: " + "y" * 4000) + END, "a field of the form has no name"),
    (TYPE, FILE + field("Content-Disposition: form-data; name=text", b"\xff") + END, "the field text is not UTF-8"),
    (TYPE, FILE + 2 * field("Content-Disposition: form-data; name=text") + END, "the form has 2 texts for 1 record"),
])
def test_a_form_that_cannot_be_used_gets_a_sentence(client: TestClient, kind: str, body: bytes, sentence: str) -> None:
    answer = client.post("/predict", content=body, headers={"Content-Type": kind})
    assert (answer.status_code, answer.json()["error"][: len(sentence)]) == (400, sentence)


def test_a_text_with_windows_is_refused(client: TestClient) -> None:
    for data, files in (({"text": "a"}, [("file", wav(tone()))]), ({}, [("file", wav(tone()))] * 2)):
        answer = client.post("/predict?window=1", files=files, data=data)
        assert (answer.status_code, answer.json()["error"][:31]) == (400, "windows are of one recording, a")
    long = client.post("/predict", files=[("file", wav(tone(121.0)[::16], 1000))] * 2).json()
    assert [each["error"][:25] for each in long["predictions"]] == ["it is longer than 120 s: "] * 2


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([TYPE, 'multipart/form-data; boundary="x x"', "multipart/form-data;;"]))
def test_any_form_is_read_or_refused(body: bytes, kind: str) -> None:
    for content in (body, FILE + body, FILE + body + b"\r\n" + END, b"--xx\r\n" + body + b"\r\n\r\n\r\n" + END):
        try:
            found = forms.read(kind, content)
        except CorpusError:
            continue
        assert len(found.recordings) == len(found.texts) > 0


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=200).filter(lambda value: b"\r\n--xx" not in b"\r\n" + value))
def test_a_recording_arrives_byte_by_byte(value: bytes) -> None:
    head = 'Content-Disposition: form-data; name="file"; filename="x"\r\nContent-Type: audio/wav'
    assert forms.read(TYPE, field(head, value) + END) == Body([value], [""])
    assert forms.read("audio/wav", value) == Body([value], [""])


def test_a_job_whose_client_has_gone_ends_at_the_next_window(predictor: Predictor, monkeypatch: pytest.MonkeyPatch,
                                                             ) -> None:
    answered, begun, go = [], threading.Event(), threading.Event()
    answers = Predictor.answers

    def held(self: Predictor, features: object, own: object = None) -> object:
        answered.append(len(features))  # type: ignore[arg-type]
        begun.set()
        assert go.wait(250)
        return answers(self, features, own)  # type: ignore[arg-type]

    monkeypatch.setattr(Predictor, "answers", held)
    body, question = Body([wav(tone(8.0))], [""]), Question(window=0.2, hop=0.1)
    workers, ended = Workers(Limits()), []

    def job(left: threading.Event) -> object:
        try:
            return question.answer(predictor, body, 100, left)
        except Gone:
            ended.append(True)
            raise

    async def call() -> None:
        task = asyncio.ensure_future(workers.run(job))
        while not begun.is_set():
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go.set()
        while workers.jobs:
            await asyncio.sleep(0.001)

    asyncio.run(call())
    workers.close()
    assert (ended, answered) == ([True], [32])  # of 79 windows
    left = threading.Event()
    left.set()
    for question in (Question(), Question(window=1.0, hop=1.0)):
        with pytest.raises(Gone):
            question.answer(predictor, body, 100, left)


def test_a_model_of_the_voice_takes_a_form_too(tmp_path: Path) -> None:
    model = p2pser.load(save(tmp_path / "model"))
    with TestClient(app(model, Limits()), base_url=URL) as client:
        answer = client.post("/predict", files={"file": wav(tone())}).json()
        assert answer == {**model.predict(wav(tone()))[0].to_dict(), "note": ""}
        assert client.get("/model").json()["words"] is False
