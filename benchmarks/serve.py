"""``p2pser serve`` under load: 200 requests with a clip, 8 at once, alone and beside 64 clients that send a byte every
quarter of a second; and the memory while 2 GB are uploaded.

    python benchmarks/serve.py MODEL_DIR CLIP
"""

from __future__ import annotations

import contextlib
import http.client
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

REQUESTS, AT_ONCE, SLOW, BLOCK = 200, 8, 64, 1 << 20


def main(model: str, clip: str) -> None:
    """Print the figures."""
    content = Path(clip).read_bytes()
    command = [sys.executable, "-m", "p2pser.cli.main", "serve", model, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        host = server.stdout.readline().split("/")[2]
        process = psutil.Process(server.pid)

        def ask(_: int) -> float:
            began = time.perf_counter()
            connection = http.client.HTTPConnection(host)
            connection.request("POST", "/predict", content)
            answer = connection.getresponse()
            answer.read()
            connection.close()
            assert answer.status == 200, answer.status
            return time.perf_counter() - began

        try:
            for many in (0, SLOW):
                with slow(host, many):
                    began = time.perf_counter()
                    with ThreadPoolExecutor(AT_ONCE) as clients:
                        times = sorted(clients.map(ask, range(REQUESTS)))
                    rate = REQUESTS / (time.perf_counter() - began)
                    print(f"beside {many} slow clients {rate:.0f} requests a second, median "
                          f"{1000 * times[REQUESTS // 2]:.0f} ms, p95 {1000 * times[REQUESTS * 95 // 100]:.0f} ms")
            print(f"upload of 2 GB: +{upload(host, process) / 1e6:.0f} MB")
        finally:
            server.send_signal(2)


@contextlib.contextmanager
def slow(host: str, many: int) -> Iterator[None]:
    """Keep that many uploads open, each with a byte every quarter of a second."""
    ended, connections = threading.Event(), [http.client.HTTPConnection(host) for _ in range(many)]
    for connection in connections:
        connection.putrequest("POST", "/predict")
        connection.putheader("Content-Length", "100000")
        connection.endheaders()

    def drip() -> None:
        while not ended.wait(0.25):
            for connection in connections:
                connection.send(b"R")

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        for connection in connections:
            connection.close()


def upload(host: str, process: psutil.Process) -> int:
    """Upload 2 GB and return by how many bytes the server's memory has grown at most."""
    before = most = process.memory_info().rss
    connection = http.client.HTTPConnection(host)
    connection.putrequest("POST", "/predict")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    for _ in range(2000):
        connection.send(b"%x\r\n" % BLOCK + bytes(BLOCK) + b"\r\n")
        most = max(most, process.memory_info().rss)
    connection.send(b"0\r\n\r\n")
    assert connection.getresponse().status == 413
    connection.close()
    return most - before


if __name__ == "__main__":
    main(*sys.argv[1:])
