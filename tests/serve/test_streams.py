"""Streams: the answers for speech while it comes, and what a client may not do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from served import RATE, save, tone
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

import p2pser
from p2pser.inference.predictor import Predictor
from p2pser.serve.app import app
from p2pser.serve.work import Limits

URL, STREAM = "http://127.0.0.1:8000", "ws://127.0.0.1:8000/stream"


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return p2pser.load(save(tmp_path_factory.mktemp("models") / "model"))


@pytest.fixture
def client(predictor: Predictor) -> Iterator[TestClient]:
    with TestClient(app(predictor, Limits(streams=1, idle=20)), base_url=URL) as client:
        yield client


@pytest.mark.parametrize(("rate", "seconds", "windows"), [(16000, 1.2, 3), (8000, 2.4, 3), (16000, 0.3, 1)])
def test_a_window_is_answered_when_it_is_complete(client: TestClient, predictor: Predictor, rate: int, seconds: float,
                                                  windows: int) -> None:
    samples = tone(seconds)
    expected = p2pser.stream(predictor, rate, window=0.5, hop=0.25) if rate == 16000 else None
    with client.websocket_connect(f"{STREAM}?rate={rate}&window=0.5&hop=0.25") as socket:
        segments = []
        for start in range(0, len(samples), 1600):
            block = samples[start : start + 1600]
            socket.send_bytes(block.astype("<i2").tobytes())
            if expected is not None:
                for segment in expected.push(block):
                    segments.append(segment)
                    assert socket.receive_json() == segment.to_dict()
        socket.send_bytes(b"")
        if expected is not None:
            segments += (rest := expected.close())
            assert [socket.receive_json() for _ in rest] == [each.to_dict() for each in rest]
            assert len(segments) == windows
        else:
            assert {socket.receive_json()["label"] for _ in range(windows)} <= {*predictor.labels}
        socket.close()


@pytest.mark.parametrize(("query", "block", "sentence"), [
    ("rate=x", b"", "rate is a number above 0"), ("rate=10", b"", "a sampling rate of 10.0: give"),
    ("windw=3", b"", "there is no parameter 'windw'"), ("window=61", b"", "a window of a stream lasts 60 s at most"),
    ("window=1&hop=0.01", b"", "a hop of 0.01 s is too short here"),
    ("", b"abc", "a block of a stream is binary"), ("", bytes(65538), "a block of a stream is binary"),
    ("", b"RIFF$\0\0\0WAVEfmt ", "the stream begins as a file of the format WAV does"),
    ("", b"\x1aE\xdf\xa3\x9fB\x86\x81", "the stream begins as a file of the format WebM does"),
    ("", "so glad", "the model reads no words: give it samples only"),
    ("", "x" * 65537, "a block of a stream is binary")])
def test_a_wrong_stream_gets_a_sentence(client: TestClient, query: str, block: bytes | str, sentence: str) -> None:
    with client.websocket_connect(f"{STREAM}?{query}") as socket:
        socket.send({"type": "websocket.receive", "text" if isinstance(block, str) else "bytes": block})
        assert socket.receive_json()["error"].startswith(sentence)
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_json()
        assert closed.value.code == 1008


def test_no_more_streams_than_are_granted(client: TestClient) -> None:
    with client.websocket_connect(STREAM) as first:
        with client.websocket_connect(STREAM) as second:
            assert second.receive_json() == {"error": "1 streams are open: try again later"}
            with pytest.raises(WebSocketDisconnect) as closed:
                second.receive_json()
            assert closed.value.code == 1013
        first.send_bytes(b"")
        with pytest.raises(WebSocketDisconnect) as closed:
            first.receive_json()
        assert closed.value.code == 1000
    with client.websocket_connect(f"{STREAM}?window=0.5") as again:
        again.send_bytes(np.zeros(8000, "<i2").tobytes())
        assert again.receive_json()["label"] is None


def test_an_idle_stream_ends(predictor: Predictor) -> None:
    with TestClient(app(predictor, Limits(idle=0.05)), base_url=URL) as client, \
            client.websocket_connect(STREAM) as socket:
        assert socket.receive_json() == {"error": "nothing came for 0.05 s"}


def test_pages_of_other_sites_open_no_stream(client: TestClient) -> None:
    with pytest.raises(WebSocketDenialResponse) as refused, \
            client.websocket_connect(STREAM, headers={"Origin": "http://evil.example"}):
        raise AssertionError("it was opened")
    assert refused.value.status_code == 403


def test_without_a_websocket_a_sentence_says_so(client: TestClient) -> None:
    answer = client.get("/stream")
    assert (answer.status_code, answer.json()["error"][:23]) == (426, "a stream is a websocket")


def test_a_text_is_what_is_said_from_then_on(tmp_path: Path) -> None:
    model = p2pser.load(save(tmp_path / "model", words=True))
    samples = tone(0.5)
    expected = [model.answer(samples.astype(np.float32) / 2**15, text=text).to_dict()["probabilities"]
                for text in ("", "so glad", "go away")]
    assert len({str(each) for each in expected}) == 3
    stream = p2pser.stream(model, RATE, window=0.5, hop=0.5)
    found = []
    for text in ("", "so glad", "go away"):
        stream.say(text)
        found += [segment.to_dict()["probabilities"] for segment in stream.push(samples)]
    assert found == expected
    with TestClient(app(model, Limits()), base_url=URL) as client, \
            client.websocket_connect(f"{STREAM}?window=0.5&hop=0.5") as socket:
        for text, probabilities in zip(("", "so glad", "go away"), expected):
            socket.send_text(text)
            socket.send_bytes(samples.astype("<i2").tobytes())
            assert socket.receive_json()["probabilities"] == probabilities
