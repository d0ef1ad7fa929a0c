"""What a monitoring system reads of a peer: Prometheus' metrics and a health page, served beside the run."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from p2pser.base.errors import ConfigError
from p2pser.base.version import __version__
from p2pser.config import Config
from p2pser.graph.spec import load
from p2pser.network import events
from p2pser.network.stream import Traffic
from p2pser.peer import endpoint
from p2pser.peer.endpoint import Endpoint
from p2pser.peer.figures import Figures
from p2pser.peer.launch import free_base_port
from p2pser.peer.process import Peer
from p2pser.peer.supervisor import Supervisor

PARSER = pytest.importorskip("prometheus_client.parser", reason="needs the extra metrics")


class Served:
    """A peer's figures, with times that the test moves, and the endpoint that serves them."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.port = free_base_port(1)
        config = Config().with_settings([f"network.metrics_port={self.port}", "training.rounds=12", "name=pilot"])
        self.supervisor = Supervisor({}, lambda: self.now)
        self.supervisor.watch()
        self.figures = Figures(config, 3, self.supervisor, lambda: self.now)

    def get(self, path: str, method: str = "GET") -> tuple[int, str]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def metrics(self) -> dict[tuple[str, ...], float]:
        """The metrics, by name and values of labels."""
        families = PARSER.text_string_to_metric_families(self.get("/metrics")[1])
        return {(one.name, *one.labels.values()): one.value for family in families for one in family.samples}


@pytest.fixture
def served() -> Iterator[Served]:
    one = Served()
    with one.figures.serve():
        yield one
    with pytest.raises(ConnectionRefusedError):
        one.get("/health")


def test_metrics_are_those_of_the_run(served: Served) -> None:
    before = served.metrics()
    assert (before["p2pser_rounds",], before["p2pser_rounds_done",]) == (12, 0)
    assert "p2pser_loss" not in {name for name, *_ in before}
    line: dict[str, Any] = {"peer": 3, "round": 6, "loss": 1.25, "uar": 0.5, "distance": 0.125, "seconds": 2.5,
                            "messages_late": 4}
    served.figures.take(line)
    served.figures.take({**line, "round": 7, "loss": 0.75, "uar": None})
    served.figures.take({"kind": "dead", "peer": 5, "round": 99})
    for event in (events.Struck(5, "it has 3 numbers", 1), events.Trouble(5, "broken"), events.Trouble(None, "broken"),
                  events.Struck(5, "it has 3 numbers", 2), events.Refused(2, "settings differ", True)):
        served.figures.observe(event)
    io: Any = SimpleNamespace(states=lambda: {2: "alive", 5: "dead", 7: "alive"},
                              traffic=lambda: {2: Traffic(70, 60, 3, 50, 2), 5: Traffic(7, 6, 1), 7: Traffic()})
    checkpoints: Any = SimpleNamespace(saved_at=958.0)
    served.figures.follow(io, checkpoints)
    found = served.metrics()
    assert [labels for name, *labels in found if name == "p2pser_peer_info"] == [["3", "pilot", __version__]]
    expected = {"p2pser_rounds_done": 8, "p2pser_loss": 0.75, "p2pser_uar": 0.5, "p2pser_consensus_distance": 0.125,
                "p2pser_round_seconds": 2.5, "p2pser_checkpoint_age_seconds": 42.0, "p2pser_messages_late_total": 4}
    assert {name: found[name,] for name in expected} == expected
    assert {state: found["p2pser_neighbours", state] for state in ("waiting", "alive", "suspect", "dead", "left")} == {
        "waiting": 0, "alive": 2, "suspect": 0, "dead": 1, "left": 0}
    assert [found[f"p2pser_{name}_total", "2"] for name in ("bytes_sent", "payload_sent", "messages_sent",
                                                            "payload_received", "rows_received")] == [70, 60, 3, 50, 2]
    assert (found["p2pser_messages_rejected_total", "5"], found["p2pser_messages_rejected_total", ""]) == (3, 1)
    assert found["process_resident_memory_bytes",] > 1e6 or sys.platform != "linux"


