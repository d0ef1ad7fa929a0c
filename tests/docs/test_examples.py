"""The scripts of ``examples/`` run as they are, in this process."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from served import LABELS, save, tone, wav
from sklearn import config_context

from p2pser.cli.main import cli

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def called(capsys: pytest.CaptureFixture[str]) -> Any:
    def call(name: str, *arguments: object) -> str:
        main = runpy.run_path(str(EXAMPLES / name), run_name="example")["main"]
        with config_context():
            main(*map(str, arguments))
        return capsys.readouterr().out

    return call


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("examples")
    save(root / "model")
    (root / "a.wav").write_bytes(wav(tone(1.2)))
    (root / "b.wav").write_bytes(wav(tone(0.6, 220)))
    return root


def test_predict(called: Any, folder: Path) -> None:
    lines = called("predict.py", folder / "model", folder / "a.wav", folder / "b.wav").splitlines()
    assert [line.split()[0] for line in lines[:2]] == ["a.wav", "b.wav"]
    assert lines[3].split()[-1] in LABELS
    assert lines[-1] == "1 windows of the stream"


def test_scikit_learn(called: Any) -> None:
    out = called("scikit_learn.py")
    assert "UAR 0." in out or "UAR 1." in out
    assert "\n6 peers; ['" in out


def test_without_torch(called: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def here(command: list[str], check: bool) -> None:
        assert command[:3] == [sys.executable, "-m", "p2pser"]
        assert CliRunner().invoke(cli, command[3:]).exit_code == 0

    monkeypatch.setattr(subprocess, "run", here)
    assert float(called("without_torch.py", folder / "model", tmp_path / "light", folder / "a.wav")) < 1e-4


def test_ask_a_server(called: Any, folder: Path) -> None:
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append((self.path, len(self.rfile.read(int(self.headers["Content-Length"])))))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"probabilities": {"joy": 0.5}}).encode())

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            out = called("ask_a_server.py", f"http://127.0.0.1:{server.server_port}", folder / "a.wav")
        finally:
            server.shutdown()
            thread.join()
    assert out == "{'joy': 0.5}\n"
    assert asked == [("/predict?top_k=3", (folder / "a.wav").stat().st_size)]
