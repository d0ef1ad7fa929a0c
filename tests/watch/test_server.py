"""The page of a run: its two addresses, what they refuse, and that nothing of a run's files is run in the browser."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from recordings import write
from starlette.testclient import TestClient

from p2pser.base.errors import ConfigError
from p2pser.base.pages import HOST, listen
from p2pser.watch.document import Observer
from p2pser.watch.server import app, user_of


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write(tmp_path / "pilot", [(0, 1), (1, 2)])


@pytest.fixture
def client(run: Path) -> Iterator[TestClient]:
    with TestClient(app(Observer(run)), base_url=f"http://{HOST}:8765") as client:
        yield client


def test_the_page_runs_its_own_script_only(client: TestClient) -> None:
    answer = client.get("/")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = answer.headers["content-security-policy"]
    for tag in ("script", "style"):
        (text,) = re.findall(f"<{tag}>(.*?)</{tag}>", answer.text, re.S)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy
    assert policy.startswith("default-src 'none'")
    assert re.findall(r"(?:src|href)\s*=\s*\"([^\"]*)\"", answer.text) == ["data:,"], "nothing is loaded from elsewhere"
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", answer.text)


def test_the_document_is_the_runs(client: TestClient, run: Path) -> None:
    answer = client.get("/run.json", params={"round": 4, "peer": 2})
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    assert answer.headers["content-type"] == "application/json"
    assert "access-control-allow-origin" not in answer.headers
    shown = answer.json()
    assert shown["headline"] == "5 of 12 rounds are over"
    assert len(shown["curves"]["uar"]["own"]) == 5
    assert client.get("/run.json").json()["headline"].startswith("3 of 3 peers agreed")
    shutil.rmtree(run)
    gone = client.get("/run.json")
    assert (gone.status_code, "holds no peer's folder" in gone.json()["error"]) == (404, True)


def test_a_name_that_is_no_text_is_told_too(tmp_path: Path) -> None:
    run = write(tmp_path / os.fsdecode(b"pil\xffot"), [(0, 1)])
    with TestClient(app(Observer(run)), base_url=f"http://{HOST}:8765") as client:
        assert client.get("/run.json").json()["run"] == "pil ot"
        shutil.rmtree(run)
        gone = client.get("/run.json")
    assert (gone.status_code, "pil\udcffot holds no peer's folder" in gone.json()["error"]) == (404, True)


@pytest.mark.parametrize("query", ["round=x", "round=-1", "peer=1e3", "peer=", "round=" + "9" * 5000, "round=²"])
def test_a_wrong_question_is_refused(client: TestClient, query: str) -> None:
    answer = client.get(f"/run.json?{query}")
    assert (answer.status_code, set(answer.json())) == (400, {"error"})


@pytest.mark.parametrize(("host", "code"), [
    ("127.0.0.1:8765", 200), ("localhost:8765", 200), ("127.0.0.1", 200), ("evil.example:8765", 400),
    ("127.0.0.1.evil.example", 400), ("192.0.2.1:8765", 400), ("", 400)])
def test_another_host_name_is_refused(client: TestClient, host: str, code: int) -> None:
    for path in ("/", "/run.json"):
        assert client.get(path, headers={"Host": host}).status_code == code


@pytest.mark.parametrize(("method", "path", "code"), [("POST", "/run.json", 405), ("GET", "/../../etc/passwd", 404)])
def test_nothing_else_is_served(client: TestClient, method: str, path: str, code: int) -> None:
    assert client.request(method, path).status_code == code


def test_it_listens_on_this_machine_only() -> None:
    with listen(0) as sock:
        assert sock.getsockname()[0] == "127.0.0.1"
        with pytest.raises(ConfigError, match=r"cannot listen on 127\.0\.0\.1:\d+: .*--port"):
            listen(sock.getsockname()[1])


def test_it_answers_its_own_user_only(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    with listen(0) as sock, socket.create_connection(sock.getsockname()) as here:
        ports = here.getsockname()[1], sock.getsockname()[1]
        assert user_of(*ports) == os.getuid()
        assert user_of(*ports, tables=[Path("/nowhere")]) is None
    monkeypatch.setattr("p2pser.watch.server.user_of", lambda *ports: os.getuid() + 1)
    answer = client.get("/run.json")
    assert (answer.status_code, "pilot" in answer.text) == (403, False)
