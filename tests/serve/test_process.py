"""``p2pser serve`` as a process: many clients, large and slow ones, a browser, and its end."""

from __future__ import annotations

import http.client
import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import browser
import numpy as np
import psutil
import pytest
from click.testing import CliRunner
from served import LABELS, save, tone, wav
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK
from websockets.sync import client

from p2pser.base.errors import ConfigError
from p2pser.base.pages import listen
from p2pser.cli.main import cli

TIMEOUT = 250
"""Longest time of one thing on a busy machine [s]."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[str]]:
    """A server for up to a megabyte in 3 s; interrupted at the end, it ends with exit code 0 and one word."""
    model = save(tmp_path_factory.mktemp("models") / "model")
    command = [sys.executable, "-m", "p2pser.cli.main", "serve", str(model), "--port", "0", "--max-bytes", "1000000",
               "--timeout", "3"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            url = process.stdout.readline().strip()
            assert re.fullmatch(r"http://127\.0\.0\.1:[0-9]+/", url), process.communicate()
            process.args = url
            yield process
        finally:
            process.send_signal(2)
            try:
                _, said = process.communicate(timeout=TIMEOUT)
            finally:
                process.kill()  # else it would be waited for once more, without a limit
    assert process.returncode == 0
    assert said.splitlines() == ["open this address in a browser; Ctrl-C ends the server", "ended"]


def connect(server: subprocess.Popen[str]) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(str(server.args).split("/")[2], timeout=TIMEOUT)


def post(server: subprocess.Popen[str], content: bytes) -> tuple[int, dict[str, object]]:
    connection = connect(server)
    try:
        connection.request("POST", "/predict", content)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def test_many_clients_at_once_leave_nothing(server: subprocess.Popen[str]) -> None:
    process, content = psutil.Process(server.pid), wav(tone())
    expected = post(server, content)
    assert (expected[0], expected[1]["label"] in LABELS) == (200, True)
    with ThreadPoolExecutor(8) as clients:
        assert all(answer == expected for answer in clients.map(lambda _: post(server, content), range(60)))
        before = process.memory_info().rss, process.num_threads()
        assert all(answer == expected for answer in clients.map(lambda _: post(server, content), range(140)))
    assert process.num_threads() == before[1]
    assert process.memory_info().rss - before[0] < 20e6
    assert not process.children()


def test_a_large_upload_takes_no_memory(server: subprocess.Popen[str]) -> None:
    process = psutil.Process(server.pid)
    before, sent, block = process.memory_info().rss, 0, bytes(1 << 20)
    connection = connect(server)
    try:
        connection.putrequest("POST", "/predict")
        connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders()
        for _ in range(100):  # the answer is there long before the end, and the rest is thrown away
            connection.send(b"100000\r\n" + block + b"\r\n")
            sent = max(sent, process.memory_info().rss)
        connection.send(b"0\r\n\r\n")
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())) == (413, {
            "error": "the recording is larger than 1000000 bytes: cut it into parts"})
    finally:
        connection.close()
    assert sent - before < 20e6


def test_a_slow_client_is_cut_off_and_others_are_answered(server: subprocess.Popen[str]) -> None:
    host, port = str(server.args).split("/")[2].split(":")
    head = f"POST /predict HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000\r\n\r\nRIFF".encode()
    began = time.monotonic()
    with socket.create_connection((host, int(port)), timeout=TIMEOUT) as slow:
        slow.sendall(head)
        assert post(server, wav(tone()))[0] == 200
        received = b""
        while block := slow.recv(65536):
            received += block
    assert received.startswith(b"HTTP/1.1 408 ")
    assert received.endswith(b'{"error": "the recording did not arrive within 3 s"}')
    assert time.monotonic() - began >= 3


def test_a_stream_is_answered_and_a_block_that_is_too_large_ends_it(server: subprocess.Popen[str]) -> None:
    url = str(server.args).replace("http:", "ws:") + "stream?rate=16000&window=0.5&hop=0.5"
    with client.connect(url, open_timeout=TIMEOUT, proxy=None) as stream:
        for block in np.array_split(tone(1.5), 3):
            stream.send(block.astype("<i2").tobytes())
        segments = [json.loads(stream.recv(timeout=TIMEOUT)) for _ in range(3)]
        assert [(each["start"], each["end"]) for each in segments] == [(0.0, 0.5), (0.5, 1.0), (1.0, 1.5)]
        assert {each["label"] for each in segments} <= {*LABELS}
        stream.send(b"")
        with pytest.raises(ConnectionClosedOK):
            stream.recv(timeout=TIMEOUT)
    with client.connect(url, open_timeout=TIMEOUT, proxy=None) as stream:
        stream.send(bytes(1 << 20))
        with pytest.raises(ConnectionClosedError, match="message too big"):
            stream.recv(timeout=TIMEOUT)
    assert post(server, wav(tone()))[0] == 200


@pytest.mark.skipif(browser.chromium() is None, reason=f"no browser here: {', '.join(browser.NAMES)}")
def test_the_page_describes_the_model(server: subprocess.Popen[str]) -> None:
    page = browser.text(browser.look(str(server.args)))
    assert "A cnn2d on logmel, trained on tones: anger, joy, sadness" in page
    assert "The European AI Act (Regulation (EU) 2024/1689, article 5(1)(f)) has banned" in page
    assert "Record from the microphone" in page


def test_what_stands_in_the_way_is_told(tmp_path: Path) -> None:
    model = save(tmp_path / "model")
    with listen(0) as sock:
        done = CliRunner().invoke(cli, ["serve", str(model), "--port", str(sock.getsockname()[1])])
    assert isinstance(done.exception, ConfigError)
    assert "give another port (--port)" in str(done.exception)
    done = CliRunner().invoke(cli, ["serve", str(model), "--host", "no such host"])
    assert isinstance(done.exception, ConfigError)
    assert str(done.exception).startswith("cannot listen on no such host:8000: ")


def test_beyond_this_machine_a_sentence_warns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pser.serve.run.run", lambda app, sock: None)
    model = save(tmp_path / "model")
    done = CliRunner().invoke(cli, ["serve", str(model), "--host", "0.0.0.0", "--port", "0"])
    assert done.exit_code == 0
    assert "without authentication or encryption" in done.stderr
    assert "without" not in CliRunner().invoke(cli, ["serve", str(model), "--port", "0"]).stderr


@pytest.mark.parametrize("lacks", ["starlette", "uvicorn"])
def test_without_the_extra_one_sentence_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacks: str) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == lacks or name.startswith("p2pser.serve.") or
                 name == "p2pser.base.pages"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, lacks, None)
    done = CliRunner().invoke(cli, ["serve", str(tmp_path)])
    assert isinstance(done.exception, ConfigError)
    assert str(done.exception) == f"p2pser serve needs {lacks}, of the extra serve: pip install 'p2pser[serve]'"