def test_health_is_whether_both_threads_get_on(served: Served) -> None:
    served.now += 9000.0
    assert served.get("/health")[0] == 200  # it still reads its recordings
    served.supervisor.ready()
    served.supervisor.got_on()
    served.supervisor.pulse()
    served.now += 60.0
    status, body = served.get("/health")
    assert (status, json.loads(body)) == (200, {"gets_on": True, "idle_s": 60.0, "listens": True, "peer": 3,
                                                "run": "pilot", "round": 0, "rounds": 12})
    served.now += 1.0
    assert served.get("/health")[0] == 503
    served.supervisor.got_on()  # the training thread moves, and the I/O thread does not
    assert served.get("/health")[0] == 503
    served.supervisor.pulse()
    assert served.get("/health", "HEAD") == (200, "")


def test_what_is_not_there_or_no_request_costs_only_itself(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    assert served.get("/secret") == (404, "there are /metrics and /health\n")
    assert served.get("/metrics", "POST")[0] == 405
    whole = (b"\xff" * 20000, b"\r\n\r\n", b"GET\r\n\r\n", b"GET /health?x=1 HTTP/1.1\r\n\r\n")
    for sent in (b"", b"GET /metr", *whole):
        # What is whole gets its answer however slow this machine is.
        monkeypatch.setattr(endpoint, "PATIENCE", 20.0 if sent in whole else 0.2)
        with socket.create_connection(("127.0.0.1", served.port), timeout=20) as end:
            try:
                end.sendall(sent)
                answer = end.recv(100)
            except ConnectionError:
                answer = b""
            assert answer[:12] in (b"", b"HTTP/1.1 404", b"HTTP/1.1 405", b"HTTP/1.1 200"), sent
    assert answer[:12] == b"HTTP/1.1 200"
    with contextlib.ExitStack() as held:
        crowd = [held.enter_context(socket.create_connection(("127.0.0.1", served.port), timeout=20))
                 for _ in range(endpoint.AT_ONCE + 5)]
        assert [one.recv(1) for one in crowd[:5]] == [b""] * 5  # the oldest of those that say nothing
        assert served.get("/health")[0] == 200
        crowd[-1].setblocking(False)
        with pytest.raises(BlockingIOError):
            crowd[-1].recv(1)


def test_connections_that_are_open_do_not_hold_up_the_end() -> None:
    threads = threading.active_count()
    with contextlib.ExitStack() as held:
        with Endpoint("127.0.0.1", 0, {}) as one:
            ends = [held.enter_context(socket.create_connection(("127.0.0.1", one.port), timeout=20)) for _ in range(9)]
            for end in ends:
                end.sendall(b"GET ")
        for end in ends:
            with contextlib.suppress(ConnectionResetError):  # it was not accepted yet
                assert end.recv(1) == b""
    assert threading.active_count() == threads


def test_a_port_that_is_taken_and_a_missing_package_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        config = Config().with_settings([f"network.metrics_port={port}", f"peer.out={tmp_path / 'runs'}",
                                         f"network.secret={tmp_path / 'secret'}"])
        with pytest.raises(ConfigError, match=f"metrics at 127.0.0.1, port {port}: Address already in use;") as no:
            Peer(config, load("ring", 2, 0), 0).run()
    assert no.value.exit_code == 2
    assert not (tmp_path / "runs").exists()
    with pytest.raises(ConfigError, match=r"cannot serve metrics at no\.such\.invalid"):
        Endpoint("no.such.invalid", 9100, {})
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    config = Config().with_settings(["network.metrics_port=9100"])
    with pytest.raises(ConfigError, match=r"pip install 'p2pser\[metrics\]'"):
        Figures(config, 0, Supervisor({})).serve()
