"""Encoders by name: downloaded from a hub on this machine, resumed, kept; messages where there are none."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("huggingface_hub", reason="the ssl extra is not installed")

from p2pser.features import encoders

NAME, COMMIT = "somebody/tiny-encoder", "c0ffee" * 6 + "c0de"
FILES = {"config.json": json.dumps({"num_hidden_layers": 2, "hidden_size": 16}).encode(),
         "preprocessor_config.json": json.dumps({"sampling_rate": 16000}).encode(),
         "model.safetensors": bytes(range(256)) * (24 << 12), "README.md": b"not needed"}
"""The weights are 24 MiB: the client writes, and resumes, by pieces of 10 MiB."""
CODE = """
import sys
from p2pser.base.errors import P2PSERError
from p2pser.features import encoders
try:
    print(encoders.identity(encoders.folder(sys.argv[1], None)))
except P2PSERError as error:
    print("error:", error)
"""
"""A new interpreter: the hub's client reads these variables when it is imported, and a forkserver may have done so."""


class Hub:
    """The answers of huggingface.co, for one model. cut: break off the next transfer of the weights half way."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str | None]] = []
        self.cut = False
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

            def do_HEAD(self) -> None:
                hub.answer(self)

            def do_GET(self) -> None:
                hub.answer(self)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()
        self.address = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path, ranged = request.path.partition("?")[0], request.headers.get("Range")
        self.asked.append((request.command, path, ranged))
        name = path.rpartition("/")[2]
        data, status, headers = b"{}", 404, {"X-Error-Code": "RepoNotFound"}
        if path.startswith(f"/api/models/{NAME}/revision/"):
            data, status, headers = json.dumps({"id": NAME, "sha": COMMIT, "siblings": [
                {"rfilename": one} for one in FILES]}).encode(), 200, {}
        elif path.startswith(f"/api/models/{NAME}/tree/"):
            data, status, headers = json.dumps([
                {"type": "file", "path": one, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for one, content in FILES.items()]).encode(), 200, {}
        elif path.startswith(f"/{NAME}/resolve/{COMMIT}/"):
            data, status = FILES[name], 200
            headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": COMMIT}
            if ranged is not None:
                start, whole = int(ranged.removeprefix("bytes=").rstrip("-")), len(data)
                data, status = data[start:], 206
                headers["Content-Range"] = f"bytes {start}-{whole - 1}/{whole}"
        request.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(data))}.items():
            request.send_header(key, value)
        request.end_headers()
        if request.command == "GET":
            if self.cut and name == "model.safetensors":
                self.cut, data = False, data[: len(data) // 2]
                request.close_connection = True
            request.wfile.write(data)

    def close(self) -> None:
        if self.thread.is_alive():
            self.server.shutdown()
            self.thread.join()
            self.server.server_close()


@pytest.fixture
def hub() -> Iterator[Hub]:
    one = Hub()
    yield one
    one.close()


def found(hub: Hub, home: Path, name: str = NAME) -> str:
    """Return the identity of the encoder as another process computes it, or its error."""
    run = subprocess.run([sys.executable, "-c", CODE, name], capture_output=True, text=True, check=True, env={
        "HF_ENDPOINT": hub.address, "HF_HOME": str(home / "hf"), "HF_HUB_DISABLE_XET": "1", "HOME": str(home),
        "PATH": "", "P2PSER_CACHE": str(home / "cache"), "NO_PROXY": "127.0.0.1"})
    return run.stdout.strip()


def copied(folder: Path) -> str:
    folder.mkdir()
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    return encoders.identity(folder)


def test_an_encoder_is_fetched_by_its_name_once(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P2PSER_CACHE", str(tmp_path / "cache"))
    assert found(hub, tmp_path) == copied(tmp_path / "copy")
    fetched = [path for command, path, _ in hub.asked if command == "GET" and "/resolve/" in path]
    assert sorted(path.rpartition("/")[2] for path in fetched) == [
        "config.json", "model.safetensors", "preprocessor_config.json"]
    hub.asked.clear()
    assert found(hub, tmp_path) == copied(tmp_path / "again")
    assert not any("/resolve/" in path for command, path, _ in hub.asked if command == "GET")
    hub.close()
    assert found(hub, tmp_path) == copied(tmp_path / "offline")


def test_an_interrupted_download_is_resumed(hub: Hub, tmp_path: Path,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P2PSER_CACHE", str(tmp_path / "cache"))
    hub.cut = True
    assert found(hub, tmp_path) == copied(tmp_path / "copy")
    ways = [ranged for command, path, ranged in hub.asked if command == "GET" and path.endswith("model.safetensors")]
    assert ways[0] is None
    assert len(ways) == 2
    assert 0 < int(str(ways[1]).removeprefix("bytes=").rstrip("-")) <= len(FILES["model.safetensors"]) // 2


def test_an_unknown_name_is_refused_in_one_sentence(hub: Hub, tmp_path: Path) -> None:
    error = found(hub, tmp_path, "somebody/else")
    assert error.startswith("error: the encoder somebody/else is not on this machine and could not be fetched")
    assert "\n" not in error
