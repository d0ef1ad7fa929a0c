"""Peers talk to their neighbours only: every bind and connect of every process, as the kernel saw it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
import yaml

from p2pser.graph.spec import load

RING = load("ring", peers=5)
START = re.compile(r"(\d+) .*\b(?:v?fork|clone3?)\b.* = (\d+)$")
CALL = re.compile(r"\b(bind|connect)\(\d+(?:<[^>]*>)?, \{sa_family=(AF_INET6?)\b(.*)")
PORT = re.compile(r"sin6?_port=htons\((\d+)\)")
ADDRESS = re.compile(r'inet_addr\("([^"]+)"\)|inet_pton\(AF_INET6, "([^"]+)"')


def calls(trace: Path, owners: Collection[int]) -> list[tuple[int, str, str, int]]:
    """Return (owner, bind or connect, address, port) of every Internet socket in a trace.

    owners : ids of processes; what a process or thread does that one of them has started is the owner's call.
    """
    lines = trace.read_text(encoding="utf-8", errors="replace").splitlines()
    started_by = {int(match[2]): int(match[1]) for match in map(START.match, lines) if match is not None}
    found = []
    for line in lines:
        if (match := CALL.search(line)) is not None:
            port, address = PORT.search(match[3]), ADDRESS.search(match[3])
            assert port is not None, line
            assert address is not None, line
            owner = int(line.split()[0])
            while owner not in owners:
                owner = started_by[owner]
            found.append((owner, match[1], address[1] or address[2], int(port[1])))
    return found


def test_calls_reads_what_strace_writes(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    trace.write_text(
        '6 clone(child_stack=NULL, flags=CLONE_CHILD_SETTID|SIGCHLD, child_tidptr=0x7f21) = 7\n'
        '7 connect(9, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("192.0.2.1")}, 16) = -1 EINPROGRESS\n'
        '7 clone3({flags=CLONE_VM|CLONE_THREAD, stack_size=0x7fff80} <unfinished ...>\n'
        '8 bind(9, {sa_family=AF_INET6, sin6_port=htons(80), sin6_flowinfo=htonl(0), '
        'inet_pton(AF_INET6, "::1", &sin6_addr), sin6_scope_id=0}, 28 <unfinished ...>\n'
        '7 <... clone3 resumed> => {parent_tid=[8]}, 88) = 8\n'
        '8 <... bind resumed>) = 0\n'
        '8 connect(4, {sa_family=AF_UNIX, sun_path="/run/x"}, 110) = 0\n')
    assert calls(trace, {6}) == [(6, "connect", "192.0.2.1", 53), (6, "bind", "::1", 80)]
    assert calls(trace, {7}) == [(7, "connect", "192.0.2.1", 53), (7, "bind", "::1", 80)]


PEERS = """
import json, os, sys
import p2pser.peer.preload
from p2pser.cli.main import main

children = []
for arguments in json.loads(sys.argv[1]):
    if not (child := os.fork()):
        sys.argv = ["p2pser", *arguments]
        main()
    children.append(child)
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
print(*children)
print(*codes)
"""
"""Runs a command in each of several processes, forked after the imports; prints their ids and their exit codes."""
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
    peers = [["peer", "--id", str(i), "--topology", str(tmp_path / "net.yaml"), "--corpus", "manifest",
              "--data", str(config.corpus.data), "--out", str(config.peer.out), "--rounds", "3",
              "--set", f"network.base_port={base}", "--set", "corpus.split=speakers:s8", "--set", "model.hidden=[16]"]
             for i in range(RING.size)]
    trace = [strace, "-f", "-qq", "--seccomp-bpf", "-e", "trace=connect,bind,fork,vfork,clone,clone3",
             "-o", str(tmp_path / "trace")]
    done = subprocess.run([*trace, *python, "-c", PEERS, json.dumps(peers)], capture_output=True, text=True,
                          timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    ids, codes = ([int(number) for number in line.split()] for line in done.stdout.splitlines()[-2:])
    assert codes == [0] * RING.size, done.stderr
    seen = calls(tmp_path / "trace", ids)
    for i, process in enumerate(ids):
        own = [(call, (address, port)) for owner, call, address, port in seen if owner == process]
        allowed = {("127.0.0.1", base + j) for j in RING.neighbours(i) if j not in HIDDEN}
        assert {place for call, place in own if call == "connect"} == allowed, i
        bound = set() if i in HIDDEN else {("127.0.0.1", base + i)}
        assert {place for call, place in own if call == "bind"} == bound, i
