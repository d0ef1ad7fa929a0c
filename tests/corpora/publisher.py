"""A small server on this machine that publishes files as a Zenodo record, a Dataverse or a GitHub archive do.

It can cut answers short, forget about ranges, be busy, and change a file in between.
"""

from __future__ import annotations

import hashlib
import io
import json
import threading
import zipfile
from collections import Counter
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import ThreadingMixIn


class Server(ThreadingMixIn, HTTPServer):
    """Files by path; ``cuts`` are the lengths after which the next answers to a path end early, ``busy`` the codes that
    come first; ``asked`` counts requests and ``ranges`` lists the ranges asked for."""

    daemon_threads = False  # so that closing waits for them

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.cuts: dict[str, list[int]] = {}
        self.busy: dict[str, list[int]] = {}
        self.resumable = True
        self.tags = True
        self.asked: Counter[str] = Counter()
        self.ranges: list[str] = []
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server
    timeout = 60  # a client that reads no longer does not hold up the end

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        server, path = self.server, self.path
        with server.lock:
            server.asked[path] += 1
            busy = server.busy.get(path, [])
            code = busy.pop(0) if busy else 200
            cut = server.cuts[path].pop(0) if server.cuts.get(path) else None
        content = server.files.get(path)
        if code != 200 or content is None:
            self.send_error(code if code != 200 else 404)
            return
        tag = f'"{hashlib.md5(content).hexdigest()}"'
        asked = self.headers.get("Range", "")
        if asked:
            server.ranges.append(asked)
        begin = int(asked.removeprefix("bytes=").rstrip("-") or 0) if server.resumable else 0
        if self.headers.get("If-Range") not in (None, tag):
            begin = 0
        if begin and begin >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(content) - begin))
        if server.tags:
            self.send_header("ETag", tag)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        self.wfile.write(content[begin:] if cut is None else content[begin:][:cut])


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def publish(server: Server, record: int, files: dict[str, bytes], **wrong: str) -> None:
    """Publish files as a record of Zenodo; ``wrong`` are the checksums of which it is mistaken, by stem."""
    base = f"/api/records/{record}"
    listed = [{"key": name, "size": len(content), "links": {"self": "http://127.0.0.1:9/not-asked"},
               "checksum": wrong.get(name.partition(".")[0], f"md5:{hashlib.md5(content).hexdigest()}")}
              for name, content in files.items()]
    server.files[base] = json.dumps({"files": listed, "metadata": {}}).encode()
    server.files |= {f"{base}/files/{name}/content": content for name, content in files.items()}
