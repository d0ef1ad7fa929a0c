"""The addresses of a server: what they answer, and what each wrong request gets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from served import LABELS, RATE, save, tone, wav
from starlette.requests import Request
from starlette.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send
from uvicorn.server import ServerState

import p2pser
from p2pser.inference.predictor import Predictor
from p2pser.serve import run
from p2pser.serve.app import Server, app
from p2pser.serve.work import Limits

URL = "http://127.0.0.1:8000"


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return p2pser.load(save(tmp_path_factory.mktemp("models") / "model"))


@pytest.fixture
def client(predictor: Predictor) -> Iterator[TestClient]:
    limits = Limits(max_bytes=100_000, seconds=2.5)
    with TestClient(app(predictor, limits), base_url=URL, raise_server_exceptions=False) as client:
        yield client


def test_a_recording_is_answered_as_predict_does(client: TestClient, predictor: Predictor) -> None:
    for kind in ("WAV", "FLAC"):
        recording = wav(tone(), kind=kind)
        answer = client.post("/predict", content=recording)
        assert answer.status_code == 200
        assert answer.json() == {**predictor.predict(recording)[0].to_dict(), "note": ""}
    best = client.post("/predict?top_k=2", content=wav(tone())).json()["probabilities"]
    assert list(best) == sorted(best, key=best.__getitem__, reverse=True)
    assert len(best) == 2
    assert answer.headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in answer.headers


def test_windows_are_answered_along_time(client: TestClient, predictor: Predictor) -> None:
    samples = np.concatenate([tone(1.0), np.zeros(RATE, np.int16)])
    answer = client.post("/predict?window=0.5&hop=0.25&top_k=1", content=wav(samples)).json()
    expected = p2pser.timeline(predictor, wav(samples), window=0.5, hop=0.25)
    assert [(s["start"], s["label"]) for s in answer["segments"]] == [
        (each.start, each.answer and each.answer.label) for each in expected]
    assert (len(answer["segments"]), answer["segments"][-1]["label"]) == (7, None)
    assert [len(s["probabilities"]) for s in answer["segments"]] == [1, 1, 1, 1, 0, 0, 0]
    assert [s["start"] for s in client.post("/predict?hop=1", content=wav(samples)).json()["segments"]] == [0.0]


@pytest.mark.parametrize(("content", "sentence"), [
    (b"", "it is empty"), (b"Dear server, this is a letter.", "it is text"),
    (bytes(range(256)) * 40, "it is "), (wav(tone())[:30], "it is not a recording that can be read"),
    (b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=\1\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n", "it is no"),
    (wav(np.zeros(RATE, np.int16)), "it is silent"), (wav(tone(0.05)), "it lasts 0.050 s, shorter than 0.1 s"),
    (wav(tone(2.6)), "it is longer than 2.5 s: cut it into parts"),
    (wav(np.zeros(80_000, np.int16), 1000, "FLAC"), "it is longer than 2.5 s: cut it into parts")])
def test_a_recording_that_cannot_be_used_gets_a_sentence(client: TestClient, content: bytes, sentence: str) -> None:
    for query in ("", "?window=0.5") if sentence != "it is silent" else ("",):
        answer = client.post(f"/predict{query}", content=content)
        assert (answer.status_code, answer.json().keys()) == (400, {"error"})
        assert answer.json()["error"].startswith(sentence)
        assert not re.search("Traceback|0x|<|/", answer.json()["error"])


@pytest.mark.parametrize(("query", "sentence"), [
    ("top_k=0", "top_k is a number above 0"), ("top_k=1.5", "top_k is a whole number"),
    ("window=nan", "window is a number above 0"), ("hop=inf", "hop is a number above 0"),
    ("window=-1", "window is a number above 0"), ("window=x", "window is a number above 0"),
    ("windw=3", "there is no parameter 'windw': there are top_k, window and hop"),
    ("window=1&hop=2", "windows of 1 s every 2 s are not possible"),
    ("window=0.01&hop=0.1", "windows of 0.01 s every 0.1 s are not possible"),
    ("window=2&hop=0.09", "a hop of 0.09 s is too short here"),
    ("window=3&hop=0.1", "a hop of 0.1 s is too short here"),
    ("top_k=1e300&window=1e300", ""), ("window=1e308", ""), ("window=1e308&hop=1e308", "")])
def test_a_wrong_question_is_refused(client: TestClient, query: str, sentence: str) -> None:
    answer = client.post(f"/predict?{query}", content=wav(tone()))
    assert (answer.status_code, "error" in answer.json()) == ((400, True) if sentence else (200, False))
    assert answer.json().get("error", "").startswith(sentence)


def test_a_large_body_is_never_held(predictor: Predictor) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield bytes(10_000)

    async def call() -> tuple[int, dict[str, str], int]:
        async def stream() -> AsyncIterator[bytes]:
            for chunk in endless():
                yield chunk
        return await _raw(app(predictor, Limits(max_bytes=100_000)), stream())

    status, document, _ = asyncio.run(call())
    assert (status, document) == (413, {"error": "the recording is larger than 100000 bytes: cut it into parts"})
    assert sent == 11


async def _raw(application: object, chunks: AsyncIterator[bytes], headers: tuple[tuple[bytes, bytes], ...] = (),
               ) -> tuple[int, dict[str, str], int]:
    """Send a request chunk by chunk and return its status, its document and how many messages were asked for."""
    answers: list[dict[str, object]] = []
    asked = 0

    async def receive() -> dict[str, object]:
        nonlocal asked
        asked += 1
        return {"type": "http.request", "body": await anext(chunks), "more_body": True}

    async def send(message: dict[str, object]) -> None:
        answers.append(message)

    scope = {"type": "http", "method": "POST", "path": "/predict", "query_string": b"", "headers": [
        (b"host", b"127.0.0.1"), *headers]}
    await application(scope, receive, send)  # type: ignore[operator]
    return answers[0]["status"], json.loads(answers[1]["body"]), asked  # type: ignore[return-value,arg-type]


def test_a_length_that_is_too_large_is_refused_before_the_body(predictor: Predictor) -> None:
    async def nothing() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    status, _, asked = asyncio.run(_raw(app(predictor, Limits(max_bytes=100)), nothing(),
                                        ((b"content-length", b"2000000000"),)))
    assert (status, asked) == (413, 0)


def test_a_slow_client_is_cut_off(predictor: Predictor) -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b"RIFF"
        await asyncio.Event().wait()

    status, document, _ = asyncio.run(_raw(app(predictor, Limits(timeout=0.05)), slow()))
    assert (status, document) == (408, {"error": "the recording did not arrive within 0.05 s"})


def test_bodies_together_are_limited_and_given_back(predictor: Predictor) -> None:
    application = app(predictor, Limits(max_bytes=10_000))

    async def call() -> list[int]:
        more, started = asyncio.Event(), [asyncio.Event() for _ in range(4)]

        async def held(started: asyncio.Event) -> AsyncIterator[bytes]:
            yield bytes(10_000)
            started.set()
            await more.wait()
            yield bytes(1)

        async def short() -> AsyncIterator[bytes]:
            while True:
                yield bytes(5_000)

        others = [asyncio.create_task(_raw(application, held(each))) for each in started]
        for each in started:
            await each.wait()
        statuses = [(await _raw(application, short()))[0]]
        more.set()
        statuses += [(await each)[0] for each in others]
        return [*statuses, (await _raw(application, short()))[0]]

    assert asyncio.run(call()) == [503, 413, 413, 413, 413, 413]


def test_too_many_at_once_are_refused(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go = threading.Event(), threading.Event()
    each = Predictor.each

    def held(self: Predictor, *arguments: object, **named: object) -> object:
        begun.set()
        assert go.wait(250)
        return each(self, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Predictor, "each", held)
    limits = Limits(waiting=2)
    with TestClient(app(predictor, limits), base_url=URL) as client, ThreadPoolExecutor(3) as senders:
        first = [senders.submit(client.post, "/predict", content=wav(tone())) for _ in range(3)]
        try:
            assert begun.wait(250)
            _until(lambda: client.get("/health").json() == {"status": "ok", "jobs": 3})
            refused = client.post("/predict", content=wav(tone()))
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            assert refused.json() == {"error": "too many recordings are waiting: try again in a moment"}
        finally:
            go.set()
        assert [each.result().status_code for each in first] == [200, 200, 200]
        assert client.get("/health").json()["jobs"] == 0


def test_a_prediction_whose_client_has_gone_is_not_begun(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go, heard = threading.Event(), threading.Event(), []

    def held(self: Predictor, recordings: Iterator[bytes], *_: object, **__: object) -> list[object]:
        heard.append(next(recordings))
        begun.set()
        assert go.wait(250)
        return []

    monkeypatch.setattr(Predictor, "each", held)
    server = Server(predictor, Limits())

    async def call() -> int:
        async def client(recording: bytes, goes: asyncio.Event) -> None:
            body = [{"type": "http.request", "body": recording}]

            async def receive() -> Message:
                if body:
                    return body.pop()
                await goes.wait()
                return {"type": "http.disconnect"}

            await server.predict(Request({"type": "http", "method": "POST", "path": "/predict", "query_string": b"",
                                          "headers": []}, receive))

        stays, goes = asyncio.Event(), asyncio.Event()
        goes.set()
        first = asyncio.ensure_future(client(wav(tone()), stays))
        while not begun.is_set():
            await asyncio.sleep(0)
        await client(wav(tone(0.7)), goes)  # returns though the first holds the only worker
        while server.workers.jobs > 1:
            await asyncio.sleep(0)
        go.set()
        with contextlib.suppress(IndexError):
            await first
        server.workers.close()
        return server.workers.jobs

    assert asyncio.run(call()) == 0
    assert heard == [wav(tone())]


def test_a_head_that_comes_slowly_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"

    async def ok(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async def call() -> list[bytes]:
        config = run.configuration(ok)
        config.load()
        listening = await asyncio.get_running_loop().create_server(
            lambda: config.http_protocol_class(config, ServerState(), {}), "127.0.0.1", 0)  # type: ignore[call-arg]
        heard = []
        async with listening:
            for sent in (b"", b"POST / HTTP/1.1\r\nHost:", whole):
                monkeypatch.setattr(run, "HEAD", 30.0 if sent == whole else 0.05)
                reader, writer = await asyncio.open_connection(*listening.sockets[0].getsockname())
                writer.write(sent)
                heard.append(await asyncio.wait_for(reader.read(), 30))
                writer.close()
                await writer.wait_closed()
        return heard

    assert [answer[:12] for answer in asyncio.run(call())] == [b"", b"", b"HTTP/1.1 204"]


def _until(holds: object) -> None:
    while not holds():  # type: ignore[operator]
        pass


def test_a_fault_of_the_server_shows_nothing_of_it(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **named: object) -> None:
        raise RuntimeError("cannot open /home/somebody/secret")

    monkeypatch.setattr(Predictor, "each", fail)
    answer = client.post("/predict", content=wav(tone()))
    assert (answer.status_code, answer.json()) == (500, {
        "error": "the server failed at this request; its own log says why"})


def test_other_addresses_are_refused(client: TestClient) -> None:
    wrong = client.get("/predict")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    assert "a recording is sent to /predict by POST" in wrong.json()["error"]
    missing = client.get("/../card.json")
    assert (missing.status_code, "there is nothing at this address" in missing.json()["error"]) == (404, True)


def test_the_model_is_described_without_what_is_not_public(client: TestClient) -> None:
    answer = client.get("/model")
    shown = answer.json()
    assert shown["labels"] == list(LABELS)
    assert (shown["features"], shown["normalise"], shown["corpora"], shown["peers"]) == (
        "logmel", "none", {"tones": "1"}, 3)
    assert "article 5(1)(f)" in shown["law"]
    assert "/a/path" not in answer.text


def test_the_note_goes_with_each_answer(tmp_path: Path) -> None:
    model = p2pser.load(save(tmp_path / "model", "speaker"))
    with TestClient(app(model, Limits()), base_url=URL) as client:
        for query in ("", "?window=0.5"):
            answer = client.post(f"/predict{query}", content=wav(tone())).json()
            assert answer["note"].startswith("the model expects each speaker's own feature statistics")


@pytest.mark.parametrize(("host", "code"), [
    ("127.0.0.1:8000", 200), ("localhost", 200), ("LOCALHOST:1", 200), ("evil.example", 400), ("192.0.2.1", 400),
    ("", 400), ("[::1", 400)])
def test_only_its_own_host_names_are_answered(client: TestClient, host: str, code: int) -> None:
    assert client.get("/health", headers={"Host": host}).status_code == code


@pytest.mark.parametrize(("host", "code"), [
    ("192.0.2.1:80", 200), ("[2001:db8::1]:80", 200), ("ser.example", 200), ("evil.example", 400),
    ("192.0.2.1.evil.example", 400)])
def test_beyond_this_machine_addresses_are_answered_too(predictor: Predictor, host: str, code: int) -> None:
    with TestClient(app(predictor, Limits(), ["ser.example"], addresses=True), base_url=URL) as client:
        assert client.get("/health", headers={"Host": host}).status_code == code


def test_pages_of_other_sites_are_not_answered(client: TestClient) -> None:
    for origin, code in ((URL, 200), ("http://evil.example", 403), ("null", 403), ("http://[", 403),
                         ("http://127.0.0.1:9000", 403)):
        answer = client.post("/predict", content=wav(tone()), headers={"Origin": origin})
        assert answer.status_code == code
