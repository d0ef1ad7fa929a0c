"""Peers talk to their neighbours only: every bind and connect of every process, as the kernel saw it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from p2pser.graph.spec import load

RING = load("ring", peers=5)
CALL = re.compile(r"\b(bind|connect)\(\d+(?:<[^>]*>)?, \{sa_family=(AF_INET6?)\b(.*)")
PORT = re.compile(r"sin6?_port=htons\((\d+)\)")
ADDRESS = re.compile(r'inet_addr\("([^"]+)"\)|inet_pton\(AF_INET6, "([^"]+)"')


def calls(trace: Path) -> list[tuple[str, str, int]]:
    """Return (bind or connect, address, port) of every Internet socket in a trace."""
    found = []
    for line in trace.read_text(encoding="utf-8", errors="replace").splitlines():
        if (match := CALL.search(line)) is not None:
            port, address = PORT.search(match[3]), ADDRESS.search(match[3])
            assert port is not None, line
            assert address is not None, line
            found.append((match[1], address[1] or address[2], int(port[1])))
    return found


def test_calls_reads_what_strace_writes(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    trace.write_text(
        '7 connect(9, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("192.0.2.1")}, 16) = -1 EINPROGRESS\n'
        '8 bind(9, {sa_family=AF_INET6, sin6_port=htons(80), sin6_flowinfo=htonl(0), '
        'inet_pton(AF_INET6, "::1", &sin6_addr), sin6_scope_id=0}, 28 <unfinished ...>\n'
        '8 <... bind resumed>) = 0\n'
        '8 connect(4, {sa_family=AF_UNIX, sun_path="/run/x"}, 110) = 0\n')
    assert calls(trace) == [("connect", "192.0.2.1", 53), ("bind", "::1", 80)]


HIDDEN = (1, 3)
"""Peers without an address, which are not dialled and do not listen. 4 and 0 are neighbours that both do."""


def test_every_process_dials_its_neighbours_and_nobody_else(real: Any, python: list[str], tmp_path: Path) -> None:
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed: it records what peers bind and connect to")
    usable = subprocess.run([strace, "-f", "-qq", "-e", "trace=connect", "true"], capture_output=True, check=False)
    if usable.returncode:
        pytest.skip("strace may not trace processes here")
    config = real.config("out", peers=5)
    base = config.network.base_port
    (tmp_path / "net.yaml").write_text(yaml.safe_dump({
        "graph": {"kind": "ring", "peers": RING.size}, "peers": {i: {"address": "none"} for i in HIDDEN}}))
    running = []
    try:
        for i in range(RING.size):
            call = [strace, "-f", "-qq", "--seccomp-bpf", "-e", "trace=connect,bind",
                    "-o", str(tmp_path / f"trace-{i}"), *python,
                    "-m", "p2pser.cli.main", "peer", "--id", str(i), "--topology", str(tmp_path / "net.yaml"),
                    "--corpus", "manifest", "--data", str(config.corpus.data), "--out", str(config.peer.out),
                    "--rounds", "3", "--set", f"network.base_port={base}", "--set", "corpus.split=speakers:s8",
                    "--set", "model.hidden=[16]"]
            running.append(subprocess.Popen(call, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True))
        said = [one.communicate(timeout=180)[1] for one in running]
    finally:
        for one in running:
            one.kill()
            one.wait()
    assert [one.returncode for one in running] == [0] * RING.size, said
    for i in range(RING.size):
        seen = calls(tmp_path / f"trace-{i}")
        allowed = {("127.0.0.1", base + j) for j in RING.neighbours(i) if j not in HIDDEN}
        assert {(address, port) for call, address, port in seen if call == "connect"} == allowed, i
        bound = set() if i in HIDDEN else {("127.0.0.1", base + i)}
        assert {(address, port) for call, address, port in seen if call == "bind"} == bound, i
